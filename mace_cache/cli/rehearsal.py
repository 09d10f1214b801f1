"""Running an application with its caching in record mode, and what is known of it afterwards."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.cli.output import spoken_number, spoken_size
from mace_cache.fingerprint import storage_name
from mace_cache.statistics import StatisticsFile
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.recorded import Note, read_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mace_cache.program import CompiledProgram

__all__ = ["CommandNotStartedError", "Recorded", "Rehearsal", "rehearse"]

_KILLED = 128  # and the signal's number, as a shell has it


class CommandNotStartedError(Exception):
    """A command that isn't there, or isn't one."""

    def __init__(self, command: str, error: OSError) -> None:
        super().__init__(f"{command} can't be started: {error.strerror or error}")


class Recorded(NamedTuple):
    """The programs that a rehearsal left in one place.

    Attributes:
        storage: the name of their storage.
        place: where they are.
        entries: how many there are.
        binary_bytes: the size of their binaries together, in bytes.
    """

    storage: str
    place: str
    entries: int
    binary_bytes: int

    def __str__(self) -> str:
        """Say it in a line."""
        number, size = spoken_number(self.entries, "program"), spoken_size(self.binary_bytes)
        return f"recorded {number}, {size}, for {self.storage}, in {self.place}"


class Rehearsal(NamedTuple):
    """What is known when the application has ended.

    Attributes:
        returned: its exit code, or minus the number of the signal that killed it.
        notes: what its storages were given.
        bypasses: how many builds could not be cached.
        programs: those that were kept in the record directory.
    """

    returned: int
    notes: list[Note]
    bypasses: int
    programs: list[CompiledProgram]

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed the application, or None."""
        if self.returned >= 0:
            return None
        names = {number.value: number.name for number in signal.Signals}
        return names.get(-self.returned, f"signal {-self.returned}")

    @property
    def code(self) -> int:
        """The application's exit code, as a shell has it."""
        return self.returned if self.returned >= 0 else _KILLED - self.returned

    def recorded(self, output: str | None) -> list[Recorded]:
        """Sum what is to lie in the bundle, or without one what lies in the application's caches.

        Args:
            output: the bundle, or None.
        """
        sizes: dict[tuple[str, str], dict[str, int]] = {}
        for program in self.programs if output else ():
            found = sizes.setdefault((storage_name(program.fingerprint), output or ""), {})
            found[program.key] = len(program.binary)
        for note in () if output else self.notes:
            found = sizes.setdefault((note.storage, note.place), {})
            found.update({key: size for key, size in note.programs.items() if size is not None})
        return [
            Recorded(*where, len(found), sum(found.values()))
            for where, found in sorted(sizes.items())
            if found
        ]


def rehearse(
    command: tuple[str, ...], environment: Mapping[str, str], stdout: int | None
) -> Rehearsal:
    """Run an application in record mode, to its end.

    Args:
        command: the application and its arguments.
        environment: its environment; ``MACE_CACHE_RECORD`` is added.
        stdout: the file descriptor that it has for its standard output, or None for this one's.

    Raises:
        CommandNotStartedError: it can't be started.
    """
    # What an application has left running may write until the directory is gone, and after.
    with tempfile.TemporaryDirectory(
        prefix="mace-cache-record-", ignore_cleanup_errors=True
    ) as directory:
        try:
            process = subprocess.Popen(  # noqa: S603 (the user's own command)
                command, env={**environment, "MACE_CACHE_RECORD": directory}, stdout=stdout
            )
        except OSError as error:
            raise CommandNotStartedError(command[0], error) from error
        with _signals_left_to(process):
            returned = process.wait()
        bypasses = StatisticsFile(directory).total().bypasses
        return Rehearsal(returned, read_notes(directory), bypasses, list(_programs(directory)))


@contextmanager
def _signals_left_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the application decide what becomes of a Ctrl-C, which it gets too, and of SIGTERM."""
    handlers = {
        signal.SIGINT: lambda *_: None,
        signal.SIGTERM: lambda *_: process.terminate(),
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _programs(directory: str) -> Iterator[CompiledProgram]:
    factory = DirectoryStorageFactory(directory, read_only=True)
    for name in factory.names():
        storage = factory.create_storage(name)
        for key in storage.keys():  # noqa: SIM118 (a storage is no mapping)
            program = storage.find(key)
            if program is not None:
                yield program
