"""What a cache has still to write when the cache object itself is gone."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mace_cache._report import warn_once
from mace_cache.harvest._exit import leave_driver_alone_at_exit
from mace_cache.harvest.pending import PendingHarvest
from mace_cache.harvest.policy import may_be_ended
from mace_cache.harvest.quiet import QuietMoment
from mace_cache.missed import MOST_NOTED, MissedFile
from mace_cache.statistics import Counts, StatisticsFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache._directories import Place
    from mace_cache._program_locks import ProgramLocks
    from mace_cache.fingerprint import DeviceFingerprint
    from mace_cache.guard import Guard
    from mace_cache.harvest.finalise import Harvested
    from mace_cache.missed import Missed
    from mace_cache.resident import ResidentProgram
    from mace_cache.tiers import Tiers

__all__ = ["Unwritten"]

logger = logging.getLogger(__name__)

_exit_began: float | None = None

_WRITE_AFTER = 0.1  # seconds: of programs built one after the other, several are written at once
_HARVEST_AWAITED_AFTER = 0.5  # seconds: what was just built is likely to be launched


class Unwritten:
    """Programs to be harvested, storages to be flushed and counts to be added up.

    Nothing in here leads back to the cache, so that the cache can be collected and this written.

    Args:
        statistics_directory: where the counts go, or None where nothing may be written.
        harvest_after: a quiet moment, in seconds: programs are harvested when so long none has
            been built.
        locks: keep other processes waiting for a harvest.
        guard: what loads binaries that aren't proven, or None.
        wait_for_remote: waits, so many seconds at most, until what is written in the background is.

    Attributes:
        guard: as given.
        tiers: the tiers that were asked for.
        counts: what happened.
    """

    def __init__(
        self,
        statistics_directory: Place | None,
        harvest_after: float,
        locks: ProgramLocks,
        guard: Guard | None = None,
        wait_for_remote: Callable[[float], bool] | None = None,
    ) -> None:
        self.guard = guard
        self._wait_for_remote = wait_for_remote
        self._pending = PendingHarvest(locks)
        self._quiet = QuietMoment(self.flush, harvest_after)
        self._soon = QuietMoment(self._write_fetched, _WRITE_AFTER)
        self._awaited = QuietMoment(self._harvest_awaited, _HARVEST_AWAITED_AFTER)
        self._threads = (self._soon, self._awaited, self._quiet)
        self._when_written: list[Callable[[], None]] = []
        self._flushing = threading.RLock()
        self.tiers: dict[DeviceFingerprint, Tiers] = {}
        self.counts = Counts()
        self._process = os.getpid()
        self._statistics = (
            None if statistics_directory is None else StatisticsFile(statistics_directory)
        )
        self._missed: list[Missed] = []
        self._all_missed = 0
        self._missed_file = (
            None if statistics_directory is None else MissedFile(statistics_directory)
        )

    def harvest_now(self, built: ResidentProgram) -> None:
        """Fetch a program's binaries at once; write them in a thread shortly, or else now."""
        if self._is_mine():
            self._pending.fetch(built)
            if may_be_ended():
                self._write_fetched()
            else:
                self._soon.expect()

    def harvest_later(self, built: ResidentProgram) -> None:
        """Harvest a program in a quiet moment, or whenever `flush` comes first."""
        if self._is_mine():
            self._pending.add(built)
            self._quiet.postpone()

    def harvest_soon(self, key: str) -> None:
        """Harvest a program shortly, if it is built: other machines wait for it."""
        if self._is_mine() and self._pending.want_soon(key):
            self._awaited.expect()

    def finalise_later(self, harvested: Harvested) -> None:
        """Finalise a stored program in a quiet moment: its builder had died too early."""
        if self._is_mine():
            self._pending.finalise_later(harvested)
            self._quiet.postpone()

    def prove_later(self) -> None:
        """Count what was loaded as proven in a quiet moment, when it has been launched."""
        if self._is_mine():
            self._quiet.postpone()

    @property
    def takes_notes(self) -> bool:
        """Whether what had to be built is written down."""
        return self._missed_file is not None

    def note_missed(self, missed: Missed) -> None:
        """Keep what had to be built until it is written; of very many only the first."""
        if self.takes_notes:
            self._all_missed += 1
            if len(self._missed) < MOST_NOTED:
                self._missed.append(missed)

    def when_written(self, action: Callable[[], None]) -> None:
        """Run something when what `harvest_now` was given is stored.

        Args:
            action: what to run; it must not raise.
        """
        if not self._is_mine():
            action()
            return
        self._when_written.append(action)
        self._soon.expect()  # what was fetched may be written already

    def finish_at_exit(self) -> None:
        """Write it all when the process ends, however long that takes: a rehearsal is complete."""
        atexit.register(self.finish, math.inf)
        # A forked child of multiprocessing ends without atexit, and with this.
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None:
            multiprocessing.Finalize(None, self.finish, (math.inf,), exitpriority=0)

    def finish(self, seconds: float) -> None:
        """Write it all at the end of the process, or of the cache.

        Args:
            seconds: how long that may take; what isn't harvested by then is lost. At the end of the
                process it is counted from the first cache that is finished.

        Raises:
            KeyboardInterrupt: Ctrl-C, while the process goes on; at its end that is the end.
        """
        if not self._is_mine():
            return
        until, bound = _end_of_exit(seconds), f"within {seconds:g} s"
        try:
            if self._finish(until):
                return
        except KeyboardInterrupt:
            if _exit_began is None:
                raise
            bound = "before the interrupt"
        warn_once(logger, "exit", "programs were not all stored %s: exiting without", bound)
        self._pending.give_up()
        self._write()
        if _exit_began is not None:
            self._leave_driver_if_busy()
        else:
            atexit.register(self._leave_driver_if_busy)

    def _finish(self, until: float) -> bool:
        """Write it all, or what can be begun until then; whether that was all."""
        if self.guard is not None:
            self.guard.settle()
            self.guard.close()
        # In one of these threads a collection has come to this, and nobody can be waited for.
        own = any(thread.is_here() for thread in self._threads)
        idle = own or all(thread.finish(until - time.monotonic()) for thread in self._threads)
        return idle and self._flush(until)

    def _leave_driver_if_busy(self) -> None:
        if not all(thread.is_idle() for thread in self._threads):
            leave_driver_alone_at_exit()

    def flush(self) -> None:
        """Write it all. A fault goes no further than a warning: at exit there is nobody to tell."""
        if self._is_mine():
            self._flush(math.inf)

    def _flush(self, until: float) -> bool:
        """Write what can be begun until then; whether that was all."""
        patience = until - time.monotonic()
        if not self._flushing.acquire(timeout=min(max(patience, 0), threading.TIMEOUT_MAX)):
            return False
        try:
            for thread in self._threads:
                thread.cancel()
            with _running(self._when_written):
                if self.guard is not None:
                    self.guard.settle()
                done = self._pending.flush(until)
                self._write()
        except Exception as error:  # noqa: BLE001 (see `flush`)
            warn_once(logger, "flush", "programs could not be harvested (%r)", error)
            return True
        finally:
            self._flushing.release()
        return done and self._is_remote_done(until)

    def _is_remote_done(self, until: float) -> bool:
        if self._wait_for_remote is None:
            return True
        return self._wait_for_remote(until - time.monotonic())

    def _write_fetched(self) -> None:
        with self._flushing, _running(self._when_written):
            try:
                to_be_finalised = self._pending.write()
            except Exception as error:  # noqa: BLE001 (a thread has nobody to tell)
                warn_once(logger, "flush", "programs could not be written (%r)", error)
                return
        if to_be_finalised:
            self._quiet.postpone()

    def _harvest_awaited(self) -> None:
        with self._flushing:
            try:
                self._pending.harvest_awaited()
            except Exception as error:  # noqa: BLE001 (as above)
                warn_once(logger, "flush", "a program could not be harvested (%r)", error)

    def _write(self) -> None:
        try:
            for tiers in list(self.tiers.values()):
                tiers.flush()
            self._append_statistics()
        except Exception as error:  # noqa: BLE001 (as above)
            warn_once(logger, "flush", "the cache could not be written (%r)", error)

    def _is_mine(self) -> bool:
        # A forked child has a copy of all this, and drivers don't survive a fork.
        return os.getpid() == self._process

    def _append_statistics(self) -> None:
        if self._statistics is None or self._missed_file is None:
            return
        counts = self.counts.take()
        missed, built, self._missed, self._all_missed = self._missed, self._all_missed, [], 0
        try:
            self._statistics.append(counts)
            self._missed_file.append(missed, built, counts.hits + counts.memory_hits)
        except (OSError, ValueError) as error:  # a path can hold what no path may
            logger.debug("%s can't be written (%s)", self._statistics.path, error)


def _end_of_exit(seconds: float) -> float:
    """Give the time until which a cache may be finished, in seconds of `time.monotonic`."""
    global _exit_began  # noqa: PLW0603 (a process ends once)
    if threading.main_thread().is_alive():
        return time.monotonic() + seconds
    _exit_began = _exit_began or time.monotonic()
    return _exit_began + seconds


@contextmanager
def _running(waiting: list[Callable[[], None]]) -> Iterator[None]:
    """Run, after the block, the actions that were there before it."""
    actions = [waiting.pop() for _ in range(len(waiting))]
    try:
        yield
    finally:
        for action in actions:
            action()
