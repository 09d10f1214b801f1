"""One file that is loaded whole and rewritten whole by ``flush``: the storage that MACE has.

It may hold the programs of several fingerprints; a storage sees, clears and writes only those whose
fingerprint has its name.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cache._directories import Place, private_directory, refuse_as_root
from mace_cache._filesystem import publish, read_regular_file, tolerant_unlink
from mace_cache._locking import file_lock
from mace_cache._trust import OWN_ONLY, Trust, check_private
from mace_cache.config import DEFAULT_LOCK_TIMEOUT
from mace_cache.container import Bundle, encode
from mace_cache.container.structures import MAGIC
from mace_cache.errors import DamagedFileError, StorageReadOnlyError, UnknownVersionError
from mace_cache.fingerprint import storage_name
from mace_cache.storage.base import (
    KVStorage,
    KVStorageFactory,
    check_key,
    check_name,
    check_program,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from mace_cache.program import CompiledProgram

__all__ = ["FileStorage", "FileStorageFactory", "OneFileStorageFactory"]

logger = logging.getLogger(__name__)

_SUFFIX = ".mclp"


class FileStorage(KVStorage):
    """The programs of one fingerprint in a file; made by the factories of this module.

    Args:
        path: the file.
        name: the storage's name.
        read_only: whether nothing may be written.
        lock_timeout: how long a write waits for another process's, in seconds; after it the file is
            written all the same, and what the other one writes may be lost.
        trust: who may own the file or write to it, beside this user.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        read_only: bool = False,
        lock_timeout: float,
        trust: Trust = OWN_ONLY,
    ) -> None:
        check_name(name)
        self._path = path
        self._trust = trust
        self._name = name
        self._lock_path = f"{path}.lock"
        self._lock_timeout = lock_timeout
        self._lock = threading.Lock()
        self._programs: dict[str, CompiledProgram] = {}
        self._unwritten: dict[str, CompiledProgram] = {}
        self.writable = not read_only

    def __str__(self) -> str:
        """Give the path."""
        return str(self._path)

    def load(self) -> None:
        """Read the file.

        Raises:
            DamagedFileError: it is damaged. It has been removed where the storage is writable.
            FileExistsError: it is no MCLP file: it is somebody else's, and left alone.
            PermissionError: another user owns it or can write to it.
            OSError: it can't be read.
        """
        with self._lock:
            try:
                stored = self._own(_read(self._path, self._trust))
            except UnknownVersionError as error:
                logger.debug("%s: it counts as empty", error)
                stored = {}
            except DamagedFileError:
                self._programs = dict(self._unwritten)
                if self.writable:
                    self._remove_damaged()
                raise
            self._programs = stored | self._unwritten

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`."""
        check_key(key)
        return self._programs.get(key)

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key, to be written by `flush`.

        Raises:
            ValueError: *key* isn't the program's own, or its fingerprint has another storage name.
            StorageReadOnlyError: the storage only reads.
        """
        check_program(key, program)
        self._check_writable()
        if storage_name(program.fingerprint) != self._name:
            raise ValueError(f"the program is for {storage_name(program.fingerprint)}")
        with self._lock:
            self._programs[key] = self._unwritten[key] = program

    def remove(self, key: str) -> None:
        """Remove the program of that key, from the file too and at once; as `clear`."""
        check_key(key)
        self._check_writable()
        with self._lock:
            self._programs.pop(key, None)
            self._unwritten.pop(key, None)
            self._remove(lambda program: program.key == key)

    def clear(self) -> None:
        """Remove the programs of this storage, from the file too and at once.

        Raises:
            StorageReadOnlyError: the storage only reads.
            OSError: the file can't be written, or isn't ours to write to; see `flush`.
        """
        self._check_writable()
        with self._lock:
            self._programs, self._unwritten = {}, {}
            self._remove(lambda _program: True)

    def flush(self) -> None:
        """Write what was inserted into the file, beside what other processes wrote meanwhile.

        Raises:
            FileExistsError: it is no MCLP file, or one of a newer release: it is left alone.
            PermissionError: another user owns it or can write to it, or this is root and its
                directory another user's.
            OSError: the file can't be written.
        """
        with self._lock:
            if not self._unwritten:
                return
            private_directory(self._path.parent, self._trust)
            refuse_as_root(self._path.parent, self._trust)
            with self._locked():
                programs = [*self._read_to_replace(), *self._unwritten.values()]
                merged = {(program.fingerprint, program.key): program for program in programs}
                publish(self._path, encode(list(merged.values())))
            self._programs, self._unwritten = self._own(merged.values()), {}

    def keys(self) -> Iterator[str]:
        """Give the keys of the programs that are here now."""
        with self._lock:
            return iter(list(self._programs))

    def _check_writable(self) -> None:
        if not self.writable:
            raise StorageReadOnlyError(str(self))

    def _locked(self) -> AbstractContextManager[bool]:
        return file_lock(self._lock_path, self._lock_timeout, trust=self._trust)

    def _remove(self, doomed: Callable[[CompiledProgram], bool]) -> None:
        """Rewrite the file without those of this storage's programs."""
        if not os.path.lexists(self._path):
            return
        with self._locked():
            others = [
                program
                for program in self._read_to_replace()
                if storage_name(program.fingerprint) != self._name or not doomed(program)
            ]
            if others:
                publish(self._path, encode(others))
            else:
                tolerant_unlink(self._path)

    def _own(self, programs: Iterable[CompiledProgram]) -> dict[str, CompiledProgram]:
        return {
            program.key: program
            for program in programs
            if storage_name(program.fingerprint) == self._name
        }

    def _read_to_replace(self) -> list[CompiledProgram]:
        try:
            return _read(self._path, self._trust)
        except UnknownVersionError as error:
            message = f"{error.reason}, so it is left alone"
            raise FileExistsError(errno.EEXIST, message, str(self._path)) from error
        except DamagedFileError as error:
            logger.debug("%s: it is replaced", error)
            return []

    def _remove_damaged(self) -> None:
        with self._locked():
            try:
                _read(self._path, self._trust)  # Another process may have replaced it since.
            except DamagedFileError:
                tolerant_unlink(self._path)


def _read(path: Path, trust: Trust) -> list[CompiledProgram]:
    try:
        data, status = read_regular_file(path)
    except FileNotFoundError:
        return []
    if not data:
        return []
    if not data.startswith(MAGIC):
        message = "it is no MCLP file, so it is left alone"
        raise FileExistsError(errno.EEXIST, message, str(path))
    check_private(status, path, trust=trust)
    return list(Bundle(data, str(path)).programs())


class FileStorageFactory(KVStorageFactory):
    """Makes storages of one file each, ``<directory>/<name>.mclp``.

    Args:
        directory: where the files lie; made, private, with the first flush.
        read_only: whether nothing may be written.
        lock_timeout: how long a flush waits for another process's, in seconds.
        trust: who may own a file or write to it, beside this user; where nothing is written, root
            may too.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        read_only: bool = False,
        lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
        trust: Trust = OWN_ONLY,
    ) -> None:
        self.directory = Path(os.path.abspath(directory))
        self._trust = trust.with_root() if read_only else trust
        self.state_directory = None if read_only else self.directory / "state"
        self._read_only = read_only
        self._lock_timeout = lock_timeout

    @staticmethod
    def for_file(
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
        trust: Trust = OWN_ONLY,
    ) -> OneFileStorageFactory:
        """Make a factory whose storages share one file, as MACE's ``SetOpenCLCacheFullPath`` does.

        Args:
            path: the file; it need not exist.
            read_only: whether nothing may be written.
            lock_timeout: how long a flush waits for another process's, in seconds.
            trust: who may own the file or write to it; as for all `FileStorageFactory`.
        """
        return OneFileStorageFactory(
            path, read_only=read_only, lock_timeout=lock_timeout, trust=trust
        )

    def __str__(self) -> str:
        """Give the path."""
        return str(self.directory)

    def state_place(self) -> Place | None:
        """Give where state is kept; see `KVStorageFactory.state_place`."""
        return None if self._read_only else Place(str(self.directory), ("state",), self._trust)

    def create_storage(self, name: str) -> FileStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return FileStorage(
            self.directory / f"{name}{_SUFFIX}",
            name,
            read_only=self._read_only,
            lock_timeout=self._lock_timeout,
            trust=self._trust,
        )

    def names(self) -> list[str]:
        """Give the names of the storages that have been written to, sorted."""
        try:
            files = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(_SUFFIX) for name in files if _is_storage(name))


def _is_storage(file: str) -> bool:
    with suppress(ValueError):
        check_name(file)
        return file.endswith(_SUFFIX)
    return False


class OneFileStorageFactory(KVStorageFactory):
    """Makes storages that share one file; see `FileStorageFactory.for_file`.

    What else outlives a process is kept in the directory ``<path>.state``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool,
        lock_timeout: float,
        trust: Trust,
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self._trust = trust.with_root() if read_only else trust
        self.state_directory = None if read_only else Path(f"{self.path}.state")
        self._read_only = read_only
        self._lock_timeout = lock_timeout

    def __str__(self) -> str:
        """Give the path."""
        return str(self.path)

    def state_place(self) -> Place | None:
        """Give where state is kept; see `KVStorageFactory.state_place`."""
        return None if self._read_only else Place(f"{self.path}.state", trust=self._trust)

    def create_storage(self, name: str) -> FileStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return FileStorage(
            self.path,
            name,
            read_only=self._read_only,
            lock_timeout=self._lock_timeout,
            trust=self._trust,
        )

    def names(self) -> list[str]:
        """Give the names of the storages that have programs in the file, sorted."""
        with suppress(DamagedFileError):
            return sorted(
                {storage_name(program.fingerprint) for program in _read(self.path, self._trust)}
            )
        return []
