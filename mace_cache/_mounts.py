"""Which file system a path lies on, as the kernel tells it (proc(5), ``/proc/self/mountinfo``)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    Path = str | os.PathLike[str]

__all__ = ["Mount", "mount_of", "nearest_existing", "parse_mounts"]

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_POINT, _BEFORE_SEPARATOR = 4, 6  # the mount point is field 5; optional fields begin at the 7th


class Mount(NamedTuple):
    """A mounted file system.

    Attributes:
        point: where it is mounted.
        kind: the file system's type, such as ``ext4``, ``nfs4``, ``fuse.sshfs``.
    """

    point: str
    kind: str


def parse_mounts(table: bytes) -> list[Mount]:
    """Understand the table; lines of another form are passed over."""
    mounts = []
    for line in table.splitlines():
        fields = line.split(b" ")
        if b"-" in fields[_BEFORE_SEPARATOR:]:
            separator = fields.index(b"-", _BEFORE_SEPARATOR)
            kind = b"".join(fields[separator + 1 : separator + 2])
            mounts.append(Mount(_unescaped(fields[_POINT]), _unescaped(kind)))
    return mounts


def mount_of(path: Path, mounts: Iterable[Mount] | None = None) -> Mount | None:
    """Give what a path lies on; None where that can't be known.

    Args:
        path: it, or what will lie there: the nearest directory that exists counts.
        mounts: the mounted file systems; those of this process if None.
    """
    if mounts is None:
        try:
            with open("/proc/self/mountinfo", "rb") as file:
                mounts = parse_mounts(file.read())
        except OSError:  # not Linux
            return None
    real = os.path.join(os.path.realpath(nearest_existing(path)), "")
    above = [mount for mount in mounts if real.startswith(os.path.join(mount.point, ""))]
    # Of two at one point the later hides the earlier.
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def nearest_existing(path: Path) -> str:
    """Give the path, or the nearest directory above it that exists."""
    path = os.path.abspath(path)
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _unescaped(text: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text))
