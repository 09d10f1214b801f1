"""Builds in the background: one after the other, in a thread that ends when none is left."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import pyopencl as cl

__all__ = ["Background"]


class Background:
    """Runs builds in the order in which they were asked for.

    One thread and not several: some drivers crash when two threads build (docs/drivers.md). It is
    no daemon, since a driver must not be left in the middle of a build when the interpreter ends;
    what has not begun by then is cancelled.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[cl.Program], Callable[[], cl.Program]]] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, build: Callable[[], cl.Program]) -> Future[cl.Program]:
        """Have a build done; at once, in the caller's thread, where no other can be started.

        Args:
            build: gives the program, or raises what the future is to raise.
        """
        from concurrent.futures import Future  # noqa: PLC0415 (kept out of the import of the package)

        future: Future[cl.Program] = Future()
        with self._lock:
            self._waiting.append((future, build))
            if self._thread is not None and self._thread.is_alive():  # none is in a forked child
                return future
            self._thread = threading.Thread(target=self._run, name="mace-cache build")
            try:
                self._thread.start()
            except RuntimeError:  # too many, or the interpreter ends
                self._thread = None
        if self._thread is None:
            self._run()
        return future

    def wait(self) -> None:
        """Wait until no build is left; not in the thread itself, where a callback may ask."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                future, build = self._waiting.popleft()
            if not threading.main_thread().is_alive():  # the interpreter ends
                future.cancel()
            _resolve(future, build)


def _resolve(future: Future[cl.Program], build: Callable[[], cl.Program]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        program = build()
    except BaseException as error:  # noqa: BLE001 (whoever asks for the result is told)
        future.set_exception(error)
    else:
        future.set_result(program)
