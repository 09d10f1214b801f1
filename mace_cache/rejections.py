"""What a driver has rejected: kept beside the programs of one fingerprint, to outlive them.

A driver that can't load its own binaries would otherwise cost a load, a clear and a write in every
process. The note goes with the fingerprint: another driver version starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache._filesystem import (
    NotRegularFileError,
    read_regular_file,
    replace_file,
    unlink_own_file,
)
from mace_cache._trust import check_private

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mace_cache._directories import Place
    from mace_cache._trust import Trust

__all__ = ["NOTE_SUFFIX", "Rejections", "forget_rejections"]

logger = logging.getLogger(__name__)

NOTE_SUFFIX = ".rejections"

_MOST_REMEMBERED = 1024
_LARGEST_FILE = 1 << 20


class Rejections:
    """How often in a row, and which precompiled binaries.

    Args:
        place: the directory of the note, or None to remember for this process only.
        name: the storage's name, which the note's file is called by.

    Attributes:
        in_a_row: binaries of this fingerprint that were rejected since one was last accepted.
    """

    def __init__(self, place: Place | None, name: str) -> None:
        self._place = place
        self._name = name + NOTE_SUFFIX
        self.in_a_row = 0
        self._precompiled: list[str] = []
        self._read()

    def count(self) -> None:
        """One more binary of this fingerprint was rejected."""
        self._read()  # Another process may have counted as well.
        self.in_a_row += 1
        self._write()

    def reset(self) -> None:
        """A binary of this fingerprint was accepted."""
        if self.in_a_row:
            self.in_a_row = 0
            self._write()

    def remember(self, binary: bytes | memoryview) -> None:
        """A precompiled binary was rejected: it is not to be tried again."""
        self._read()  # As above.
        self._precompiled.append(_digest(binary))
        del self._precompiled[:-_MOST_REMEMBERED]
        self._write()

    def remembers(self, binary: bytes | memoryview) -> bool:
        """Whether that precompiled binary was rejected before."""
        return bool(self._precompiled) and _digest(binary) in self._precompiled

    def _read(self) -> None:
        if self._place is None:
            return
        try:
            with self._place.open() as directory:
                note = _read_note(self._name, directory, self._place.trust)
        except (OSError, ValueError) as error:  # a path can hold what no path may
            if not isinstance(error, FileNotFoundError):
                logger.debug("%s can't be read (%s): it counts as empty", self._name, error)
            return
        if note is not None:
            self.in_a_row, self._precompiled = note

    def _write(self) -> None:
        if self._place is None:
            return
        note = {"in_a_row": self.in_a_row, "precompiled": self._precompiled}
        try:
            with self._place.open(create=True) as directory:
                if self.in_a_row or self._precompiled:
                    replace_file(directory, self._name, json.dumps(note).encode())
                else:
                    unlink_own_file(self._name, directory)
        except (OSError, ValueError) as error:
            logger.debug("%s can't be written (%s): it holds for this process", self._name, error)


def forget_rejections(place: Place, names: Iterable[str]) -> None:
    """Remove notes. What stands in the place of one and isn't one stays: it counts as empty.

    Args:
        place: the directory of the notes.
        names: the storages whose notes are removed.

    Raises:
        OSError: the directory or a note can't be read.
    """
    with suppress(FileNotFoundError), place.open() as directory:
        for name in names:
            with suppress(FileNotFoundError, NotRegularFileError, PermissionError):
                if _read_note(name + NOTE_SUFFIX, directory, place.trust) is not None:
                    unlink_own_file(name + NOTE_SUFFIX, directory)


def _read_note(name: str, directory: int, trust: Trust) -> tuple[int, list[str]] | None:
    data, status = read_regular_file(name, directory, largest=_LARGEST_FILE)
    check_private(status, name, trust=trust)
    return _parse(data)


def _parse(data: bytes) -> tuple[int, list[str]] | None:
    """Give what a note says: how many in a row, and the digests; None where it is none."""
    try:
        note = json.loads(data)
        in_a_row, precompiled = note["in_a_row"], note["precompiled"]
    except (ValueError, KeyError, TypeError, RecursionError):
        logger.debug("a damaged note of rejections counts as empty")
        return None
    if not isinstance(in_a_row, int) or not isinstance(precompiled, list):
        return None
    return max(0, in_a_row), [digest for digest in precompiled if isinstance(digest, str)]


def _digest(binary: bytes | memoryview) -> str:
    return hashlib.sha256(binary).hexdigest()
