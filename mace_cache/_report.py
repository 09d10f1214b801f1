"""One log line a cause and process: a fault that repeats doesn't flood an application's output."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["cause_of", "forget_reported", "warn_once"]

_reported: set[str] = set()
_lock = threading.RLock()  # a collection that runs inside it may warn as well


def warn_once(logger: logging.Logger, cause: str, message: str, *arguments: object) -> None:
    """Log *message* at WARNING the first time that *cause* comes up, at DEBUG after it.

    Args:
        logger: the module's logger.
        cause: what the fault is told apart by, such as ``"storage-write"``.
        message: a format string of ``logging``, one line.
        arguments: what the format string takes.
    """
    with _lock:
        first = cause not in _reported
        _reported.add(cause)
    (logger.warning if first else logger.debug)(message, *arguments)


def cause_of(error: Exception) -> str:
    """Give the cause of a fault: what fails in one way counts as one, whatever is tried with it."""
    return f"storage {getattr(error, 'errno', None) or type(error)}"


def forget_reported() -> None:
    """Let every cause be reported again: for tests."""
    with _lock:
        _reported.clear()
