"""Ending a process in which a driver still works in another thread.

A C++ library's destructors run at the end of the process, whatever its threads are doing: PoCL
crashes when it is torn down while it compiles.
"""

from __future__ import annotations

import ctypes
import logging

__all__ = ["leave_driver_alone_at_exit"]

logger = logging.getLogger(__name__)


def leave_driver_alone_at_exit() -> None:
    """See that the process ends, with its own exit code, without any library's destructors.

    To be called in the main thread while Python ends. What was registered last with ``on_exit(3)``
    is called first, with the exit code: here ``_exit``. A compiler at work registers destructors
    too, so this is done at the last moment: when ``exit`` destroys what is the main thread's own,
    which it does before all else (Itanium C++ ABI, ``__cxa_thread_atexit``). By then Python has run
    its own exit functions and flushed its files. Without glibc nothing is changed.
    """
    try:
        process = ctypes.CDLL(None)
        on_exit, leave = (
            ctypes.cast(process[name], ctypes.c_void_p) for name in ("on_exit", "_exit")
        )
        process.fflush(None)
        # The last argument is any address in the library that the first one is in.
        process["__cxa_thread_atexit_impl"](on_exit, leave, on_exit)
    except (OSError, AttributeError) as error:
        logger.debug("the driver is torn down while it works (%s)", error)
