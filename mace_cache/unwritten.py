"""What a cache has still to write when the cache object itself is gone."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from mace_cache._report import warn_once
from mace_cache.harvest.pending import PendingHarvest
from mace_cache.statistics import Counts, StatisticsFile

if TYPE_CHECKING:
    from pathlib import Path

    from mace_cache.fingerprint import DeviceFingerprint
    from mace_cache.tiers import Tiers

__all__ = ["Unwritten"]

logger = logging.getLogger(__name__)


class Unwritten:
    """Programs to be harvested, storages to be flushed and counts to be added up.

    Nothing in here leads back to the cache, so that the cache can be collected and this written.

    Args:
        statistics_directory: where the counts go, or None where nothing may be written.

    Attributes:
        pending: the programs that are to be harvested.
        tiers: the tiers that were asked for.
        counts: what happened.
    """

    def __init__(self, statistics_directory: Path | None) -> None:
        self.pending = PendingHarvest()
        self.tiers: dict[DeviceFingerprint, Tiers] = {}
        self.counts = Counts()
        self._process = os.getpid()
        self._statistics = (
            None if statistics_directory is None else StatisticsFile(statistics_directory)
        )

    def flush(self) -> None:
        """Write it all. A fault goes no further than a warning: at exit there is nobody to tell."""
        if os.getpid() != self._process:
            return  # A forked child has a copy of this, and drivers don't survive a fork.
        try:
            self.pending.flush()
            for tiers in list(self.tiers.values()):
                tiers.flush()
            self._append_statistics()
        except Exception as error:  # noqa: BLE001 (see the docstring)
            warn_once(logger, "flush", "the cache could not be written (%r)", error)

    def _append_statistics(self) -> None:
        if self._statistics is None:
            return
        try:
            self._statistics.append(self.counts.take())
        except (OSError, ValueError) as error:  # a path can hold what no path may
            logger.debug("%s can't be written (%s)", self._statistics.path, error)
