"""Private directories, atomic publishing and reading."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from mace_cache import _filesystem
from mace_cache._directories import open_directory, private_directory
from mace_cache._filesystem import (
    NotRegularFileError,
    publish,
    read_regular_file,
    tolerant_unlink,
    write_all,
)
from tests.helpers import opened_below

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_directories_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Each directory that is made is 0700; those that were there stay as they were."""
    tmp_path.chmod(0o755)
    before = os.umask(umask)
    try:
        private_directory(tmp_path / "a" / "b")
        private_directory(tmp_path / "a" / "b")
        with open_directory(tmp_path / "a" / "b", "c", "d", create=True):
            pass
    finally:
        os.umask(before)
    made = [tmp_path / path for path in ("a", "a/b", "a/b/c", "a/b/c/d")]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 4
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_machine_where_nothing_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for a directory that is there ends at the root."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        patch.setattr(os, "mkdir", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            private_directory(tmp_path / "directory")


def test_going_down_follows_no_link(tmp_path: Path) -> None:
    """A link is no directory, at the start and on the way; above the start it is fine."""
    (tmp_path / "real" / "a" / "b").mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "linked").symlink_to("a")
    with open_directory(tmp_path / "link" / "a", "b") as directory:
        assert os.path.samestat(os.fstat(directory), (tmp_path / "real/a/b").stat())
    for path, below in ((tmp_path / "link", ["a"]), (tmp_path / "real", ["linked", "b"])):
        for create in (False, True):
            with pytest.raises(NotADirectoryError), open_directory(path, *below, create=create):
                pass


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    """Without ``create`` nothing is made."""
    with pytest.raises(FileNotFoundError), open_directory(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_descriptors_are_closed(tmp_path: Path) -> None:
    """No path through these functions leaks a descriptor."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for below in (["a", "b"], ["open"], ["missing"]):
        for create in (below[0] == "a", False):
            try:
                with open_directory(tmp_path, *below, create=create):
                    pass
            except OSError:
                pass
    publish(tmp_path / "file", b"data")
    read_regular_file(tmp_path / "file")
    assert not opened_below(tmp_path)


def test_publish_replaces_whole_and_private(tmp_path: Path) -> None:
    """The new contents stand there, 0600, in a directory that was made for them."""
    path = tmp_path / "new" / "file"
    before = os.umask(0)
    try:
        publish(path, b"old")
        publish(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_publish_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    """A link planted in a file's place can't redirect a write."""
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "file").symlink_to("outside")
    publish(tmp_path / "file", b"new")
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_reader_with_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    """Publishing never writes into the file that was there."""
    publish(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb") as file:
        publish(tmp_path / "file", b"new")
        assert file.read() == b"old"


def test_publish_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old contents stay, without a temporary file beside them."""
    publish(tmp_path / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_filesystem, "write_all", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        publish(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.write`` may take a part only."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(descriptor, b"0123456789")
    os.close(descriptor)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.read`` may give a part only, and nothing more where the file was shortened."""
    (tmp_path / "file").write_bytes(b"0123456789")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 3)))
    assert read_regular_file(tmp_path / "file")[0] == b"0123456789"
    status = os.stat_result((0o100600, 0, 0, 1, 0, 0, 20, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: status)
    assert read_regular_file(tmp_path / "file")[0] == b"0123456789"


def test_of_a_large_file_a_bounded_part_is_read(tmp_path: Path) -> None:
    """One byte more than asked for tells that there is more; a huge sparse file costs nothing."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)
    assert read_regular_file(tmp_path / "file", largest=10)[0] == bytes(11)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO, a link and a directory are told apart from a file, and from nothing."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(__file__)
    for name in ("fifo", "directory", "link"):
        with pytest.raises(NotRegularFileError):
            read_regular_file(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "nothing")


def test_unlinking_is_tolerant(tmp_path: Path) -> None:
    """What is gone, or can't be removed, is no error; the answer tells which."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    assert tolerant_unlink(tmp_path / "link")
    assert (tmp_path / "file").exists()
    assert tolerant_unlink(tmp_path / "file")
    assert not tolerant_unlink(tmp_path / "file")
    assert not tolerant_unlink(tmp_path / "directory")
