"""Something else in the place of a file or directory of the cache."""

from __future__ import annotations

import os
import shutil
import socket
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.faults import PRECIOUS, USERS_OWN, After, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.world import Scene

__all__ = ["place_faults"]

ANOTHER_USER = 1
_PLACES = {
    "the entry": "v1/*/??/*.mclp",
    "its shard": "v1/*/??",
    "its storage": "v1/*-*",
    "the version's directory": "v1",
    "the cache directory": "",
    "the ledger": "v1/usage",
    "the ledger's lock": "v1/usage.lock",
    "the statistics": "v1/statistics.jsonl",
    "the rejections": "v1/*.rejections",
    "the notes": "v1/guard",
    "the marks": "v1/guard/proven",
    "the build locks": "v1/locks",
    "a build lock": "v1/locks/???.lock",
    "a harvest lock": "v1/locks/*-harvest.lock",
}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _empty_file(path: Path) -> None:
    _remove(path)
    path.touch(0o600)


def _directory(path: Path) -> None:
    _remove(path)
    path.mkdir(0o700)


def _full_directory(path: Path) -> None:
    _directory(path)
    (path / USERS_OWN).write_bytes(PRECIOUS)


def _link(path: Path) -> None:
    """Put a link to what was there in its place."""
    if not path.exists():
        path.touch(0o600)
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def _dangling_link(path: Path) -> None:
    _remove(path)
    path.symlink_to("nowhere")


def _hard_link(path: Path) -> None:
    """Let a file of the user's own stand there too."""
    _remove(path)
    own = path.with_name(USERS_OWN)
    own.write_bytes(PRECIOUS)
    path.hardlink_to(own)


def _fifo(path: Path) -> None:
    _remove(path)
    os.mkfifo(path, 0o600)


def _socket(path: Path) -> None:
    _remove(path)
    here = os.open(path.parent, os.O_RDONLY)  # the path itself may be too long for a socket's
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def _closed(path: Path) -> None:
    """Take away all rights."""
    path.chmod(0)


def _unwritable(path: Path) -> None:
    path.chmod(0o500 if path.is_dir() else 0o400)


def _open_to_others(path: Path) -> None:
    path.chmod(0o777)


def _of_another_user(path: Path) -> None:
    os.chown(path, ANOTHER_USER, ANOTHER_USER)
    path.chmod(0o755 if path.is_dir() else 0o644)


_THINGS: dict[str, Callable[[Path], None]] = {
    "an empty file": _empty_file,
    "a directory": _directory,
    "a directory with a file": _full_directory,
    "a link to it": _link,
    "a dangling link": _dangling_link,
    "a hard link": _hard_link,
    "a FIFO": _fifo,
    "a socket": _socket,
}
_RIGHTS: dict[str, Callable[[Path], None]] = {
    "closed (mode 0)": _closed,
    "unwritable": _unwritable,
    "open to all (mode 777)": _open_to_others,
    "another user's": _of_another_user,
}


# Where reading and writing end; everywhere else the cache does without, and the next process hits.
_NEVER_A_DIRECTORY = {
    *("an empty file", "a dangling link", "a hard link", "a FIFO", "a socket", "closed (mode 0)"),
}
_NOT_OURS = {"a link to it", "open to all (mode 777)", "another user's"}
_BARRED_BY = {
    "the entry": {"a directory", "a directory with a file"},
    "its shard": _NEVER_A_DIRECTORY | _NOT_OURS,
    "its storage": _NEVER_A_DIRECTORY | _NOT_OURS,
    "the version's directory": _NEVER_A_DIRECTORY | _NOT_OURS,
    "the cache directory": _NEVER_A_DIRECTORY | _NOT_OURS,
}


def place_faults() -> Iterator[Fault]:
    """Give each thing in each place, while a program is loaded and while it is stored."""
    for found in ("proven", "cleared"):
        for place, pattern in _PLACES.items():
            for thing, put in (_THINGS | _RIGHTS).items():
                yield Fault(
                    "cache: something else in a place" if thing in _THINGS else "cache: rights",
                    f"{place}: {thing}, {found}",
                    partial(_put, pattern=pattern, put=put, cleared=found == "cleared"),
                    prepared="proven" if found == "cleared" else found,
                    after=_after(place, thing, found),
                )


def _after(place: str, thing: str, found: str) -> After:
    if (place, thing, found) == ("its shard", "unwritable", "cleared"):
        return After.BUILT
    return After.BUILT if thing in _BARRED_BY.get(place, ()) else After.HIT


def _put(scene: Scene, pattern: str, put: Callable[[Path], None], *, cleared: bool) -> None:
    (storage,) = scene.cache.glob("v1/*-*")
    found = [*scene.cache.glob(pattern)] if pattern else [scene.cache]
    if not found:  # there is none yet
        found = [scene.cache / pattern.replace("*", storage.name)]
        found[0].parent.mkdir(0o700, exist_ok=True)
    if put in _RIGHTS.values() and not found[0].exists():
        found[0].touch(0o600)
    if cleared and "mclp" not in pattern:
        for entry in storage.glob("??/*.mclp"):
            entry.unlink()
    put(found[0])
