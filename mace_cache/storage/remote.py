"""Storages on the other side of a network: bytes by their key, verified before they are decoded.

A backend derives from `RemoteStorage` and moves bytes; all that a storage of programs is beside
that is here. ``tiered.py`` puts one behind a local storage.
"""

from __future__ import annotations

import enum
import logging
import math
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode

from mace_cache import container
from mace_cache.config import parse_boolean, parse_seconds
from mace_cache.errors import (
    ConfigurationError,
    DamagedFileError,
    StorageReadOnlyError,
    UnknownVersionError,
)
from mace_cache.fingerprint import storage_name
from mace_cache.storage.base import (
    KVStorage,
    KVStorageFactory,
    check_key,
    check_name,
    check_program,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.program import CompiledProgram

__all__ = [
    "RemoteSettings",
    "RemoteStorage",
    "RemoteStorageFactory",
    "Turn",
    "Verifier",
    "check_signing",
    "shown",
    "split_url",
    "verified",
]

logger = logging.getLogger(__name__)

POLICIES = ("read-write", "read-only", "write-only")


class Verifier(Protocol):
    """Tells bytes that somebody trusted has signed from others."""

    def verify(self, payload: bytes, tier: str) -> bytes:
        """Verify an MCLP file.

        Args:
            payload: the file as it came.
            tier: where it came from, for the warning.

        Returns:
            The file that may be decoded.

        Raises:
            MaceCacheError: nobody trusted has signed it: it is a miss.
        """


class RemoteSettings(NamedTuple):
    """How a remote is used; each can be an option of its URL.

    Attributes:
        policy: ``read-write``, ``read-only`` or ``write-only``.
        connect_timeout: how long a connection may take, in seconds.
        timeout: how long a request may take, with all tries, in seconds.
        max_retries: how often a request is tried at most.
        ttl: for how long a program is kept that nobody asks for, in seconds; ``inf`` is for ever.
            A store that can't do it by itself has rules for that.
        lease: how long a machine that has died is waited for that was building, in seconds.
        allow_unsigned: whether what comes from there is loaded though nobody has signed it.
        verifier: verifies signatures.
    """

    policy: str = "read-write"
    connect_timeout: float = 1.0
    timeout: float = 3.0
    max_retries: int = 3
    ttl: float = 30 * 86400.0
    lease: float = 10.0
    allow_unsigned: bool = False
    verifier: Verifier | None = None

    @property
    def reads(self) -> bool:
        """Whether programs are looked for there."""
        return self.policy != "write-only"

    @property
    def writes(self) -> bool:
        """Whether programs are written there."""
        return self.policy != "read-only"


def split_url(url: str, settings: RemoteSettings) -> tuple[str, RemoteSettings]:
    """Take the options that every remote has out of its URL.

    Args:
        url: the URL, with options after a ``?``.
        settings: what it doesn't say.

    Returns:
        The URL with the options that are left, and the settings.

    Raises:
        ConfigurationError: an option has a value that can't be used.
    """
    place, _, query = url.partition("?")
    left = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("connect_timeout", "timeout", "ttl", "lease"):
            seconds = parse_seconds(value, name, bounded=name != "ttl")
            if not seconds:
                raise ConfigurationError(name, value, "a number of seconds above 0")
            settings = settings._replace(**{name: seconds})  # type: ignore[arg-type] # all four are numbers of seconds
        elif name == "max_retries":
            if not (value.isdecimal() and int(value)):
                raise ConfigurationError(name, value, "a number of tries, 1 or more")
            settings = settings._replace(max_retries=int(value))
        elif name == "policy":
            if value not in POLICIES:
                raise ConfigurationError(name, value, ", ".join(POLICIES))
            settings = settings._replace(policy=value)
        elif name == "allow_unsigned":
            settings = settings._replace(allow_unsigned=parse_boolean(value))
        else:
            left.append((name, value))
    return f"{place}?{urlencode(left)}" if left else place, settings


def shown(url: str) -> str:
    """Give a URL as it may be shown: without options, user and password."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def check_signing(url: str, settings: RemoteSettings) -> None:
    """Refuse a remote whose programs nobody verifies, unless that is written out.

    Raises:
        ConfigurationError: there is no key, and ``allow_unsigned`` isn't set.
    """
    if settings.verifier is None and not settings.allow_unsigned:
        raise ConfigurationError(
            "remote",
            shown(url),
            "a key that its programs are verified with, or allow_unsigned=True written out: "
            "what comes from there is code",
        )


def verified(payload: bytes, tier: str, settings: RemoteSettings) -> bytes:
    """Verify what a remote has given; nothing of it is decoded before that.

    Args:
        payload: the bytes as they came.
        tier: where they came from, for messages.
        settings: those of the remote, with its verifier.

    Returns:
        The bytes that may be decoded.

    Raises:
        ConfigurationError: nobody verifies them, and that isn't written out.
        MaceCacheError: the verifier refuses them: it is a miss.
    """
    check_signing(tier, settings)
    if settings.verifier is None:
        return payload
    return settings.verifier.verify(payload, tier)


class Turn(enum.Enum):
    """What a machine that misses a program has to do."""

    BUILD = "build it"
    WAIT = "wait for the machine that builds it"
    FETCH = "fetch it"


class RemoteStorage(KVStorage):
    """The programs of one fingerprint as bytes on a server; made by a `RemoteStorageFactory`.

    Every method may raise ``OSError`` where the server doesn't answer, or answers with an error.

    Args:
        name: the storage's name.
        place: the remote, as a person would name it.
        settings: how it is used.

    Raises:
        ValueError: *name* can't be a storage's.
    """

    def __init__(self, name: str, place: str, settings: RemoteSettings) -> None:
        check_name(name)
        self.name = name
        self.settings = settings
        self.writable = settings.writes
        self._place = place

    def __str__(self) -> str:
        """Name the place."""
        return f"{self._place}/{self.name}"

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key, or None where there are none."""

    @abstractmethod
    def put(self, key: str, payload: bytes) -> None:
        """Put bytes in the place of a key, whole or not at all."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Remove the bytes of keys, where there are some."""

    def turn(self, key: str) -> Turn:  # noqa: ARG002 (for those that can)
        """Ask whose turn it is to build a program; a turn to build ends with `release`.

        A store that can't grant one leaves this as it is: every machine builds for itself.
        """
        return Turn.BUILD

    def renew(self, key: str) -> bool:  # noqa: ARG002 (as above)
        """Say that the program is still being built here; False where it is others' turn now."""
        return False

    def release(self, key: str) -> None:
        """Let others go on: the program is there, or isn't built here."""

    def load(self) -> None:
        """Do nothing: the first question connects."""

    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key; see `KVStorage.find`.

        Raises:
            MaceCacheError: it can't be trusted.
        """
        check_key(key)
        payload = self.get(key)
        if payload is None:
            return None
        payload = verified(payload, str(self), self.settings)
        try:
            return self._decode(key, payload)
        except UnknownVersionError as error:
            logger.debug("%s", error)
            return None
        except DamagedFileError:
            if self.writable:
                with suppress(OSError):
                    self.delete([key])
            raise

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key; see `KVStorage.insert`."""
        check_program(key, program)
        self._check_writable()
        self.put(key, container.encode([program]))

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

    def _decode(self, key: str, payload: bytes) -> CompiledProgram:
        path = f"{self}/{key}"
        program = container.decode_entry(payload, path)
        if program.key != key or storage_name(program.fingerprint) != self.name:
            raise DamagedFileError("it holds another program than its name says", path=path)
        return program


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

    def disconnect(self) -> None:
        """Break off all requests, which took too long."""


def ttl_in_milliseconds(settings: RemoteSettings) -> int | None:
    """Give for how long a store keeps a program, or None where it is for ever."""
    return None if settings.ttl == math.inf else max(1, int(settings.ttl * 1000))
