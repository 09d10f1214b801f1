"""A file a program: what processes, disks and users do to it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mace_cache import _filesystem
from mace_cache.container import encode
from mace_cache.errors import DamagedFileError, StorageReadOnlyError
from mace_cache.storage.directory import DirectoryStorage, DirectoryStorageFactory
from tests.storage.conformance import (
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
    from collections.abc import Callable, Sequence

    from mace_cache.program import CompiledProgram

REPOSITORY = Path(__file__).parents[2]


def run_processes(*arguments: object) -> None:
    """Run a scene of ``processes.py`` to its end."""
    command = [sys.executable, "-m", "tests.storage.processes", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def entry_of(root: Path, key: str, name: str = NAME) -> Path:
    """Where a program's file lies."""
    return root / "v1" / name / key[:2] / f"{key}.mclp"


class TestDirectoryStorage(PersistentConformance):
    """`DirectoryStorage` does what every storage does."""

    def make_factory(self, directory: Path) -> DirectoryStorageFactory:
        """Use the directory as root."""
        return DirectoryStorageFactory(directory)

    def make_read_only_factory(self, directory: Path) -> DirectoryStorageFactory:
        """Use the directory as root, read-only."""
        return DirectoryStorageFactory(directory, read_only=True)


class TestReadOnlyDirectoryStorage(ReadOnlyConformance):
    """A read-only `DirectoryStorage` does what every storage that only reads does."""

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> DirectoryStorage:
        """Write with a factory that may, read with one that may not."""
        insert_all(open_storage(DirectoryStorageFactory(directory)), programs)
        storage = DirectoryStorageFactory(directory, read_only=True).create_storage(NAME)
        storage.load()
        return storage

    def test_a_hit_leaves_no_trace(self, tmp_path: Path) -> None:
        """Promise 10: not even the mark of use is written."""
        storage = self.holding(tmp_path, [make_program()])
        os.utime(entry_of(tmp_path, make_key()), (0, 0))
        before = snapshot(tmp_path)
        assert storage.find(make_key()) == make_program()
        assert snapshot(tmp_path) == before

    def test_garbage_is_not_collected(self, tmp_path: Path) -> None:
        """A factory that only reads removes nothing, and offers no place for state."""
        factory = DirectoryStorageFactory(tmp_path, read_only=True)
        assert factory.state_directory is None
        with pytest.raises(StorageReadOnlyError):
            factory.collect_garbage()


def test_the_layout_on_disk(tmp_path: Path) -> None:
    """Version, storage, shard, key: as documented."""
    factory = DirectoryStorageFactory(tmp_path)
    insert_all(open_storage(factory), [make_program(0xAB)])
    assert entry_of(tmp_path, make_key(0xAB)).read_bytes() == encode([make_program(0xAB)])
    assert factory.state_directory == tmp_path / "v1"


@pytest.mark.parametrize("other", [encode([]), encode([make_program(1)])], ids=["none", "another"])
def test_a_valid_file_of_other_contents_is_damage(tmp_path: Path, other: bytes) -> None:
    """Promise 2: a file counts only if it holds the one program that its name says."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(0), make_program(0))
    entry_of(tmp_path, make_key(0)).write_bytes(other)
    with pytest.raises(DamagedFileError):
        storage.find(make_key(0))
    assert storage.find(make_key(0)) is None


def test_killed_writers_leave_old_or_new(tmp_path: Path) -> None:
    """Promise 6: SIGKILL at any moment of an insert leaves a whole program for every reader."""
    run_processes("kill", tmp_path, 40)


def test_inserts_survive_clears_of_other_processes(tmp_path: Path) -> None:
    """A ``clear`` that takes the directory away under an insert doesn't make it fail."""
    run_processes("clear", tmp_path, 1)


def test_a_full_disk_fails_the_insert_and_leaves_nothing(tmp_path: Path) -> None:
    """A write that the kernel cuts off is an OSError; no temporary stays and the rest works."""
    run_processes("limit", tmp_path)
    assert [path.name for path in tmp_path.rglob("*.mclp")] == [f"{make_key(1)}.mclp"]
    assert list(tmp_path.rglob(".tmp-*")) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("fails", ["write", "replace"])
def test_disk_faults_reach_the_caller_and_keep_the_old_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fails: str
) -> None:
    """Whatever step of an insert fails, the old program stays and nothing is left behind."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(), make_program(0, b"old"))

    def write_half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(code, os.strerror(code))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(_filesystem, "write_all", write_half)
        else:
            patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match=r".") as raised:
            storage.insert(make_key(), make_program(0, b"new"))
    assert raised.value.errno == code
    assert storage.find(make_key()) == make_program(0, b"old")
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_a_directory_removed_while_in_use_is_made_again(tmp_path: Path) -> None:
    """Somebody's ``rm -rf`` costs the programs, not the storage."""
    root = tmp_path / "cache"
    storage = open_storage(DirectoryStorageFactory(root))
    storage.insert(make_key(), make_program())
    shutil.rmtree(root)
    assert storage.find(make_key()) is None
    storage.clear()
    storage.insert(make_key(), make_program())
    assert storage.find(make_key()) == make_program()


def test_a_file_in_place_of_the_root_is_an_os_error(tmp_path: Path) -> None:
    """A cache directory that is a file is reported, and left alone."""
    root = tmp_path / "cache"
    root.write_text("mine")
    storage = DirectoryStorageFactory(root).create_storage(NAME)
    with pytest.raises(NotADirectoryError):
        storage.load()
    with pytest.raises(NotADirectoryError):
        storage.insert(make_key(), make_program())
    assert root.read_text() == "mine"


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("nowhere"))


def _socket(path: Path, _: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # A socket's path may have only 107 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("plant", [_fifo, _directory, _link, _dangling, _socket])
def test_what_is_no_file_is_a_miss(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    """A FIFO doesn't block, a link isn't followed even to a valid entry, and all stay there."""
    outside = tmp_path / "outside.mclp"
    outside.write_bytes(encode([make_program()]))
    storage = open_storage(DirectoryStorageFactory(tmp_path / "cache"))
    storage.insert(make_key(256), make_program(256))  # in the same shard
    place = entry_of(tmp_path / "cache", make_key())
    plant(place, outside)
    planted = place.lstat()
    assert storage.find(make_key()) is None
    assert list(storage.keys()) == [make_key(256)]
    storage.clear()
    assert place.lstat().st_ino == planted.st_ino
    assert outside.read_bytes() == encode([make_program()])


def test_a_link_in_the_place_of_an_entry_is_replaced_not_written_through(tmp_path: Path) -> None:
    """Promise 8: an insert never writes to where a link points."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    storage = open_storage(DirectoryStorageFactory(tmp_path / "cache"))
    storage.insert(make_key(256), make_program(256))
    entry_of(tmp_path / "cache", make_key()).symlink_to(outside)
    storage.insert(make_key(), make_program())
    assert storage.find(make_key()) == make_program()
    assert outside.read_text() == "mine"


def _plant_foreign_files(root: Path, outside: Path) -> None:
    """Everything that looks like ours and isn't, outside and inside of the cache."""
    key = make_key()
    for directory in (outside, outside / NAME / key[:2], outside / key[:2]):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{key}.mclp").write_bytes(encode([make_program()]))
        (directory / f".tmp-{'0' * 32}").write_text("not stale enough to touch")
    storage = root / "v1" / NAME
    shard = storage / key[:2]
    for directory in (root, root / "v1", storage, shard):
        (directory / "notes.txt").write_text("mine")
        (directory / "model.mclp").write_text("mine")
    (shard / f"{key.upper()}.mclp.bak").write_text("mine")
    (shard / ".tmp-mine").write_text("mine")
    (storage / f"{key}.mclp").write_bytes(encode([make_program()]))  # not in a shard
    (shard / f"{make_key(512)}.mclp").symlink_to(outside / f"{key}.mclp")
    (shard / "deeper").mkdir()
    (shard / "deeper" / f"{key}.mclp").write_text("mine")
    (storage / "ff").symlink_to(outside)
    (storage / "fe").write_text("mine")
    (root / "v1" / "a-linked-storage").symlink_to(outside / NAME)
    (root / "v2" / NAME / key[:2]).mkdir(parents=True)
    (root / "v2" / NAME / key[:2] / f"{key}.mclp").write_text("of a later release")
    for path in [*outside.rglob("*"), *root.rglob("*")]:
        if not path.name.endswith("usage"):
            os.utime(path, (0, 0), follow_symlinks=False)


def test_only_own_files_are_removed(tmp_path: Path) -> None:
    """Promise 8: clear, eviction and collection leave users' files and what links lead to."""
    root, outside = tmp_path / "cache", tmp_path / "outside"
    size = len(encode([make_program()]))
    factory = DirectoryStorageFactory(root, max_size=4 * size)
    storage = open_storage(factory)
    storage.insert(make_key(256), make_program(256))
    _plant_foreign_files(root, outside)

    def foreign() -> dict[str, bytes | str]:
        everything = snapshot(tmp_path)
        return {path: content for path, (_, _, content) in everything.items() if path not in ours}

    ours = {str(entry_of(root, make_key(256))), str(root / "v1" / "usage")}
    before = foreign()
    assert len(before) > 30
    for number in range(1, 20):
        ours |= {str(entry_of(root, make_key(number)))}
        ours |= {str(entry_of(root, make_key(number)).parent)}
        storage.insert(make_key(number), make_program(number))
    assert storage.evicted > 0
    assert foreign() == before
    factory.collect_garbage()
    assert foreign() == before
    storage.clear()
    assert foreign() == before
    assert list(storage.keys()) == []
    assert not any(Path(path).name.endswith(".mclp") and Path(path).exists() for path in ours)


def test_damage_behind_a_linked_shard_is_not_removed(tmp_path: Path) -> None:
    """Promise 8: not even a damaged file is removed, or read, through a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{make_key()}.mclp").write_bytes(b"MCLP, but damaged")
    storage = open_storage(DirectoryStorageFactory(tmp_path / "cache"))
    storage.insert(make_key(1), make_program(1))
    entry_of(tmp_path / "cache", make_key()).parent.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        storage.find(make_key())
    with pytest.raises(NotADirectoryError):
        storage.insert(make_key(), make_program())
    assert [path.name for path in outside.iterdir()] == [f"{make_key()}.mclp"]


@pytest.mark.parametrize("below", ["v1", f"v1/{NAME}", f"v1/{NAME}/00"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, below: str, mode: int
) -> None:
    """Promise 9: nothing is read from where another user may have written."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(), make_program())
    (tmp_path / below).chmod(mode)
    with pytest.raises(PermissionError, match="isn't used"):
        storage.find(make_key())
    with pytest.raises(PermissionError, match="isn't used"):
        storage.insert(make_key(), make_program())


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: the owner decides, not what we may happen to do there."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(), make_program())
    owner = 12345
    if os.geteuid() == 0:
        os.chown(tmp_path / "v1", owner, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner)
    with pytest.raises(PermissionError, match="isn't used"):
        storage.load()


def test_a_hit_is_marked_once_an_hour(tmp_path: Path) -> None:
    """A program that was used gets a new time if its last mark is old, and only then."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(), make_program())
    path = entry_of(tmp_path, make_key())
    now = time.time()
    for age, marked in ((1800, False), (7200, True)):
        os.utime(path, (now - age, now - age))
        storage.find(make_key())
        assert (path.stat().st_mtime > now - 60) is marked


def test_a_program_too_large_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What alone is over the limit isn't stored and evicts nothing."""
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=2000))
    storage.insert(make_key(0), make_program(0))
    with caplog.at_level(logging.DEBUG):
        storage.insert(make_key(1), make_program(1, bytes(2000)))
    assert list(storage.keys()) == [make_key(0)]
    assert "more than may be stored" in caplog.text


def test_two_fingerprints_share_nothing(tmp_path: Path) -> None:
    """The same key in another storage is another program."""
    factory = DirectoryStorageFactory(tmp_path)
    ours, theirs = make_program(0, b"ours"), make_program(0, b"theirs", OTHER_FINGERPRINT)
    insert_all(open_storage(factory), [ours])
    insert_all(open_storage(factory, OTHER_NAME), [theirs])
    assert open_storage(factory).find(make_key()) == ours
    assert open_storage(factory, OTHER_NAME).find(make_key()) == theirs
    assert factory.total_size() == len(encode([ours])) + len(encode([theirs]))
