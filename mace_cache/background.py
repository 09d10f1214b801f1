"""Builds in the background: one after the other, in a thread that ends when none is left.

A forked child has none of its parent's threads: what had no result by the fork fails in the child.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from mace_cache.errors import ForkedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import pyopencl as cl

    Resolve = Callable[[], None]

__all__ = ["Background"]

_lock = threading.RLock()  # held by whoever forks, so that a child finds all in order
_unresolved: dict[Future[cl.Program], Resolve] = {}  # and what resolves each in a forked child


class Background:
    """Runs builds in the order in which they were asked for.

    One thread and not several: some drivers crash when two threads build (docs/drivers.md). It is
    no daemon, since a driver must not be left in the middle of a build when the interpreter ends;
    what has not begun by then is cancelled.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[cl.Program], Callable[[], cl.Program]]] = deque()
        self._thread: threading.Thread | None = None

    def submit(self, build: Callable[[], cl.Program]) -> Future[cl.Program]:
        """Have a build done; at once, in the caller's thread, where no other can be started.

        Args:
            build: gives the program, or raises what the future is to raise.
        """
        from concurrent.futures import Future  # noqa: PLC0415 (kept out of the import of the package)

        future: Future[cl.Program] = Future()
        if _interpreter_ends():  # what a thread had not begun would be cancelled
            self.wait()
            _build(future, build)
            return future
        with _lock:
            _unresolved[future] = partial(future.set_exception, ForkedError())
            self._waiting.append((future, build))
            if self._thread is not None and self._thread.is_alive():  # none is in a forked child
                return future
            self._thread = threading.Thread(target=self._run, name="mace-cache build")
            try:
                self._thread.start()
            except RuntimeError:  # too many
                self._thread = None
        if self._thread is None:
            self._run()
        return future

    def wait(self) -> None:
        """Wait until no build is left; not in the thread itself, where a callback may ask."""
        with _lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with _lock:
                if not self._waiting:
                    self._thread = None
                    return
                future, build = self._waiting.popleft()
                if future not in _unresolved:  # a forked child's parent builds it
                    continue
            if _interpreter_ends():
                future.cancel()
            _build(future, build)


def _interpreter_ends() -> bool:
    """Whether no thread can be started any more that would be waited for."""
    return not threading.main_thread().is_alive()


def _build(future: Future[cl.Program], build: Callable[[], cl.Program]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            resolve = partial(future.set_result, build())
        except BaseException as error:  # noqa: BLE001 (whoever asks for the result is told)
            resolve = partial(future.set_exception, error)
        with _lock:
            _unresolved[future] = resolve
        resolve()
    with _lock:
        _unresolved.pop(future, None)


def _resolve_in_child() -> None:
    """In a forked child: what has a result has it here too, and all else fails."""
    for future, resolve in _unresolved.items():
        # Anew: a thread that isn't here may hold its lock, and its callbacks are the parent's.
        type(future).__init__(future)
        resolve()
    _unresolved.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_resolve_in_child,
    )
