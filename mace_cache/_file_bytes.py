"""The bytes of an open file, each read when it is asked for.

Nothing is mapped into memory: who shortens a mapped file ends the process that reads it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache._filesystem import open_regular_file
from mace_cache.errors import DamagedFileError

if TYPE_CHECKING:
    Path = str | os.PathLike[str]

__all__ = ["FileBytes"]

_PAGE = 4096


class FileBytes:
    """A file as bytes that are sliced. Replacing the file changes nothing; it is closed with this.

    Args:
        path: the file, or a link to it.

    Raises:
        OSError: it can't be opened, or isn't a regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._descriptor, status = open_regular_file(os.path.realpath(path))
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        self._size = status.st_size

    def __len__(self) -> int:
        """How many bytes there were when it was opened."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Read a part.

        Raises:
            DamagedFileError: the file has been cut off meanwhile.
            OSError: it can't be read.
        """
        start, end, _step = part.indices(self._size)
        parts = []
        while start < end:  # the kernel gives at most 2 GiB at once, and network file systems less
            parts.append(os.pread(self._descriptor, end - start, start))
            if not parts[-1]:
                raise DamagedFileError("it was cut off while it was in use", start, self._path)
            start += len(parts[-1])
        return b"".join(parts)

    def will_need_end(self) -> None:
        """Have the last bytes read ahead, where the system can."""
        with suppress(AttributeError, OSError):
            start = max(0, self._size - _PAGE) // _PAGE * _PAGE
            os.posix_fadvise(self._descriptor, start, 0, os.POSIX_FADV_WILLNEED)
