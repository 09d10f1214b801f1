"""What the cache did: counted in the process, appended to one file, summed by who asks.

A process appends its counts as one line, which needs no lock: on a local disk a short append is
whole. The file is only informative; a line that can't be written or read is left out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, fields

from mace_cache._directories import Place
from mace_cache._filesystem import (
    open_own_file,
    read_regular_file,
    replace_file,
    unlink_own_file,
)
from mace_cache._trust import Trust, check_private

__all__ = ["Counts", "StatisticsFile"]

logger = logging.getLogger(__name__)

_NAME = "statistics.jsonl"
_COMPACT_AT = 256 << 10
_LARGEST_FILE = 64 << 20


@dataclass
class Counts:
    """Counts of one process, or their sum over many.

    Attributes:
        memory_hits: programs that were still there from an earlier build in the process.
        hits: programs loaded from a binary of the local storage, a precompiled one or a remote.
        fetched: those of them that came from the remote.
        misses: programs built from source since no tier had them.
        rebuilds: programs built from source since a driver rejected their binary.
        bypasses: programs that can't be cached, or for which the cache had stepped aside.
        crashes: programs dropped since a process had died while it loaded them or first used them.
        stored: binaries written.
        evictions: programs removed to keep within the size.
        failures: storage faults and damaged files that were passed over.
        seconds_saved: what the hits saved, in seconds of compiling.
    """

    memory_hits: int = 0
    hits: int = 0
    fetched: int = 0
    misses: int = 0
    rebuilds: int = 0
    bypasses: int = 0
    crashes: int = 0
    stored: int = 0
    evictions: int = 0
    failures: int = 0
    seconds_saved: float = 0.0

    def add(self, other: Counts) -> None:
        """Add another's counts to these."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def take(self) -> Counts:
        """Give what was counted so far, and count from nothing again."""
        taken = Counts()
        for field in fields(self):
            setattr(taken, field.name, getattr(self, field.name))
            setattr(self, field.name, field.default)
        return taken


class StatisticsFile:
    """The counts of every process that used a cache directory.

    Args:
        directory: where the file is kept; made, private, when there is something to write. A
            `Place` says who is trusted there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = os.path.join(directory, _NAME)
        self._place = directory if isinstance(directory, Place) else Place(os.fspath(directory))
        self._lock = threading.Lock()

    def append(self, counts: Counts) -> None:
        """Add one process's counts.

        Raises:
            OSError: they can't be written.
        """
        changed = {name: value for name, value in asdict(counts).items() if value}
        if not changed:
            return
        line = json.dumps(changed, separators=(",", ":")) + "\n"
        with self._lock, self._place.open(create=True) as directory:
            descriptor = open_own_file(
                _NAME, directory, os.O_WRONLY | os.O_APPEND, self._place.trust
            )
            try:
                os.write(descriptor, line.encode())
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _COMPACT_AT:
                _compact(directory, self._place.trust)

    def total(self) -> Counts:
        """Sum what all processes counted."""
        with suppress(OSError), self._place.open() as directory:
            return _total(directory, self._place.trust)
        return Counts()

    def zero(self) -> None:
        """Start counting anew."""
        with suppress(OSError), self._place.open() as directory:
            unlink_own_file(_NAME, directory)


def _total(directory: int, trust: Trust) -> Counts:
    data, status = read_regular_file(_NAME, directory, largest=_LARGEST_FILE)
    check_private(status, _NAME, trust=trust)
    total = Counts()
    for line in data.splitlines():
        total.add(_parse(line))
    return total


def _compact(directory: int, trust: Trust) -> None:
    # A line appended between the reading and the replacing is lost: counts are informative.
    total = {name: value for name, value in asdict(_total(directory, trust)).items() if value}
    replace_file(directory, _NAME, json.dumps(total).encode() + b"\n")


def _parse(line: bytes) -> Counts:
    counts = Counts()
    try:
        stated = json.loads(line)
        for field in fields(counts):
            value = stated.get(field.name, 0)
            if isinstance(value, int | float) and math.isfinite(value):
                setattr(counts, field.name, value)
    except (ValueError, AttributeError, RecursionError, OverflowError):
        logger.debug("a damaged line of statistics was left out")
        return Counts()
    return counts
