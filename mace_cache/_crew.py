"""The worker processes of one `build_many`: they take programs from the end of a queue."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache._helping import choose_help
from mace_cache._warm_process import WorkerDiedError, WorkerProcess

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from typing_extensions import Self

    from mace_cache._helping import Help
    from mace_cache.keeping import Missing
    from mace_cache.request import BuildRequest

__all__ = ["Crew", "Miss"]

logger = logging.getLogger(__name__)


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

    A worker that can't be started, or that dies, leaves its program to this process.

    Args:
        waiting: the programs; who takes one removes it. This process takes them from the front.
        most: how many workers there may be.
        cache_arguments: with which a worker opens the same cache, or None where it can't.
    """

    def __init__(
        self, waiting: deque[Miss], most: int, cache_arguments: dict[str, Any] | None
    ) -> None:
        self._waiting = waiting
        self._most = most
        wanted = next((miss.missing.wanted for miss in waiting if miss.missing.wanted), None)
        self._help = choose_help(wanted.identified, cache_arguments) if wanted else None
        self._done: queue.SimpleQueue[Miss | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: list[WorkerProcess] = []
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
        """Give the programs that workers took, each as soon as its worker is through with it."""
        for _thread in self._threads:
            yield from iter(self._done.get, None)

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
                self._workers.append(worker)
                if self._left:
                    return
            while self._waiting:
                try:
                    miss = self._waiting.pop()
                except IndexError:  # another was faster
                    return
                try:
                    stored = _build(worker, help_, miss)
                except WorkerDiedError as error:
                    logger.debug("a worker died: its program is built in this process (%s)", error)
                    self._done.put(miss)
                    return
                self._done.put(miss._replace(stored=stored))
        finally:
            worker.close()


def _build(worker: WorkerProcess, help_: Help, miss: Miss) -> bool:
    """Have a worker build a program.

    Returns:
        Whether it may be stored now.
    """
    wanted = miss.missing.wanted
    message = help_.message(wanted.identified) if wanted else None
    if message is None:
        return False
    worker.ask(message)
    return help_.stores
