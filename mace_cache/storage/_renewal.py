"""Renews what was claimed on a remote for as long as it is needed here; tells who is awaited."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Renew = Callable[[list[str]], Mapping[str, bool]]

__all__ = ["Claim", "Renewal"]

logger = logging.getLogger(__name__)


class Claim(NamedTuple):
    """What is renewed.

    Attributes:
        renew: what renews several of its place, and gives those that are not lost, each with
            whether others wait for it.
        when_awaited: called when others do.
    """

    renew: Renew
    when_awaited: Callable[[], None]


class Renewal:
    """Renews claims every few seconds, in a thread that ends when none is left.

    All claims at one place are renewed together: one after the other they would take longer than
    they last, where many programs are built at once and the server is slow.

    Args:
        interval: the time between two renewals, in seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._claims: dict[str, dict[str, Claim]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, place: str, key: str, claim: Claim) -> None:
        """Renew a claim from now on.

        Args:
            place: where it was claimed.
            key: what was claimed.
            claim: what is called for it, in a thread. It must not raise.
        """
        with self._changed:
            self._claims.setdefault(place, {})[key] = claim
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="mace-cache renew", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # too many: the claim ends by itself
                    logger.debug("a claim isn't renewed: %s", error)
                else:
                    self._thread = thread

    def drop(self, place: str, key: str) -> None:
        """Renew a claim no more."""
        with self._changed:
            claims = self._claims.get(place, {})
            claims.pop(key, None)
            if not claims:
                self._claims.pop(place, None)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._claims, self._interval)
                if not self._claims:
                    self._thread = None
                    return
                places = {place: dict(claims) for place, claims in self._claims.items()}
            for place, claims in places.items():
                *_, claim = claims.values()
                renewed = claim.renew(list(claims))
                for key, claim in claims.items():
                    if key not in renewed:
                        self.drop(place, key)
                    elif renewed[key]:
                        claim.when_awaited()
