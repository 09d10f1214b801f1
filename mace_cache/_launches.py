"""The first launches of programs that aren't proven: the guard notes them while they run.

Only pyopencl knows when a kernel is launched. Its routines for that are wrapped for as long as
there are such programs, and are as they were afterwards.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mace_cache.opencl import LAUNCHING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyopencl as cl

    from mace_cache._notes import Note

__all__ = ["FirstLaunches"]

_MOST = 128  # programs: each holds a file open
_COMPLETE = 0  # CL_COMPLETE; what failed is negative (OpenCL specification, 5.11)

_watched: dict[int, FirstLaunches] = {}  # by the driver's handle of the program
_under_way: set[FirstLaunches] = set()
_wrapped: list[tuple[Any, str, Any, Any]] = []  # whose attribute, its name, before, now
_lock = threading.Lock()
_ends_orderly = False


class FirstLaunches:
    """Those of one program, of each of its kernels; watched from now on.

    Args:
        program: the program. It is kept, so that no other one gets its handle.
        notes: where they are noted.
        prove: run once when it is known that they went well.
    """

    def __init__(
        self, program: cl.Program, notes: Sequence[Note], prove: Callable[[], None]
    ) -> None:
        self._program = program
        self._notes = notes
        self._prove = prove
        self._process = os.getpid()
        self._kernels: set[str] = set()
        self._events: list[cl.Event] = []  # of what is under way
        self._settled = False
        _watch(program.int_ptr, self)

    def settle(self) -> bool:
        """Some time has gone by: what has been launched, and is through, is proven.

        Returns:
            Whether there is nothing left to watch.
        """
        if self._process != os.getpid() or _watched.get(self._program.int_ptr) is not self:
            return True
        self._settled = True
        if not self._kernels or self._are_under_way():
            return False
        self._end(prove=True)
        return True

    def finish(self) -> None:
        """The process ends, orderly: nothing is under way that could take it down."""
        if not self.settle():
            self._end(prove=False)

    def launch(self, kernel: cl.Kernel, action: Callable[[], cl.Event]) -> cl.Event:
        """Launch a kernel, and have it noted if it is for the first time.

        Args:
            kernel: the kernel.
            action: launches it.
        """
        name = kernel.function_name
        if name in self._kernels:
            return action()
        self._kernels.add(name)  # at once: one routine may call another
        for note in self._notes:
            note.launch()
        try:
            event = action()
        except BaseException:
            self._kernels.discard(name)
            self._rest()
            raise
        self._events.append(event)
        _under_way.add(self)
        return event

    def look(self) -> None:
        """See whether what was launched is through."""
        if self._are_under_way():
            return
        if self._settled:
            self._end(prove=True)
        else:
            self._rest()

    def _are_under_way(self) -> bool:
        self._events = [
            event for event in self._events if event.command_execution_status > _COMPLETE
        ]
        return bool(self._events)

    def _rest(self) -> None:
        if not self._events:
            _under_way.discard(self)
            for note in self._notes:
                note.rest()

    def _end(self, *, prove: bool) -> None:
        with _lock:
            _under_way.discard(self)
            _watched.pop(self._program.int_ptr, None)
            if not _watched:
                _unwrap()
        if prove:
            self._prove()
        for note in self._notes:
            note.end()


def _watch(handle: int, launches: FirstLaunches) -> None:
    idle = [other for other in list(_watched.values()) if other not in _under_way]
    if len(idle) >= _MOST:
        idle[0].finish()
    with _lock:
        _watched[handle] = launches
        _wrap()
    _end_orderly()


def _wrap() -> None:
    if _wrapped:
        return
    for owner, name, place in LAUNCHING:
        before = getattr(owner, name)
        now = _noting(before, place)
        _wrapped.append((owner, name, before, now))
        setattr(owner, name, now)


def _unwrap() -> None:
    for owner, name, before, now in _wrapped:
        if getattr(owner, name) is now:  # else somebody has wrapped it once more: it stays
            setattr(owner, name, before)
    _wrapped.clear()


def _noting(routine: Callable[..., cl.Event], place: int) -> Callable[..., cl.Event]:
    @functools.wraps(routine)
    def launch(*arguments: Any, **keywords: Any) -> cl.Event:
        launches = kernel = None
        with suppress(Exception):  # then the routine itself will say what is wrong with it
            kernel = arguments[place] if len(arguments) > place else keywords["kernel"]
            for other in list(_under_way):
                other.look()
            launches = _watched.get(kernel.program.int_ptr)
        if launches is None or kernel is None:
            return routine(*arguments, **keywords)
        return launches.launch(kernel, lambda: routine(*arguments, **keywords))

    return launch


def _end_orderly() -> None:
    global _ends_orderly  # noqa: PLW0603 (a process ends once)
    if _ends_orderly:
        return
    _ends_orderly = True
    atexit.register(_finish_all)
    # A forked child of multiprocessing ends without atexit, and with this.
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        multiprocessing.Finalize(None, _finish_all, exitpriority=0)


def _finish_all() -> None:
    for launches in list(_watched.values()):
        with suppress(Exception):  # at exit there is nobody to tell
            launches.finish()


def _forget_in_a_forked_child() -> None:
    # What its parent watches is not launched here: drivers don't survive a fork.
    global _lock, _ends_orderly  # noqa: PLW0603 (a thread may have held it)
    _lock = threading.Lock()
    _ends_orderly = False
    _watched.clear()
    _under_way.clear()
    _unwrap()


os.register_at_fork(after_in_child=_forget_in_a_forked_child)
