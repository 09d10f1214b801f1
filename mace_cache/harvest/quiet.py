"""A quiet moment: something is done in a thread once nothing has happened for some seconds."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["QuietMoment"]


class QuietMoment:
    """Runs an action in a thread of its own, as soon as nothing has happened for a while.

    The thread is there from the first event on, since none can be started when the interpreter
    ends, and goes when the action is done. It holds up nobody's exit beyond `finish`.

    Args:
        action: what to run; it must not raise.
        seconds: how long nothing must have happened.
    """

    def __init__(self, action: Callable[[], None], seconds: float) -> None:
        self._action = action
        self._seconds = seconds
        self._changed = threading.Condition()
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def postpone(self) -> None:
        """Something has happened: the wait begins anew."""
        with self._changed:
            self._due = time.monotonic() + self._seconds
            if self._thread is None:
                name = "mace-cache harvest"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Run what waits for a quiet moment now, in its thread.

        Args:
            seconds: how long to wait for its end at most.

        Returns:
            Whether it came to its end.
        """
        with self._changed:
            thread = self._thread
            if thread is None:
                return True
            self._due = time.monotonic()
            self._changed.notify()
        thread.join(seconds)
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._due is not None and (rest := self._due - time.monotonic()) > 0:
                    self._changed.wait(rest)
                self._due = None
            self._action()
            with self._changed:
                if self._due is None:
                    self._thread = None
                    return
