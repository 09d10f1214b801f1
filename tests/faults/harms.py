"""Harm done inside a process: calls of the operating system that fail or kill, a clock set back.

The calls counted are those of the functions in `CALLS` from the library and what it uses to write,
one after the other in all threads. What is patched stays so: each process is harmed once.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CALLS",
    "be_wrong",
    "calls_made",
    "count_calls",
    "fail_calls",
    "kill_at_call",
    "lower_descriptors",
    "reach",
    "remove_tree",
    "say_much",
    "shift_clock",
    "wait_for_gate",
]

CALLS = (
    *("open", "read", "write", "pread", "pwrite", "ftruncate", "replace", "rename", "unlink"),
    *("mkdir", "rmdir", "stat", "fstat", "lstat", "fchmod", "chmod", "utime", "scandir"),
    *("listdir", "close", "urandom", "memfd_create", "geteuid", "truncate", "link"),
)
_CANNOT_FAIL = frozenset({"geteuid", "urandom"})
_CALLERS = ("mace_cache", "filelock", "platformdirs", "tempfile")
_IN_BETWEEN = ("genericpath", "posixpath", "os", "pathlib", "contextlib", __name__)

_count = 0
_moments: dict[str, list[Callable[[], object]]] = {}


def calls_made() -> int:
    """How many calls were counted."""
    return _count


def reach(moment: str) -> None:
    """The application is at that moment: what waits for it is done."""
    for action in _moments.pop(moment, []):
        action()


def be_wrong() -> None:
    """Let the application expect another result: for the test of the campaign."""
    from tests.faults import application  # noqa: PLC0415 (it imports this room)

    application.FACTOR = 4


def say_much() -> None:
    """Say two lines on the error output: for the test of the campaign."""
    sys.stderr.write("one\ntwo\n")


def count_calls() -> None:
    """Count the calls and do nothing else."""
    _intercept(lambda _number, _name, call: call())


def fail_calls(number: int, error: int, times: int) -> None:
    """Let calls fail.

    Args:
        number: which is the first, from 1.
        error: with what ``errno``.
        times: how many in a row.
    """

    def act(now: int, name: str, call: Callable[[], Any]) -> Any:
        if not number <= now < number + times:
            return call()
        if name == "close":  # the kernel closes it even so
            call()
        raise OSError(error, os.strerror(error))

    _intercept(act, _CANNOT_FAIL)


def kill_at_call(number: int, when: str) -> None:
    """End the process by SIGKILL ``before`` or ``after`` a call."""

    def act(now: int, _name: str, call: Callable[[], Any]) -> Any:
        if now == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if now == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    _intercept(act)


def _intercept(
    act: Callable[[int, str, Callable[[], Any]], Any], passed_over: frozenset[str] = frozenset()
) -> None:
    modules = [(os, name) for name in CALLS if name not in passed_over]
    for module, name in [*modules, (fcntl, "flock")]:
        setattr(module, name, _wrapped(getattr(module, name), name, act))


def _wrapped(
    real: Callable[..., Any], name: str, act: Callable[[int, str, Callable[[], Any]], Any]
) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        global _count  # noqa: PLW0603 (the point of it)
        if not _caller().startswith(_CALLERS):
            return real(*arguments, **named)
        _count += 1
        return act(_count, name, lambda: real(*arguments, **named))

    return call


def _caller() -> str:
    """Name the module that calls the operating system, through the standard library or not."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "") in _IN_BETWEEN:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def shift_clock(seconds: float) -> None:
    """Set the clock of this process forth or back."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


def lower_descriptors(more: int, moment: str) -> None:
    """Let so many more files be open than are at a moment."""

    def lower() -> None:
        used = {int(name) for name in os.listdir("/proc/self/fd")}
        free = [number for number in range(max(used) + more + 2) if number not in used]
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], hard))

    _at(moment, lower)


def _at(moment: str, action: Callable[[], object]) -> None:
    _moments.setdefault(moment, []).append(action)


def remove_tree(directory: str, moment: str) -> None:
    """Remove a directory with all that is in it at a moment."""
    _at(moment, lambda: shutil.rmtree(directory, ignore_errors=True))


def wait_for_gate(gate: str) -> None:
    """Wait, when all is built and launched, until nobody has a FIFO open to write any more."""

    def wait() -> None:
        with open(gate, "rb") as file:
            file.read()

    _at("launched", wait)
