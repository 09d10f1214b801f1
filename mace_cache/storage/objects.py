"""Programs as objects: on S3, Google Cloud Storage, Azure, a web server, or a shared directory.

The client is obstore (the extra ``objects``), imported with the first question.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mace_cache.errors import ConfigurationError, StorageReadOnlyError
from mace_cache.storage.remote import RemoteStorage, RemoteStorageFactory, check_size
from mace_cache.storage.remote_settings import RemoteSettings, redacted, shown, split_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import GetResult
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

__all__ = ["ObjectStorage", "ObjectStorageFactory"]

_VERSION = "v1"  # of the format, as in a cache directory
_OBJECT = r"[0-9a-f]{2}/([0-9a-f]{64})\.mclp"
# Its threads aren't in a forked child of a process that has used it; what that does there goes as
# far as ending the parent.
_obstore = {"used here": False, "used by an ancestor": False}
_OPTIONS = {"s3": ("endpoint", "region"), "gs": (), "az": ("endpoint",)}


def _note_fork() -> None:
    _obstore["used by an ancestor"] |= _obstore["used here"]


os.register_at_fork(after_in_child=_note_fork)


class ObjectStorage(RemoteStorage):
    """The programs of one fingerprint as objects ``v1/<name>/<two digits>/<key>.mclp``.

    Args:
        factory: what connects.
        name: the storage's name.
    """

    def __init__(self, factory: ObjectStorageFactory, name: str) -> None:
        super().__init__(name, str(factory), factory.settings)
        self._factory = factory
        self._prefix = f"{factory.prefix}{_VERSION}/{name}/"

    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key.

        Its size is asked for first: the answer to that has no body, whatever it says. obstore
        takes as much memory as an error's body is said to have, which can end the process.
        """
        path, where = self._path(key), f"{self}/{key}"
        try:
            with self._factory.connected() as store:
                check_size(store.head(path)["size"], where)
                return _read(store.get(path), where)
        except FileNotFoundError:
            return None

    def put(self, key: str, payload: bytes) -> None:
        """Put bytes in the place of a key: an object appears whole."""
        with self._factory.connected() as store:
            store.put(self._path(key), payload)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove the bytes of keys."""
        with self._factory.connected() as store:
            for key in keys:
                with suppress(FileNotFoundError):
                    store.delete(self._path(key))

    def keys(self) -> Iterator[str]:
        """Give the keys that are here now; a web server can't list them."""
        with self._factory.connected() as store:
            found = [each["path"] for page in store.list(self._prefix) for each in page]
        for path in found:
            key = re.fullmatch(_OBJECT, path.removeprefix(self._prefix))
            if key is not None:
                yield key[1]

    def _path(self, key: str) -> str:
        return f"{self._prefix}{key[:2]}/{key}.mclp"


class ObjectStorageFactory(RemoteStorageFactory):
    """Makes the storages in a bucket, on a web server or in a shared directory.

    =================================  ============================================================
    ``s3://bucket/path``               S3 and what speaks its protocol
    ``gs://bucket/path``               Google Cloud Storage
    ``az://container/path``            Azure; the account is ``AZURE_STORAGE_ACCOUNT_NAME``
    ``https://host/path``, ``http:``   a web server, read-only
    ``file:///path``                   a directory; as a storage URL ``objects+file:///path``
    =================================  ============================================================

    After a ``?`` come the options of every remote (`RemoteSettings`), and ``endpoint=`` and
    ``region=`` where there are such. Credentials are taken from where the services' own tools take
    them: the environment, or the machine.

    Args:
        url: the place.
        settings: what the URL doesn't say.

    Raises:
        ConfigurationError: the URL can't be used, obstore isn't installed, or nobody verifies what
            comes from there.
    """

    def __init__(self, url: str, settings: RemoteSettings | None = None) -> None:
        url, settings = split_url(url.removeprefix("objects+"), settings or RemoteSettings())
        self._scheme = urlsplit(url).scheme
        self._web = self._scheme in ("http", "https")
        if self._web:
            if not settings.reads:
                raise ConfigurationError("remote", shown(url), "a policy that reads")
            settings = settings._replace(policy="read-only")
        super().__init__(url, settings)
        _check_installed(url)
        self._url, _, query = url.partition("?")
        self._options = dict(parse_qsl(query))
        known = _OPTIONS.get(self._scheme, ())
        if set(self._options) - set(known):
            raise ConfigurationError("remote", shown(url), f"only the options {', '.join(known)}")
        self.prefix = ""
        if self._scheme == "file":
            if urlsplit(url).netloc not in ("", "localhost") or not urlsplit(url).path:
                raise ConfigurationError("remote", shown(url), "a path, as file:///path")
            path = os.path.abspath(unquote(urlsplit(self._url).path))
            self.prefix = path.strip("/") + "/"
            self._url = "file:///"
        self._lock = threading.Lock()

    def create_storage(self, name: str) -> ObjectStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return ObjectStorage(self, name)

    def names(self) -> list[str]:
        """Give the names of the storages that hold an object, sorted."""
        with self.connected() as store:
            found = store.list_with_delimiter(f"{self.prefix}{_VERSION}/")["common_prefixes"]
        names = [path.rstrip("/").rpartition("/")[2] for path in found]
        return sorted(name for name in names if any(self.create_storage(name).keys()))

    def prepare(self) -> None:
        """Import the client; see `RemoteStorageFactory.prepare`."""
        import obstore.store  # noqa: F401, PLC0415 (only who uses such a remote pays for it)

    @contextmanager
    def connected(self) -> Iterator[ObjectStore]:
        """Give the store, whose errors leave the block as ``OSError``.

        Raises:
            FileNotFoundError: there is no such object.
            StorageReadOnlyError: the server only reads.
            ConnectionError: this is a forked child of a process that has used obstore.
            OSError: whatever else.
        """
        if _obstore["used by an ancestor"]:
            raise ConnectionError(
                "obstore doesn't work in a forked child of a process that used it"
            )
        _obstore["used here"] = True
        from obstore import exceptions  # noqa: PLC0415 (only who uses such a remote pays for it)

        try:
            with self._lock:
                store = self._store
            yield store
        except exceptions.NotSupportedError as error:
            raise StorageReadOnlyError(str(self)) from error
        except exceptions.GenericError as error:
            kind = OSError if self._scheme == "file" else ConnectionError
            raise kind(redacted(str(error))) from None  # a client's error can hold a password
        except exceptions.BaseError as error:
            raise OSError(redacted(str(error))) from None

    @cached_property
    def _store(self) -> ObjectStore:
        from obstore.store import from_url  # noqa: PLC0415 (as above)

        if self._scheme == "file":
            return from_url(self._url)
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=self.settings.connect_timeout),
            "timeout": timedelta(seconds=self.settings.timeout),
            "allow_http": self._options.get("endpoint", self._url).startswith("http:"),
        }
        retries: RetryConfig = {"max_retries": 0}  # tries are counted where the time is
        config: Any = self._options
        if self._web:
            return from_url(self._url, client_options=client, retry_config=retries)
        return from_url(self._url, config=config, client_options=client, retry_config=retries)


def _read(result: GetResult, where: str) -> bytes:
    """Read an object piece by piece: to read it at once takes as much memory as a server claims."""
    check_size(result.meta["size"], where)
    data = bytearray()
    for piece in result.stream():
        check_size(len(data) + len(piece), where)
        data += piece
    return bytes(data)


def _check_installed(url: str) -> None:
    import importlib.util  # noqa: PLC0415 (as above)

    if importlib.util.find_spec("obstore") is None:
        raise ConfigurationError(
            "remote", shown(url), "obstore to be installed: pip install 'mace-cache[objects]'"
        )
