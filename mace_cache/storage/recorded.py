"""Storages of a rehearsal: whatever they keep their programs in, they note what they were given.

A note is a file in the record directory, one a storage object. It is there from the beginning and
rewritten by ``flush``, so that a process that ended without one is known too.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cache._filesystem import publish, read_regular_file
from mace_cache.storage.base import KVStorage, KVStorageFactory, check_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache.program import CompiledProgram

__all__ = ["Note", "RecordedStorage", "RecordedStorageFactory", "parse_note", "read_notes"]

_NOTES = "notes"
_KINDS = {"storage": str, "place": str, "writable": bool, "flushed": bool, "programs": dict}


@dataclass(frozen=True)
class Note:
    """What a storage was given in a rehearsal.

    Attributes:
        storage: its name.
        place: where it keeps its programs, as a person would name it.
        writable: whether it takes any.
        flushed: whether it was flushed: otherwise its process ended before that.
        programs: the size in bytes of the binary that it has of each program that it was given, by
            the program key; None where it has none, as there was no room or a fault.
    """

    storage: str
    place: str
    writable: bool
    flushed: bool
    programs: dict[str, int | None]


def read_notes(directory: str | os.PathLike[str]) -> list[Note]:
    """Read the notes of all processes, the oldest first.

    Args:
        directory: the record directory.
    """
    found = []
    with suppress(FileNotFoundError), os.scandir(os.path.join(directory, _NOTES)) as listing:
        for item in listing:
            with suppress(OSError):  # a process that was left running may go on noting
                data, status = read_regular_file(item.path)
                found.append((status.st_mtime_ns, data))
    notes = [parse_note(data) for _, data in sorted(found)]
    return [note for note in notes if note is not None]


def parse_note(data: bytes) -> Note | None:
    """Give what a file notes; None where it is no note, as what a killed process leaves."""
    try:
        members = json.loads(data)
        kinds = {name: type(value) for name, value in members.items()}
    except (ValueError, AttributeError, RecursionError):
        return None
    if kinds != _KINDS or not all(map(_is_size, members["programs"].values())):
        return None
    return Note(**members)


def _is_size(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)


class RecordedStorage(KVStorage):
    """A storage that notes what it is given; made by `RecordedStorageFactory`.

    Args:
        made: what keeps the programs.
        name: the storage's name.
        directory: the record directory.
    """

    def __init__(self, made: KVStorage, name: str, directory: str) -> None:
        self._made = made
        self.writable = made.writable
        self.remote = made.remote
        self.claims = made.claims
        self._name = name
        self._path = os.path.join(directory, _NOTES, os.urandom(16).hex())
        self._given: dict[str, int | None] = {}

    def __str__(self) -> str:
        """Name the place."""
        return str(self._made)

    @property
    def evicted(self) -> int:  # type: ignore[override] # counted by what keeps the programs
        """How many programs were removed to keep within the size."""
        return self._made.evicted

    def load(self) -> None:
        """Load, and note that there is a storage to be flushed; see `KVStorage.load`."""
        self._note(flushed=False)
        self._made.load()

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`."""
        return self._made.find(key)

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key; see `KVStorage.insert`."""
        check_program(key, program)
        self._given[key] = None
        self._made.insert(key, program)

    def remove(self, key: str) -> None:
        """Remove the program of that key; see `KVStorage.remove`."""
        self._made.remove(key)

    def prove(self, program: CompiledProgram) -> bool:
        """Keep note that a program was loaded; see `KVStorage.prove`."""
        return self._made.prove(program)

    def fetch(self, key: str) -> CompiledProgram | None:
        """Give the program of that key from further away; see `KVStorage.fetch`."""
        return self._made.fetch(key)

    def claim(
        self, key: str, patience: float, when_awaited: Callable[[], None] = lambda: None
    ) -> bool:
        """Claim to build a program, or wait for who builds it; see `KVStorage.claim`."""
        return self._made.claim(key, patience, when_awaited)

    def release(self, key: str, *, fails: bool = False) -> None:
        """Let others go on; see `KVStorage.release`."""
        self._made.release(key, fails=fails)

    def clear(self) -> None:
        """Remove every program; see `KVStorage.clear`."""
        self._made.clear()

    def flush(self) -> None:
        """Flush, and note what is really there then; see `KVStorage.flush`."""
        self._made.flush()
        for key in list(self._given):
            program = self._made.find(key)
            self._given[key] = None if program is None else len(program.binary)
        self._note(flushed=True)

    def keys(self) -> Iterator[str]:
        """Give the keys of the programs that are here now."""
        return self._made.keys()

    def _note(self, *, flushed: bool) -> None:
        note = Note(self._name, str(self._made), self.writable, flushed, dict(self._given))
        publish(self._path, json.dumps(asdict(note)).encode())


class RecordedStorageFactory(KVStorageFactory):
    """Makes the storages of a rehearsal.

    What is kept beside the programs goes into the record directory too: a rehearsal isn't counted
    in the cache's statistics.

    Args:
        made: makes what keeps the programs.
        directory: the record directory.
    """

    def __init__(self, made: KVStorageFactory, directory: str) -> None:
        self._made = made
        self._directory = directory
        self.state_directory = Path(directory)

    def __str__(self) -> str:
        """Name the place."""
        return str(self._made)

    def create_storage(self, name: str) -> RecordedStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return RecordedStorage(self._made.create_storage(name), name, self._directory)

    def names(self) -> list[str]:
        """Give the names of the storages that have been written to, sorted."""
        return self._made.names()

    def wait(self, seconds: float) -> bool:
        """Wait for what is written in the background; see `KVStorageFactory.wait`."""
        return self._made.wait(seconds)
