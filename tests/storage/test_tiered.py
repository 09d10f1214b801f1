"""A local storage with a remote behind it: what is asked when, and what goes where."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mace_cache._report import forget_reported
from mace_cache._signing_keys import SHARED
from mace_cache._signing_keys import make_key as make_signing_key
from mace_cache.storage import _failing_open
from mace_cache.storage._renewal import Claim, Renewal
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.memory import MemoryStorage, MemoryStorageFactory
from mace_cache.storage.redis import RedisStorageFactory
from mace_cache.storage.remote import Turn
from mace_cache.storage.remote_settings import RemoteSettings
from mace_cache.storage.tiered import TieredStorage, TieredStorageFactory
from tests.helpers import FakeFactory, FaultyStorage
from tests.storage.conformance import (
    NAME,
    PersistentConformance,
    WritableConformance,
    make_key,
    make_program,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mace_cache.program import CompiledProgram
    from tests.servers import Valkey

UNSIGNED = RemoteSettings(allow_unsigned=True, timeout=10.0)
HASTY = UNSIGNED._replace(timeout=0.2)


@pytest.fixture(autouse=True)
def _report_afresh() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


class TestTieredStorage(PersistentConformance):
    """`TieredStorage` does what its local storage does."""

    def make_factory(self, directory: Path) -> TieredStorageFactory:
        """Put a remote in memory behind a directory."""
        local = DirectoryStorageFactory(directory)
        return TieredStorageFactory(local, MemoryStorageFactory(), UNSIGNED)

    def make_read_only_factory(self, directory: Path) -> TieredStorageFactory:
        """The same, where nothing is written here."""
        local = DirectoryStorageFactory(directory, read_only=True)
        return TieredStorageFactory(local, MemoryStorageFactory(), UNSIGNED)


class TestTieredRedis(WritableConformance):
    """So it does with a server behind it."""

    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self.server = valkey

    def make_factory(self, directory: Path) -> TieredStorageFactory:
        """Put a real server behind memory."""
        remote = RedisStorageFactory(f"{self.server.url}?prefix={directory}", UNSIGNED)
        return TieredStorageFactory(MemoryStorageFactory(), remote, UNSIGNED)


class Scene:
    """A tiered storage in memory whose remote a test can look at."""

    def __init__(
        self, remote: MemoryStorage | FaultyStorage, settings: RemoteSettings = UNSIGNED
    ) -> None:
        self.remote = remote
        self.local = MemoryStorage()
        self.factory = TieredStorageFactory(FakeFactory(self.local), FakeFactory(remote), settings)
        self.storage: TieredStorage = self.factory.create_storage(NAME)
        self.storage.load()

    def settle(self) -> list[str]:
        """Wait for what goes up: the remote's keys."""
        assert self.factory.wait(30)
        return list(self.remote.keys())


@pytest.mark.parametrize(
    ("policy", "fetched", "uploaded"),
    [("read-write", True, True), ("read-only", True, False), ("write-only", False, True)],
)
def test_policies(policy: str, fetched: bool, uploaded: bool) -> None:
    """What is looked for there, and what is written."""
    remote = FaultyStorage()
    remote.insert(make_key(0), make_program(0))
    scene = Scene(remote, UNSIGNED._replace(policy=policy))
    assert scene.storage.find(make_key(0)) is None
    assert (scene.storage.fetch(make_key(0)) is not None) is fetched
    scene.storage.insert(make_key(1), make_program(1))
    assert (make_key(1) in scene.settle()) is uploaded
    assert ("find" in remote.calls) is fetched
    assert list(scene.local.keys()) == [make_key(1)]


def test_what_came_from_there_does_not_go_back() -> None:
    """But what is built here does, in the place of what was fetched."""
    remote = FaultyStorage()
    remote.insert(make_key(), make_program())
    scene = Scene(remote)
    fetched = scene.storage.fetch(make_key())
    assert fetched is not None
    scene.storage.insert(make_key(), fetched)
    scene.settle()
    assert remote.calls.count("insert") == 1
    scene.storage.insert(make_key(), make_program(binary=b"built here"))
    scene.settle()
    assert remote.find(make_key()) == make_program(binary=b"built here")


def test_what_was_made_of_it_goes_up_under_no_other_key() -> None:
    """What another key has signed stays as it is there; what one's own has signed gets better."""
    own, other = make_signing_key(SHARED), make_signing_key(SHARED)
    scene = Scene(MemoryStorage(), UNSIGNED._replace(signing_key=own))
    for number, signer in enumerate([other.identifier.hex(), own.identifier.hex(), ""]):
        scene.storage.insert(make_key(number), replace(make_program(number), signer=signer))
    assert sorted(scene.settle()) == sorted([make_key(1), make_key(2)])
    assert len(list(scene.local.keys())) == 3


def test_a_local_fault_keeps_nothing_from_the_fleet() -> None:
    """A full disk here is no reason for others to compile."""
    scene = Scene(FaultyStorage())
    scene.storage._local = FaultyStorage("insert", OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        scene.storage.insert(make_key(), make_program())
    assert scene.settle() == [make_key()]


def test_clearing_stays_here() -> None:
    """What this machine's driver refuses may be good for the others."""
    scene = Scene(FaultyStorage())
    scene.storage.insert(make_key(), make_program())
    scene.settle()
    scene.storage.clear()
    scene.storage.remove(make_key())
    assert scene.storage.find(make_key()) is None
    assert scene.settle() == [make_key()]


class Slow(FaultyStorage):
    """A remote that answers when it is told to."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.methods = methods
        self.go = threading.Event()

    def _enter(self, method: str) -> None:
        super()._enter(method)
        if method in self.methods:
            self.go.wait()


@pytest.mark.parametrize("method", ["find", "load"])
def test_who_does_not_answer_in_time_is_asked_once(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for that nor for anything else within a minute, with one line that says so."""
    scene = Scene(remote := Slow(method), HASTY)
    for number in range(3):
        assert scene.storage.fetch(make_key(number)) is None
        scene.storage.insert(make_key(number), make_program(number))
    assert scene.settle() == []
    assert remote.calls.count(method) == 1
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "no answer within 0.2 s" in record.getMessage()
    assert "set aside for a minute" in record.getMessage()
    remote.go.set()


FAULTS = [OSError(5, "Input/output error"), ConnectionResetError("reset"), RuntimeError("a bug")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("method", ["find", "insert", "flush"])
def test_what_fails_is_a_miss(
    method: str, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what can pass is tried again, and at most three times; what else there is goes on."""
    scene = Scene(remote := FaultyStorage(method, fault))
    for number in range(2):
        assert scene.storage.fetch(make_key(number)) is None
        scene.storage.insert(make_key(number), make_program(number))
        assert scene.storage.find(make_key(number)) == make_program(number)
        scene.settle()
    assert remote.calls.count(method) == (3 if isinstance(fault, OSError) else 1)
    if not isinstance(fault, ConnectionError):  # a server that is full can be read
        assert remote.calls.count("find" if method != "find" else "insert") >= 2
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert str(fault) in record.getMessage()


def test_it_is_asked_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """And answers, or is set aside anew."""
    remote = FaultyStorage("find", ConnectionRefusedError("refused"))
    remote._memory.insert(make_key(), make_program())
    monkeypatch.setattr(_failing_open, "ASIDE", 0.3)
    scene = Scene(remote, UNSIGNED._replace(max_retries=1))
    assert scene.storage.fetch(make_key()) is None
    assert scene.storage.fetch(make_key()) is None
    assert remote.calls.count("find") == 1
    time.sleep(0.3)
    remote._error = None
    assert scene.storage.fetch(make_key()) == make_program()


def test_a_wait_is_bounded() -> None:
    """Whoever waits for what goes up waits no longer than told."""
    scene = Scene(remote := Slow("insert"))
    scene.storage.insert(make_key(), make_program())
    assert not scene.factory.wait(0.05)
    remote.go.set()
    assert scene.settle() == [make_key()]


def test_the_thread_does_not_wait_for_itself() -> None:
    """A collection in it may end a cache."""
    scene = Scene(FaultyStorage())
    answers: list[bool] = []
    scene.storage._uploads.submit(lambda: answers.append(scene.factory.wait(60)))
    scene.settle()
    assert answers == [True]


def test_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the interpreter ends, or too many run: it is done at once, and nothing is lost."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    scene = Scene(FaultyStorage())
    scene.storage.insert(make_key(), make_program())
    assert list(scene.remote.keys()) == [make_key()]
    assert scene.storage.fetch(make_key()) == make_program()
    assert scene.factory.wait(0)


def test_a_forked_child_leaves_the_remote_alone() -> None:
    """Its sockets are the parent's."""
    scene = Scene(remote := FaultyStorage())
    scene.storage.fetch(make_key())
    child = os.fork()
    if child == 0:
        scene.storage.insert(make_key(), make_program())
        done = scene.factory.wait(30) and scene.storage.fetch(make_key()) is None
        os._exit(0 if done and remote.calls.count("find") == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_threads_go_with_the_factory() -> None:
    """A cache that is collected leaves none behind."""
    scene = Scene(FaultyStorage())
    scene.storage.insert(make_key(), make_program())
    scene.settle()
    thread = scene.storage._uploads._thread
    assert thread is not None
    uploads = scene.storage._uploads
    del scene
    thread.join(30)
    assert not thread.is_alive()
    late: list[int] = []
    uploads.submit(partial(late.append, 1))  # by a harvest that took longer than the cache lived
    assert late == [1]


@pytest.fixture
def machines(valkey: Valkey, tmp_path: Path) -> Callable[[], TieredStorageFactory]:
    """Makes machines of one fleet, each with a memory of its own."""
    url = f"{valkey.url}?prefix={tmp_path}&lease=0.4"

    def make() -> TieredStorageFactory:
        remote = RedisStorageFactory(url, UNSIGNED)
        return TieredStorageFactory(MemoryStorageFactory(), remote, remote.settings)

    return make


def test_others_wait_until_the_builder_has_uploaded(
    machines: Callable[[], TieredStorageFactory],
) -> None:
    """The lease is renewed as long as the build takes, and ends with the upload."""
    factories = [machines(), machines()]
    builder, other = (factory.create_storage(NAME) for factory in factories)
    assert builder.fetch(make_key()) is None
    assert not builder.claim(make_key(), 30)
    found: list[tuple[bool, CompiledProgram | None]] = []

    def wait() -> None:
        found.append((other.claim(make_key(), 30), other.fetch(make_key())))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.9)  # longer than a lease
    assert not found
    builder.insert(make_key(), make_program())
    builder.release(make_key())
    waiter.join(30)
    assert found == [(True, make_program())]
    assert factories[0].wait(30)
    assert not builder._renewal._claims


def test_a_builder_that_stores_nothing_lets_the_next_one_build(
    machines: Callable[[], TieredStorageFactory],
) -> None:
    """Its source didn't compile, or it was killed; and nobody waits longer than told."""
    first, second, third, fourth = (machines().create_storage(NAME) for _ in range(4))
    assert not first.claim(make_key(), 30)
    assert not second.claim(make_key(), 0.1)  # patience is over: it builds without
    assert not second._claimed
    first.release(make_key())
    assert not third.claim(make_key(), 30)
    assert third._claimed == {make_key()}
    third._renewal.drop(third.remote, make_key())  # as if it had died
    assert not fourth.claim(make_key(), 30)
    assert fourth._claimed == {make_key()}
    fourth.release(make_key())


def test_a_claim_that_is_lost_is_renewed_no_more() -> None:
    """All at a place are renewed together; other places by themselves. Those awaited are told."""
    renewal, asked = Renewal(0.01), list[tuple[str, list[str]]]()
    two, awaited = threading.Event(), set[str]()

    def renew(place: str, keys: list[str]) -> dict[str, bool]:
        asked.append((place, keys))
        if awaited and asked.count(("a", ["1", "3"])) and asked.count(("b", ["1"])):
            two.set()
        return {key: key == "3" for key in keys if key != "2"}

    for place, key in (("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")):
        renewal.keep(place, key, Claim(partial(renew, place), partial(awaited.add, place + key)))
    assert two.wait(30)
    assert awaited == {"a3"}
    assert any(len(keys) > 1 for _, keys in asked)
    for place, key in (("a", "1"), ("a", "3"), ("b", "1")):
        renewal.drop(place, key)
    assert renewal._claims == {}


class Late(FaultyStorage):
    """A remote that always takes its time, well within the timeout."""

    def _enter(self, method: str) -> None:
        super()._enter(method)
        time.sleep(0.06)


def test_answers_that_bring_nothing_are_not_waited_for_all_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All together they cost no more than one that never comes; what is built still goes up."""
    scene = Scene(remote := Late(), HASTY)
    for number in range(20):
        assert scene.storage.fetch(make_key(number)) is None
    assert 1 <= remote.calls.count("find") <= 4
    scene.storage.insert(make_key(), make_program())
    assert scene.settle() == [make_key()]
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "its answers have cost" in record.getMessage()


@pytest.mark.parametrize(("build_seconds", "fetched"), [(0.01, (0, 4)), (10.0, (6, 6))])
def test_answers_that_bring_something_are_waited_for_as_long_as_a_build(
    build_seconds: float, fetched: tuple[int, int]
) -> None:
    """What takes longer to fetch than to build isn't fetched all day."""
    remote = Late()
    for number in range(6):
        program = replace(make_program(number), build_seconds=build_seconds)
        remote._memory.insert(make_key(number), program)
    scene = Scene(remote, HASTY)
    answers = [scene.storage.fetch(make_key(number)) for number in range(6)]
    assert fetched[0] <= len(answers) - answers.count(None) <= fetched[1]


def test_misses_of_another_minute_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs for days misses a program now and then."""
    monkeypatch.setattr(_failing_open, "ASIDE", 0.05)
    scene = Scene(FaultyStorage(), HASTY)
    for _ in range(4):
        scene.storage._access.spend(0.15)
        assert scene.storage._access.asks("read")
        time.sleep(0.06)


def test_leases_that_never_end_are_waited_for_once(
    machines: Callable[[], TieredStorageFactory], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever holds them all keeps the others from one build, and not from every one."""
    holder = machines().create_storage(NAME)
    other = machines().create_storage(NAME)
    for number in range(3):
        assert not holder.claim(make_key(number), 30)
        assert not other.claim(make_key(number), 0.3 if number == 0 else 1000)
    assert "lease failed (waited 0.3 s" in caplog.text
    for number in range(3):
        holder.release(make_key(number))


@pytest.mark.parametrize(
    ("answers", "most"), [([Turn.WAIT, Turn.FETCH], 1), ([Turn.WAIT, Turn.BUILD], 5)]
)
def test_waits_that_bring_nothing_come_to_an_end(
    machines: Callable[[], TieredStorageFactory],
    answers: list[Turn],
    most: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a server that says to wait for each program, and then has none."""
    storage = machines().create_storage(NAME)
    turns: list[Turn] = []

    def answer(_key: str) -> Turn:
        turns.append(answers[len(turns) % len(answers)])
        return turns[-1]

    monkeypatch.setattr(storage._remote, "turn", answer)
    for number in range(10):
        if storage.claim(make_key(number), 0.1):
            assert storage.fetch(make_key(number)) is None
    assert len(turns) <= 2 * most
    assert "lease failed (waited" in caplog.text


def test_a_lease_without_an_end_holds_nobody_up(
    machines: Callable[[], TieredStorageFactory], valkey: Valkey, tmp_path: Path
) -> None:
    """As one that was restored without its time to live."""
    valkey.client().set(f"{tmp_path}:v1:{NAME}:{{{make_key()}}}:lease", "somebody")
    machine = machines()
    storage = machine.create_storage(NAME)
    assert not storage.claim(make_key(), 1000)
    assert storage._claimed == {make_key()}
    storage.insert(make_key(), make_program())
    storage.release(make_key())
    assert machine.wait(30)
    assert machines().create_storage(NAME).fetch(make_key()) == make_program()


def test_what_others_have_built_meanwhile_stays(
    machines: Callable[[], TieredStorageFactory],
) -> None:
    """But for what replaces it on purpose: a more complete one, or in the place of a bad one."""

    def built(name: str) -> CompiledProgram:
        return make_program(binary=name.encode())

    factories = [machines() for _ in range(4)]
    first, second, third, fourth = (factory.create_storage(NAME) for factory in factories)
    assert first.fetch(make_key()) is None
    assert second.fetch(make_key()) is None

    def insert(number: int, storage: TieredStorage, name: str) -> CompiledProgram | None:
        storage.insert(make_key(), built(name))
        assert factories[number].wait(30)
        return machines().create_storage(NAME).fetch(make_key())

    assert insert(0, first, "built first") == built("built first")
    assert insert(1, second, "built late") == built("built first")
    assert insert(0, first, "native code") == built("native code")
    assert third.fetch(make_key()) == built("native code")
    assert insert(2, third, "rejected there") == built("rejected there")
    assert insert(3, fourth, "built anew") == built("built anew")


def test_a_forked_child_lets_go_without_the_lock() -> None:
    """It may have been held in the fork, by a thread that isn't there any more."""
    uploads = Scene(FaultyStorage()).storage._uploads
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        uploads._changed = threading.Condition(threading.Lock())
        uploads._changed.acquire()
        uploads.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
