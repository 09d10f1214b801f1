"""The worker processes of one `build_many`: they take programs from the end of a queue."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache._helping import choose_help
from mace_cache._warm_process import WorkerProcess

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from mace_cache._helping import Help
    from mace_cache.keeping import Missing
    from mace_cache.request import BuildRequest, WantedProgram

__all__ = ["Crew", "Miss"]

logger = logging.getLogger(__name__)

_GLANCE = 0.1  # seconds: how often hung workers are looked for while nothing else is to be done


class Miss(NamedTuple):
    """A program that no tier has.

    Attributes:
        number: its place among all.
        request: what was asked for.
        missing: why it has to be built.
        stored: whether a worker may have stored it since.
    """

    number: int
    request: BuildRequest
    missing: Missing
    stored: bool = False


class Crew:
    """Workers, each with a thread that gives it one program after the other.

    A worker that can't be started, dies or hangs leaves its program to this process.

    Args:
        waiting: the programs; who takes one removes it. This process takes them from the front.
        most: how many workers there may be.
        cache_arguments: with which a worker opens the same cache, or None where it can't.
        patience: for how many seconds a worker that builds a program is waited for.
    """

    def __init__(
        self,
        waiting: deque[Miss],
        most: int,
        cache_arguments: dict[str, Any] | None,
        patience: Callable[[WantedProgram], float],
    ) -> None:
        self._waiting = waiting
        self._most = most
        self._patience = patience
        wanted = next((miss.missing.wanted for miss in waiting if miss.missing.wanted), None)
        self._help = choose_help(wanted.identified, cache_arguments) if wanted else None
        self._done: queue.SimpleQueue[Miss | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: dict[WorkerProcess, float] = {}  # and until when each is waited for
        self._lock = threading.Lock()
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._waiting.clear()
        with self._lock:
            self._left = True
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            thread.join()

    def start(self, seconds: float = 0.0) -> None:
        """Start as many workers as are worth their own start, once.

        Args:
            seconds: what the last build in this process took; 0 if there was none.
        """
        if self._help is None or self._threads:
            return
        # Two programs at least for each, or it is here before the worker is.
        number = min(self._most, len(self._waiting) // 2)
        if self._help.start:
            number = min(number, int(seconds * len(self._waiting) / self._help.start / 2))
        for _ in range(number):
            thread = threading.Thread(target=self._work, name="mace-cache worker", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # too many, or the interpreter ends
                return
            self._threads.append(thread)

    def done(self) -> Iterator[Miss]:
        """Give the programs that workers took, each as soon as its worker is through with it.

        A worker that takes longer than it is waited for is killed.
        """
        for _thread in self._threads:
            yield from iter(self._next, None)

    def _next(self) -> Miss | None:
        while True:
            try:
                return self._done.get(timeout=_GLANCE)
            except queue.Empty:
                self._kill_hung_workers()

    def _kill_hung_workers(self) -> None:
        now = time.monotonic()
        with self._lock:
            for worker, until in self._workers.items():
                if now > until:
                    logger.debug("a worker takes too long with its program: it is killed")
                    worker.kill()

    def _work(self) -> None:
        try:
            self._work_until_none_waits()
        except Exception as error:  # noqa: BLE001 (this process can do without)
            logger.debug("a worker process could not be used (%r)", error)
        finally:
            self._done.put(None)

    def _work_until_none_waits(self) -> None:
        help_ = self._help
        assert help_ is not None  # noqa: S101 (no thread without)
        worker = WorkerProcess(help_.arguments)
        try:
            with self._lock:
                self._workers[worker] = math.inf
                if self._left:
                    return
            while self._waiting:
                try:
                    miss = self._waiting.pop()
                except IndexError:  # another was faster
                    return
                try:
                    stored = self._build(worker, help_, miss)
                except Exception as error:  # noqa: BLE001 (a dead worker, or whatever else)
                    logger.debug("a worker failed: its program is built here (%s)", error)
                    self._done.put(miss)
                    return
                self._done.put(miss._replace(stored=stored))
        finally:
            worker.close()

    def _build(self, worker: WorkerProcess, help_: Help, miss: Miss) -> bool:
        """Have a worker build a program.

        Returns:
            Whether it may be stored now.
        """
        wanted = miss.missing.wanted
        message = help_.message(wanted.identified) if wanted else None
        if wanted is None or message is None:
            return False
        self._workers[worker] = time.monotonic() + self._patience(wanted)
        worker.ask(message)
        self._workers[worker] = math.inf
        return help_.stores
