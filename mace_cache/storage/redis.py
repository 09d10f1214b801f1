"""Programs on a Redis or Valkey server, and the leases by which one machine builds for all.

The client is redis-py (the extra ``redis``), imported with the first question.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from mace_cache.errors import ConfigurationError
from mace_cache.storage import remote
from mace_cache.storage._answers import LimitedSocket
from mace_cache.storage.remote import RemoteStorage, RemoteStorageFactory, Turn, check_size
from mace_cache.storage.remote_settings import RemoteSettings, shown, split_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

__all__ = ["RedisStorage", "RedisStorageFactory"]

_VERSION = "v1"  # of the format, as in a cache directory
_MANY = 500  # keys of one request
_MARGIN = 1 << 20  # bytes of an answer that aren't a program's
_CERTIFICATES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
_WAITS = 3000  # milliseconds: who waits asks again before
_KEY = r"\{([0-9a-f]{64})\}"

# Each runs in one step on the server, so that nothing comes between its question and its answer.
# KEYS[1] is the lease, KEYS[2] the program, KEYS[3] the mark of who waits, ARGV[1] the token of who
# asks. What it has refused, of which ARGV[4] is the digest, counts as nothing.
# Where the program doesn't build it is everybody's turn, for all would wait for nothing.
# A lease without an end was restored or made by hand: nobody would ever end it.
_TURN = """
if redis.call('exists', KEYS[2]) == 1 then
  if ARGV[4] == '' or redis.sha1hex(redis.call('get', KEYS[2])) ~= ARGV[4] then
    return 'fetch it'
  end
end
if redis.call('pttl', KEYS[1]) == -1 then redis.call('del', KEYS[1]) end
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  redis.call('del', KEYS[3])
  return 'build it'
end
local holder = redis.call('get', KEYS[1])
if holder == ARGV[1] or holder == 'nobody' then return 'build it' end
redis.call('set', KEYS[3], '', 'PX', ARGV[3])
return 'wait for the machine that builds it'
"""
_HELD, _AWAITED = 1, 2  # what a renewal answers
_RENEW = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('pexpire', KEYS[1], ARGV[2])
return 1 + redis.call('exists', KEYS[3])
"""
_RELEASE = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then return redis.call('set', KEYS[1], 'nobody', 'PX', ARGV[2]) end
return redis.call('del', KEYS[1])
"""
# The fence: who was asleep while another machine took over doesn't write any more, not even when
# that one is done; nor does who built without a lease.
_WRITE = """
local holder = redis.call('get', KEYS[1])
if holder ~= ARGV[1] then
  if redis.call('exists', KEYS[2]) == 1 then return 0 end
  if holder ~= 'nobody' and redis.call('pttl', KEYS[1]) >= 0 then return 0 end
end
redis.call('set', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then redis.call('pexpire', KEYS[2], ARGV[3]) end
return 1
"""


class RedisStorage(RemoteStorage):
    """The programs of one fingerprint on a Redis or Valkey server; see `RedisStorageFactory`.

    A program is a string under ``<prefix>:v1:<name>:{<key>}``, its lease under the same with
    ``:lease``, and with ``:wanted`` the mark of those who wait; the braces keep them together on a
    cluster.

    Args:
        factory: what connects.
        name: the storage's name.
    """

    leases = True

    def __init__(self, factory: RedisStorageFactory, name: str) -> None:
        super().__init__(name, str(factory), factory.settings)
        self._factory = factory
        self._prefix = f"{factory.prefix}:{_VERSION}:{name}:"
        self._tokens: dict[str, str] = {}
        self._ttl = factory.settings.ttl_milliseconds

    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key; what is asked for is kept for its time anew."""
        with self._factory.connected() as client:
            entry = self._entry(key)
            size: Any = client.strlen(entry)
            if size == 0:
                return None
            if not isinstance(size, int):
                raise OSError("the server answered with something else than a number")
            check_size(size, f"{self}/{key}")
            if self.writable and self._ttl is not None:
                return _as_bytes(client.getex(entry, px=self._ttl))
            return _as_bytes(client.get(entry))

    def put(self, key: str, payload: bytes) -> None:
        """Put bytes in the place of a key, whatever is there."""
        with self._factory.connected() as client:
            client.set(self._entry(key), payload, px=self._ttl)

    def put_built(self, key: str, payload: bytes) -> None:
        """Put bytes there if this machine has the lease, or nobody has one or a program."""
        token = self._tokens.get(key, "")
        with self._factory.connected() as client:
            self._run(client, _WRITE, key, token, payload, self._ttl or "")

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the bytes of keys."""
        with self._factory.connected() as client:
            for first in range(0, len(keys), _MANY):
                client.unlink(*[self._entry(key) for key in keys[first : first + _MANY]])

    def keys(self) -> Iterator[str]:
        """Give the keys that are here now. The server looks through all that it holds."""
        with self._factory.connected() as client:
            names = list(client.scan_iter(match=_literally(self._prefix) + "{*}", count=_MANY))
        for name in _texts(names):
            key = re.fullmatch(_KEY, name.removeprefix(self._prefix))
            if key is not None:
                yield key[1]

    def turn(self, key: str) -> Turn:
        """Ask whose turn it is to build a program; see `RemoteStorage.turn`."""
        token = self._tokens.setdefault(key, _new_token())
        with self._factory.connected() as client:
            refused = self._refused.get(key, "")
            answer = self._run(client, _TURN, key, token, self._lease, _WAITS, refused)
        turn = _turn(answer)
        if turn is not Turn.BUILD:
            self._tokens.pop(key, None)
        return turn

    def renew(self, keys: Sequence[str]) -> dict[str, bool]:
        """Renew leases, in one round trip; see `RemoteStorage.renew`."""
        held = [(key, token) for key in keys if (token := self._tokens.get(key)) is not None]
        if not held:
            return {}
        with self._factory.connected() as client:
            pipeline = client.pipeline(transaction=False)
            script = client.register_script(_RENEW).sha
            pipeline.script_load(_RENEW)  # a server that was restarted has forgotten it
            for key, token in held:
                pipeline.evalsha(script, 3, *self._keys(key), token, self._lease)
            renewed = pipeline.execute()[1:]
        return {
            key: answer == _AWAITED
            for (key, _), answer in zip(held, renewed, strict=True)
            if answer in (_HELD, _AWAITED)
        }

    def release(self, key: str, *, fails: bool = False) -> None:
        """End a lease; see `RemoteStorage.release`."""
        token = self._tokens.pop(key, None)
        if token is not None:
            with self._factory.connected() as client:
                self._run(client, _RELEASE, key, token, _WAITS if fails else "")

    @property
    def _lease(self) -> int:
        return max(1, int(self.settings.lease * 1000))

    def _entry(self, key: str) -> str:
        return f"{self._prefix}{{{key}}}"

    def _keys(self, key: str) -> list[str]:
        entry = self._entry(key)
        return [f"{entry}:lease", entry, f"{entry}:wanted"]

    def _run(self, client: redis.Redis, script: str, key: str, *arguments: Any) -> Any:
        return client.register_script(script)(keys=self._keys(key), args=[*arguments])


class RedisStorageFactory(RemoteStorageFactory):
    """Makes the storages on a Redis or Valkey server.

    ==============================================  ===============================================
    ``redis://[user:password@]host[:port][/db]``    a TCP connection
    ``rediss://...``                                with TLS; the server's certificate is verified
    ``redis+unix:///path/of/the/socket[?db=0]``     a socket on this machine
    ==============================================  ===============================================

    After a ``?`` come the options of every remote (`RemoteSettings`), ``prefix=`` (of the keys,
    ``mace`` unless set), ``db=``, and with TLS ``ca=`` (a file of the authorities that are trusted
    instead of the system's), ``cert=`` and ``key=`` (files of a client certificate).

    Args:
        url: the server.
        settings: what the URL doesn't say.

    Raises:
        ConfigurationError: the URL can't be used, redis-py isn't installed, or nobody verifies what
            comes from there.
    """

    def __init__(self, url: str, settings: RemoteSettings | None = None) -> None:
        url, settings = split_url(url, settings or RemoteSettings())
        super().__init__(url, settings)
        _check_installed(url)
        self._url, _, query = url.partition("?")
        options = dict(parse_qsl(query))
        parts = urlsplit(url)
        tls = parts.scheme == "rediss"
        known = {"prefix", "db", *(_CERTIFICATES if tls else ())}
        if set(options) - known or not options.get("db", "0").isdecimal():
            raise ConfigurationError(
                "remote", shown(url), "only the options " + ", ".join(sorted(known))
            )
        try:
            _ = parts.port
        except ValueError:
            raise ConfigurationError("remote", shown(url), "a port, as host:6379") from None
        self.prefix = options.get("prefix", "mace")
        self._arguments: dict[str, Any] = {
            name: os.path.expanduser(options[option])
            for option, name in _CERTIFICATES.items()
            if option in options
        }
        if tls:
            self._arguments.update(ssl_cert_reqs="required", ssl_check_hostname=True)
        if "db" in options:
            self._arguments["db"] = int(options["db"])
        self._lock = threading.Lock()

    def create_storage(self, name: str) -> RedisStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return RedisStorage(self, name)

    def names(self) -> list[str]:
        """Give the names of the storages that hold a program, sorted; looks through all keys."""
        prefix = f"{self.prefix}:{_VERSION}:"
        with self.connected() as client:
            found = list(client.scan_iter(match=_literally(prefix) + "*}", count=_MANY))
        names = {name.removeprefix(prefix).rpartition(":")[0] for name in _texts(found)}
        return sorted(names - {""})

    def prepare(self) -> None:
        """Import the client; see `RemoteStorageFactory.prepare`."""
        import redis.backoff  # noqa: PLC0415 (only who uses such a remote pays for it)
        import redis.retry  # noqa: F401, PLC0415 (as above)

    def disconnect(self) -> None:
        """Break off all requests; see `RemoteStorageFactory.disconnect`."""
        if "_client" in vars(self):
            self._client.connection_pool.disconnect(inuse_connections=True)

    @contextmanager
    def connected(self) -> Iterator[redis.Redis]:
        """Give the client, whose errors leave the block as ``OSError``."""
        with self._lock:
            client = self._client
        import redis  # noqa: PLC0415 (only who uses such a remote pays for it)

        try:
            yield client
        except (redis.AuthenticationError, redis.BusyLoadingError) as error:
            raise OSError(str(error)) from error
        except redis.ConnectionError as error:
            raise ConnectionError(str(error)) from error
        except redis.TimeoutError as error:
            raise TimeoutError(str(error)) from error
        except redis.RedisError as error:
            raise OSError(str(error)) from error

    @cached_property
    def _client(self) -> redis.Redis:
        import redis  # noqa: PLC0415 (as above)
        from redis.backoff import NoBackoff  # noqa: PLC0415 (as above)
        from redis.retry import Retry  # noqa: PLC0415 (as above)

        return redis.Redis.from_url(
            self._url.replace("redis+unix:", "unix:", 1),
            socket_connect_timeout=self.settings.connect_timeout,
            socket_timeout=self.settings.timeout,
            retry=Retry(NoBackoff(), 0),  # tries are counted where the time is
            redis_connect_func=_limit,
            **self._arguments,
        )


def _limit(connection: Any) -> None:
    """Take no more of an answer than a program may have, before a first one is asked for."""
    limit = remote.LARGEST_PROGRAM + _MARGIN
    connection._sock = LimitedSocket(connection._sock, limit)  # noqa: SLF001 (it makes its own)
    connection.on_connect()


def _check_installed(url: str) -> None:
    import importlib.util  # noqa: PLC0415 (as above)

    if importlib.util.find_spec("redis") is None:
        raise ConfigurationError(
            "remote", shown(url), "redis-py to be installed: pip install 'mace-cache[redis]'"
        )


def _as_bytes(answer: Any) -> bytes | None:
    # Not what bytes() would make of it: of a number so many zeros.
    if answer is None or isinstance(answer, bytes):
        return answer
    raise OSError("the server answered with something else than bytes")


def _turn(answer: Any) -> Turn:
    try:
        return Turn((_as_bytes(answer) or b"").decode())
    except ValueError:
        raise OSError("the server answered with something else than whose turn it is") from None


def _texts(answers: list[Any]) -> set[str]:
    return {(_as_bytes(answer) or b"").decode(errors="replace") for answer in answers}


def _literally(text: str) -> str:
    """Give a pattern of ``SCAN`` that means just that text."""
    return re.sub(r"([\[\]*?\\^-])", r"\\\1", text)


def _new_token() -> str:
    """Name this process among all of the fleet, for whoever looks into the server."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(8).hex()}"
