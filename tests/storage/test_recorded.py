"""The storages of a rehearsal, and their notes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.memory import MemoryStorage
from mace_cache.storage.recorded import Note, RecordedStorageFactory, read_notes
from mace_cache.storage.remote_settings import RemoteSettings
from mace_cache.storage.tiered import TieredStorageFactory
from tests.helpers import FakeFactory, FaultyStorage
from tests.storage.conformance import (
    NAME,
    OTHER_NAME,
    PersistentConformance,
    insert_all,
    make_key,
    make_program,
    open_storage,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mace_cache.program import CompiledProgram


class TestRecordedStorage(PersistentConformance):
    """A storage that is recorded does what it does otherwise."""

    @pytest.fixture(autouse=True)
    def _record_elsewhere(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._record = str(tmp_path_factory.mktemp("record"))

    def make_factory(self, directory: Path) -> RecordedStorageFactory:
        """Record a directory."""
        return RecordedStorageFactory(DirectoryStorageFactory(directory), self._record)

    def make_read_only_factory(self, directory: Path) -> RecordedStorageFactory:
        """Record a directory that is only read."""
        made = DirectoryStorageFactory(directory, read_only=True)
        return RecordedStorageFactory(made, self._record)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record directory."""
    return tmp_path / "record"


def test_a_note_is_there_before_the_flush(record: Path) -> None:
    """So a process that ended without one is known; what was inserted doesn't count yet."""
    assert read_notes(record) == []
    storage = open_storage(RecordedStorageFactory(FakeFactory(), str(record)))
    storage.insert(make_key(), make_program())
    assert read_notes(record) == [Note(NAME, "memory", True, flushed=False, programs={})]
    storage.flush()
    sizes: dict[str, int | None] = {make_key(): len(b"a binary")}
    assert read_notes(record) == [Note(NAME, "memory", True, flushed=True, programs=sizes)]


def test_notes_of_several_storages(record: Path) -> None:
    """One a storage object: two that share a place have one each, the later flush comes last."""
    factory = RecordedStorageFactory(FakeFactory(MemoryStorage()), str(record))
    first, second = open_storage(factory), open_storage(factory)
    open_storage(factory, OTHER_NAME)
    insert_all(second, [make_program(binary=b"early")])
    insert_all(first, [make_program(binary=b"complete")])
    notes = read_notes(record)
    assert [(note.storage, note.flushed) for note in notes[1:]] == [(NAME, True), (NAME, True)]
    assert [list(note.programs.values()) for note in notes] == [[], [5], [8]]


def test_what_is_not_there_any_more(record: Path, tmp_path: Path) -> None:
    """A note tells what lies there at the flush: the least recently used had to go."""
    size = 3000
    factory = DirectoryStorageFactory(tmp_path / "cache", max_size=2 * size)
    storage = open_storage(RecordedStorageFactory(factory, str(record)))
    insert_all(storage, [make_program(number, bytes(size)) for number in range(2)])
    assert storage.evicted == 1
    (note,) = read_notes(record)
    assert note.place == str(tmp_path / "cache" / "v1" / NAME)
    assert note.programs == {make_key(0): None, make_key(1): size}


def test_what_could_not_be_written(record: Path) -> None:
    """It is noted as missing, and the fault is the storage's own."""
    faulty = FaultyStorage("insert", OSError(28, "No space left on device"))
    storage = open_storage(RecordedStorageFactory(FakeFactory(faulty), str(record)))
    with pytest.raises(OSError, match="No space left"):
        storage.insert(make_key(), make_program())
    storage.flush()
    (note,) = read_notes(record)
    assert note.programs == {make_key(): None}


def test_state_goes_into_the_record(record: Path, tmp_path: Path) -> None:
    """A rehearsal isn't counted among the cache's starts."""
    factory = RecordedStorageFactory(DirectoryStorageFactory(tmp_path / "cache"), str(record))
    assert factory.state_directory == record


class Behind(MemoryStorage):
    """A storage with a remote behind it that answers to everything, and keeps note."""

    remote = "a remote"

    def __init__(self) -> None:
        super().__init__()
        self.released: list[tuple[str, bool]] = []

    def fetch(self, key: str) -> CompiledProgram | None:
        """Have what a test uses."""
        return make_program() if key == make_key() else None

    def claim(
        self, key: str, patience: float, when_awaited: Callable[[], None] = lambda: None
    ) -> bool:
        """Have waited for nothing but long patience, and be waited for."""
        when_awaited()
        return key == make_key() and patience > 1

    def release(self, key: str, *, fails: bool = False) -> None:
        """Note it."""
        self.released.append((key, fails))


def test_a_remote_behind_it_is_asked_and_waited_for(record: Path) -> None:
    """What a rehearsal builds goes up as ever, and its end waits for that."""
    behind = Behind()
    factory = RecordedStorageFactory(FakeFactory(behind), str(record))
    storage = open_storage(factory)
    assert storage.remote == "a remote"
    assert storage.fetch(make_key()) == make_program()
    awaited: list[int] = []
    assert storage.claim(make_key(), 2, lambda: awaited.append(1))
    assert awaited == [1]
    storage.release(make_key())
    storage.release(make_key(), fails=True)
    assert behind.released == [(make_key(), False), (make_key(), True)]
    remote = Slow()
    settings = RemoteSettings(allow_unsigned=True, timeout=30)
    tiered = TieredStorageFactory(FakeFactory(), FakeFactory(remote), settings)
    factory = RecordedStorageFactory(tiered, str(record))
    open_storage(factory).insert(make_key(), make_program())
    assert not factory.wait(0.01)
    remote.go.set()
    assert factory.wait(30)
    assert list(remote.keys()) == [make_key()]


class Slow(MemoryStorage):
    """A storage that takes a program when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Wait for it."""
        self.go.wait()
        super().insert(key, program)
