"""Precompiled programs: read-only, from the bytes or the file that an application ships."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from mace_cache._filesystem import read_regular_file
from mace_cache._report import warn_once
from mace_cache.container import LARGEST_FILE, Bundle
from mace_cache.errors import MaceCacheError, StorageReadOnlyError
from mace_cache.fingerprint import storage_name
from mace_cache.storage.base import KVStorage, check_key, check_name, check_program

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Sequence

    from mace_cache.program import CompiledProgram

__all__ = ["ReadOnlyByteStreamStorage", "open_precompiled"]

logger = logging.getLogger(__name__)


class ReadOnlyByteStreamStorage(KVStorage):
    """The programs in the bytes of an MCLP file, an entry or a bundle.

    Unlike the other storages it may hold programs of several fingerprints: `candidates` gives all
    that have a key, `find_for` the one of a fingerprint. Each is verified when it is asked for.

    Args:
        data: the whole file. If it is mapped into memory, the file must not be shortened or written
            to while it is; replacing it is fine.
        name: see and give only programs of the fingerprint with this storage name; None for all.
        path: where the bytes are from, for messages.

    Raises:
        ValueError: *name* can't be a storage's.
    """

    writable = False

    def __init__(
        self,
        data: bytes | bytearray | memoryview | mmap.mmap,
        name: str | None = None,
        path: str | None = None,
    ) -> None:
        if name is not None:
            check_name(name)
        self._data = data
        self._name = name
        self._path = path
        self._bundle: Bundle | None = None
        self._fingerprints: dict[str, list[str]] = {}

    def __str__(self) -> str:
        """Name where the bytes are from."""
        return self._path or "precompiled bytes"

    def load(self) -> None:
        """Verify the file's index. Before it, and after it fails, no program is found.

        Raises:
            DamagedFileError: the bytes aren't a valid MCLP file.
        """
        self._bundle, self._fingerprints = None, {}
        bundle = Bundle(self._data, self._path)
        fingerprints: dict[str, list[str]] = {}
        for fingerprint, key in bundle.keys():  # noqa: SIM118 (a bundle is no mapping)
            if self._name in (None, storage_name(fingerprint)):
                fingerprints.setdefault(key, []).append(fingerprint)
        self._bundle, self._fingerprints = bundle, fingerprints

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key: the first fingerprint's, where several have one.

        Raises:
            DamagedFileError: its bytes aren't what was written.
            ValueError: *key* isn't 64 lower-case hexadecimal digits.
        """
        return next(self.candidates(key), None)

    def find_for(self, fingerprint: str, key: str) -> CompiledProgram | None:
        """Give the program of that fingerprint text and key; raises as `find`."""
        check_key(key)
        if self._bundle is None or fingerprint not in self._fingerprints.get(key, ()):
            return None
        return self._bundle.find(fingerprint, key)

    def candidates(self, key: str) -> Iterator[CompiledProgram]:
        """Give the programs of that key, one a fingerprint; raises as `find`, when one is asked."""
        check_key(key)
        for fingerprint in self._fingerprints.get(key, ()):
            program = self.find_for(fingerprint, key)
            if program is not None:
                yield program

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Refuse.

        Raises:
            ValueError: *key* isn't the program's own.
            StorageReadOnlyError: always, otherwise.
        """
        check_program(key, program)
        raise StorageReadOnlyError(str(self))

    def remove(self, key: str) -> None:
        """Refuse.

        Raises:
            ValueError: *key* isn't 64 lower-case hexadecimal digits.
            StorageReadOnlyError: always, otherwise.
        """
        check_key(key)
        raise StorageReadOnlyError(str(self))

    def clear(self) -> None:
        """Refuse.

        Raises:
            StorageReadOnlyError: always.
        """
        raise StorageReadOnlyError(str(self))

    def flush(self) -> None:
        """Do nothing: there is never anything to write."""

    def keys(self) -> Iterator[str]:
        """Give the keys that there are programs of."""
        return iter(self._fingerprints)


def open_precompiled(
    paths: Sequence[str | os.PathLike[str]], binary: bytes | None = None
) -> tuple[ReadOnlyByteStreamStorage, ...]:
    """Open the precompiled programs of an application; what can't be used is reported and left out.

    Files are read, not mapped: one that is written to in place can't take the process down then.

    Args:
        paths: MCLP files, of which the first that exists is used.
        binary: the bytes of another one.

    Returns:
        The storages, loaded, in the order in which they are to be asked.
    """
    storages = []
    path = next((path for path in paths if os.path.exists(path)), None)
    try:
        if path is not None:
            data, _status = read_regular_file(os.path.realpath(path), largest=LARGEST_FILE)
            storages.append(ReadOnlyByteStreamStorage(data, path=os.fspath(path)))
    except OSError as error:
        warn_once(logger, "precompiled-read", "%s can't be read (%s): it isn't used", path, error)
    if binary is not None:
        storages.append(ReadOnlyByteStreamStorage(binary))
    return tuple(storage for storage in storages if _loads(storage))


def _loads(storage: ReadOnlyByteStreamStorage) -> bool:
    try:
        storage.load()
    except MaceCacheError as error:
        warn_once(logger, "precompiled-load", "%s: it isn't used", error)
        return False
    return True
