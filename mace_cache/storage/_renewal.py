"""Renews what was claimed on a remote for as long as it is needed here."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Renewal"]

logger = logging.getLogger(__name__)


class Renewal:
    """Calls what renews a claim every few seconds, in a thread that ends when none is left.

    Args:
        interval: the time between two renewals, in seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._claims: dict[Hashable, Callable[[], bool]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, claim: Hashable, renew: Callable[[], bool]) -> None:
        """Renew a claim from now on.

        Args:
            claim: what `drop` names it by.
            renew: what renews it; False where it is lost. It must not raise.
        """
        with self._changed:
            self._claims[claim] = renew
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="mace-cache renew", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # too many: the claim ends by itself
                    logger.debug("a claim isn't renewed: %s", error)
                else:
                    self._thread = thread

    def drop(self, claim: Hashable) -> None:
        """Renew a claim no more."""
        with self._changed:
            self._claims.pop(claim, None)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._claims, self._interval)
                if not self._claims:
                    self._thread = None
                    return
                claims = list(self._claims.items())
            for claim, renew in claims:
                if not renew():
                    self.drop(claim)
