"""A lock between processes: nobody waits longer than told, and no dead process holds it."""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from mace_cache._filesystem import open_own_file
from mace_cache._trust import OWN_ONLY, Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Path = str | os.PathLike[str]

__all__ = ["file_lock", "prepare_locks", "take_lock"]

logger = logging.getLogger(__name__)

_POLL_INTERVAL = 0.01  # seconds

_held: dict[object, int] = {}  # the descriptors of this process's locks, each by a token


def prepare_locks() -> None:
    """Import what locks need, for who will write while the interpreter ends: it's too late then."""
    import filelock  # noqa: F401, PLC0415 (kept out of the import of the package)


@contextmanager
def file_lock(
    path: Path, timeout: float, directory: int | None = None, trust: Trust = OWN_ONLY
) -> Iterator[bool]:
    """Hold a lock between processes, and between threads, for as long as the block runs.

    Args:
        path: the lock's file; made where it is missing.
        timeout: how long to wait, in seconds.
        directory: the open directory that *path* is relative to.
        trust: who may own the file or write to it, beside this user.

    Yields:
        Whether the lock is held: False after the timeout, or where locks don't work.
    """
    token = object()
    try:
        _acquire(token, path, timeout, directory, trust)
        yield token in _held
    finally:
        _release(token)


def take_lock(
    path: Path, timeout: float, directory: int | None = None, trust: Trust = OWN_ONLY
) -> Callable[[], None] | None:
    """Take a lock between processes, and between threads.

    Args:
        path: the lock's file; made where it is missing.
        timeout: how long to wait, in seconds.
        directory: the open directory that *path* is relative to.
        trust: who may own the file or write to it, beside this user.

    Returns:
        What releases it, in whatever thread, and does nothing where locks don't work; None where
        another process or thread has it.
    """
    token = object()
    worked = _acquire(token, path, timeout, directory, trust)
    return partial(_release, token) if worked else None


def _acquire(
    token: object, path: Path, timeout: float, directory: int | None, trust: Trust
) -> bool:
    """Acquire a lock if that can be done; False where another one holds it for too long."""
    until = time.monotonic() + timeout
    try:
        while not _try_once(token, path, directory, trust):
            if time.monotonic() >= until:
                logger.debug("%s is still locked after %g s: going on without", path, timeout)
                return False
            time.sleep(_POLL_INTERVAL)
    except OSError as error:
        logger.debug("%s can't be locked (%s): going on without", path, error)
    return True


def _try_once(token: object, path: Path, directory: int | None, trust: Trust) -> bool:
    """Acquire a lock if nobody has it.

    Opened anew each time: while it is waited for, its file may have been removed and made again.
    The library itself leaves the file, since removing it would let two hold locks of one name.
    """
    # Only what writes needs a lock, and its import takes longer than all of a hit.
    import filelock  # noqa: PLC0415 (see above)

    descriptor = _held[token] = open_own_file(path, directory, os.O_RDWR, trust)
    try:
        locked = filelock.lock_descriptor(descriptor, blocking=False)
    except BaseException:
        _close(token)
        raise
    if not locked:
        _close(token)
    return locked


def _release(token: object) -> None:
    if token not in _held:  # it was never held, or is our parent's
        return
    import filelock  # noqa: PLC0415 (as above)

    # Not by closing alone: a process that is just being started may have a copy of the descriptor.
    with suppress(OSError):  # as on a disk that is gone; it ends with the descriptor then
        filelock.unlock_descriptor(_held[token])
    with suppress(OSError):
        _close(token)


def _close(token: object) -> None:
    os.close(_held.pop(token))


def _let_go_in_a_forked_child() -> None:
    # A lock is the parent's, and would outlive it with our copy of the descriptor.
    for descriptor in _held.values():
        with suppress(OSError):  # a thread was just closing it
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_a_forked_child)
