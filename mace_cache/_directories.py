"""Directories: made private, opened through no link, and checked as they are open.

Who has a directory's descriptor works below it, so that what was checked stays true whatever
happens to the path meanwhile.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from mace_cache._trust import OWN_ONLY, Trust, check_private, with_own_group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    Path = str | os.PathLike[str]

__all__ = ["Place", "descend", "open_directory", "private_directory", "refuse_as_root"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Place(NamedTuple):
    """A directory of ours, and who is trusted there.

    Attributes:
        root: the outermost directory that is ours, as the user named it.
        below: the names of the directories that lead down from it.
        trust: who may own them or write to them, beside this user.
    """

    root: str
    below: tuple[str, ...] = ()
    trust: Trust = OWN_ONLY

    def __fspath__(self) -> str:
        """Give the path."""
        return os.path.join(self.root, *self.below)

    def __str__(self) -> str:
        """Give the path."""
        return os.fspath(self)

    def open(self, *names: str, create: bool = False) -> AbstractContextManager[int]:
        """Open a directory below; as `open_directory`, with all on the way checked."""
        return open_directory(self.root, *self.below, *names, create=create, trust=self.trust)

    def descend(self, *names: str) -> int:
        """Give the descriptor that `open` yields, to be closed by the caller."""
        return descend(self.root, *self.below, *names, trust=self.trust)


def private_directory(path: Path, trust: Trust = OWN_ONLY) -> None:
    """Make a directory, and those above it that are missing, for this user alone (mode 0700).

    One that exists is left as it is.

    Args:
        path: the directory.
        trust: in whose directories, beside this user's, root makes one.

    Raises:
        PermissionError: this is root, and the directory above is another user's.
        OSError: it can't be made.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:  # else nothing at all can be looked at: making it says why
        private_directory(parent, trust)
        refuse_as_root(parent, trust)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # A umask may have taken bits that we need ourselves.


def refuse_as_root(directory: Path, trust: Trust = OWN_ONLY) -> None:
    """Refuse to make anything in a user's directory as root: it would lock that user out of it.

    Args:
        directory: where something is to be made.
        trust: in whose directories root may.

    Raises:
        PermissionError: this is root, and the directory is another user's.
        OSError: nothing is known of the directory.
    """
    if os.geteuid() != 0:
        return
    owner = os.stat(directory).st_uid
    if owner and owner not in trust.owners:
        message = f"root makes nothing in the directory of another user ({owner})"
        raise PermissionError(errno.EPERM, message, os.fspath(directory))


@contextmanager
def open_directory(
    path: Path, *below: str, create: bool = False, trust: Trust = OWN_ONLY
) -> Iterator[int]:
    """Open a directory of ours, going down from *path* name by name and through no link.

    Args:
        path: where to begin; what is above it is the user's business and may be a link.
        below: the directories to go down through.
        create: whether those that are missing are made, private.
        trust: who is trusted beside this user; and whether *path* itself may be a link.

    Yields:
        The directory's descriptor.

    Raises:
        FileNotFoundError: a directory is missing.
        NotADirectoryError: a link or a file stands in its place.
        PermissionError: another user owns one of the directories or can write to it.
        OSError: one can't be opened or made.
    """
    descriptor = descend(path, *below, create=create, trust=trust)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descend(path: Path, *below: str, create: bool = False, trust: Trust = OWN_ONLY) -> int:
    """Give the descriptor that `open_directory` yields, to be closed by the caller."""
    if create:
        private_directory(path, trust)
    descriptor = _open_first(path, trust)
    try:
        here = with_own_group(descriptor, trust)  # what is below it we make, for this user alone
        check_private(os.fstat(descriptor), path, trust=here)
        for depth, name in enumerate(below, 1):
            try:
                parent, descriptor = descriptor, _open_below(descriptor, name, create)
            except OSError as error:
                error.filename = os.path.join(path, *below[:depth])  # not its last name only
                raise
            os.close(parent)
            check_private(os.fstat(descriptor), path, *below[:depth], trust=trust)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_first(path: Path, trust: Trust) -> int:
    try:
        return os.open(path, _DIRECTORY if trust.links else _DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError as error:
        if not os.path.islink(path):
            raise
        message = (
            "it is a link, so it isn't used (name what it leads to, or MACE_CACHE_TRUST=links)"
        )
        raise NotADirectoryError(errno.ENOTDIR, message, os.fspath(path)) from error


def _open_below(directory: int, name: str, create: bool) -> int:
    flags = _DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=directory)
        os.chmod(name, 0o700, dir_fd=directory)
    return os.open(name, flags, dir_fd=directory)
