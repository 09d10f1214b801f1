"""Notes on disk that say what is being tried, and show when whoever tried it has died.

A note is a file in ``guard/``, held under a lock that the kernel releases with its process. While a
binary is loaded it is named by what it is about; what goes on after that (``watch``) has a name of
its own, so that others may load the binary too. A note that nobody holds and that nobody has put to
rest was left by a process that died. An empty one was never begun.

``fcntl`` and not ``filelock``: its import would cost more than all that a guarded load does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache._filesystem import read_regular_file, tolerant_unlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache._directories import Place

__all__ = [
    "MARKS",
    "MOST_DEATHS",
    "NOTES",
    "Note",
    "NoteBusyError",
    "keep_within_bounds",
    "take_note",
]

MOST_DEATHS = 3  # of what so many processes in a row died with, nothing more is tried

NOTES = "guard"
MARKS = "proven"
_ENDED = -1  # instead of a descriptor
_MOST = 4096  # files in a directory
_POLL_INTERVAL = 0.005  # seconds
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Deaths; loading, watched, at rest; and whose it is, to tell what a process died of.
_CONTENT = re.compile(rb"([0-9])([LWR])([0-9a-f]{16})")
_LONGEST = 19
_NOBODY = "0" * 16

_held: set[int] = set()  # descriptors
_process = os.urandom(8).hex()  # this one; not its number, which another may get


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
            ``using``; otherwise nothing.
        owner: which process has last noted something.
        in_use: whether other processes have loaded it, and go on living.
    """

    def __init__(self, place: Place, name: str, descriptor: int) -> None:
        self._place = place
        self._name = name
        self._descriptor = descriptor
        deaths, state, self.owner = _parse(os.pread(descriptor, _LONGEST, 0))
        # What a process died in while it was loaded is to blame; later on it may be something else.
        self.deaths = {"L": MOST_DEATHS, "W": min(deaths + 1, MOST_DEATHS)}.get(state, deaths)
        self.died = {"L": "loading", "W": "using"}.get(state, "")
        self.in_use = False
        self._watching = False

    def allocate(self) -> None:
        """See that there is room for what will be noted.

        Raises:
            OSError: there is none.
        """
        if not os.fstat(self._descriptor).st_size:
            self._write("R", _process)

    def begin(self) -> None:
        """What the note is about is tried from now on, by nobody else meanwhile."""
        with suppress(OSError):  # it would be found as if it had never begun
            self._write("L", _process)

    def watch(self) -> None:
        """It went well so far: others may try it at the same time, and the note is held on."""
        if self._watching:
            return
        self._watching = True
        name = f"{self._name}.{os.urandom(16).hex()}"
        with suppress(OSError), self._place.open(NOTES) as directory:
            self._write("W", _process)
            os.rename(self._name, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._name = name

    def blame(self) -> None:
        """What it is about took a process down: it isn't to be tried again."""
        self.deaths = MOST_DEATHS
        if self.owner == _process:  # which lives: it was a child of its own
            self.owner = _NOBODY

    def end(self, deaths: int = 0) -> None:
        """Let go of the note: it stays only where deaths are to be remembered."""
        self.deaths = deaths
        if self._descriptor not in _held:  # it is our parent's, or ended already
            return
        with suppress(OSError):  # where it can't be removed, it shows at least that nobody died
            self._write("R", self.owner)
        if not deaths:
            with suppress(OSError), self._place.open(NOTES) as directory:
                tolerant_unlink(self._name, directory)
        _close(self._descriptor)
        self._descriptor = _ENDED

    def add_watched(self) -> None:
        """Take over the notes of processes that died after they had loaded it."""
        with self._place.open(NOTES) as directory:
            names = os.listdir(directory)
            keep_within_bounds([name for name in names if name != MARKS], directory)
            for name in [name for name in names if name.startswith(self._name + ".")]:
                note = _lock(self._place, directory, name)
                if note is None:
                    self.in_use = True
                    continue
                if note.owner not in _whose_death_is_known(names, directory):
                    self.deaths, self.owner = max(self.deaths, note.deaths), note.owner
                    self.died = self.died or note.died
                note.end()

    def _write(self, state: str, owner: str) -> None:
        os.pwrite(self._descriptor, f"{self.deaths}{state}{owner}".encode(), 0)


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
    if len(names) > _MOST:
        tolerant_unlink(min(names, key=lambda name: _modified(name, directory)), directory)


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
    _held.add(descriptor)
    try:
        os.fchmod(descriptor, 0o600)
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


def _is_same(status: os.stat_result, descriptor: int) -> bool:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.path.samestat(status, os.fstat(descriptor))


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _parse(content: bytes) -> tuple[int, str, str]:
    found = _CONTENT.fullmatch(content)
    return (int(found[1]), found[2].decode(), found[3].decode()) if found else (0, "R", _process)


def _whose_death_is_known(names: list[str], directory: int) -> Iterator[str]:
    """Give the processes of which it is known what they died of."""
    for name in [name for name in names if "." not in name]:
        with suppress(OSError):
            content, _ = read_regular_file(name, directory, _LONGEST)
            deaths, state, owner = _parse(content)
            if state == "L" or deaths == MOST_DEATHS:
                yield owner


def _let_go_in_a_forked_child() -> None:
    # The lock is the parent's, and would outlive it with our copy of the descriptor.
    global _process  # noqa: PLW0603 (it is another one now)
    _process = os.urandom(8).hex()
    for descriptor in _held:
        with suppress(OSError):  # a thread was just closing it
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_a_forked_child)
