"""What lies in a cache directory, read without changing it: sound entries and damaged ones."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mace_cache.errors import DamagedFileError
from mace_cache.fingerprint import components, storage_name
from mace_cache.storage._layout import walk
from mace_cache.storage.base import check_name
from mace_cache.tuning import TUNED_PROGRAM

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram
    from mace_cache.storage.directory import DirectoryStorageFactory

__all__ = [
    "SHORT_KEY",
    "Entry",
    "StoredFile",
    "describe_program",
    "files_of",
    "kernels_of",
    "load_entry",
    "may_be_storage",
    "storage_names",
]

SHORT_KEY = 12  # digits: enough to tell the programs of one machine apart
_UNKNOWN_VERSION = "a newer release wrote it"


@dataclass(frozen=True)
class StoredFile:
    """A file that holds an entry.

    Attributes:
        storage: the name of the storage that it lies in.
        key: the key of the program that it should hold.
        path: where it is.
        size: in bytes.
        used: when it was written or last marked as used, in seconds since 1970.
    """

    storage: str
    key: str
    path: str
    size: int
    used: float


@dataclass(frozen=True)
class Entry:
    """A file and what it holds.

    Attributes:
        file: the file.
        program: the program, without its binary; None where it is damaged.
        binary_size: the binary's size in bytes.
        problem: what is wrong, or an empty text.
    """

    file: StoredFile
    program: CompiledProgram | None
    binary_size: int = 0
    problem: str = ""

    @property
    def created(self) -> float:
        """When it was built, as far as is known, in seconds since 1970."""
        return (self.program.created if self.program else 0.0) or self.file.used

    def as_json(self) -> dict[str, Any]:
        """Give the members that ``list``, ``show`` and ``verify`` have in common."""
        program = self.program
        return {
            "storage": self.file.storage,
            "key": self.file.key,
            "path": self.file.path,
            "bytes": self.file.size,
            "used": self.file.used,
            "created": self.created,
            "problem": self.problem or None,
            "kernels": list(program.kernel_names) if program else None,
            "options": program.options if program else None,
            "build_seconds": program.build_seconds if program else None,
            "tuned": _tuned(program) if program else None,
        }


def storage_names(factory: DirectoryStorageFactory) -> list[str]:
    """Give the names of the storages that the library can have written, sorted.

    Raises:
        OSError: the directory can't be read, or isn't private.
    """
    return [name for name in factory.names() if may_be_storage(name)]


def files_of(factory: DirectoryStorageFactory) -> list[StoredFile]:
    """Give every entry's file, by storage and then the newest first.

    Raises:
        OSError: a directory can't be read, or isn't private.
    """
    root = str(factory.place)
    found = [
        StoredFile(
            storage=name,
            key=file.key,
            path=os.path.join(root, name, shard, file.name),
            size=file.size,
            used=file.modified / 1e9,
        )
        for name, shard, file in walk(factory.place)
        if not file.temporary and may_be_storage(name)
    ]
    return sorted(found, key=lambda file: (file.storage, -file.used, file.key))


def load_entry(factory: DirectoryStorageFactory, file: StoredFile) -> Entry | None:
    """Read an entry and verify it whole.

    Args:
        factory: whose entry it is; a read-only one leaves it as it is, another removes it where
            it is damaged.
        file: its file.

    Returns:
        The entry, or None where another process has removed it meanwhile.
    """
    storage = factory.create_storage(file.storage)
    try:
        program = storage.find(file.key)
    except DamagedFileError as error:
        where = "" if error.offset is None else f" at offset {error.offset:#x}"
        return Entry(file, None, problem=f"{error.reason}{where}")
    except OSError as error:
        return Entry(file, None, problem=f"it can't be read: {error.strerror or error}")
    if program is None:
        return Entry(file, None, problem=_UNKNOWN_VERSION) if os.path.lexists(file.path) else None
    belongs = storage_name(program.fingerprint)
    problem = "" if belongs == file.storage else f"it belongs in the storage {belongs}"
    return Entry(file, replace(program, binary=b""), len(program.binary), problem)


def describe_program(program: CompiledProgram) -> dict[str, Any]:
    """Give what is known of a program beside its key and binary, as JSON members."""
    return {
        "kernels": list(program.kernel_names),
        "options": program.options,
        "build_seconds": program.build_seconds,
        "created": program.created,
        "build_log": program.build_log,
        "fingerprint": components(program.fingerprint),
        "components": [list(pair) for pair in program.components],
        "tuned": _tuned(program),
    }


def kernels_of(program: CompiledProgram) -> str:
    """Name a program's kernels; a record of tuned local sizes is said to be one."""
    if not program.tuned:
        return ", ".join(program.kernel_names)
    key = dict(program.components).get(TUNED_PROGRAM, "")
    kernels = dict.fromkeys(kernel for kernel, _shape, _size in program.tuned)
    return f"local sizes of {key[:SHORT_KEY]}: {', '.join(kernels)}"


def _tuned(program: CompiledProgram) -> list[dict[str, Any]]:
    return [
        {"kernel": kernel, "shape": shape, "local_size": size}
        for kernel, shape, size in program.tuned
    ]


def may_be_storage(name: str) -> bool:
    """Whether the library can have given a storage that name."""
    with suppress(ValueError):
        check_name(name)
        return True
    return False
