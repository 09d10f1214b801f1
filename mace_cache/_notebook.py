"""Where a cache keeps its notes: beside the programs, or else in a place of the user's own."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mace_cache._directories import Place
from mace_cache._filesystem import tolerant_unlink
from mace_cache._notes import MARKS, NAME, NOTES, Note, keep_within_bounds, take_note
from mace_cache.config import user_cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache.program import CompiledProgram

__all__ = [
    "Notebook",
    "ProvenError",
    "forget_notes",
    "is_marked",
    "mark",
    "note_name",
    "note_places",
]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_STATE = "mace_cache_state"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SHOWN_OF_STORAGE = 16  # digits


class ProvenError(Exception):
    """No note is needed: what it would be about is marked as proven."""


class Notebook:
    """Notes and marks in the first place where they can be made.

    Args:
        state_place: where what must outlive a process is kept, or None where the storages have
            no such place.
        timeout: how long a note is waited for that another process holds, in seconds.
    """

    def __init__(self, state_place: Place | None, timeout: float) -> None:
        self._state_place = state_place
        self._timeout = timeout
        self._unusable: set[Place] = set()

    def take(self, name: str) -> Note | None:
        """Take the note of a name; None where none can be made.

        Raises:
            ProvenError: the name is marked.
            NoteBusyError: another process holds the note for too long.
        """
        return self._where_it_works(partial(self._take, name))

    def mark(self, name: str) -> None:
        """Remember that what has this name is proven."""
        self._where_it_works(partial(mark, name=name))

    def _take(self, name: str, place: Place) -> Note:
        if is_marked(place, name):
            raise ProvenError(name)
        return take_note(place, name, self._timeout)

    def _where_it_works(self, action: Callable[[Place], Answer]) -> Answer | None:
        for place in note_places(self._state_place):
            if place in self._unusable:
                continue
            try:
                return action(place)
            except (OSError, ValueError) as error:  # a path can hold what no path may
                logger.debug("nothing can be noted in %s: %s", place, error)
                self._unusable.add(place)
        return None


def note_places(state_place: Place | None) -> Iterator[Place]:
    """Give the places in which notes may lie, the first choice first.

    Args:
        state_place: as for `Notebook`.
    """
    if state_place is not None:
        yield state_place
    own = user_cache_directory(_STATE)
    if own is not None:
        yield Place(own)
    import tempfile  # noqa: PLC0415 (hardly ever needed)

    with suppress(FileNotFoundError):  # there is no directory for temporary files
        yield Place(os.path.join(tempfile.gettempdir(), f"{_STATE}-{os.getuid()}"))


def note_name(storage: str, program: CompiledProgram) -> str:
    """Name what notes are about: one binary, for one device.

    Args:
        storage: the storage name of the device's fingerprint.
        program: the program.
    """
    import hashlib  # noqa: PLC0415 (loads OpenSSL, which not every start needs)

    digest = hashlib.sha256(program.key.encode())
    digest.update(program.binary)
    return _prefix(storage) + digest.hexdigest()


def forget_notes(place: Place, storage: str | None = None) -> None:
    """Remove what is noted of a storage's programs.

    Args:
        place: the directory that notes are kept in.
        storage: the storage's name; None for those of all storages.
    """
    prefix = "" if storage is None else _prefix(storage)
    for below in ([NOTES], [NOTES, MARKS]):
        with suppress(OSError), place.open(*below) as directory:
            for name in os.listdir(directory):
                if name.startswith(prefix) and NAME.fullmatch(name):
                    tolerant_unlink(name, directory)


def mark(place: Place, name: str) -> None:
    """Remember a name for good, in an empty file; of too many the oldest goes.

    Raises:
        OSError: it can't be written.
    """
    with place.open(NOTES, MARKS, create=True) as directory:
        os.close(os.open(name, _CREATE, 0o600, dir_fd=directory))
        keep_within_bounds(os.listdir(directory), directory)


def is_marked(place: Place, name: str) -> bool:
    """Whether that name is remembered."""
    with suppress(OSError), place.open(NOTES, MARKS) as directory:
        return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def _prefix(storage: str) -> str:
    import hashlib  # noqa: PLC0415 (as above)

    return hashlib.sha256(os.fsencode(storage)).hexdigest()[:_SHOWN_OF_STORAGE]
