"""Files: private ones, published whole or not at all, never reached through a link.

Functions that take *directory* work below that open directory's descriptor (see `_directories`).
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mace_cache._directories import private_directory
from mace_cache._trust import OWN_ONLY, Trust, check_own

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = str | os.PathLike[str]

__all__ = [
    "LARGEST_FILE",
    "TEMPORARY_PREFIX",
    "NotRegularFileError",
    "open_own_file",
    "open_regular_file",
    "publish",
    "read_all",
    "read_regular_file",
    "replace_file",
    "temporary_file",
    "tolerant_unlink",
    "unlink_own_file",
    "write_all",
]

logger = logging.getLogger(__name__)

LARGEST_FILE = 0xFFFFFFFF  # sizes in an MCLP file have 32 bits
TEMPORARY_PREFIX = ".tmp-"

_PRIVATE = 0o600
# O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegularFileError(OSError):
    """A link, FIFO, directory or device stands where a file should."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", os.fspath(path))


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

    The file is private (mode 0600), the directory is made where it is missing; whose it is isn't
    asked.

    Raises:
        OSError: it can't be written, which the error names; what was there is still there, and
            nothing is left behind.
    """
    parent, name = os.path.split(os.path.abspath(path))
    private_directory(parent)
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        replace_file(directory, name, data)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None  # and not the temporary file
        raise
    finally:
        os.close(directory)


def replace_file(directory: int, name: str, data: bytes) -> None:
    """Put a file in its place whole, as `publish`, in an open directory.

    Raises:
        OSError: it can't be written; what was there is still there, and nothing is left behind.
    """
    with temporary_file(directory, data) as temporary:
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def open_own_file(name: Path, directory: int | None, flags: int, trust: Trust = OWN_ONLY) -> int:
    """Open a file that is written in place, or make it, private (mode 0600).

    Args:
        name: the file.
        directory: the open directory that *name* is relative to.
        flags: how to open it: ``os.O_RDWR``, ``os.O_WRONLY | os.O_APPEND``.
        trust: who may own it or write to it, beside this user.

    Returns:
        Its descriptor, to be closed by the caller.

    Raises:
        NotRegularFileError: something else stands there.
        PermissionError: another user owns it or can write to it, or it has other names.
        OSError: it can't be opened.
    """
    descriptor = os.open(name, _OWN | flags, _PRIVATE, dir_fd=directory)
    try:
        _claim(descriptor, name, trust)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _claim(descriptor: int, name: Path, trust: Trust) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFileError(name)
    check_own(status, name, trust=trust)
    if status.st_mode & _PRIVATE != _PRIVATE:  # A umask has taken what we need ourselves.
        os.fchmod(descriptor, _PRIVATE)


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
    descriptor = os.open(name, _CREATE, _PRIVATE, dir_fd=directory)
    try:
        try:
            os.fchmod(descriptor, _PRIVATE)
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


def unlink_own_file(name: str, directory: int) -> None:
    """Remove a regular file that may be gone already; what else has its name isn't ours.

    Args:
        name: the file.
        directory: the open directory that it lies in.
    """
    with suppress(OSError):
        if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            tolerant_unlink(name, directory)
