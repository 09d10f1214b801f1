"""Files and directories: private ones, published whole or not at all, never reached through a link.

Functions that take *directory* work below that open directory's descriptor, so that what has been
checked about it stays true whatever happens to its path meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = str | os.PathLike[str]

__all__ = [
    "LARGEST_FILE",
    "TEMPORARY_PREFIX",
    "NotRegularFileError",
    "check_private",
    "descend",
    "open_directory",
    "open_regular_file",
    "private_directory",
    "publish",
    "read_all",
    "read_regular_file",
    "temporary_file",
    "tolerant_unlink",
    "write_all",
]

logger = logging.getLogger(__name__)

LARGEST_FILE = 0xFFFFFFFF  # sizes in an MCLP file have 32 bits
TEMPORARY_PREFIX = ".tmp-"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotRegularFileError(OSError):
    """A link, FIFO, directory or device stands where a file should."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", os.fspath(path))


def private_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone (mode 0700).

    One that exists is left as it is.

    Raises:
        OSError: it can't be made.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:  # else nothing at all can be looked at: making it says why
        private_directory(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # A umask may have taken bits that we need ourselves.


@contextmanager
def open_directory(path: Path, *below: str, create: bool = False) -> Iterator[int]:
    """Open a directory of ours, going down from *path* name by name and through no link.

    Args:
        path: where to begin; what is above it is the user's business and may be a link.
        below: the directories to go down through.
        create: whether those that are missing are made, private.

    Yields:
        The directory's descriptor.

    Raises:
        FileNotFoundError: a directory is missing.
        NotADirectoryError: a link or a file stands in its place.
        PermissionError: another user owns one of the directories or can write to it.
        OSError: one can't be opened or made.
    """
    descriptor = descend(path, *below, create=create)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descend(path: Path, *below: str, create: bool = False) -> int:
    """Give the descriptor that `open_directory` yields, to be closed by the caller."""
    if create:
        private_directory(path)
    descriptor = os.open(path, _DIRECTORY)
    try:
        check_private(os.fstat(descriptor), path)
        for name in below:
            parent, descriptor = descriptor, _open_below(descriptor, name, create)
            os.close(parent)
            check_private(os.fstat(descriptor), path, *below)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_below(directory: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=directory)
        os.chmod(name, 0o700, dir_fd=directory)
    return os.open(name, _DIRECTORY, dir_fd=directory)


def check_private(status: os.stat_result, *path: Path) -> None:
    """Refuse a file or directory that anybody but this user and the superuser may have written.

    Args:
        status: what ``os.fstat`` says of it.
        path: where it is, in parts, for the error.

    Raises:
        PermissionError: another user owns it or can write to it.
    """
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _WRITABLE_BY_OTHERS:
        message = "another user owns it or can write to it, so it isn't used"
        raise PermissionError(errno.EPERM, message, os.path.join(*path))


def read_regular_file(
    path: Path, directory: int | None = None, largest: int = LARGEST_FILE
) -> tuple[bytes, os.stat_result]:
    """Read a file whole; neither blocks on nor follows what isn't a regular file.

    Args:
        path: the file.
        directory: the open directory that *path* is relative to.
        largest: of a file of more bytes than this only these and one more are read, so that it
            costs a bounded amount of memory and can be told from one that fits.

    Returns:
        The contents, and the status of the file that they are from.

    Raises:
        FileNotFoundError: there is none.
        NotRegularFileError: something else stands there.
        OSError: it can't be read.
    """
    descriptor, status = open_regular_file(path, directory)
    try:
        return read_all(descriptor, min(status.st_size, largest + 1)), status
    finally:
        os.close(descriptor)


def open_regular_file(path: Path, directory: int | None = None) -> tuple[int, os.stat_result]:
    """Open a file as `read_regular_file` does, and raise as it does.

    Returns:
        The file's descriptor, to be closed by the caller, and its status.
    """
    try:
        descriptor = os.open(path, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise NotRegularFileError(path) from error
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    raise NotRegularFileError(path)


def read_all(descriptor: int, size: int) -> bytes:
    """Read so many bytes from an open file, or what there is.

    Raises:
        OSError: it can't be read.
    """
    data = os.read(descriptor, size)
    if len(data) == size:
        return data
    parts = [data]  # The kernel gives at most 2 GiB at once, and network file systems less.
    while parts[-1] and (missing := size - sum(map(len, parts))):
        parts.append(os.read(descriptor, missing))
    return b"".join(parts)


def publish(path: Path, data: bytes) -> None:
    """Put a file in its place whole: whoever reads sees the old contents or the new ones.

    The file is private (mode 0600), the directory is made where it is missing.

    Raises:
        OSError: it can't be written; what was there is still there, and nothing is left behind.
    """
    parent, name = os.path.split(os.path.abspath(path))
    private_directory(parent)
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with temporary_file(directory, data) as temporary:
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)


@contextmanager
def temporary_file(directory: int, data: bytes) -> Iterator[str]:
    """Write a private file of a name that nobody else uses; it is gone afterwards unless renamed.

    Args:
        directory: the open directory to write it in.
        data: what to write.

    Yields:
        The file's name.

    Raises:
        OSError: it can't be written.
    """
    name = TEMPORARY_PREFIX + os.urandom(16).hex()
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        try:
            os.fchmod(descriptor, 0o600)
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        yield name
    finally:
        tolerant_unlink(name, directory)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*: ``os.write`` may take less, as when a disk is nearly full.

    Raises:
        OSError: it can't be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def tolerant_unlink(path: Path, directory: int | None = None) -> bool:
    """Remove a file (or a link, never what it points at) that may be gone already.

    Args:
        path: the file.
        directory: the open directory that *path* is relative to.

    Returns:
        Whether it was this call that removed it.
    """
    try:
        os.unlink(path, dir_fd=directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        logger.debug("%s could not be removed: %s", path, error)
        return False
    return True
