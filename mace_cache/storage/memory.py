"""Compiled programs in this process's memory: gone when it ends, seen by nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mace_cache.storage.base import (
    KVStorage,
    KVStorageFactory,
    check_key,
    check_name,
    check_program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache.program import CompiledProgram

__all__ = ["MemoryStorage", "MemoryStorageFactory"]


class MemoryStorage(KVStorage):
    """Programs in a dictionary. Each of its operations is atomic, so threads need no lock."""

    def __init__(self) -> None:
        self._programs: dict[str, CompiledProgram] = {}

    def __str__(self) -> str:
        """Name the place."""
        return "memory"

    def load(self) -> None:
        """Do nothing: memory is always ready."""

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`."""
        check_key(key)
        return self._programs.get(key)

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key; see `KVStorage.insert`."""
        check_program(key, program)
        # Should it take the process down, this memory goes with it: there is nothing to guard.
        self._programs[key] = replace(program, proven=True)

    def remove(self, key: str) -> None:
        """Remove the program of that key; see `KVStorage.remove`."""
        check_key(key)
        self._programs.pop(key, None)

    def clear(self) -> None:
        """Remove every program of this storage."""
        self._programs.clear()

    def flush(self) -> None:
        """Do nothing: other processes can't see this memory."""

    def keys(self) -> Iterator[str]:
        """Give the keys of the programs that are here now."""
        return iter(list(self._programs))


class MemoryStorageFactory(KVStorageFactory):
    """Gives the same storage for the same name, for as long as the factory lives."""

    def __init__(self) -> None:
        self._storages: dict[str, MemoryStorage] = {}

    def create_storage(self, name: str) -> MemoryStorage:
        """Give the storage of that name; see `KVStorageFactory.create_storage`."""
        check_name(name)
        return self._storages.setdefault(name, MemoryStorage())

    def names(self) -> list[str]:
        """Give the names of the storages that hold a program, sorted."""
        return sorted(name for name, storage in list(self._storages.items()) if any(storage.keys()))
