"""Programs on a real Valkey server, over TCP, TLS and a socket; leases."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme

from mace_cache.errors import ConfigurationError, DamagedFileError, SignatureError
from mace_cache.storage import remote
from mace_cache.storage.redis import RedisStorageFactory
from mace_cache.storage.remote import Turn
from mace_cache.storage.remote_settings import RemoteSettings
from tests.servers import listening, make_certificates, tls_in_front
from tests.storage.conformance import (
    FINGERPRINT,
    NAME,
    OTHER_FINGERPRINT,
    OTHER_NAME,
    ReadOnlyConformance,
    SharedConformance,
    insert_all,
    make_key,
    make_program,
    open_storage,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mace_cache.program import CompiledProgram
    from mace_cache.storage.base import KVStorage
    from mace_cache.storage.redis import RedisStorage
    from tests.servers import Valkey

UNSIGNED = RemoteSettings(allow_unsigned=True)


class TestRedisStorage(SharedConformance):
    """`RedisStorage` does what every storage does; each directory of a test is a prefix."""

    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self.server = valkey

    def make_factory(self, directory: Path) -> RedisStorageFactory:
        """Use the directory's name in the keys."""
        return RedisStorageFactory(f"{self.server.url}?prefix={directory}", UNSIGNED)

    def make_read_only_factory(self, directory: Path) -> RedisStorageFactory:
        """The same, with the policy of readers."""
        url = f"{self.server.url}?prefix={directory}&policy=read-only"
        return RedisStorageFactory(url, UNSIGNED)

    def entry(self, directory: Path) -> str:
        """The key on the server."""
        return f"{directory}:v1:{NAME}:{{{make_key()}}}"

    def stored(self, directory: Path) -> bytes:
        """Ask the server itself."""
        data = self.server.client().get(self.entry(directory))
        assert isinstance(data, bytes)
        return data

    def replace(self, directory: Path, data: bytes) -> None:
        """Tell the server itself."""
        self.server.client().set(self.entry(directory), data)


class TestReadOnlyRedisStorage(ReadOnlyConformance):
    """A `RedisStorage` that only reads does what every such storage does."""

    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self.server = valkey

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> KVStorage:
        """Write with one that may."""
        url = f"{self.server.url}?prefix={directory}"
        insert_all(open_storage(RedisStorageFactory(url, UNSIGNED)), programs)
        return open_storage(RedisStorageFactory(url + "&policy=read-only", UNSIGNED))


@pytest.fixture
def storage(valkey: Valkey, tmp_path: Path) -> RedisStorage:
    """A storage under a prefix of its own."""
    return make_storage(valkey, tmp_path)


def make_storage(valkey: Valkey, tmp_path: Path, options: str = "") -> RedisStorage:
    """A storage, as another machine of the test's fleet has it."""
    url = f"{valkey.url}?prefix={tmp_path}&{options}"
    return RedisStorageFactory(url, UNSIGNED).create_storage(NAME)


def test_what_nobody_asks_for_goes(valkey: Valkey, tmp_path: Path) -> None:
    """A program is kept for its time, from when it was last asked for; or for ever."""
    storage = make_storage(valkey, tmp_path, "ttl=1000")
    entry = storage._entry(make_key())
    client = valkey.client()
    storage.insert(make_key(), make_program())
    assert 990 < client.ttl(entry) <= 1000
    client.expire(entry, 10)
    make_storage(valkey, tmp_path, "ttl=1000&policy=read-only").find(make_key())
    assert client.ttl(entry) <= 10
    storage.find(make_key())
    assert client.ttl(entry) > 990
    assert storage.turn(make_key(1)) is Turn.BUILD
    storage.insert_built(make_key(1), make_program(1))
    assert 990 < client.ttl(storage._entry(make_key(1))) <= 1000
    for_ever = make_storage(valkey, tmp_path, "ttl=inf")
    for_ever.insert(make_key(), make_program())
    assert client.ttl(entry) == -1
    assert for_ever.turn(make_key(2)) is Turn.BUILD
    for_ever.insert_built(make_key(2), make_program(2))
    assert client.ttl(storage._entry(make_key(2))) == -1


def test_another_devices_program_is_no_hit(storage: RedisStorage, valkey: Valkey) -> None:
    """What lies under a name it hasn't got is passed over, however well it is formed."""
    other = storage._factory.create_storage(OTHER_NAME)
    other.insert(make_key(), make_program(fingerprint=OTHER_FINGERPRINT))
    data = valkey.client().get(other._entry(make_key()))
    assert isinstance(data, bytes)
    valkey.client().set(storage._entry(make_key()), data)
    valkey.client().set(other._entry(make_key(1)), data)
    for where, key in ((storage, make_key()), (other, make_key(1))):
        with pytest.raises(DamagedFileError, match="another program"):
            where.find(key)
        assert where.find(key) is None
    assert other.find(make_key()) == make_program(fingerprint=OTHER_FINGERPRINT)


def test_a_prefix_is_taken_literally(valkey: Valkey, tmp_path: Path) -> None:
    """What is a pattern for the server's ``SCAN`` finds, and removes, nobody else's."""
    star = RedisStorageFactory(f"{valkey.url}?prefix={tmp_path}*[a-z]", UNSIGNED)
    plain = RedisStorageFactory(f"{valkey.url}?prefix={tmp_path}*abc", UNSIGNED)
    insert_all(open_storage(plain), [make_program()])
    assert star.names() == []
    open_storage(star).clear()
    assert plain.names() == [NAME]


def test_a_socket_of_this_machine(valkey: Valkey, tmp_path: Path) -> None:
    """Without TCP, in a database of its own."""
    url = f"redis+unix://{valkey.socket}?db=3&prefix={tmp_path}"
    storage = open_storage(RedisStorageFactory(url, UNSIGNED))
    storage.insert(make_key(), make_program())
    assert storage.find(make_key()) == make_program()
    url = f"{valkey.url}/3?prefix={tmp_path}"
    assert open_storage(RedisStorageFactory(url, UNSIGNED)).find(make_key()) == make_program()


class TestTLS:
    """``rediss:`` trusts whom it is told to trust, and shows who it is."""

    @pytest.fixture(autouse=True)
    def _certificates(self, tmp_path: Path) -> None:
        self.certificates = make_certificates(tmp_path)

    def find(self, port: int, **options: object) -> CompiledProgram | None:
        """Ask over TLS with the client's certificate, and the options."""
        _, ca, cert, key = self.certificates
        stated = {"ca": ca, "cert": cert, "key": key} | options
        query = "&".join(f"{name}={value}" for name, value in stated.items() if value)
        return open_storage(
            RedisStorageFactory(f"rediss://127.0.0.1:{port}?{query}", UNSIGNED)
        ).find(make_key())

    @pytest.fixture
    def ports(self, valkey: Valkey) -> Iterator[tuple[int, int]]:
        """Two ways to the server: the name in the second one's certificate is another."""
        authority = self.certificates.authority
        with (
            tls_in_front(valkey.port, authority) as right,
            tls_in_front(valkey.port, authority, "another.name") as wrong,
        ):
            yield right, wrong

    def test_who_is_who_it_says(self, ports: tuple[int, int], valkey: Valkey) -> None:
        """A program crosses the connection."""
        insert_all(open_storage(RedisStorageFactory(valkey.url, UNSIGNED)), [make_program()])
        assert self.find(ports[0]) == make_program()

    @pytest.mark.parametrize(
        "liar", ["another authority", "another name", "the system's", "nobody"]
    )
    def test_who_is_not(self, ports: tuple[int, int], tmp_path: Path, liar: str) -> None:
        """A server without a valid certificate, and a client without one, are refused."""
        port, options = ports[0], dict[str, object]()
        if liar == "another authority":
            trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
            options = {"ca": tmp_path / "other.pem"}
        elif liar == "another name":
            port = ports[1]
        elif liar == "the system's":
            options = {"ca": ""}
        else:
            options = {"cert": "", "key": ""}
        with pytest.raises(ConnectionError):
            self.find(port, **options)

    def test_verification_cannot_be_switched_off(self) -> None:
        """Not by an option of the client's either."""
        for option in ("ssl_cert_reqs=none", "ssl_check_hostname=0", "verify=0"):
            with pytest.raises(ConfigurationError, match="only the options ca, cert, db"):
                RedisStorageFactory(f"rediss://host?{option}", UNSIGNED)


def test_a_password_is_shown_to_nobody(tmp_path: Path, valkey: Valkey) -> None:
    """Neither in messages nor in errors; and it is used."""
    client = valkey.client()
    client.acl_setuser(
        "builder", enabled=True, passwords=["+s3cret"], keys=["*"], categories=["+@all"]
    )
    place = f"127.0.0.1:{valkey.port}"
    url = f"redis://builder:s3cret@{place}?prefix={tmp_path}"
    storage = open_storage(RedisStorageFactory(url, UNSIGNED))
    insert_all(storage, [make_program()])
    assert str(storage) == f"redis://{place}/{NAME}"
    with pytest.raises(OSError, match="username-password") as refused:
        open_storage(RedisStorageFactory(url.replace("s3cret", "wr0ng"), UNSIGNED)).find(make_key())
    assert not isinstance(refused.value, ConnectionError)  # it can be reached
    assert "wr0ng" not in str(refused.value)
    for bad in (url + "&unknown=1", url + "&db=x"):
        with pytest.raises(ConfigurationError) as error:
            RedisStorageFactory(bad, UNSIGNED)
        assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigurationError, match="allow_unsigned=True written") as error:
        RedisStorageFactory(url)
    assert "s3cret" not in str(error.value)


def test_one_machine_builds(valkey: Valkey, tmp_path: Path) -> None:
    """Of all that ask one is told to build; the others wait, then fetch."""
    machines = [make_storage(valkey, tmp_path) for _ in range(8)]
    barrier = threading.Barrier(8)
    turns: list[Turn] = []

    def ask(machine: RedisStorage) -> None:
        barrier.wait()
        turns.append(machine.turn(make_key()))

    threads = [threading.Thread(target=ask, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turn.name for turn in turns) == ["BUILD"] + ["WAIT"] * 7
    (builder,) = [machine for machine in machines if machine._tokens]
    others = [machine for machine in machines if machine is not builder]
    assert builder.turn(make_key()) is Turn.BUILD  # a request whose answer was lost
    assert builder.renew([make_key()]) == {make_key(): True}
    assert others[0].renew([make_key()]) == {}
    others[0].release(make_key())  # it has nothing to release
    assert others[0].turn(make_key()) is Turn.WAIT
    builder.insert_built(make_key(), make_program())
    assert others[0].turn(make_key()) is Turn.FETCH  # before the release even
    builder.release(make_key())
    assert {machine.turn(make_key()) for machine in machines} == {Turn.FETCH}
    assert builder.renew([make_key()]) == {}


def test_a_machine_that_gives_up_lets_others_build(valkey: Valkey, tmp_path: Path) -> None:
    """Without a program, after the release or when the lease of a dead one has ended."""
    first, second = (make_storage(valkey, tmp_path, "lease=0.2") for _ in range(2))
    assert first.turn(make_key()) is Turn.BUILD
    first.release(make_key())
    assert second.turn(make_key()) is Turn.BUILD
    end = time.monotonic() + 30
    while first.turn(make_key()) is not Turn.BUILD:  # the second one never comes back
        assert time.monotonic() < end
        time.sleep(0.02)


def test_of_what_does_not_build_all_have_their_turn(valkey: Valkey, tmp_path: Path) -> None:
    """One after the other they would wait for nothing; who did build it may write it."""
    builder, *others = (make_storage(valkey, tmp_path) for _ in range(4))
    assert builder.turn(make_key()) is Turn.BUILD
    assert {other.turn(make_key()) for other in others} == {Turn.WAIT}
    builder.release(make_key(), fails=True)
    assert {other.turn(make_key()) for other in others} == {Turn.BUILD}
    assert others[0].renew([make_key()]) == {}
    others[0].release(make_key())
    assert others[1].turn(make_key()) is Turn.BUILD
    others[1].insert_built(make_key(), make_program())
    assert builder.turn(make_key()) is Turn.FETCH
    lease = f"{builder._entry(make_key())}:lease"
    assert 0 < valkey.client().pttl(lease) <= 3000  # so the next ones ask whether it builds now


def test_who_slept_too_long_writes_nothing(valkey: Valkey, tmp_path: Path) -> None:
    """The fence: another machine builds by now, and its lease and program stay."""
    sleeper, other = (make_storage(valkey, tmp_path) for _ in range(2))
    assert sleeper.turn(make_key()) is Turn.BUILD
    valkey.client().delete(f"{sleeper._entry(make_key())}:lease")  # it has ended meanwhile
    assert other.turn(make_key()) is Turn.BUILD
    sleeper.insert_built(make_key(), make_program(binary=b"late"))
    assert other.find(make_key()) is None
    assert sleeper.renew([make_key()]) == {}
    sleeper.release(make_key())
    assert other.renew([make_key()]) == {make_key(): False}
    other.insert_built(make_key(), make_program(binary=b"in time"))
    sleeper.insert_built(make_key(), make_program(binary=b"later"))
    other.release(make_key())
    sleeper.insert_built(make_key(), make_program(binary=b"latest"))
    assert sleeper.find(make_key()) == make_program(binary=b"in time")
    sleeper.insert(make_key(), make_program(binary=b"on purpose"))
    assert sleeper.find(make_key()) == make_program(binary=b"on purpose")


def test_who_builds_without_a_lease_writes_where_nobody_does(
    valkey: Valkey, tmp_path: Path
) -> None:
    """It has waited in vain, or leases were set aside."""
    builder, other = (make_storage(valkey, tmp_path) for _ in range(2))
    other.insert_built(make_key(), make_program(binary=b"the first"))
    assert builder.find(make_key()) == make_program(binary=b"the first")
    other.insert_built(make_key(), make_program(binary=b"the second"))
    assert builder.find(make_key()) == make_program(binary=b"the first")
    assert builder.turn(make_key(1)) is Turn.BUILD
    other.insert_built(make_key(1), make_program(1))
    assert builder.find(make_key(1)) is None
    valkey.client().persist(f"{builder._entry(make_key(1))}:lease")
    other.insert_built(make_key(1), make_program(1))
    assert builder.find(make_key(1)) == make_program(1)


def test_many_leases_are_renewed_at_once(valkey: Valkey, tmp_path: Path) -> None:
    """In one round trip: one after the other a slow server could let those at the end expire."""
    builder, other = (make_storage(valkey, tmp_path) for _ in range(2))
    keys = [make_key(number) for number in range(20)]
    assert {builder.turn(key) for key in keys} == {Turn.BUILD}
    valkey.client().delete(f"{builder._entry(keys[3])}:lease")
    assert other.turn(keys[3]) is Turn.BUILD
    assert other.turn(keys[5]) is Turn.WAIT
    valkey.client().script_flush()
    client = valkey.client()
    before = client.info("stats")["total_reads_processed"]
    assert builder.renew(keys) == {key: key == keys[5] for key in keys if key != keys[3]}
    assert client.info("stats")["total_reads_processed"] - before < 5
    assert other.renew(keys) == {keys[3]: False}


def test_a_server_that_forgot_takes_what_was_built(valkey: Valkey, tmp_path: Path) -> None:
    """It was restarted: the lease is gone, and nobody else builds."""
    builder = make_storage(valkey, tmp_path)
    assert builder.turn(make_key()) is Turn.BUILD
    valkey.client().delete(f"{builder._entry(make_key())}:lease")
    builder.insert_built(make_key(), make_program())
    assert builder.find(make_key()) == make_program()


def test_who_builds_is_told_that_others_wait(valkey: Valkey, tmp_path: Path) -> None:
    """For as long as they ask; not of those who waited for the one before, or who builds now."""
    builder, other = (make_storage(valkey, tmp_path) for _ in range(2))
    assert builder.turn(make_key()) is Turn.BUILD
    assert builder.renew([make_key()]) == {make_key(): False}
    assert other.turn(make_key()) is Turn.WAIT
    assert builder.renew([make_key()]) == {make_key(): True}
    assert list(other.keys()) == []
    assert 0 < valkey.client().pttl(f"{builder._entry(make_key())}:wanted") <= 3000
    builder.release(make_key())
    assert other.turn(make_key()) is Turn.BUILD
    assert other.renew([make_key()]) == {make_key(): False}


def test_what_nobody_trusted_has_signed_is_built_anew_by_one(
    valkey: Valkey, tmp_path: Path
) -> None:
    """As after a key was changed: the others wait for what takes its place."""

    class Verifier:
        def verify(self, payload: bytes, tier: str) -> bytes:
            if b"old" in payload:
                raise SignatureError(tier, "by a key of last year")
            return payload

    make_storage(valkey, tmp_path).insert(make_key(), make_program(binary=b"old"))
    url = f"{valkey.url}?prefix={tmp_path}"
    settings = UNSIGNED._replace(verifier=Verifier(), allow_unsigned=False)
    first, second = (RedisStorageFactory(url, settings).create_storage(NAME) for _ in range(2))
    for storage in (first, second):
        with pytest.raises(SignatureError):
            storage.find(make_key())
    assert first.turn(make_key()) is Turn.BUILD
    assert second.turn(make_key()) is Turn.WAIT
    make_storage(valkey, tmp_path).insert(make_key(), make_program(binary=b"new"))
    assert second.turn(make_key()) is Turn.FETCH
    assert second.find(make_key()) == make_program(binary=b"new")


def test_leases_are_no_programs(storage: RedisStorage) -> None:
    """Neither listed nor cleared."""
    assert storage.turn(make_key()) is Turn.BUILD
    assert list(storage.keys()) == []
    assert storage._factory.names() == []
    storage.clear()
    assert storage.renew([make_key()]) == {make_key(): False}
    assert FINGERPRINT not in str(storage)


def test_what_is_too_large_is_not_read(
    storage: RedisStorage, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is asked how much it is, before it may send it."""
    storage.insert(make_key(), make_program())
    size = len(storage.get(make_key()) or b"")
    monkeypatch.setattr(remote, "LARGEST_PROGRAM", size)
    assert storage.find(make_key()) == make_program()
    monkeypatch.setattr(remote, "LARGEST_PROGRAM", size - 1)
    asked = valkey.client().info("commandstats")
    with pytest.raises(DamagedFileError, match="larger"):
        storage.find(make_key())
    now = valkey.client().info("commandstats")
    assert now["cmdstat_getex"] == asked["cmdstat_getex"]
    assert list(storage.keys()) == []


def test_a_server_that_gives_no_number() -> None:
    """Whatever it would send next isn't asked for."""

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(1 << 16):
            hello = b"HELLO" in asked
            connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n" if hello else b"+OK\r\n+OK\r\n")

    with listening(serve) as port:
        storage = RedisStorageFactory(f"redis://127.0.0.1:{port}", UNSIGNED).create_storage(NAME)
        with pytest.raises(OSError, match="than a number"):
            storage.get(make_key())


ANSWERS_OF_NUMBERS: dict[str, Callable[[RedisStorage], object]] = {
    "whose turn it is": lambda storage: storage.turn(make_key()),
    "a program": lambda storage: storage.get(make_key()),
    "the keys": lambda storage: list(storage.keys()),
    "the names": lambda storage: storage._factory.names(),
}


@pytest.mark.parametrize("asked_for", ANSWERS_OF_NUMBERS)
def test_a_server_that_gives_a_number_in_the_place_of_text(asked_for: str) -> None:
    """It isn't taken for a length: two billion would be as many bytes."""
    answers = {b"STRLEN": b":10\r\n", b"EVALSHA": b":1000\r\n", b"GETEX": b":1000\r\n"}
    answers[b"HELLO"] = b"%1\r\n$5\r\nproto\r\n:3\r\n"
    answers[b"SCAN"] = b"*2\r\n$1\r\n0\r\n*1\r\n:1000\r\n"

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(1 << 16):
            for request in asked.split(b"*")[1:]:
                given = [answers[name] for name in answers if b"\r\n" + name in request]
                connection.sendall(given[0] if given else b"+OK\r\n")

    with listening(serve) as port:
        storage = RedisStorageFactory(f"redis://127.0.0.1:{port}", UNSIGNED).create_storage(NAME)
        with pytest.raises(OSError, match="something else than bytes"):
            ANSWERS_OF_NUMBERS[asked_for](storage)


def test_a_server_that_sends_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that a program is small; no more is taken than the largest may have."""
    monkeypatch.setattr(remote, "LARGEST_PROGRAM", 1 << 20)
    sent = list[int]()

    def answer(connection: socket.socket, request: bytes) -> None:
        answers = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"STRLEN": b":10\r\n"}
        if b"GETEX" in request:
            connection.sendall(b"$99999999999\r\n")
            for _ in range(64):
                connection.sendall(bytes(1 << 20))
                sent.append(1 << 20)
        given = [answers[name] for name in answers if name in request]
        connection.sendall(given[0] if given else b"+OK\r\n")

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(1 << 16):
            for request in asked.split(b"*")[1:]:
                answer(connection, request)

    with listening(serve) as port:
        url = f"redis://127.0.0.1:{port}?timeout=30"
        storage = RedisStorageFactory(url, UNSIGNED).create_storage(NAME)
        with pytest.raises(ConnectionError, match="more than 2097152 bytes"):
            storage.get(make_key())
    assert sum(sent) < 32 << 20  # what the network's buffers hold besides
