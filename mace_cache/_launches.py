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
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache.opencl import LAUNCHING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mace_cache._notes import Note

__all__ = ["FirstLaunches"]

_MOST = 64  # programs: each holds a file open
_GRACE = 0.02  # seconds: a result can be there before the driver says that the launch is through
_PATIENCE = 0.5  # seconds: what is through by then needs no thread that looks
_MOST_PATIENCE = 3.0  # seconds in all
_AT_EXIT = 1.0  # seconds: there is no thread then
_POLL_INTERVAL = 0.0005  # seconds
_LONGEST_INTERVAL = 0.1  # seconds
_COMPLETE = 0  # CL_COMPLETE; what failed is negative (OpenCL specification, 5.11)
_NO_LAUNCH = object()  # in the place of an event

_watched: dict[int, FirstLaunches] = {}  # by the driver's handle of the program
_wrapped: list[tuple[Any, str, Any, Any]] = []  # whose attribute, its name, before, now
_ours: set[Any] = set()  # what it was wrapped in
_lock = threading.RLock()  # a signal's handler may flush a cache
_looking = False  # whether a thread does
_ends_orderly = False
_ends = False  # the process does
_waited = 0.0  # seconds


class FirstLaunches:
    """Those of one program, of each of its kernels; watched from now on.

    Args:
        program: the program. It is kept, so that no other one gets its handle.
        kernels: the names of its kernels.
        notes: where they are noted.
        prove: run once when every kernel has run, and some time has gone by.
    """

    def __init__(
        self,
        program: cl.Program,
        kernels: Collection[str],
        notes: Sequence[Note],
        prove: Callable[[], None],
    ) -> None:
        self._program = program
        self._notes = notes
        self._prove = prove
        self._process = os.getpid()
        self._to_run = set(kernels)
        self._under_way: dict[str, cl.Event | object | None] = {}  # by kernel; none at first
        self._settled = False
        _watch(program.int_ptr, self)

    def settle(self) -> bool:
        """Some time has gone by: a program whose kernels have all run is proven.

        Returns:
            Whether there is nothing left to watch.
        """
        if self._process != os.getpid():  # it is our parent's
            return True
        self._settled = True
        self._wait(_GRACE)
        return _watched.get(self._program.int_ptr) is not self

    def let_go(self) -> None:
        """Watch it no longer, though nothing is proven."""
        if self._forget():
            for note in self._notes:
                note.end()

    def launch(self, kernel: cl.Kernel, action: Callable[[], cl.Event]) -> cl.Event:
        """Launch a kernel, and have it noted until it has run once.

        Args:
            kernel: the kernel.
            action: launches it.
        """
        name = ""
        with suppress(Exception):  # no fault of ours is the application's
            name = self._begin(kernel)
        if not name:
            return action()
        try:
            self._under_way[name] = event = action()
        except BaseException:
            self._under_way[name] = _NO_LAUNCH
            with suppress(Exception):  # as above
                self.are_under_way()
            raise
        with suppress(Exception):  # as above
            self._follow(event)
        return event

    def _begin(self, kernel: cl.Kernel) -> str:
        """Note a kernel's first launch and give its name, or nothing where it isn't the first."""
        name = kernel.function_name
        self.are_under_way()
        with _lock:
            if name not in self._to_run or name in self._under_way:
                return ""
            self._under_way[name] = None  # at once: one routine may call another
            for note in self._notes:
                note.launch()
        return name

    def _follow(self, event: cl.Event) -> None:
        # The process may be killed, or end at once, as soon as it has its result.
        with suppress(cl.Error):
            event.command_queue.flush()  # some drivers begin with nothing before that
        if self._wait(_AT_EXIT if _ends else _patience(_PATIENCE)):
            _look_soon()

    def _wait(self, seconds: float) -> bool:
        """Wait for what is under way, so long at most; whether something is still."""
        global _waited  # noqa: PLW0603 (of one process)
        began = time.monotonic()
        while under_way := self.are_under_way():
            if time.monotonic() - began >= seconds:
                break
            time.sleep(_POLL_INTERVAL)
        _waited += time.monotonic() - began
        return under_way

    def are_under_way(self) -> bool:
        """See whether what was launched has run; where it has, the notes come to rest."""
        with _lock:
            launched = [name for name, event in self._under_way.items() if _is_through(event)]
            for name in launched:
                if _has_run(self._under_way.pop(name)):
                    self._to_run.discard(name)
            if self._under_way:
                return True
            if launched:
                for note in self._notes:
                    note.rest()
            proven = self._settled and not self._to_run and self._forget()
        if proven:
            self._prove()
            for note in self._notes:
                note.end()
        return False

    def _forget(self) -> bool:
        with _lock:
            if _watched.get(self._program.int_ptr) is not self:
                return False
            del _watched[self._program.int_ptr]
            if not _watched:
                _unwrap()
            return True


def _patience(seconds: float) -> float:
    """Give how long a launch may be held up, of what all may together."""
    return min(seconds, max(_MOST_PATIENCE - _waited, 0.0))


def _is_through(event: cl.Event | object | None) -> bool:
    if isinstance(event, cl.Event):
        return event.command_execution_status <= _COMPLETE
    return event is _NO_LAUNCH


def _has_run(event: cl.Event | object | None) -> bool:
    # In the place of an empty range pyopencl puts a marker.
    return (
        isinstance(event, cl.Event)
        and event.command_type == cl.command_type.NDRANGE_KERNEL
        and event.command_execution_status == _COMPLETE
    )


def _watch(handle: int, launches: FirstLaunches) -> None:
    idle = [other for other in list(_watched.values()) if not other.are_under_way()]
    if len(idle) >= _MOST:
        idle[0].let_go()
    with _lock:
        _watched[handle] = launches
        _wrap()
    _end_orderly()


def _wrap() -> None:
    for owner, name, place in [] if _wrapped else LAUNCHING:
        before = getattr(owner, name)
        if before in _ours:  # whoever had wrapped it once more has put it back
            continue
        now = _noting(before, place)
        _ours.add(now)
        _wrapped.append((owner, name, before, now))
        setattr(owner, name, now)


def _unwrap() -> None:
    for owner, name, before, now in _wrapped:
        if getattr(owner, name) is now:  # else somebody has wrapped it once more: it stays
            setattr(owner, name, before)
    _wrapped.clear()


@functools.cache
def _noting(routine: Callable[..., cl.Event], place: int) -> Callable[..., cl.Event]:
    @functools.wraps(routine)
    def launch(*arguments: Any, **keywords: Any) -> cl.Event:
        launches = kernel = None
        if _watched:
            with suppress(Exception):  # then the routine itself will say what is wrong with it
                kernel = arguments[place] if len(arguments) > place else keywords["kernel"]
                launches = _watched.get(kernel.program.int_ptr)
        if launches is None or kernel is None:
            return routine(*arguments, **keywords)
        return launches.launch(kernel, lambda: routine(*arguments, **keywords))

    return launch


def _look_soon() -> None:
    """Have a thread see when what was launched has run: the process may be killed thereafter."""
    global _looking  # noqa: PLW0603 (there is one thread)
    with _lock:
        if _looking:
            return
        # No daemon: these end the process if they are in pyopencl when the interpreter ends.
        thread = threading.Thread(target=_look, name="mace-cache first launches")
        with suppress(RuntimeError):  # too many, or the interpreter ends
            thread.start()
            _looking = True


def _look() -> None:
    global _looking  # noqa: PLW0603 (as above)
    began = time.monotonic()
    while True:
        time.sleep(min(_POLL_INTERVAL + (time.monotonic() - began) / 50, _LONGEST_INTERVAL))
        with _lock:
            under_way = []
            with suppress(Exception):  # what can't be asked any more isn't looked at
                under_way = [one for one in list(_watched.values()) if one.are_under_way()]
            if not under_way or not threading.main_thread().is_alive():
                _looking = False
                return


def _end_orderly() -> None:
    global _ends_orderly  # noqa: PLW0603 (a process ends once)
    if _ends_orderly:
        return
    _ends_orderly = True
    atexit.register(_settle_all)
    # A forked child of multiprocessing ends without atexit, and with this.
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        multiprocessing.Finalize(None, _settle_all, exitpriority=0)


def _settle_all() -> None:
    # What isn't proven stays watched: handlers that come after this one may launch it.
    global _ends  # noqa: PLW0603 (a process ends once)
    _ends = True
    for launches in list(_watched.values()):
        with suppress(Exception):  # at exit there is nobody to tell
            launches.settle()


def _forget_in_a_forked_child() -> None:
    # What its parent watches is not launched here: drivers don't survive a fork.
    global _lock, _ends_orderly, _ends, _looking  # noqa: PLW0603 (a thread may have held it)
    _lock = threading.RLock()
    _ends_orderly = _ends = _looking = False
    _watched.clear()
    _unwrap()


os.register_at_fork(after_in_child=_forget_in_a_forked_child)
