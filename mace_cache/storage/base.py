"""The contract: what a storage of compiled programs is, and what makes one.

The names are those of MACE's ``KVStorage`` and ``KVStorageFactory``.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mace_cache._directories import Place
from mace_cache.program import is_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mace_cache.program import CompiledProgram

__all__ = ["KVStorage", "KVStorageFactory", "check_key", "check_name", "check_program"]

_SEPARATORS = frozenset("/\\\0")
_LONGEST_NAME = 200  # in bytes: most file systems take 255, and suffixes are added


class KVStorage(ABC):
    """Compiled programs by their program key, for one device fingerprint.

    A storage may be used by several threads at once, and several processes may have one open on the
    same place. Beside what is stated, any method may raise ``OSError`` where the place it keeps its
    programs in fails.

    Attributes:
        writable: whether ``insert``, ``clear`` and ``flush`` change anything.
        evicted: how many programs this object has removed to keep within its size.
        remote: where `fetch` looks, as a person would name it, or nothing.
        claims: whether `claim` may claim something, or wait.
    """

    writable: bool = True
    evicted: int = 0
    remote: str = ""
    claims: bool = False

    @abstractmethod
    def load(self) -> None:
        """Make the storage ready to be asked. Calling it again reads what others have written."""

    @abstractmethod
    def find(self, key: str) -> CompiledProgram | None:
        """Give the program of that key.

        Returns:
            The program, verified to be what was inserted, or None where there is none.

        Raises:
            DamagedFileError: something is stored there that can't be trusted. It has been removed
                where the storage is writable, so that the next ``find`` answers None.
            ValueError: *key* isn't 64 lower-case hexadecimal digits.
        """

    @abstractmethod
    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program in the place of that key, or replace what is there.

        Raises:
            ValueError: *key* isn't the program's own, or the program can't be stored.
            StorageReadOnlyError: the storage only reads.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove the program of that key where there is one, at once.

        Raises:
            ValueError: *key* isn't 64 lower-case hexadecimal digits.
            StorageReadOnlyError: the storage only reads.
        """

    def prove(self, program: CompiledProgram) -> bool:  # noqa: ARG002 (for those that can)
        """Keep note that a driver has loaded this very program and the process lived.

        From then on ``find`` says that it is proven. A storage that can't keep note of it leaves
        this as it is.

        Args:
            program: what ``find`` has given. Another program that has taken its place meanwhile is
                not proven by it.

        Returns:
            Whether no other note of it is needed: it is kept, or the program isn't there any more.
        """
        return False

    def fetch(self, key: str) -> CompiledProgram | None:  # noqa: ARG002 (for those that can)
        """Give the program of that key from a place further away, which `find` doesn't ask.

        Raises:
            ValueError: *key* isn't 64 lower-case hexadecimal digits.
        """
        return None

    def claim(
        self,
        key: str,  # noqa: ARG002 (as above)
        patience: float,  # noqa: ARG002 (as above)
        when_awaited: Callable[[], None] = lambda: None,  # noqa: ARG002 (as above)
    ) -> bool:
        """Claim to build a program for all who share that place, or wait for who builds it.

        Args:
            key: the program's key.
            patience: how long to wait, in seconds.
            when_awaited: called in another thread, now and then, while others wait for what was
                claimed here; it must not raise, nor take long.

        Returns:
            Whether `fetch` may have it by now. What is claimed here otherwise ends with `release`.
        """
        return False

    def release(  # noqa: B027 (for those that can claim)
        self, key: str, *, fails: bool = False
    ) -> None:
        """Let others go on: the program was inserted, or isn't built here.

        Args:
            key: the program's key.
            fails: it doesn't build, so that none of those who wait waits for another one.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove every program of this storage, and nothing else.

        Raises:
            StorageReadOnlyError: the storage only reads.
        """

    @abstractmethod
    def flush(self) -> None:
        """Write what has been inserted to where other processes find it."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Give the keys of the programs that are here now, in no particular order."""


class KVStorageFactory(ABC):
    """Makes the storage of a given name: a name is a device fingerprint's ``storage_name``.

    Attributes:
        state_directory: where what must outlive a process is kept beside the programs (statistics,
            rejections), or None where nothing may touch the disk.
    """

    state_directory: Path | None = None

    def state_place(self) -> Place | None:
        """Give the state directory with who is trusted there: nobody but this user, unless said."""
        return None if self.state_directory is None else Place(os.fspath(self.state_directory))

    @abstractmethod
    def create_storage(self, name: str) -> KVStorage:
        """Make the storage of that name. Nothing is touched before its ``load``.

        Raises:
            ValueError: *name* is empty, over 200 bytes, begins with a dot, or holds a path
                separator or NUL.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Give the names of the storages that have been written to, sorted."""

    def wait(self, seconds: float) -> bool:  # noqa: ARG002 (for those that can)
        """Wait for what is written in the background, so many seconds at most.

        Returns:
            Whether all is written.
        """
        return True


def check_key(key: str) -> None:
    """Refuse what isn't a program key: keys become file names.

    Raises:
        ValueError: *key* isn't 64 lower-case hexadecimal digits.
    """
    if not is_key(key):
        raise ValueError(f"{key!r} is no program key: expected 64 lower-case hexadecimal digits")


def check_program(key: str, program: CompiledProgram) -> None:
    """Refuse to store a program in the place of another.

    Raises:
        ValueError: *key* is no program key, or not this program's.
    """
    check_key(key)
    if key != program.key:
        raise ValueError(f"the program's key is {program.key!r}, not {key!r}")


def _is_component(name: str) -> bool:
    """Whether a name is one component of a path; no dot in front, so that it isn't ``..``."""
    return bool(name) and not name.startswith(".") and _SEPARATORS.isdisjoint(name)


def check_name(name: str) -> None:
    """Refuse what can't be a storage's name: names become names of files and directories.

    Raises:
        ValueError: *name* is empty, over 200 bytes, begins with a dot, or holds a path separator or
            NUL.
    """
    if not _is_component(name) or len(os.fsencode(name)) > _LONGEST_NAME:
        raise ValueError(
            f"{name!r} can't name a storage: expected at most {_LONGEST_NAME} bytes, no path "
            f"separator or NUL, and no leading dot"
        )
