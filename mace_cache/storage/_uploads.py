"""What goes to a remote goes in the background, in the order in which it was given."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uploads"]

logger = logging.getLogger(__name__)


class Uploads:
    """Runs actions one after the other in a thread.

    The thread is there from `start` on, since none can be started when the interpreter ends, and
    holds up nobody's exit beyond `wait`.

    Args:
        prepare: run before it is started, to import what it is too late for then; it may raise.
    """

    def __init__(self, prepare: Callable[[], None]) -> None:
        self._prepare = prepare
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._acting = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def start(self) -> bool:
        """Have a thread: something is likely to follow. False where there can be none."""
        if os.getpid() != self._process:  # a forked child writes nothing
            return False
        if self._thread is None and not self._stopped:
            with suppress(Exception):  # whoever needs it will say so
                self._prepare()
        with self._changed:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="mace-cache upload", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # too many, or the interpreter ends
                    logger.debug("no uploads in the background: %s", error)
                else:
                    self._thread = thread
            return self._thread is not None

    def submit(self, action: Callable[[], None]) -> None:
        """Run something later; at once where there is no thread.

        Args:
            action: what to run; it must not raise.
        """
        if os.getpid() != self._process:
            return
        self.start()
        with self._changed:
            if self._thread is not None:
                self._waiting.append(action)
                self._changed.notify_all()
                return
        action()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left.

        Args:
            seconds: how long at most.

        Returns:
            Whether nothing is left; True in the thread itself, which can't wait for its own end,
            and in a forked child.
        """
        if os.getpid() != self._process or self._thread is threading.current_thread():
            return True
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._acting,
                min(max(seconds, 0.0), threading.TIMEOUT_MAX),
            )

    def stop(self) -> None:
        """Let the thread go when it has done what waits; a forked child has none."""
        if os.getpid() != self._process:  # the lock may have been held in the fork
            return
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            action()
            del action  # it would keep the program alive until the next one

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._acting = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if not self._waiting:
                self._thread = None  # what still comes is done at once
                return None
            self._acting = True
            return self._waiting.popleft()
