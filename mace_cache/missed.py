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
from mace_cache.config import RUN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache._directories import Place

__all__ = ["MOST_NOTED", "Missed", "MissedFile", "Run"]

MOST_NOTED = 100

_NAME = "missed.jsonl"
_LARGEST_NOTE = 16 << 10  # bytes: the components of a larger one are left out
_LARGEST_LINE = 128 << 10
_LARGEST_FILE = 256 << 10  # of a larger one only the last run stays, as one line
_LONGEST_NAME = 200
_MOST_PROCESSES = 2_000  # are counted
_STARTED = time.time()


class Missed(NamedTuple):
    """A program that had to be built from source, or that couldn't be.

    Attributes:
        outcome: ``miss``, ``rebuild`` or ``bypass``.
        reason: why it was built.
        seconds: what the build took.
        key: the program key, or nothing where it can't be known.
        kernel_names: its kernels, or nothing where they can't be known.
        fingerprints: the texts of the fingerprints it was built for.
        components: what the key is made of, or nothing where that is too much to be noted.
        options: the build options, as the driver gets them, or nothing as for *components*.
    """

    outcome: str
    reason: str
    seconds: float
    key: str = ""
    kernel_names: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()
    options: str = ""


class Run(NamedTuple):
    """What the processes of one run did, so far; a line of the file is a part of one.

    Attributes:
        name: what ``MACE_CACHE_RUN`` says, or else what tells its one process from others.
        processes: the number of each, and when it began, in seconds since 1970.
        command: the arguments of the first.
        hits: how many programs came from a tier.
        left_out: how many misses are not in the list, which is bounded.
        missed: what they built from source.
    """

    name: str
    processes: tuple[tuple[int, float], ...]
    command: tuple[str, ...]
    hits: int
    left_out: int
    missed: tuple[Missed, ...]

    @property
    def started(self) -> float:
        """When the first process began, in seconds since 1970."""
        return min(started for _process, started in self.processes)


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
        noted = tuple(missed[:MOST_NOTED])
        process = os.getpid(), _STARTED
        name = os.environ.get(RUN_VARIABLE, "")[:_LONGEST_NAME] or "{} {}".format(*process)
        command = tuple([argument[:_LONGEST_NAME] for argument in sys.orig_argv[:20]])
        run = Run(name, (process,), command, hits, max(0, built - len(noted)), noted)
        with self._place.open(create=True) as directory:
            descriptor = open_own_file(_NAME, directory, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, _line(run))
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _LARGEST_FILE:
                replace_file(directory, _NAME, _line(_last(directory) or run))

    def last(self) -> Run | None:
        """Give what the run did that wrote last, or None where none is known."""
        with suppress(OSError), self._place.open() as directory:
            return _last(directory)
        return None


def _last(directory: int) -> Run | None:
    data = read_regular_file(_NAME, directory, largest=_LARGEST_FILE << 1)[0]
    runs = [run for run in map(_parse, data.splitlines()) if run is not None]
    return _joined([run for run in runs if run.name == runs[-1].name]) if runs else None


def _joined(parts: Sequence[Run]) -> Run:
    processes = tuple(dict.fromkeys(process for part in parts for process in part.processes))
    return Run(
        name=parts[0].name,
        processes=processes[:_MOST_PROCESSES],
        command=min(parts, key=lambda part: part.started).command,
        hits=sum(part.hits for part in parts),
        left_out=sum(part.left_out for part in parts),
        missed=tuple(missed for part in parts for missed in part.missed),
    )


def _line(run: Run) -> bytes:
    """Give the line of a run: as many of its misses, the first ones, as there is room for."""
    notes: list[dict[str, Any]] = []
    room = _LARGEST_LINE
    for missed in run.missed:
        note = missed._asdict()
        if len(json.dumps(note)) > _LARGEST_NOTE:
            note = missed._replace(components=(), options="")._asdict()
        room -= len(json.dumps(note))
        if room < 0:
            break
        notes.append(note)
    left_out = run.left_out + len(run.missed) - len(notes)
    stated = {**run._asdict(), "left_out": left_out, "missed": notes}
    return json.dumps(stated, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> Run | None:
    """Read a line; None if it isn't one of ours."""
    with suppress(
        TypeError, LookupError, AttributeError, ValueError, ArithmeticError, RecursionError
    ):
        stated: dict[str, Any] = json.loads(line)
        run = Run(
            name=str(stated["name"]),
            processes=tuple((int(number), float(began)) for number, began in stated["processes"]),
            command=tuple(map(str, stated["command"])),
            hits=int(stated["hits"]),
            left_out=int(stated["left_out"]),
            missed=tuple(map(_parse_note, stated["missed"])),
        )
        return run if run.processes else None
    return None


def _parse_note(note: dict[str, Any]) -> Missed:
    return Missed(
        outcome=str(note["outcome"]),
        reason=str(note["reason"]),
        seconds=float(note["seconds"]),
        key=str(note["key"]),
        kernel_names=tuple(map(str, note["kernel_names"])),
        fingerprints=tuple(map(str, note["fingerprints"])),
        components=tuple((str(name), str(value)) for name, value in note["components"]),
        options=str(note["options"]),
    )
