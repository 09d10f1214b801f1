"""Notes on disk that say what is being tried, and show when whoever tried it has died.

A note is a file in ``guard/``, held under a lock that the kernel releases with its process. While a
binary is loaded it is named by what it is about; after that (``watch``) it has a name of its own,
so that others may load the binary too. A note that nobody holds and that isn't at rest was left by
a process that died. An empty one was never begun.

``fcntl`` and not ``filelock``: its import would cost more than all that a guarded load does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache._filesystem import tolerant_unlink, unlink_own_file
from mace_cache._trust import check_own

if TYPE_CHECKING:
    from mace_cache._directories import Place

__all__ = [
    "CONVICTED",
    "MARKS",
    "MOST_DEATHS",
    "NAME",
    "NOTES",
    "UNCLEAR",
    "Note",
    "NoteBusyError",
    "keep_within_bounds",
    "take_note",
]

# Numbers of deaths: of what so many processes in a row died with, nothing more is tried. One that
# died in the middle of loading may just have been killed; a child process can find out.
MOST_DEATHS = 3
UNCLEAR = 8
CONVICTED = 9

NOTES = "guard"
MARKS = "proven"
NAME = re.compile(r"[0-9a-f]{80}(\.[0-9a-f]{32})?")  # of a note or mark
_ENDED = -1  # instead of a descriptor
_MOST = 4096  # files in a directory
_POLL_INTERVAL = 0.005  # seconds
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Deaths; and what is going on: loading, launching, or nothing that could end in a death.
_CONTENT = re.compile(rb"([0-9])([LXR])")
_LONGEST = 3  # so that what is longer is seen to be

_lock_of_all = threading.RLock()  # so that nobody writes where another thread has just let go
_held: dict[int, Note | None] = {}  # by descriptor; none where it isn't locked yet


class NoteBusyError(Exception):
    """Another process holds the note, for longer than it was waited for."""


class Note:
    """A note that this process holds; made by `take_note`.

    Args:
        place: the directory that ``guard/`` is in.
        name: the note's file.
        descriptor: the open file, locked.

    Attributes:
        deaths: how many processes in a row have died with what it is about.
        died: what a process was doing with it when it died, if that is new: ``loading`` or
            ``launching``; otherwise nothing.
        in_use: whether other processes have loaded it, and go on living.
    """

    def __init__(self, place: Place, name: str, descriptor: int) -> None:
        self._place = place
        self._name = name
        self._descriptor = descriptor
        deaths, state = _parse(os.pread(descriptor, _LONGEST, 0))
        once_more = min(deaths + 1, MOST_DEATHS)
        at_load = once_more if deaths else UNCLEAR
        self.deaths = {"L": at_load, "X": once_more}.get(state, deaths)
        self.died = {"L": "loading", "X": "launching"}.get(state, "")
        self.in_use = False
        self._watching = False
        _held[descriptor] = self

    def allocate(self) -> None:
        """See that there is room for what will be noted.

        Raises:
            OSError: there is none.
        """
        if not os.fstat(self._descriptor).st_size:
            self._write("R")

    def begin(self) -> None:
        """What the note is about is loaded from now on, by nobody else meanwhile."""
        self._try_to_write("L")

    def watch(self) -> None:
        """It can be loaded: others may load it at the same time, and the note is held on."""
        if self._watching:
            return
        self._watching = True
        name = f"{self._name}.{os.urandom(16).hex()}"
        with suppress(OSError), self._place.open(NOTES) as directory:
            os.rename(self._name, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._name = name

    def launch(self) -> None:
        """A kernel of it is launched from now on."""
        self._try_to_write("X")

    def rest(self) -> None:
        """Nothing is tried any more, for now."""
        self._try_to_write("R")

    def blame(self) -> None:
        """What it is about took a process down: it isn't to be tried again."""
        self.deaths = CONVICTED

    def end(self, deaths: int = 0) -> None:
        """Let go of the note: it stays only where deaths are to be remembered."""
        with _lock_of_all:
            self.deaths = deaths
            if not self._is_held():  # it is our parent's, or ended already
                return
            self._try_to_write("R")  # where it can't be removed, it shows at least that nobody died
            if not deaths:
                with suppress(OSError), self._place.open(NOTES) as directory:
                    tolerant_unlink(self._name, directory)
            _close(self._descriptor)
            self._descriptor = _ENDED

    def add_watched(self) -> None:
        """Take over the notes of processes that died after they had loaded it."""
        with self._place.open(NOTES) as directory:
            names = os.listdir(directory)
            keep_within_bounds(names, directory)
            for name in [name for name in names if name.startswith(self._name + ".")]:
                note = _lock(self._place, directory, name)
                if note is None:
                    self.in_use = True
                    continue
                self.deaths = max(self.deaths, note.deaths)
                self.died = self.died or note.died
                note.end()

    def _is_held(self) -> bool:
        return _held.get(self._descriptor) is self

    def _try_to_write(self, state: str) -> None:
        with _lock_of_all, suppress(OSError):  # it would be found as if nothing had begun
            if self._is_held():
                self._write(state)

    def _write(self, state: str) -> None:
        os.pwrite(self._descriptor, f"{self.deaths}{state}".encode(), 0)


def take_note(place: Place, name: str, timeout: float) -> Note:
    """Take the note of that name: nobody else holds it then.

    Args:
        place: the directory that notes are kept in; made, private, where it is missing.
        name: what the note is about: hexadecimal digits.
        timeout: how long to wait for another process or thread that holds it, in seconds.

    Raises:
        NoteBusyError: it is held for longer.
        OSError: nothing can be noted there, or locks don't work.
    """
    until = time.monotonic() + timeout
    while True:
        with place.open(NOTES, create=True) as directory:
            note = _lock(place, directory, name, os.O_CREAT)
        if note is not None:
            break
        if time.monotonic() >= until:
            raise NoteBusyError(f"another process was still loading its binary after {timeout:g} s")
        time.sleep(_POLL_INTERVAL)
    try:
        note.allocate()
        note.add_watched()
    except BaseException:
        note.end(note.deaths)
        raise
    return note


def keep_within_bounds(names: list[str], directory: int) -> None:
    """Remove the oldest of too many files.

    Args:
        names: the files' names.
        directory: the open directory that they are in.
    """
    own = [name for name in names if NAME.fullmatch(name)]
    if len(own) > _MOST:
        unlink_own_file(min(own, key=lambda name: _modified(name, directory)), directory)


def _modified(name: str, directory: int) -> float:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime
    return time.time()


def _lock(place: Place, directory: int, name: str, create: int = 0) -> Note | None:
    """Give the note if nobody holds it."""
    try:
        descriptor = os.open(name, _OPEN | create, 0o600, dir_fd=directory)
    except FileNotFoundError:
        return None
    _held[descriptor] = None
    try:
        _claim(descriptor, name, place)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        # Whoever held it may have renamed or removed it before it let go.
        note = Note(place, name, descriptor) if _is_same(status, descriptor) else None
    except (BlockingIOError, FileNotFoundError):
        note = None
    except BaseException:
        _close(descriptor)
        raise
    if note is None:
        _close(descriptor)
    return note


def _claim(descriptor: int, name: str, place: Place) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    check_own(status, name, trust=place.trust)
    os.fchmod(descriptor, 0o600)  # a umask may have taken what we need ourselves


def _is_same(status: os.stat_result, descriptor: int) -> bool:
    return os.path.samestat(status, os.fstat(descriptor))


def _close(descriptor: int) -> None:
    _held.pop(descriptor, None)
    os.close(descriptor)


def _parse(content: bytes) -> tuple[int, str]:
    found = _CONTENT.fullmatch(content)
    return (int(found[1]), found[2].decode()) if found else (0, "R")


def _let_go_in_a_forked_child() -> None:
    # The lock is the parent's, and would outlive it with our copy of the descriptor.
    global _lock_of_all  # noqa: PLW0603 (a thread may have held it)
    _lock_of_all = threading.RLock()
    for descriptor in _held:
        with suppress(OSError):  # a thread was just closing it
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_a_forked_child)
