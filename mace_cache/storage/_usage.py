"""How much the programs on disk take, without counting them every time, and which have to go.

A ledger holds the total over all storages of a root. It is raised *before* a file is published, so
that a process that dies in between leaves it too high, never too low. When it passes the limit, the
files are counted afresh and the least recently used are removed, a tenth of the limit at once: the
cost of the listing is shared by many inserts, however many entries there are.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from mace_cache._filesystem import open_own_file, tolerant_unlink
from mace_cache._locking import file_lock
from mace_cache.storage._layout import OwnFile, remove_abandoned, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mace_cache._directories import Place
    from mace_cache._trust import Trust

__all__ = ["GarbageReport", "Usage"]

logger = logging.getLogger(__name__)

_LEDGER = rb"\d{20}\n"
_LEDGER_NAME = "usage"
_LOCK_NAME = "usage.lock"
_LEDGER_SIZE = 21
_KEPT_BY_SWEEP = 0.9

Found = tuple[str, str, OwnFile]


class GarbageReport(NamedTuple):
    """What a sweep removed and what is left.

    Attributes:
        removed_files: how many files were removed.
        removed_bytes: what they took.
        entries: how many programs are left.
        bytes: what these take.
        evicted: how many of the removed files were programs; the rest were abandoned temporaries.
    """

    removed_files: int = 0
    removed_bytes: int = 0
    entries: int = 0
    bytes: int = 0
    evicted: int = 0


class Usage:
    """What all storages of one root take together.

    Args:
        place: the directory of the format version.
        max_size: the limit in bytes; 0 is none.
        lock_timeout: how long to wait for another process that holds the ledger, in seconds. After
            it, or where locks don't work, the ledger is used without: it may then be wrong by what
            was written at that moment, until it is next counted afresh.
    """

    def __init__(self, place: Place, max_size: int, lock_timeout: float) -> None:
        self._place = place
        self._limit = max_size or sys.maxsize
        self._lock_timeout = lock_timeout

    def fits(self, size: int) -> bool:
        """Whether a file of *size* bytes can be stored at all."""
        return size <= self._limit

    @contextmanager
    def reserve(self, size: int) -> Iterator[int]:
        """Enter a file in the ledger, and make room for it.

        The lock is held while the block runs, which has to publish the file: nobody counts between
        the two.

        Args:
            size: the file's size in bytes.

        Yields:
            How many programs were removed.

        Raises:
            OSError: the ledger can't be written.
        """
        with self._ledger() as ledger:
            used, report = _read(ledger), GarbageReport()
            if used is None:
                report = self._sweep(self._limit - size)
                used = report.bytes
            elif used + size > self._limit:
                report = self._sweep(int(self._limit * _KEPT_BY_SWEEP) - size)
                used = report.bytes
            _write(ledger, used + size)
            yield report.evicted

    def collect(self) -> GarbageReport:
        """Count what there is, remove abandoned temporaries and what is over the limit.

        Raises:
            OSError: the ledger can't be written.
        """
        report = GarbageReport()
        with suppress(FileNotFoundError), self._ledger() as ledger:
            report = self._sweep(self._limit)
            _write(ledger, report.bytes)
        return report

    @contextmanager
    def _ledger(self) -> Iterator[int]:
        """Open the ledger, in a directory that was checked, and hold its lock."""
        trust = self._place.trust
        with (
            self._place.open() as directory,
            file_lock(_LOCK_NAME, self._lock_timeout, directory, trust),
        ):
            ledger = _open_ledger(directory, trust)
            try:
                yield ledger
            finally:
                os.close(ledger)

    def _sweep(self, most: int) -> GarbageReport:
        found = sorted(walk(self._place), key=lambda item: item[2].modified)
        entries = [item for item in found if not item[2].temporary]
        left = sum(file.size for _, _, file in entries)
        evicted = 0
        while left > most and evicted < len(entries):
            left -= entries[evicted][2].size
            evicted += 1
        doomed = entries[:evicted] + [item for item in found if item[2].abandoned]
        _remove(self._place, doomed)
        removed = [*(file for _, _, file in doomed), *remove_abandoned(self._place)]
        report = GarbageReport(
            removed_files=len(removed),
            removed_bytes=sum(file.size for file in removed),
            entries=len(entries) - evicted,
            bytes=left,
            evicted=evicted,
        )
        logger.debug("%s was swept: %s", self._place, report)
        return report


def _open_ledger(directory: int, trust: Trust) -> int:
    with suppress(OSError):
        return open_own_file(_LEDGER_NAME, directory, os.O_RDWR, trust)
    # A link, a FIFO or another's file has taken our file's place: ours comes back. Where it can't,
    # as in place of a directory, what there is is counted afresh every time.
    tolerant_unlink(_LEDGER_NAME, directory)
    try:
        return open_own_file(_LEDGER_NAME, directory, os.O_RDWR, trust)
    except IsADirectoryError:
        return os.memfd_create(_LEDGER_NAME, os.MFD_CLOEXEC)


def _remove(place: Place, doomed: Iterable[Found]) -> None:
    shards: dict[tuple[str, str], list[str]] = {}
    for name, shard, file in doomed:
        shards.setdefault((name, shard), []).append(file.name)
    for below, names in shards.items():
        with suppress(OSError), place.open(*below) as directory:
            for name in names:
                tolerant_unlink(name, directory)


def _read(ledger: int) -> int | None:
    text = os.pread(ledger, _LEDGER_SIZE + 1, 0)
    return int(text) if re.fullmatch(_LEDGER, text) else None


def _write(ledger: int, used: int) -> None:
    # Always as long, in one write: whoever reads without the lock, or after a crash, sees a number.
    os.pwrite(ledger, b"%020d\n" % used, 0)
    os.ftruncate(ledger, _LEDGER_SIZE)
