"""Processes that write to a directory storage at once, or are killed while they do.

Run as ``python -m tests.storage.processes kill|crowd|limit ...``: one interpreter imports the
library and forks, so that a crowd costs little.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mace_cache.storage.directory import DirectoryStorageFactory
from tests.storage.conformance import NAME, make_key, make_program, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.program import CompiledProgram
    from mace_cache.storage.base import KVStorage

BINARY_SIZE = 1 << 18
KEYS = 3


def whole(program: CompiledProgram) -> bool:
    """Whether a program is one that some writer inserted, and not a mixture of two."""
    return program.binary == bytes(program.binary[:1]) * BINARY_SIZE


def kill(root: str, times: int) -> None:
    """Kill writers at random moments; a reader meanwhile sees the old program or the new one."""
    factory = DirectoryStorageFactory(root, max_size=0)
    storage = open_storage(factory)
    for number in range(KEYS):
        storage.insert(make_key(number), make_program(number, bytes(BINARY_SIZE)))
    for _ in range(times):
        writer = _fork(lambda: _write_for_ever(storage))
        deadline = time.monotonic() + random.uniform(0.002, 0.04)  # noqa: S311 (no secret)
        try:
            while time.monotonic() < deadline:
                _check(storage)
        finally:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
        _check(storage)


def _check(storage: KVStorage) -> None:
    for number in range(KEYS):
        program = storage.find(make_key(number))
        assert program is not None, "a program disappeared"
        assert whole(program), "a program is torn"


def _write_for_ever(storage: KVStorage) -> None:
    for version in itertools.cycle(range(256)):
        for number in range(KEYS):
            program = make_program(number, bytes([version]) * BINARY_SIZE)
            storage.insert(program.key, program)


def crowd(root: str, processes: int, each: int, max_size: int) -> None:
    """Insert from many processes at once, each its own programs."""

    def write(first: int) -> None:
        storage = open_storage(DirectoryStorageFactory(root, max_size, lock_timeout=60))
        for number in range(first, first + each):
            storage.insert(make_key(number), make_program(number, bytes(4096)))

    writers = [_fork(lambda n=n: write(n * each)) for n in range(processes)]  # type: ignore[misc] # n is bound now
    assert [os.waitpid(writer, 0)[1] for writer in writers] == [0] * processes


def clear_against_inserts(root: str, seconds: float) -> None:
    """Clear a storage over and over while others insert: no insert fails."""
    end = time.monotonic() + seconds

    def write(first: int) -> None:
        storage = open_storage(DirectoryStorageFactory(root))
        for number in itertools.cycle(range(first, first + 4)):
            storage.insert(make_key(number), make_program(number))
            if time.monotonic() > end:
                return

    writers = [_fork(lambda n=n: write(n)) for n in range(2)]  # type: ignore[misc] # n is bound now
    storage = open_storage(DirectoryStorageFactory(root))
    while time.monotonic() < end:
        storage.clear()
    assert [os.waitpid(writer, 0)[1] for writer in writers] == [0, 0]


def limit(root: str) -> None:
    """Insert where no file may grow beyond 64 KiB, as on a disk that is full."""
    storage = open_storage(DirectoryStorageFactory(root))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        storage.insert(make_key(), make_program(0, bytes(BINARY_SIZE)))
    storage.insert(make_key(1), make_program(1))


def _fork(action: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 (a child must not go on as its parent)
            print(f"{NAME}: {error!r}", file=sys.stderr)  # noqa: T201 (what the test shows)
            os._exit(1)
    return child


if __name__ == "__main__":
    command, directory, *numbers = sys.argv[1:]
    scenes: dict[str, Callable[..., None]] = {
        "kill": kill,
        "crowd": crowd,
        "clear": clear_against_inserts,
        "limit": limit,
    }
    scenes[command](directory, *map(int, numbers))
