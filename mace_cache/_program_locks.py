"""Locks between processes on single programs, and for how long who has one is waited for.

The kernel takes a lock back when its holder dies. Where locks don't work, each goes on without.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mace_cache._locking import take_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache._directories import Place
    from mace_cache.request import WantedProgram

__all__ = ["ProgramLocks"]

_DIRECTORY = "locks"
_LONGEST = 3600.0  # seconds: what a file says isn't believed beyond
_MARGIN = 2.0  # a build may take so many times what it took before
_DIGITS = 3  # hexadecimal: so that there are at most 4,096 files a purpose

_here = threading.local()


class ProgramLocks:
    """The locks of one cache.

    Args:
        place: where the state of the storages is kept, or None where nothing may be written.
        timeout: how long to wait for a build that isn't known to take longer, in seconds.
    """

    def __init__(self, place: Place | None, timeout: float) -> None:
        self._place = place
        self._timeout = timeout

    def patience(self, wanted: WantedProgram) -> float:
        """Tell for how many seconds another process is waited for that is at a program.

        It is at least what is configured, and more where the program is known to take long.

        Args:
            wanted: the program.
        """
        known = [tiers.known_build_seconds(wanted.source.key) for tiers in wanted.tiers]
        return max(self._timeout, min(_MARGIN * max(known), _LONGEST))

    def take(
        self, wanted: WantedProgram, seconds: float, purpose: str = ""
    ) -> Callable[[], None] | None:
        """Lock a program for other processes, and for other caches of this one.

        Args:
            wanted: the program.
            seconds: how long to wait.
            purpose: what for; a program has a lock for each.

        Returns:
            What releases it, as often as it is called; None where another one has it.
        """
        if self._place is None:
            return _nothing
        names = [wanted.source.key, *[tiers.fingerprint.digest for tiers in wanted.tiers]]
        digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:_DIGITS]
        name = f"{digest}{purpose}.lock"
        try:
            with self._place.open(_DIRECTORY, create=True) as directory:
                return take_lock(name, max(seconds, 0.0), directory, self._place.trust)
        except (OSError, ValueError):  # a path can hold what no path may
            return _nothing

    @contextmanager
    def held(self, wanted: WantedProgram, purpose: str, until: float) -> Iterator[None]:
        """Hold a lock, as `take`, for as long as the block runs; go on without if it isn't free.

        Args:
            wanted: the program.
            purpose: what for.
            until: how long to wait at most, in seconds of `time.monotonic`.
        """
        if getattr(_here, "holding", False):  # a collection has come to this in such a block
            yield
            return
        seconds = min(self.patience(wanted), until - time.monotonic())
        release = self.take(wanted, seconds, purpose) or _nothing
        _here.holding = True
        try:
            yield
        finally:
            _here.holding = False
            release()


def _nothing() -> None:
    """There is no lock to let go of."""
