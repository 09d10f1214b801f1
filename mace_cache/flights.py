"""Single flight: of all that miss a program at once, one builds it and the others wait, bounded.

Threads of one process wait for each other in memory, processes on a lock of the program.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mace_cache._program_locks import ProgramLocks
    from mace_cache.request import WantedProgram

__all__ = ["Flight", "Flights"]


class Flight:
    """The right to build a program, for as long as it isn't landed.

    Attributes:
        waited: whether somebody else has had it meanwhile, so that the program may be there now.
    """

    def __init__(
        self, leave: Callable[[], None], unlock: Callable[[], None], waited: bool, began: float
    ) -> None:
        self._leave = leave
        self._unlock = unlock
        self._claimed: list[Callable[..., None]] = []
        self._began = began
        self.waited = waited

    def claim(
        self, wanted: WantedProgram, patience: float, when_awaited: Callable[[], None]
    ) -> bool:
        """Make it the flight of all machines that share a remote, or wait for the one that builds.

        Args:
            wanted: the program.
            patience: how long to wait, in seconds, since this flight was asked for.
            when_awaited: as for `KVStorage.claim`.

        Returns:
            Whether the program may be there now.
        """
        key, until = wanted.source.key, self._began + patience
        for tiers in sorted(wanted.tiers, key=lambda tiers: tiers.fingerprint.digest):
            self._claimed.append(partial(tiers.release, key))
            if tiers.claim(key, max(until - time.monotonic(), 0.0), when_awaited):
                return True
        return False

    def leave(self) -> None:
        """Let the threads of this process go on: the program is in memory."""
        self._leave()

    def unlock(self) -> None:
        """Let the other processes of this machine go on too: the driver has kept the program."""
        self._leave()
        self._unlock()

    def land(self, *, fails: bool = False) -> None:
        """Let all machines go on: the program is stored, or nobody builds it here.

        Args:
            fails: it doesn't build, so that other machines needn't wait for each other either.
        """
        self.unlock()
        for release in self._claimed:
            release(fails=fails)


class Flights:
    """The programs that this process builds now.

    Args:
        locks: keep other processes waiting.

    Attributes:
        locks: as given.
    """

    def __init__(self, locks: ProgramLocks) -> None:
        self.locks = locks
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
        began = time.monotonic()
        until: float | None = None
        identity = wanted.identified.identity
        mine = threading.Event()
        while (other := self._enter(identity, mine)) is not mine:
            if until is None:
                until = began + self.locks.patience(wanted)
            if not other.wait(min(until - time.monotonic(), threading.TIMEOUT_MAX)):
                break
        waited = until is not None
        unlock = self.locks.take(wanted, 0.0)
        if unlock is None:
            waited = True
            patience = self.locks.patience(wanted) if until is None else until - time.monotonic()
            unlock = self.locks.take(wanted, patience)
        return Flight(lambda: self._exit(identity, mine), unlock or _nothing, waited, began)

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


def _nothing() -> None:
    """There is no lock to let go of."""
