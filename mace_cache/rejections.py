"""What a driver has rejected: kept beside the programs of one fingerprint, to outlive them.

A driver that can't load its own binaries would otherwise cost a load, a clear and a write in every
process. The note goes with the fingerprint: another driver version starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import TYPE_CHECKING

from mace_cache._filesystem import private_directory, publish, read_regular_file, tolerant_unlink

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Rejections"]

logger = logging.getLogger(__name__)

_MOST_REMEMBERED = 1024
_LARGEST_FILE = 1 << 20


class Rejections:
    """How often in a row, and which precompiled binaries.

    Args:
        path: the note's file, or None to remember for this process only.

    Attributes:
        in_a_row: binaries of this fingerprint that were rejected since one was last accepted.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.in_a_row = 0
        self._precompiled: list[str] = []
        self._read()

    def count(self) -> None:
        """One more binary of this fingerprint was rejected."""
        self._read()  # Another process may have counted as well.
        self.in_a_row += 1
        self._write()

    def reset(self) -> None:
        """A binary of this fingerprint was accepted."""
        if self.in_a_row:
            self.in_a_row = 0
            self._write()

    def remember(self, binary: bytes | memoryview) -> None:
        """A precompiled binary was rejected: it is not to be tried again."""
        self._read()  # As above.
        self._precompiled.append(_digest(binary))
        del self._precompiled[:-_MOST_REMEMBERED]
        self._write()

    def remembers(self, binary: bytes | memoryview) -> bool:
        """Whether that precompiled binary was rejected before."""
        return bool(self._precompiled) and _digest(binary) in self._precompiled

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            note = json.loads(read_regular_file(self._path, largest=_LARGEST_FILE)[0])
            in_a_row, precompiled = note["in_a_row"], note["precompiled"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            logger.debug("%s can't be read: it counts as empty", self._path)
            return
        if isinstance(in_a_row, int) and isinstance(precompiled, list):
            self.in_a_row = max(0, in_a_row)
            self._precompiled = [digest for digest in precompiled if isinstance(digest, str)]

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            if not self.in_a_row and not self._precompiled:
                tolerant_unlink(self._path)
                return
            note = {"in_a_row": self.in_a_row, "precompiled": self._precompiled}
            private_directory(os.path.dirname(self._path))
            publish(self._path, json.dumps(note).encode())
        except OSError as error:
            logger.debug("%s can't be written (%s): it holds for this process", self._path, error)


def _digest(binary: bytes | memoryview) -> str:
    return hashlib.sha256(binary).hexdigest()
