"""The note of what a driver has rejected: it outlives processes, and nothing about it can fail."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from mace_cache._directories import Place
from mace_cache.rejections import Rejections

if TYPE_CHECKING:
    from pathlib import Path

UNUSABLE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"in_a_row": 2}',
    b'{"in_a_row": "2", "precompiled": []}',
    b'{"in_a_row": -5, "precompiled": [1, null]}',
    b"[" * 100_000,
    b"\xff\xfe",
    bytes(2 << 20),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the note lies, once there is one."""
    return tmp_path / "below" / "device.rejections"


def open_note(path: Path) -> Rejections:
    """Read what a file notes, as the cache does it."""
    return Rejections(Place(str(path.parent)), path.stem)


def test_the_count_outlives_a_process(path: Path) -> None:
    """Rejections add up over processes, and end with one success, which removes the note."""
    for number in (1, 2, 3):
        rejections = open_note(path)
        rejections.count()
        assert rejections.in_a_row == number
    open_note(path).reset()
    assert open_note(path).in_a_row == 0
    assert not path.exists()


def test_processes_at_once_count_together(path: Path) -> None:
    """Two that were opened before either counted don't overwrite each other."""
    first, second = (
        open_note(path),
        open_note(path),
    )
    first.count()
    second.count()
    first.remember(b"one")
    second.remember(b"two")
    later = open_note(path)
    assert later.in_a_row == 2
    assert later.remembers(b"one")
    assert later.remembers(b"two")


def test_a_binary_is_remembered(path: Path) -> None:
    """A rejected precompiled binary is known again, whatever else was reset; others aren't."""
    rejections = open_note(path)
    rejections.count()
    rejections.remember(b"bad")
    rejections.reset()
    assert open_note(path).remembers(b"bad")
    assert not open_note(path).remembers(b"good")


def test_the_note_stays_small(path: Path) -> None:
    """Of very many only the last are remembered."""
    rejections = open_note(path)
    rejections._precompiled = ["0" * 64] * 5000
    rejections.remember(b"last")
    assert rejections.remembers(b"last")
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("content", UNUSABLE, ids=range(len(UNUSABLE)))
def test_an_unusable_note_counts_as_empty(path: Path, content: bytes) -> None:
    """Whatever the file holds, counting starts afresh and is written again."""
    path.parent.mkdir()
    path.write_bytes(content)
    rejections = open_note(path)
    assert rejections.in_a_row == 0
    assert not rejections.remembers(b"any")
    rejections.count()
    assert json.loads(path.read_bytes())["in_a_row"] == 1


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "parent is a file"])
def test_what_stands_in_the_place_of_the_note(path: Path, tmp_path: Path, kind: str) -> None:
    """The process remembers what can't be written, waits for nothing and follows nothing."""
    outside = tmp_path / "outside"
    outside.write_bytes(b'{"in_a_row": 3, "precompiled": []}')
    if kind == "parent is a file":
        path.parent.write_bytes(b"")
    else:
        path.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(outside)
    rejections = open_note(path)
    assert rejections.in_a_row == 0
    rejections.count()
    rejections.remember(b"bad")
    assert rejections.in_a_row == 1
    assert rejections.remembers(b"bad")
    assert outside.read_bytes() == b'{"in_a_row": 3, "precompiled": []}'


def test_without_a_place_it_holds_for_the_process() -> None:
    """No path, no file."""
    rejections = Rejections(None, "any")
    rejections.count()
    rejections.remember(b"bad")
    assert rejections.in_a_row == 1
    assert rejections.remembers(b"bad")
