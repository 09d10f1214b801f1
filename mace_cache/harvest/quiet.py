"""A quiet moment: something is done in a thread once nothing has happened for some seconds."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["QuietMoment"]

logger = logging.getLogger(__name__)


class QuietMoment:
    """Runs an action in a thread of its own, as soon as nothing has happened for a while.

    The thread is there from the first event on, since none can be started when the interpreter
    ends, and goes when nothing waits any more. It holds up nobody's exit beyond `finish`.

    Args:
        action: what to run; it must not raise.
        seconds: how long nothing must have happened.
    """

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._changed = threading.Condition()
        self._due: float | None = None  # nothing waits
        self._acting = False
        self._finishing = False
        self._thread: threading.Thread | None = None

    def postpone(self) -> None:
        """Something has happened: the wait begins anew."""
        with self._changed:
            if not self._finishing:
                self._due = time.monotonic() + self._seconds
                self._start()

    def expect(self) -> None:
        """Something has happened: the wait begins, unless it has begun."""
        with self._changed:
            if self._due is None and not self._finishing:
                self._due = time.monotonic() + self._seconds
                self._start()

    def cancel(self) -> None:
        """What waited is done elsewhere: the thread may go."""
        with self._changed:
            self._due = None
            self._changed.notify_all()

    def is_here(self) -> bool:
        """Whether this is the thread that the action runs in."""
        return self._thread is threading.current_thread()

    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._acting

    def finish(self, seconds: float) -> bool:
        """Run what waits for a quiet moment now, in its thread.

        What happens meanwhile is left to the caller: other threads may never be quiet.

        Args:
            seconds: how long to wait for its end at most.

        Returns:
            Whether nothing waits or runs any more; True in the thread itself, which can't wait for
            its own end.
        """
        with self._changed:
            if self.is_here():
                return True
            if self._due is not None:
                self._due = time.monotonic()
                self._changed.notify_all()
            self._finishing = True
            try:
                return self._changed.wait_for(
                    self._is_done, min(max(seconds, 0.0), threading.TIMEOUT_MAX)
                )
            finally:
                self._finishing = False

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="mace-cache harvest", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many, or the interpreter ends
            logger.debug("no quiet moment: %s", error)
            self._due = None
        else:
            self._thread = thread

    def _is_done(self) -> bool:
        return self._due is None and not self._acting

    def _run(self) -> None:
        while self._wait():
            self._action()

    def _wait(self) -> bool:
        """Wait until the action is due; False where nothing waits and the thread has to go."""
        with self._changed:
            self._acting = False
            while self._due is not None:
                rest = self._due - time.monotonic()
                if rest <= 0:
                    self._due = None
                    self._acting = True
                    return True
                self._changed.wait(min(rest, threading.TIMEOUT_MAX))
            self._thread = None
            self._changed.notify_all()
            return False
