"""One file, loaded whole and rewritten whole."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mace_cache import _filesystem
from mace_cache._filesystem import NotRegularFileError
from mace_cache.container import Bundle, encode
from mace_cache.errors import DamagedFileError
from mace_cache.storage.file import FileStorage, FileStorageFactory
from tests.storage.conformance import (
    FINGERPRINT,
    NAME,
    OTHER_FINGERPRINT,
    OTHER_NAME,
    PersistentConformance,
    ReadOnlyConformance,
    insert_all,
    make_key,
    make_program,
    open_storage,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mace_cache.program import CompiledProgram
    from mace_cache.storage.base import KVStorageFactory

OTHER = make_program(0, b"theirs", OTHER_FINGERPRINT)


class TestFileStorage(PersistentConformance):
    """`FileStorage`, a file a fingerprint, does what every storage does."""

    def make_factory(self, directory: Path) -> KVStorageFactory:
        """Use the directory for the files."""
        return FileStorageFactory(directory)

    def make_read_only_factory(self, directory: Path) -> KVStorageFactory:
        """Use the directory for the files, read-only."""
        return FileStorageFactory(directory, read_only=True)


class TestOneFileStorage(PersistentConformance):
    """`FileStorage`, one file for all fingerprints, does what every storage does."""

    def make_factory(self, directory: Path) -> KVStorageFactory:
        """Use one file in the directory."""
        return FileStorageFactory.for_file(directory / "programs.mclp")

    def make_read_only_factory(self, directory: Path) -> KVStorageFactory:
        """Use one file in the directory, read-only."""
        return FileStorageFactory.for_file(directory / "programs.mclp", read_only=True)


class TestReadOnlyFileStorage(ReadOnlyConformance):
    """A read-only `FileStorage` does what every storage that only reads does."""

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> FileStorage:
        """Write with a factory that may, read with one that may not."""
        insert_all(open_storage(FileStorageFactory(directory)), programs)
        storage = FileStorageFactory(directory, read_only=True).create_storage(NAME)
        storage.load()
        return storage


def _open(path: Path, name: str = NAME) -> FileStorage:
    storage = FileStorageFactory.for_file(path).create_storage(name)
    storage.load()
    return storage


def test_where_the_files_lie(tmp_path: Path) -> None:
    """A file a name in a directory, or exactly the file that was asked for; state beside it."""
    factory = FileStorageFactory(tmp_path / "many")
    insert_all(open_storage(factory), [make_program()])
    assert (tmp_path / "many" / f"{NAME}.mclp").read_bytes() == encode([make_program()])
    assert factory.state_directory == tmp_path / "many" / "state"
    one = FileStorageFactory.for_file(tmp_path / "one.bin")
    insert_all(open_storage(one), [make_program()])
    assert (tmp_path / "one.bin").read_bytes() == encode([make_program()])
    assert one.state_directory == tmp_path / "one.bin.state"
    assert FileStorageFactory(tmp_path, read_only=True).state_directory is None
    assert FileStorageFactory.for_file(tmp_path / "x", read_only=True).state_directory is None


def test_nothing_is_written_before_the_flush(tmp_path: Path) -> None:
    """As in MACE: ``insert`` is for this process, ``flush`` for all."""
    storage = _open(tmp_path / "cache")
    storage.insert(make_key(), make_program())
    assert list(tmp_path.iterdir()) == []
    storage.flush()
    assert _open(tmp_path / "cache").find(make_key()) == make_program()


def test_a_flush_merges_with_what_others_wrote(tmp_path: Path) -> None:
    """Of two that loaded the same file, the second to flush keeps what the first wrote."""
    path = tmp_path / "cache"
    first, second, other = _open(path), _open(path), _open(path, OTHER_NAME)
    for storage, program in ((first, make_program(1)), (second, make_program(2)), (other, OTHER)):
        storage.insert(program.key, program)
    for storage in (first, second, other):
        storage.flush()
    assert sorted(_open(path).keys()) == [make_key(1), make_key(2)]
    assert sorted(second.keys()) == [make_key(1), make_key(2)], "a flush also reads"
    assert Bundle(path.read_bytes()).find(OTHER_FINGERPRINT, OTHER.key) == OTHER


def test_a_flush_with_nothing_new_does_not_write(tmp_path: Path) -> None:
    """A process that only read leaves the file as it is."""
    path = tmp_path / "cache"
    insert_all(_open(path), [make_program()])
    storage = _open(path)
    before = snapshot(tmp_path)
    storage.flush()
    assert snapshot(tmp_path) == before


def test_many_flushes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each of many objects on one file, as in as many processes, keeps all the others' programs."""
    path = tmp_path / "cache"

    def write(number: int) -> None:
        insert_all(_open(path), [make_program(number)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert sorted(_open(path).keys()) == [make_key(number) for number in range(24)]


def test_clearing_one_fingerprint_keeps_the_others_in_the_file(tmp_path: Path) -> None:
    """The file goes only with the last fingerprint's programs."""
    path = tmp_path / "cache"
    ours, theirs = _open(path), _open(path, OTHER_NAME)
    insert_all(ours, [make_program()])
    insert_all(theirs, [OTHER])
    ours.clear()
    assert Bundle(path.read_bytes()).keys() == [(OTHER_FINGERPRINT, OTHER.key)]
    theirs.clear()
    assert not path.exists()


def test_a_program_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    """What it would never find again isn't taken."""
    with pytest.raises(ValueError, match=OTHER_NAME):
        _open(tmp_path / "cache").insert(OTHER.key, OTHER)


@pytest.mark.parametrize("content", [b"my thesis", b"MCL", b"\x7fELF" + bytes(200)])
def test_a_users_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    """Promise 8: what doesn't begin as an MCLP file isn't ours, whatever its name."""
    path = tmp_path / "cache"
    path.write_bytes(content)
    storage = FileStorageFactory.for_file(path).create_storage(NAME)
    storage.insert(make_key(), make_program())
    for action in (storage.load, storage.flush, storage.clear):
        with pytest.raises(FileExistsError, match="left alone"):
            action()
    assert path.read_bytes() == content


def test_a_newer_file_is_never_replaced(tmp_path: Path) -> None:
    """A flush or clear doesn't destroy what a newer release keeps there."""
    path = tmp_path / "cache"
    data = encode([make_program()])
    newer = data[:4] + (2 << 16).to_bytes(4, "little") + data[8:]
    path.write_bytes(newer)
    storage = _open(path)
    storage.insert(make_key(), make_program())
    for action in (storage.flush, storage.clear):
        with pytest.raises(FileExistsError, match="left alone"):
            action()
    assert path.read_bytes() == newer


def test_an_empty_file_is_an_empty_storage(tmp_path: Path) -> None:
    """Such as ``mktemp`` makes: there is nothing in it to lose."""
    path = tmp_path / "cache"
    path.touch()
    insert_all(_open(path), [make_program()])
    assert _open(path).find(make_key()) == make_program()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A FIFO doesn't block, a link isn't followed or replaced, a directory stays."""
    outside = tmp_path / "outside"
    outside.write_bytes(encode([make_program()]))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(outside)
    before = snapshot(tmp_path)
    for name in ("fifo", "directory", "link"):
        storage = FileStorageFactory.for_file(tmp_path / name).create_storage(NAME)
        storage.insert(make_key(), make_program())
        for action in (storage.load, storage.flush, storage.clear):
            with pytest.raises(NotRegularFileError):
                action()
    after = {path: found for path, found in snapshot(tmp_path).items() if path[-5:] != ".lock"}
    assert after == before


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Promise 9: nothing is loaded that another user may have written."""
    path = tmp_path / "cache"
    insert_all(_open(path), [make_program()])
    path.chmod(mode)
    with pytest.raises(PermissionError, match="isn't used"):
        _open(path)


def test_a_flush_that_fails_keeps_the_file_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs nothing that was there, and what was inserted isn't forgotten."""
    path = tmp_path / "cache"
    storage = _open(path)
    insert_all(storage, [make_program(0)])
    storage.insert(make_key(1), make_program(1))

    def write_half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_filesystem, "write_all", write_half)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            storage.flush()
    assert list(_open(path).keys()) == [make_key(0)]
    assert list(tmp_path.glob(".tmp-*")) == []
    storage.flush()
    assert sorted(_open(path).keys()) == [make_key(0), make_key(1)]


def test_damage_that_somebody_has_mended_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between seeing the damage and removing it the file is read again, under the lock."""
    path = tmp_path / "cache"
    storage = _open(path)
    path.write_bytes(encode([make_program()])[:-1])
    mend = FileStorage._remove_damaged

    def meanwhile(storage: FileStorage) -> None:
        path.write_bytes(encode([make_program()]))
        mend(storage)

    monkeypatch.setattr(FileStorage, "_remove_damaged", meanwhile)
    with pytest.raises(DamagedFileError):
        storage.load()
    storage.load()
    assert storage.find(make_key()) == make_program()


def test_a_flush_replaces_a_damaged_file(tmp_path: Path) -> None:
    """What is damaged behind a loaded storage's back is written anew."""
    path = tmp_path / "cache"
    storage = _open(path)
    path.write_bytes(encode([OTHER])[:-1])
    insert_all(storage, [make_program()])
    assert Bundle(path.read_bytes()).keys() == [(FINGERPRINT, make_key())]


def test_names_skip_what_is_no_storage(tmp_path: Path) -> None:
    """Locks, state, hidden files and a damaged file aren't listed."""
    factory = FileStorageFactory(tmp_path)
    insert_all(open_storage(factory), [make_program()])
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.mclp").touch()
    assert factory.names() == [NAME]
    path = tmp_path / "one"
    path.write_bytes(encode([make_program()])[:-1])
    assert FileStorageFactory.for_file(path).names() == []
