"""The precompiled programs of a cache: what its arguments name, or installed packages ship.

Nothing is opened before the first program is missing: most starts find all of theirs stored.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from mace_cache._file_bytes import FileBytes
from mace_cache._report import cause_of, warn_once
from mace_cache.errors import MaceCacheError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mace_cache.config import Settings
    from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage

    Path = str | os.PathLike[str]

__all__ = ["Precompiled"]

logger = logging.getLogger(__name__)


class Precompiled:
    """Precompiled programs, in the order in which they are to be asked; opened by the first to ask.

    What can't be used is reported once and left out.

    Args:
        settings: which keys are trusted.
        paths: MCLP files, each of which is used; None for those that installed packages ship.
        first_of: MCLP files, of which the first that exists is used, before all others.
        binary: the bytes of one, used after *first_of*.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Sequence[Path] | None = (),
        first_of: Sequence[Path] = (),
        binary: bytes | memoryview | None = None,
    ) -> None:
        self._settings = settings
        self._paths = None if paths is None else list(map(os.path.abspath, paths))
        self._first_of = list(map(os.path.abspath, first_of))
        self._binary = binary
        self._opened: list[ReadOnlyByteStreamStorage] | None = None
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[ReadOnlyByteStreamStorage]:
        """Give the storages, loaded."""
        with self._lock:
            if self._opened is None:
                self._opened = list(self._open())
            return iter(self._opened)

    def _open(self) -> Iterator[ReadOnlyByteStreamStorage]:
        first = next(filter(os.path.exists, self._first_of), None)
        if first is not None:
            yield from self._open_file(first)
        if self._binary is not None:
            yield from self._load(self._binary, None)
        for path in self._find_installed() if self._paths is None else self._paths:
            yield from self._open_file(path)

    def _find_installed(self) -> list[str]:
        from mace_cache.storage._installed import installed_bundles  # noqa: PLC0415 (not at import)

        try:
            return installed_bundles()
        except Exception as error:  # noqa: BLE001 (other people's packages and import hooks)
            message = "bundles of installed packages can't be looked for (%r): none is used"
            warn_once(logger, cause_of(error), message, error)
            return []

    def _open_file(self, path: str) -> Iterator[ReadOnlyByteStreamStorage]:
        try:
            data = FileBytes(path)
            data.will_need_end()  # the signature: on a slow disk it comes while the index is read
        except OSError as error:
            message = "%s can't be read (%s): it isn't used"
            warn_once(logger, f"precompiled {path}", message, path, error)
        else:
            yield from self._load(data, path)

    def _load(
        self, data: bytes | memoryview | FileBytes, path: str | None
    ) -> Iterator[ReadOnlyByteStreamStorage]:
        from mace_cache.storage.bytestream import (  # noqa: PLC0415 (not at import)
            ReadOnlyByteStreamStorage,
        )

        settings = self._settings
        storage = ReadOnlyByteStreamStorage(
            data,
            path=path,
            trusted=settings.trusted_keys,
            allow_unsigned=settings.allow_unsigned,
        )
        try:
            storage.load()
        except (MaceCacheError, OSError) as error:
            warn_once(logger, f"precompiled {storage}", "%s; it isn't used", error)
        else:
            yield storage
