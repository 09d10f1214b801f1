"""What the last run had to build from source, and why: for ``mace-cache explain-miss``.

A process appends a line to one file, as for the statistics; it is kept small and only informative.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache._filesystem import open_own_file, read_regular_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache._directories import Place

__all__ = ["MOST_NOTED", "Missed", "MissedFile", "Run"]

_NAME = "missed.jsonl"
_LARGEST_NOTE = 16 << 10  # bytes: the components of a larger one are left out
_LARGEST_LINE = 128 << 10
_LARGEST_FILE = 256 << 10  # beyond it starts anew
_STARTED = time.time()
MOST_NOTED = 100


class Missed(NamedTuple):
    """A program that had to be built from source.

    Attributes:
        outcome: ``miss``, ``rebuild`` or ``bypass``.
        reason: why it was built.
        seconds: what the build took.
        key: the program key, or nothing where it can't be known.
        kernel_names: its kernels.
        fingerprints: the texts of the fingerprints it was built for.
        components: what the key is made of.
    """

    outcome: str
    reason: str
    seconds: float
    key: str = ""
    kernel_names: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()


class Run(NamedTuple):
    """What one process did, so far.

    Attributes:
        command: its arguments.
        started: when it began, in seconds since 1970.
        hits: how many programs came from a tier.
        left_out: how many misses are not in the list, which is bounded.
        missed: what it built from source.
    """

    command: tuple[str, ...]
    started: float
    hits: int
    left_out: int
    missed: tuple[Missed, ...]


class MissedFile:
    """What the processes that used a cache directory last had to build.

    Args:
        place: where the file is kept; made, private, when there is something to write.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def append(self, missed: Sequence[Missed], built: int, hits: int) -> None:
        """Note what this process did.

        Args:
            missed: what it had to build since the last call, or the first of it.
            built: how many programs that were.
            hits: how many programs came from a tier since then.

        Raises:
            OSError: it can't be written.
        """
        if not (built or hits):
            return
        line = _line(missed, built, hits)
        with self._place.open(create=True) as directory:
            descriptor = open_own_file(_NAME, directory, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _LARGEST_FILE:
                replace_file(directory, _NAME, line)

    def last(self) -> Run | None:
        """Give what the process did that wrote last, or None where none is known."""
        lines: list[dict[str, Any]] = []
        with suppress(OSError), self._place.open() as directory:
            data = read_regular_file(_NAME, directory, largest=_LARGEST_FILE << 1)[0]
            for line in data.splitlines():
                with suppress(ValueError, RecursionError):
                    lines.append(json.loads(line))
        with suppress(TypeError, LookupError, AttributeError, ValueError):
            return _joined([line for line in lines if line["process"] == lines[-1]["process"]])
        return None


def _line(missed: Sequence[Missed], built: int, hits: int) -> bytes:
    notes: list[dict[str, Any]] = []
    room = _LARGEST_LINE
    for each in missed[:MOST_NOTED]:
        note = each._asdict()
        if len(json.dumps(note)) > _LARGEST_NOTE:
            note = each._replace(fingerprints=(), components=())._asdict()
        room -= len(json.dumps(note))
        if room < 0:
            break
        notes.append(note)
    stated = {
        "process": [os.getpid(), _STARTED],
        "command": [argument[:200] for argument in sys.orig_argv[:20]],
        "hits": hits,
        "left_out": max(0, built - len(notes)),
        "missed": notes,
    }
    return json.dumps(stated, separators=(",", ":")).encode() + b"\n"


def _joined(lines: Sequence[dict[str, Any]]) -> Run:
    """Put together what one process wrote; a note of another form than ours is an error."""
    return Run(
        command=tuple(map(str, lines[-1]["command"])),
        started=float(lines[-1]["process"][1]),
        hits=sum(int(line["hits"]) for line in lines),
        left_out=sum(int(line["left_out"]) for line in lines),
        missed=tuple(_parse(note) for line in lines for note in line["missed"]),
    )


def _parse(note: dict[str, Any]) -> Missed:
    return Missed(
        outcome=str(note["outcome"]),
        reason=str(note["reason"]),
        seconds=float(note["seconds"]),
        key=str(note["key"]),
        kernel_names=tuple(map(str, note["kernel_names"])),
        fingerprints=tuple(map(str, note["fingerprints"])),
        components=tuple((str(name), str(value)) for name, value in note["components"]),
    )
