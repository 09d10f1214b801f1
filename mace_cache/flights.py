"""Single flight: of all that miss a program at once, one builds it and the others wait, bounded.

Threads of one process wait for each other in memory, processes on a file lock, which the kernel
takes back when its holder dies. Where locks don't work, each builds for itself.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING

from mace_cache._locking import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mace_cache._directories import Place
    from mace_cache.request import WantedProgram

__all__ = ["Flight", "Flights"]

_LOCKS = "locks"
_LONGEST = 3600.0  # seconds: what a file says isn't believed beyond
_MARGIN = 2.0  # a build may take so many times what it took before
_DIGITS_OF_A_LOCK = 3  # hexadecimal: so that there are at most 4,096 files


class Flight:
    """The right to build a program, for as long as it isn't landed.

    Attributes:
        waited: whether somebody else has had it meanwhile, so that the program may be there now.
    """

    def __init__(self, leave: Callable[[], None], unlock: Callable[[], None], waited: bool) -> None:
        self._leave = leave
        self._unlock = unlock
        self.waited = waited

    def leave(self) -> None:
        """Let the threads of this process go on: the program is in memory."""
        self._leave()

    def land(self) -> None:
        """Let other processes go on too: the program is stored, or nobody builds it here."""
        self._leave()
        self._unlock()


class Flights:
    """The programs that this process builds now.

    Args:
        place: where the state of the storages is kept, or None where nothing may be written.
        timeout: how long to wait for a build that isn't known to take longer, in seconds.
    """

    def __init__(self, place: Place | None, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._under_way: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def join(self, wanted: WantedProgram) -> Flight:
        """Wait until nobody else builds a program, or for as long as that may take.

        Args:
            wanted: the program.

        Returns:
            What is to be landed in any case.
        """
        until: float | None = None
        identity = wanted.identified.identity
        mine = threading.Event()
        while (other := self._enter(identity, mine)) is not mine:
            if until is None:
                until = time.monotonic() + self.patience(wanted)
            if not other.wait(min(until - time.monotonic(), threading.TIMEOUT_MAX)):
                break
        waited = until is not None
        unlock = self._take_lock(wanted, until, at_once=True)
        if unlock is None:
            waited = True
            unlock = self._take_lock(wanted, until, at_once=False)
        return Flight(lambda: self._exit(identity, mine), unlock or _nothing, waited)

    def patience(self, wanted: WantedProgram) -> float:
        """Tell for how many seconds another one's build of a program is waited for.

        It is at least what is configured, and more where the program is known to take long.

        Args:
            wanted: the program.
        """
        known = [tiers.known_build_seconds(wanted.source.key) for tiers in wanted.tiers]
        return max(self._timeout, min(_MARGIN * max(known), _LONGEST))

    def _enter(self, identity: Hashable, mine: threading.Event) -> threading.Event:
        if self._process != os.getpid():  # a forked child has none of the threads that build
            self._under_way, self._lock, self._process = {}, threading.Lock(), os.getpid()
        with self._lock:
            return self._under_way.setdefault(identity, mine)

    def _exit(self, identity: Hashable, mine: threading.Event) -> None:
        with self._lock:
            if self._under_way.get(identity) is mine:
                del self._under_way[identity]
        mine.set()

    def _take_lock(
        self, wanted: WantedProgram, until: float | None, *, at_once: bool
    ) -> Callable[[], None] | None:
        """Lock a program for other processes; None where another one has it."""
        if self._place is None:
            return _nothing
        try:
            with self._place.open(_LOCKS, create=True):
                pass
        except (OSError, ValueError):  # a path can hold what no path may
            return _nothing
        names = [wanted.source.key, *[tiers.fingerprint.digest for tiers in wanted.tiers]]
        digest = hashlib.sha256(" ".join(names).encode()).hexdigest()
        path = os.path.join(self._place, _LOCKS, f"{digest[:_DIGITS_OF_A_LOCK]}.lock")
        if at_once:
            return take_lock(path, 0.0)
        patience = self.patience(wanted) if until is None else until - time.monotonic()
        return take_lock(path, max(patience, 0.0))


def _nothing() -> None:
    """There is no lock to let go of."""
