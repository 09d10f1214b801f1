"""Storages on the other side of a network: bytes by their key, verified before they are decoded.

A backend derives from `RemoteStorage` and moves bytes; all that a storage of programs is beside
that is here. ``tiered.py`` puts one behind a local storage.
"""

from __future__ import annotations

import enum
import hashlib
import logging
from abc import abstractmethod
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mace_cache import container
from mace_cache.errors import (
    DamagedFileError,
    SignatureError,
    StorageReadOnlyError,
    UnknownVersionError,
)
from mace_cache.fingerprint import storage_name
from mace_cache.signing import sign, signer_of
from mace_cache.storage.base import (
    KVStorage,
    KVStorageFactory,
    check_key,
    check_name,
    check_program,
)
from mace_cache.storage.remote_settings import check_signing, shown, verified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.program import CompiledProgram
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["LARGEST_PROGRAM", "RemoteStorage", "RemoteStorageFactory", "Turn", "check_size"]

logger = logging.getLogger(__name__)

LARGEST_PROGRAM = 256 << 20  # bytes: what a server claims to have is read into memory


class Turn(enum.Enum):
    """What a machine that misses a program has to do."""

    BUILD = "build it"
    WAIT = "wait for the machine that builds it"
    FETCH = "fetch it"


def check_size(size: int, where: str) -> None:
    """Refuse bytes that are too many for a program.

    Args:
        size: how many there are, or are said to be.
        where: where they are, for the error.

    Raises:
        DamagedFileError: they are more than `LARGEST_PROGRAM`.
    """
    if size > LARGEST_PROGRAM:
        raise DamagedFileError(f"it is larger than {LARGEST_PROGRAM} bytes", path=where)


class RemoteStorage(KVStorage):
    """The programs of one fingerprint as bytes on a server; made by a `RemoteStorageFactory`.

    Every method may raise ``OSError`` where the server doesn't answer, or answers with an error.

    Args:
        name: the storage's name.
        place: the remote, as a person would name it.
        settings: how it is used.

    Raises:
        ValueError: *name* can't be a storage's.

    Attributes:
        leases: whether it can grant a turn to build, by `turn`, `renew` and `release`.
    """

    leases = False

    def __init__(self, name: str, place: str, settings: RemoteSettings) -> None:
        check_name(name)
        self.name = name
        self.settings = settings
        self.writable = settings.writes
        self._place = place
        self._refused: dict[str, str] = {}  # the SHA-1 of what nobody trusted has signed, by key

    def __str__(self) -> str:
        """Name the place."""
        return f"{self._place}/{self.name}"

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key, or None where there are none.

        Raises:
            DamagedFileError: they are more than `LARGEST_PROGRAM`; no memory is taken for them.
        """

    @abstractmethod
    def put(self, key: str, payload: bytes) -> None:
        """Put bytes in the place of a key, whole or not at all."""

    def put_built(self, key: str, payload: bytes) -> None:
        """Put bytes of a new build in the place of a key, unless others have done it meanwhile.

        A store that can't tell writes them.
        """
        self.put(key, payload)

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Remove the bytes of keys, where there are some."""

    def turn(self, key: str) -> Turn:  # noqa: ARG002 (for those that can)
        """Ask whose turn it is to build a program; a turn to build ends with `release`.

        A store without leases leaves this as it is: every machine builds for itself.
        """
        return Turn.BUILD

    def renew(self, keys: Sequence[str]) -> dict[str, bool]:  # noqa: ARG002 (as above)
        """Say that programs are still being built here.

        Returns:
            Those of which it isn't others' turn, each with whether others wait for it.
        """
        return {}

    def release(self, key: str, *, fails: bool = False) -> None:
        """Let others go on: the program is there, or isn't built here.

        Args:
            key: the program's key.
            fails: it doesn't build: those who wait all get their turn at once.
        """

    def load(self) -> None:
        """Do nothing: the first question connects."""

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`.

        Raises:
            MaceCacheError: it can't be trusted.
        """
        check_key(key)
        try:
            payload = self.get(key)
            if payload is None:
                return None
            return self._decode(key, self._verify(key, payload))
        except UnknownVersionError as error:
            logger.debug("%s", error)
            return None
        except DamagedFileError:
            if self.writable:
                with suppress(OSError):
                    self.delete([key])
            raise

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key; see `KVStorage.insert`.

        Raises:
            DamagedFileError: nobody would read it: it is larger than `LARGEST_PROGRAM`.
        """
        self.put(key, self._encode(key, program))

    def insert_built(self, key: str, program: CompiledProgram) -> None:
        """Put a program there that was missing when its build began; raises as `insert`.

        What another machine has put there meanwhile stays, and so does what it is building.
        """
        self.put_built(key, self._encode(key, program))

    def remove(self, key: str) -> None:
        """Remove the program of that key; see `KVStorage.remove`."""
        check_key(key)
        self._check_writable()
        self.delete([key])

    def clear(self) -> None:
        """Remove every program of this storage, for all machines; see `KVStorage.clear`."""
        self._check_writable()
        keys = list(self.keys())
        if keys:
            self.delete(keys)

    def flush(self) -> None:
        """Do nothing: ``insert`` has written what it was given."""

    def _check_writable(self) -> None:
        if not self.writable:
            raise StorageReadOnlyError(str(self))

    def _encode(self, key: str, program: CompiledProgram) -> bytes:
        check_program(key, program)
        self._check_writable()
        payload = container.encode([replace(program, signer="")])
        if self.settings.signing_key is not None:
            payload = sign(payload, self.settings.signing_key)
        check_size(len(payload), f"{self}/{key}")
        return payload

    def _verify(self, key: str, payload: bytes) -> bytes:
        try:
            return verified(payload, str(self), self.settings)
        except SignatureError:
            self._refused[key] = hashlib.sha1(payload, usedforsecurity=False).hexdigest()
            raise

    def _decode(self, key: str, payload: bytes) -> CompiledProgram:
        path = f"{self}/{key}"
        program = container.decode_entry(payload, path)
        if program.key != key or storage_name(program.fingerprint) != self.name:
            raise DamagedFileError("it holds another program than its name says", path=path)
        is_verified = self.settings.verifier is not None
        return replace(program, signer=signer_of(container.Bundle(payload)) if is_verified else "")


class RemoteStorageFactory(KVStorageFactory):
    """Makes the storages on one remote.

    Args:
        url: the remote.
        settings: how it is used.

    Raises:
        ConfigurationError: the URL can't be used, or nobody verifies what comes from there.
    """

    def __init__(self, url: str, settings: RemoteSettings) -> None:
        check_signing(url, settings)
        self.settings = settings
        self._shown = shown(url)

    def __str__(self) -> str:
        """Name the place, without user and password."""
        return self._shown

    @abstractmethod
    def create_storage(self, name: str) -> RemoteStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""

    def prepare(self) -> None:
        """Import what a request needs; the interpreter's end is too late for that."""

    def disconnect(self) -> None:
        """Break off all requests, which took too long."""
