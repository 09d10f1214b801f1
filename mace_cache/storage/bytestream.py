"""Precompiled programs: read-only, in the bytes or the file that an application ships."""

from __future__ import annotations

import mmap
from dataclasses import replace
from typing import TYPE_CHECKING

from mace_cache.container import Bundle
from mace_cache.errors import DamagedFileError, StorageReadOnlyError
from mace_cache.fingerprint import storage_name
from mace_cache.signing import check_signature, signer_of
from mace_cache.storage.base import KVStorage, check_key, check_name, check_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache._file_bytes import FileBytes
    from mace_cache._signing_keys import TrustedKeys
    from mace_cache.program import CompiledProgram

__all__ = ["ReadOnlyByteStreamStorage"]


class ReadOnlyByteStreamStorage(KVStorage):
    """The programs in the bytes of an MCLP file, an entry or a bundle.

    Unlike the other storages it may hold programs of several fingerprints: `candidates` gives all
    that have a key, `find_for` the one of a fingerprint. Each is verified when it is asked for, and
    its binary is a view into the bytes.

    Args:
        data: the whole file. If it is mapped into memory, the file must not be shortened or written
            to while it is; replacing it is fine. `FileBytes` are read when they are needed.
        name: see and give only programs of the fingerprint with this storage name; None for all.
        path: where the bytes are from, for messages.
        trusted: the keys one of which must have signed the file; None where none need have.
        allow_unsigned: whether a file without a signature is taken as well.

    Raises:
        ValueError: *name* can't be a storage's.
    """

    writable = False

    def __init__(
        self,
        data: bytes | bytearray | memoryview | mmap.mmap | FileBytes,
        name: str | None = None,
        path: str | None = None,
        *,
        trusted: TrustedKeys | None = None,
        allow_unsigned: bool = False,
    ) -> None:
        if name is not None:
            check_name(name)
        self._data = data
        self._name = name
        self._path = path
        self._trusted = trusted
        self._allow_unsigned = allow_unsigned
        self._bundle: Bundle | None = None
        self._fingerprints: tuple[str, ...] = ()
        self._signer = ""

    def __str__(self) -> str:
        """Name where the bytes are from."""
        return self._path or "precompiled bytes"

    def load(self) -> None:
        """Verify the file's index, and its signature where one is asked for.

        Before it, and after it fails, no program is found.

        Raises:
            DamagedFileError: the bytes aren't a valid MCLP file.
            SignatureError: no trusted key has signed it.
        """
        self._bundle, self._fingerprints = None, ()
        bundle = Bundle(self._data, self._path)
        check_signature(bundle, self._trusted, str(self), allow_unsigned=self._allow_unsigned)
        self._bundle, self._fingerprints = bundle, tuple(filter(self._shows, bundle.fingerprints))
        self._signer = "" if self._trusted is None else signer_of(bundle)

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
        if self._bundle is None or fingerprint not in self._fingerprints:
            return None
        self._check_size()
        program = self._bundle.find(fingerprint, key)
        if program is None or program.signer == self._signer:
            return program
        return replace(program, signer=self._signer)

    def candidates(self, key: str) -> Iterator[CompiledProgram]:
        """Give the programs of that key, one a fingerprint; raises as `find`, when one is asked."""
        check_key(key)
        for fingerprint in self._fingerprints:
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
        """Give the keys that there are programs of.

        Raises:
            DamagedFileError: the file's index contradicts itself.
        """
        found = [] if self._bundle is None else self._bundle.keys()
        shown = frozenset(self._fingerprints)
        return iter(dict.fromkeys(key for fingerprint, key in found if fingerprint in shown))

    def _shows(self, fingerprint: str) -> bool:
        return self._name in (None, storage_name(fingerprint))

    def _check_size(self) -> None:
        """See whether a mapped file is still whole: to read what was cut off kills the process."""
        data = self._data
        if isinstance(data, mmap.mmap) and data.size() != len(data):
            raise DamagedFileError("it was written to while it was in use", None, self._path)
