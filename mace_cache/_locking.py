"""A lock between processes: nobody waits longer than told, and no dead process holds it."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock

    Path = str | os.PathLike[str]

__all__ = ["file_lock", "prepare_locks", "take_lock"]

logger = logging.getLogger(__name__)

_POLL_INTERVAL = 0.01  # seconds


def prepare_locks() -> None:
    """Import what locks need, for who will write while the interpreter ends: it's too late then."""
    import filelock  # noqa: F401, PLC0415 (kept out of the import of the package)


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold a lock between processes, and between threads, for as long as the block runs.

    Args:
        path: the lock's file; made where it is missing.
        timeout: how long to wait, in seconds.

    Yields:
        Whether the lock is held: False after the timeout, or where locks don't work.
    """
    lock = _make_lock(path, timeout)
    try:
        _acquire(lock, path)
        yield lock.is_locked
    finally:
        _release(lock)


def take_lock(path: Path, timeout: float) -> Callable[[], None] | None:
    """Take a lock between processes, and between threads.

    Args:
        path: the lock's file; made where it is missing.
        timeout: how long to wait, in seconds.

    Returns:
        What releases it, in whatever thread, and does nothing where locks don't work; None where
        another process or thread has it.
    """
    lock = _make_lock(path, timeout)
    return partial(_release, lock) if _acquire(lock, path) else None


def _make_lock(path: Path, timeout: float) -> BaseFileLock:
    """Make a lock that ends with the process that holds it, however that dies.

    The file stays, since removing it would let two processes hold locks on two files of one name.
    """
    # Only what writes needs a lock, and its import takes longer than all of a hit.
    import filelock  # noqa: PLC0415 (see above)

    return filelock.FileLock(
        os.fspath(path),
        timeout=timeout,
        mode=0o600,
        poll_interval=_POLL_INTERVAL,
        preserve_lock_file=True,
        thread_local=False,
        # Where the kernel has no locks a marker file would do, but a killed process leaves it.
        fallback_to_soft=False,
    )


def _release(lock: BaseFileLock) -> None:
    """Let go of a lock; where that fails, as on a disk that is gone, it ends with the process."""
    try:
        lock.release()
    except OSError as error:
        logger.debug("%s can't be unlocked: %s", lock.lock_file, error)


def _acquire(lock: BaseFileLock, path: Path) -> bool:
    """Acquire a lock if that can be done; False where another one holds it for too long."""
    import filelock  # noqa: PLC0415 (as above)

    try:
        if os.path.isdir(os.path.dirname(path)):  # filelock would make it, open to others
            lock.acquire()
    except filelock.Timeout:
        logger.debug("%s is still locked after %g s: going on without", path, lock.timeout)
        return False
    except (OSError, NotImplementedError) as error:
        logger.debug("%s can't be locked (%s): going on without", path, error)
    return True
