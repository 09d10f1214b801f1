"""Where a directory storage keeps what: ``<root>/v1/<name>/<two digits of the key>/<key>.mclp``.

Only files that are named like this count as the library's own: nothing else is ever removed. Links
aren't followed anywhere below the root.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mace_cache._filesystem import TEMPORARY_PREFIX, tolerant_unlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache._directories import Place

__all__ = [
    "FORMAT_DIRECTORY",
    "OwnFile",
    "entry_name",
    "is_entry",
    "is_shard",
    "key_of",
    "list_files",
    "list_shards",
    "list_storages",
    "remove_abandoned",
    "shard_name",
    "walk",
]

FORMAT_DIRECTORY = "v1"

_ABANDONED_AFTER = 3600 * 10**9  # nanoseconds
_SUFFIX = ".mclp"
_SHARD = r"[0-9a-f]{2}"
_ENTRY = r"[0-9a-f]{64}" + re.escape(_SUFFIX)
_TEMPORARY = re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{32}"


class OwnFile(NamedTuple):
    """A file that the library wrote.

    Attributes:
        modified: when it was written or last marked as used, in nanoseconds since 1970.
        size: in bytes.
        name: its name in its shard.
        temporary: whether it is being written, or was left behind by a process that died writing.
    """

    modified: int
    size: int
    name: str
    temporary: bool

    @property
    def abandoned(self) -> bool:
        """Whether it is a temporary of a process that must have died: a write takes seconds."""
        return self.temporary and self.modified < time.time_ns() - _ABANDONED_AFTER

    @property
    def key(self) -> str:
        """The key of the program that an entry holds."""
        return key_of(self.name)


def shard_name(key: str) -> str:
    """Give the name of the directory that holds a key's entry."""
    return key[:2]


def entry_name(key: str) -> str:
    """Give the name of a key's entry."""
    return key + _SUFFIX


def key_of(name: str) -> str:
    """Give the key whose entry has that name."""
    return name.removesuffix(_SUFFIX)


def is_entry(name: str) -> bool:
    """Whether an entry may have that name."""
    return re.fullmatch(_ENTRY, name) is not None


def is_shard(name: str) -> bool:
    """Whether a shard may have that name."""
    return re.fullmatch(_SHARD, name) is not None


def list_files(shard: int) -> Iterator[OwnFile]:
    """Give our files in a shard: regular files of our names.

    Args:
        shard: the open directory.
    """
    with os.scandir(shard) as listing:
        for item in listing:
            temporary = re.fullmatch(_TEMPORARY, item.name) is not None
            if not temporary and not is_entry(item.name):
                continue
            with suppress(FileNotFoundError):  # Another process may have removed it just now.
                if item.is_file(follow_symlinks=False):
                    status = item.stat(follow_symlinks=False)
                    yield OwnFile(status.st_mtime_ns, status.st_size, item.name, temporary)


def remove_abandoned(place: Place) -> list[OwnFile]:
    """Remove the temporaries that dead processes left beside the storages, and give them.

    Counts and notes are published there. What was left in a shard is found by `walk`.

    Args:
        place: the directory of the format version.
    """
    with suppress(OSError), place.open() as directory:
        abandoned = [file for file in list_files(directory) if file.abandoned]
        return [file for file in abandoned if tolerant_unlink(file.name, directory)]
    return []


def list_shards(storage: int) -> list[str]:
    """Give the names of the shards in a storage's open directory."""
    return [name for name in _list_directories(storage) if is_shard(name)]


def list_storages(place: Place) -> Iterator[tuple[str, list[str]]]:
    """Give the storages that have been written to: the name of each and those of its shards.

    One that can't be read, or isn't private, is passed over: it is no reason to lose the others.

    Args:
        place: the directory of the format version; none there means no storages.

    Raises:
        OSError: the directory can't be read, or isn't private.
    """
    try:
        with place.open() as directory:
            names = _list_directories(directory)
    except FileNotFoundError:
        return
    for name in names:
        with suppress(OSError), place.open(name) as storage:
            if shards := list_shards(storage):
                yield name, shards


def walk(place: Place) -> Iterator[tuple[str, str, OwnFile]]:
    """Give every file of ours, each with the names of its storage and its shard.

    Args:
        place: the directory of the format version.

    Raises:
        OSError: the directory can't be read, or isn't private.
    """
    for name, shards in list_storages(place):
        for shard in shards:
            with suppress(OSError), place.open(name, shard) as directory:
                for file in list_files(directory):
                    yield name, shard, file


def _list_directories(directory: int) -> list[str]:
    with os.scandir(directory) as listing:
        return [item.name for item in listing if item.is_dir(follow_symlinks=False)]
