"""A file a program in a private directory: the default storage, for any number of processes.

Files are published whole under their final names, so readers take no lock. ``_layout`` says where
they lie, ``_usage`` keeps them within a size.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cache import container
from mace_cache._directories import Place
from mace_cache._filesystem import (
    NotRegularFileError,
    open_regular_file,
    read_all,
    read_regular_file,
    temporary_file,
    tolerant_unlink,
)
from mace_cache._trust import OWN_ONLY, Trust, check_private
from mace_cache.config import DEFAULT_LOCK_TIMEOUT, DEFAULT_MAX_SIZE
from mace_cache.errors import DamagedFileError, StorageReadOnlyError, UnknownVersionError
from mace_cache.storage._layout import (
    FORMAT_DIRECTORY,
    entry_name,
    list_files,
    list_shards,
    list_storages,
    remove_abandoned,
    shard_name,
    walk,
)
from mace_cache.storage._usage import GarbageReport, Usage
from mace_cache.storage.base import (
    KVStorage,
    KVStorageFactory,
    check_key,
    check_name,
    check_program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mace_cache.program import CompiledProgram

__all__ = ["DirectoryStorage", "DirectoryStorageFactory", "GarbageReport"]

logger = logging.getLogger(__name__)

_MARK_USED_AFTER = 3600.0  # seconds: a hit then costs a write at most once an hour
_ATTEMPTS = 10
_PROVEN = stat.S_ISVTX  # of a file it says nothing; a new one hasn't got it


class DirectoryStorage(KVStorage):
    """The programs of one fingerprint, in one directory; made by `DirectoryStorageFactory`.

    Args:
        place: the directory of the format version.
        name: the storage's name.
        usage: what all storages of the root take together.
        read_only: whether nothing may be written or touched.
    """

    def __init__(self, place: Place, name: str, usage: Usage, *, read_only: bool = False) -> None:
        check_name(name)
        self._place = place
        self._name = name
        self._usage = usage
        self.writable = not read_only

    def __str__(self) -> str:
        """Give the path."""
        return os.path.join(self._place, self._name)

    def load(self) -> None:
        """See that the directory, where there is one, can be trusted.

        Raises:
            PermissionError: another user owns it or can write to it.
            NotADirectoryError: a link or a file stands in its place.
            OSError: it can't be opened.
        """
        with suppress(FileNotFoundError), self._place.open(self._name):
            pass

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`."""
        check_key(key)
        try:
            shard = self._place.descend(self._name, shard_name(key))
            try:
                return self._read(shard, key)
            finally:
                os.close(shard)
        except (FileNotFoundError, NotRegularFileError):
            return None

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Publish a program under that key; see `KVStorage.insert`.

        One that is larger than all that may be stored is left out. Others are removed where there
        is no room, the least recently used first.

        Raises:
            ValueError: *key* isn't the program's own, or the program can't be encoded.
            StorageReadOnlyError: the storage only reads.
            OSError: it can't be written; nothing is left behind.
        """
        check_program(key, program)
        self._check_writable()
        data = container.encode([program])
        if not self._usage.fits(len(data)):
            logger.debug("%s: %d bytes are more than may be stored at all", self, len(data))
            return
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                self._publish(key, data)
            except FileNotFoundError:
                # Another process's clear() took away the directory that we had just made.
                if not attempts_left:
                    raise
            else:
                return

    def remove(self, key: str) -> None:
        """Remove the program of that key; see `KVStorage.remove`."""
        check_key(key)
        self._check_writable()
        name = entry_name(key)
        with suppress(FileNotFoundError), self._open_shard(shard_name(key)) as shard:
            if stat.S_ISREG(os.stat(name, dir_fd=shard, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=shard)

    def prove(self, program: CompiledProgram) -> bool:
        """Set a bit in the mode of the program's file; see `KVStorage.prove`."""
        if not self.writable:
            return False
        name = entry_name(program.key)
        try:
            with self._open_shard(shard_name(program.key)) as shard:
                descriptor, status = open_regular_file(name, shard)
            try:
                if status.st_nlink > 1:  # it is somebody's file too
                    return False
                # The bit goes to the very file whose contents are compared, whatever its name is by
                # now.
                stored = container.decode_entry(read_all(descriptor, status.st_size))
                if stored.binary != program.binary:
                    return True
                os.fchmod(descriptor, 0o600 | _PROVEN)
                return bool(os.fstat(descriptor).st_mode & _PROVEN)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotRegularFileError, DamagedFileError):
            return True

    def clear(self) -> None:
        """Remove the files that the library wrote in this storage, and shards left empty.

        What dead processes left half written beside the storages goes too.

        Raises:
            StorageReadOnlyError: the storage only reads.
            OSError: a file can't be removed.
        """
        self._check_writable()
        with suppress(FileNotFoundError), self._place.open(self._name) as storage:
            for name in list_shards(storage):
                with suppress(FileNotFoundError), self._open_shard(name) as shard:
                    _remove_own_files(shard)
                with suppress(OSError):  # It holds something that isn't ours, or is new.
                    os.rmdir(name, dir_fd=storage)
        remove_abandoned(self._place)

    def flush(self) -> None:
        """Do nothing: ``insert`` has published what it was given."""

    def keys(self) -> Iterator[str]:
        """Give the keys of the programs that are here now."""
        try:
            with self._place.open(self._name) as storage:
                shards = list_shards(storage)
        except FileNotFoundError:
            return
        for name in shards:
            with suppress(FileNotFoundError), self._open_shard(name) as shard:
                yield from [file.key for file in list_files(shard) if not file.temporary]

    def _open_shard(self, name: str, *, create: bool = False) -> AbstractContextManager[int]:
        return self._place.open(self._name, name, create=create)

    def _check_writable(self) -> None:
        if not self.writable:
            raise StorageReadOnlyError(str(self))

    def _read(self, shard: int, key: str) -> CompiledProgram | None:
        name = entry_name(key)
        data, status = read_regular_file(name, shard)
        path = f"{self}/{shard_name(key)}/{name}"
        check_private(status, path, trust=self._place.trust)
        try:
            program = _decode(data, path, key)
        except UnknownVersionError as error:
            logger.debug("%s", error)
            return None
        except DamagedFileError:
            if self.writable:
                tolerant_unlink(name, shard)
            raise
        if status.st_mode & _PROVEN:
            program.count_as_proven()
        unmarked = time.time() - status.st_mtime > _MARK_USED_AFTER
        if self.writable and unmarked and status.st_nlink == 1:  # else it is somebody's file too
            with suppress(OSError):  # It only decides what is evicted first.
                os.utime(name, dir_fd=shard, follow_symlinks=False)
        return program

    def _publish(self, key: str, data: bytes) -> None:
        with (
            self._open_shard(shard_name(key), create=True) as shard,
            temporary_file(shard, data) as temporary,
            self._usage.reserve(len(data)) as evicted,
        ):
            self.evicted += evicted
            os.replace(temporary, entry_name(key), src_dir_fd=shard, dst_dir_fd=shard)


def _decode(data: bytes, path: str, key: str) -> CompiledProgram:
    program = container.decode_entry(data, path)
    if program.key != key:
        raise DamagedFileError("it holds another program than its name says", path=path)
    return program


def _remove_own_files(shard: int) -> None:
    for file in list(list_files(shard)):
        # A fresh temporary is an insert under way in another process: it is newer than the clear.
        if file.abandoned or not file.temporary:
            with suppress(FileNotFoundError):
                os.unlink(file.name, dir_fd=shard)


class DirectoryStorageFactory(KVStorageFactory):
    """Makes the storages under one directory, a directory each.

    Args:
        root: the cache directory; made, private, with the first insert.
        max_size: the size in bytes that all storages together are kept within; 0 is unlimited.
        read_only: whether nothing may be written or touched.
        lock_timeout: how long an insert waits for another process's, in seconds.
        trust: who may own the directory and what is below, or write to it, beside this user;
            where nothing is written, root may too.

    Attributes:
        root: the cache directory, absolute.
        directory: the part of it that the library writes in: that of the format version.
        place: the same, with who is trusted there.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        max_size: int = DEFAULT_MAX_SIZE,
        *,
        read_only: bool = False,
        lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
        trust: Trust = OWN_ONLY,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.directory = self.root / FORMAT_DIRECTORY
        self.state_directory = None if read_only else self.directory
        trust = trust.with_root() if read_only else trust
        self.place = Place(str(self.root), (FORMAT_DIRECTORY,), trust)
        self._read_only = read_only
        self._usage = Usage(self.place, max_size, lock_timeout)

    def __str__(self) -> str:
        """Give the path."""
        return str(self.directory)

    def state_place(self) -> Place | None:
        """Give where state is kept; see `KVStorageFactory.state_place`."""
        return None if self._read_only else self.place

    def create_storage(self, name: str) -> DirectoryStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return DirectoryStorage(self.place, name, self._usage, read_only=self._read_only)

    def names(self) -> list[str]:
        """Give the names of the storages that have been written to, sorted."""
        return sorted(name for name, _ in list_storages(self.place))

    def total_size(self) -> int:
        """Give what the programs of all storages take, in bytes, counted file by file."""
        return sum(file.size for _, _, file in walk(self.place) if not file.temporary)

    def collect_garbage(self) -> GarbageReport:
        """Remove what dead processes left half written, and what is over ``max_size``.

        Returns:
            What was removed and what is left.

        Raises:
            StorageReadOnlyError: the storages only read.
            OSError: the directory can't be read or written.
        """
        if self._read_only:
            raise StorageReadOnlyError(str(self))
        return self._usage.collect()
