"""A lock between processes: nobody waits longer than told, and no dead process holds it."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = str | os.PathLike[str]

__all__ = ["file_lock"]

logger = logging.getLogger(__name__)

_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_POLL_INTERVAL = 0.01  # seconds


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[bool]:
    """Hold a lock between processes, and between threads, for as long as the block runs.

    The kernel's ``flock``: it ends with the process that holds it, however that dies, and needs no
    import on the way of a cache miss. The file stays, since removing it would let two processes
    hold locks on two files of one name.

    Args:
        path: the lock's file; made where it is missing.
        timeout: how long to wait, in seconds.

    Yields:
        Whether the lock is held: False after the timeout, or where locks don't work.
    """
    try:
        descriptor = os.open(path, _OPEN, 0o600)
    except OSError as error:
        logger.debug("%s can't be locked (%s): going on without", path, error)
        yield False
        return
    try:
        yield _acquire(descriptor, path, timeout)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                logger.debug("%s is still locked after %g s: going on without", path, timeout)
                return False
            time.sleep(_POLL_INTERVAL)
        except OSError as error:
            logger.debug("%s can't be locked (%s): going on without", path, error)
            return False
        else:
            return True
