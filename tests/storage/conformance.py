"""What every storage must do: a backend's test class inherits the class here that fits it."""

from __future__ import annotations

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mace_cache.errors import DamagedFileError, StorageReadOnlyError
from mace_cache.fingerprint import storage_name
from mace_cache.program import CompiledProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mace_cache.storage.base import KVStorage, KVStorageFactory

FINGERPRINT = "platform name: A platform\ndevice name: A device\n"
OTHER_FINGERPRINT = "platform name: A platform\ndevice name: Another device\n"
NAME = storage_name(FINGERPRINT)
OTHER_NAME = storage_name(OTHER_FINGERPRINT)

BAD_NAMES = ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\0b", "/", "a" * 201, "ö" * 101]
BAD_KEYS = ["", "a", "../" * 21 + "a", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n"]

_NAMES = st.sampled_from(["insert", "insert", "insert", "flush", "clear", "reopen"])
_OPERATIONS = st.lists(st.tuples(_NAMES, st.integers(0, 3), st.binary(max_size=40)), max_size=20)


def make_key(number: int = 0) -> str:
    """A key for every number; they spread over shards."""
    return f"{number % 256:02x}{number:062x}"


def make_program(
    number: int = 0, binary: bytes = b"a binary", fingerprint: str = FINGERPRINT
) -> CompiledProgram:
    """A program for every number, with something in every field."""
    return CompiledProgram(
        key=make_key(number),
        fingerprint=fingerprint,
        binary=binary,
        kernel_names=("first", "second"),
        options="-DTILE=16 -cl-fast-relaxed-math",
        build_log="warning: ünused",
        build_seconds=1.5,
        components=(("source", "abc"), ("options", "-DTILE=16")),
        created=1234567890.25,
    )


def insert_all(storage: KVStorage, programs: Sequence[CompiledProgram]) -> None:
    """Insert programs under their own keys, and flush."""
    for program in programs:
        storage.insert(program.key, program)
    storage.flush()


def open_storage(factory: KVStorageFactory, name: str = NAME) -> KVStorage:
    """Make a storage and load it."""
    storage = factory.create_storage(name)
    storage.load()
    return storage


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes | str]]:
    """All that lies below a directory: mode, modification time and contents of each."""
    found: dict[str, tuple[int, int, bytes | str]] = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        content = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        )
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


class StorageConformance:
    """What holds for every storage, also for one that only reads."""

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> KVStorage:
        """Give a loaded storage for ``FINGERPRINT`` that holds these programs.

        Args:
            directory: an empty directory that it may use.
            programs: programs of that fingerprint.
        """
        raise NotImplementedError

    def test_finds_exactly_what_was_stored(self, tmp_path: Path) -> None:
        """Every field of a program comes back."""
        programs = [make_program(n, binary=bytes([n]) * n * 1000) for n in range(4)]
        storage = self.holding(tmp_path, programs)
        assert [storage.find(program.key) for program in programs] == programs

    def test_a_miss_is_none(self, tmp_path: Path) -> None:
        """A key that isn't there is answered with None, in an empty storage and a filled one."""
        empty, filled = tmp_path / "empty", tmp_path / "filled"
        empty.mkdir()
        filled.mkdir()
        assert self.holding(empty, []).find(make_key(0)) is None
        assert self.holding(filled, [make_program(1)]).find(make_key(0)) is None

    def test_keys_are_those_that_can_be_found(self, tmp_path: Path) -> None:
        """``keys`` lists each program once."""
        storage = self.holding(tmp_path, [make_program(n) for n in (0, 1, 256, 257)])
        assert sorted(storage.keys()) == sorted(make_key(n) for n in (0, 1, 256, 257))

    def test_loading_again_changes_nothing(self, tmp_path: Path) -> None:
        """``load`` may be called at any time."""
        storage = self.holding(tmp_path, [make_program()])
        storage.load()
        assert storage.find(make_key()) == make_program()
        assert list(storage.keys()) == [make_key()]

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_what_is_no_key_is_refused(self, tmp_path: Path, key: str) -> None:
        """Nothing but 64 hexadecimal digits ever becomes a path."""
        with pytest.raises(ValueError, match="is no program key"):
            self.holding(tmp_path, []).find(key)

    def test_has_a_name_for_messages(self, tmp_path: Path) -> None:
        """A storage as text is something that a person recognises."""
        assert "object at" not in str(self.holding(tmp_path, []))

    def test_many_threads_read_at_once(self, tmp_path: Path) -> None:
        """Threads that share a storage all find what is there."""
        programs = [make_program(n) for n in range(8)]
        storage = self.holding(tmp_path, programs)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(storage.find, [program.key for program in programs] * 10))
        assert found == programs * 10

    def test_proving_is_for_who_can_note_it(self, tmp_path: Path) -> None:
        """What was found may be proven, and then is, or somebody else has to keep note of it."""
        storage = self.holding(tmp_path, [make_program(0), make_program(1)])
        found = storage.find(make_key(0))
        assert found is not None
        noted = storage.prove(found)
        now = storage.find(make_key(0))
        assert now == found
        assert now is not None
        assert noted == (now.proven and not found.proven)


class ReadOnlyConformance(StorageConformance):
    """What holds for a storage that only reads."""

    def test_says_that_it_is_not_writable(self, tmp_path: Path) -> None:
        """``writable`` tells before a write is tried."""
        assert not self.holding(tmp_path, []).writable

    def test_writes_are_refused_and_change_nothing(self, tmp_path: Path) -> None:
        """Insert and clear raise, flush does nothing, and the disk stays as it was."""
        storage = self.holding(tmp_path, [make_program(0)])
        before = snapshot(tmp_path)
        with pytest.raises(StorageReadOnlyError):
            storage.insert(make_key(1), make_program(1))
        with pytest.raises(StorageReadOnlyError):
            storage.clear()
        with pytest.raises(StorageReadOnlyError):
            storage.remove(make_key(0))
        storage.prove(make_program(0))
        storage.flush()
        assert snapshot(tmp_path) == before
        assert storage.find(make_key(0)) == make_program(0)


class WritableConformance(StorageConformance):
    """What holds for a storage that is written to."""

    def make_factory(self, directory: Path) -> KVStorageFactory:
        """Make a factory whose storages use that directory, if any; it may have to be created."""
        raise NotImplementedError

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> KVStorage:
        """Insert the programs."""
        storage = open_storage(self.make_factory(directory / "storage"))
        insert_all(storage, programs)
        return storage

    def test_an_insert_replaces(self, tmp_path: Path) -> None:
        """The last program of a key is the one that is found."""
        storage = self.holding(tmp_path, [make_program(0, b"old"), make_program(1)])
        insert_all(storage, [make_program(0, b"new")])
        assert storage.find(make_key(0)) == make_program(0, b"new")
        assert sorted(storage.keys()) == [make_key(0), make_key(1)]

    def test_an_insert_is_found_before_it_is_flushed(self, tmp_path: Path) -> None:
        """The object that inserted a program has it at once."""
        storage = open_storage(self.make_factory(tmp_path))
        storage.insert(make_key(), make_program())
        assert storage.find(make_key()) == make_program()

    def test_a_program_goes_under_its_own_key_only(self, tmp_path: Path) -> None:
        """A key that isn't the program's is refused, and nothing is stored."""
        storage = open_storage(self.make_factory(tmp_path))
        with pytest.raises(ValueError, match="key"):
            storage.insert(make_key(1), make_program(0))
        assert list(storage.keys()) == []

    def test_clear_removes_all_of_its_own_and_nothing_else(self, tmp_path: Path) -> None:
        """Another fingerprint's programs outlive a ``clear``."""
        factory = self.make_factory(tmp_path)
        mine, other = open_storage(factory), open_storage(factory, OTHER_NAME)
        insert_all(mine, [make_program(n) for n in range(3)])
        kept = make_program(0, fingerprint=OTHER_FINGERPRINT)
        insert_all(other, [kept])
        mine.clear()
        mine.load()
        other.load()
        assert list(mine.keys()) == []
        assert mine.find(make_key(0)) is None
        assert other.find(make_key(0)) == kept

    def test_remove_removes_one_program(self, tmp_path: Path) -> None:
        """No other of this storage or another; what isn't there is no fault."""
        factory = self.make_factory(tmp_path)
        mine, other = open_storage(factory), open_storage(factory, OTHER_NAME)
        insert_all(mine, [make_program(0), make_program(1)])
        kept = make_program(0, fingerprint=OTHER_FINGERPRINT)
        insert_all(other, [kept])
        mine.remove(make_key(0))
        mine.remove(make_key(2))
        for _ in range(2):
            assert mine.find(make_key(0)) is None
            assert list(mine.keys()) == [make_key(1)]
            mine.flush()
            mine.load()
            other.load()
        assert other.find(make_key(0)) == kept
        with pytest.raises(ValueError, match="is no program key"):
            mine.remove("../" * 21 + "a")

    def test_clearing_twice_and_inserting_after_it(self, tmp_path: Path) -> None:
        """A cleared storage is an empty one, as good as new."""
        storage = self.holding(tmp_path, [make_program(0)])
        storage.clear()
        storage.clear()
        insert_all(storage, [make_program(1)])
        assert list(storage.keys()) == [make_key(1)]

    def test_names_are_those_that_were_written_to(self, tmp_path: Path) -> None:
        """The factory lists its storages, sorted, and no empty ones."""
        factory = self.make_factory(tmp_path)
        assert factory.names() == []
        open_storage(factory)
        assert factory.names() == []
        other = make_program(0, fingerprint=OTHER_FINGERPRINT)
        insert_all(open_storage(factory, OTHER_NAME), [other])
        insert_all(open_storage(factory), [make_program(0)])
        assert factory.names() == sorted([NAME, OTHER_NAME])

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_what_is_no_name_is_refused(self, tmp_path: Path, name: str) -> None:
        """No name leads out of the storage's place."""
        with pytest.raises(ValueError, match="can't name a storage"):
            self.make_factory(tmp_path).create_storage(name)

    def test_asking_writes_nothing(self, tmp_path: Path) -> None:
        """Promise 10: until something is inserted no file or directory is made."""
        storage = open_storage(self.make_factory(tmp_path / "storage"))
        storage.find(make_key())
        storage.clear()
        storage.flush()
        assert list(storage.keys()) == []
        assert list(tmp_path.iterdir()) == []

    def test_threads_write_at_once(self, tmp_path: Path) -> None:
        """Threads that share a storage lose nothing of each other's."""
        storage = open_storage(self.make_factory(tmp_path))
        barrier = threading.Barrier(6)

        def write(first: int) -> None:
            barrier.wait()
            for number in range(first, first + 5):
                storage.insert(make_key(number), make_program(number))
                storage.insert(make_key(999), make_program(999))
                storage.flush()

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(0, 30, 5)))
        storage.load()
        assert {storage.find(make_key(number)) for number in range(30)} == {
            make_program(number) for number in range(30)
        }

    # Each backend's class runs it anew, so the executors differ, and share no example.
    @settings(
        deadline=None,
        max_examples=30,
        database=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(operations=_OPERATIONS)
    def test_behaves_as_a_dictionary(self, operations: list[tuple[str, int, bytes]]) -> None:
        """Whatever is done in whatever order, what is found is what a dictionary would hold."""
        with tempfile.TemporaryDirectory() as directory:
            factory = self.make_factory(Path(directory))
            storage = open_storage(factory)
            expected: dict[str, CompiledProgram] = {}
            for operation, number, binary in operations:
                if operation == "insert":
                    program = expected[make_key(number)] = make_program(number, binary)
                    storage.insert(program.key, program)
                elif operation == "clear":
                    storage.clear()
                    expected.clear()
                else:
                    storage.flush()
                    storage = open_storage(factory) if operation == "reopen" else storage
            assert {key: storage.find(key) for key in storage.keys()} == expected  # noqa: SIM118 (a storage is no mapping)


def _flip(data: bytes) -> bytes:
    return data[:-60] + bytes([data[-60] ^ 1]) + data[-59:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": _flip,
    "cut short": lambda data: data[: len(data) // 2],
    "only the magic": lambda data: data[:4],
    "lengthened": lambda data: data + b"\0",
    "zeros after the header": lambda data: data[:80] + bytes(len(data) - 80),
}


class SharedConformance(WritableConformance):
    """What holds for a storage that other processes see."""

    def make_read_only_factory(self, directory: Path) -> KVStorageFactory:
        """Make a factory on the same place whose storages only read."""
        raise NotImplementedError

    def stored(self, directory: Path) -> bytes:
        """Give the bytes that hold the only program."""
        raise NotImplementedError

    def replace(self, directory: Path, data: bytes) -> None:
        """Put other bytes in their place."""
        raise NotImplementedError

    def test_flushed_programs_are_seen_by_others(self, tmp_path: Path) -> None:
        """A second factory, as in another process, finds what a first one has written."""
        insert_all(open_storage(self.make_factory(tmp_path)), [make_program(0), make_program(1)])
        other = open_storage(self.make_factory(tmp_path))
        assert other.find(make_key(1)) == make_program(1)
        assert self.make_factory(tmp_path).names() == [NAME]

    def test_loading_again_reads_what_others_wrote(self, tmp_path: Path) -> None:
        """An object that was loaded before another one's flush sees it after the next load."""
        early = open_storage(self.make_factory(tmp_path))
        insert_all(open_storage(self.make_factory(tmp_path)), [make_program()])
        early.load()
        assert early.find(make_key()) == make_program()

    def test_proven_is_one_binary_only(self, tmp_path: Path) -> None:
        """Others see that a program is proven; one that takes its place isn't, nor becomes so."""
        storage = open_storage(self.make_factory(tmp_path))
        insert_all(storage, [make_program(0, b"old")])
        old = _load_and_find(self.make_factory(tmp_path).create_storage(NAME))
        assert old is not None
        assert not old.proven
        can_note_it = storage.prove(old)
        old = _load_and_find(self.make_factory(tmp_path).create_storage(NAME))
        assert old is not None
        assert old.proven == can_note_it
        insert_all(storage, [make_program(0, b"new")])
        storage.prove(old)
        new = _load_and_find(self.make_factory(tmp_path).create_storage(NAME))
        assert new == make_program(0, b"new")
        assert not new.proven

    def test_what_was_cleared_stays_cleared(self, tmp_path: Path) -> None:
        """Promise 3: no flush, of this object or another, brings a cleared program back."""
        first = open_storage(self.make_factory(tmp_path))
        insert_all(first, [make_program(0)])
        second = open_storage(self.make_factory(tmp_path))
        first.clear()
        insert_all(second, [make_program(1)])
        first.flush()
        assert list(open_storage(self.make_factory(tmp_path)).keys()) == [make_key(1)]

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
    def test_damage_is_told_once_then_a_miss_then_healed(
        self, tmp_path: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        """Promise 2: damaged bytes are never given out, and don't stay."""
        factory = self.make_factory(tmp_path)
        insert_all(open_storage(factory), [make_program()])
        self.replace(tmp_path, damage(self.stored(tmp_path)))
        storage = factory.create_storage(NAME)
        with pytest.raises(DamagedFileError):
            _load_and_find(storage)
        assert _load_and_find(storage) is None
        insert_all(storage, [make_program()])
        assert _load_and_find(factory.create_storage(NAME)) == make_program()

    def test_a_newer_version_is_a_miss_and_stays(self, tmp_path: Path) -> None:
        """A file that a newer release wrote is neither understood nor removed by a reader."""
        factory = self.make_factory(tmp_path)
        insert_all(open_storage(factory), [make_program()])
        data = self.stored(tmp_path)
        newer = data[:4] + (2 << 16).to_bytes(4, "little") + data[8:]
        self.replace(tmp_path, newer)
        assert _load_and_find(factory.create_storage(NAME)) is None
        assert self.stored(tmp_path) == newer

    def test_read_only_leaves_damage_where_it_is(self, tmp_path: Path) -> None:
        """A storage that only reads reports damage and touches nothing."""
        insert_all(open_storage(self.make_factory(tmp_path)), [make_program()])
        damaged = _flip(self.stored(tmp_path))
        self.replace(tmp_path, damaged)
        before = snapshot(tmp_path)
        with pytest.raises(DamagedFileError):
            _load_and_find(self.make_read_only_factory(tmp_path).create_storage(NAME))
        assert snapshot(tmp_path) == before
        assert self.stored(tmp_path) == damaged


class PersistentConformance(SharedConformance):
    """What holds for a storage in files."""

    def stored_file(self, directory: Path) -> Path:
        """Find the file that holds the only program."""
        (path,) = directory.rglob("*.mclp")
        return path

    def stored(self, directory: Path) -> bytes:
        """Read the file."""
        return self.stored_file(directory).read_bytes()

    def replace(self, directory: Path, data: bytes) -> None:
        """Write the file."""
        self.stored_file(directory).write_bytes(data)

    def test_files_and_directories_are_private(self, tmp_path: Path) -> None:
        """Promise 9: directories 0700 and files 0600, however generous the umask."""
        before = os.umask(0)
        try:
            self.holding(tmp_path, [make_program(n) for n in range(2)])
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if path.is_file()}
        directories = {
            path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if path.is_dir()
        }
        assert modes == {0o600}
        assert directories == {0o700}

    def test_no_temporary_file_stays(self, tmp_path: Path) -> None:
        """After a write nothing but the finished file is there."""
        self.holding(tmp_path, [make_program()])
        assert list(tmp_path.rglob(".tmp-*")) == []


def _load_and_find(storage: KVStorage) -> CompiledProgram | None:
    storage.load()
    return storage.find(make_key())
