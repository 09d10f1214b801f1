"""Every file that a program's includes could reach, in every directory that could be searched.

Compilers differ in where they look first, so the search has no order: each name is looked for in
each directory. The directory of every header that is found joins them, as its includes are looked
for there. Both lists grow until nothing new turns up; directories are told apart by device and
inode, so that ``../a/../a`` doesn't grow them for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import NamedTuple

from mace_cache._preprocessor import LOCATED_WORDS, Text, pasted_words, scan
from mace_cache.errors import UncacheableError

__all__ = ["Directory", "HeaderSearch", "shown"]

_MAX_FILES = 2_000
_MAX_BYTES = 64 << 20
_MAX_LOOKUPS = 100_000
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Directory(NamedTuple):
    """A directory that a compiler may search.

    Attributes:
        label: what the key calls it; it says how the directory was named, not where it is.
        path: where it is.
        system: whether it belongs to the operating system.
    """

    label: str
    path: bytes
    system: bool = False


_ABSOLUTE = Directory("absolute", b"/")


class HeaderSearch:
    """Looks for every name in every directory, as both grow with each header that is found.

    Attributes:
        names: each name as spelled, with label and digest of every file of that name.
        reached: the label of each directory that a header was found in beneath another, with the
            label of the one in the list that it is.
        located: whether a text may use its own path.
    """

    def __init__(self) -> None:
        self.names: dict[bytes, list[str]] = {}
        self.reached: dict[str, str] = {}
        self.located = False
        self._directories: list[Directory] = []
        self._identities: dict[tuple[int, int], str] = {}
        self._unidentified: list[Directory] = []
        self._files: dict[bytes, Text | None] = {}
        self._texts: dict[Text, None] = {}
        self._pending: deque[tuple[bytes, Directory]] = deque()
        self._bytes_left = _MAX_BYTES
        self._files_left = _MAX_FILES

    def add_text(self, text: Text, place: str, *, system: bool = False) -> None:
        """Take up what a text asks for.

        Args:
            text: the text.
            place: what messages call it.
            system: whether it is a header of the operating system. What such a one computes or
                pastes is overlooked: it is mostly for the host's compiler.

        Raises:
            UncacheableError: it depends on what can't be known from files.
        """
        found = scan(text)
        if reason := found.unknowable or ("" if system else found.computed):
            raise UncacheableError(f"{place} has {reason}")
        if not system:
            self._texts[text] = None
        self.located |= found.located
        for name in found.names:
            if name not in self.names:
                self.names[name] = []
                absolute = name.startswith(b"/")
                directories = [_ABSOLUTE] if absolute else self._directories
                self._pending.extend((name, directory) for directory in directories)

    def add_directory(self, directory: Directory) -> None:
        """Search one more directory."""
        self._directories.append(directory)
        self._unidentified.append(directory)
        relative = (name for name in self.names if not name.startswith(b"/"))
        self._pending.extend((name, directory) for name in relative)

    def run(self) -> None:
        """Search until nothing new turns up.

        Raises:
            UncacheableError: a header depends on what can't be known from files, can't be read, or
                there are too many.
        """
        for _ in range(_MAX_LOOKUPS):
            if not self._pending:
                break
            name, directory = self._pending.popleft()
            if text := self._file(os.path.join(directory.path, name)):
                self.names[name].append(f"{directory.label} {text.digest}")
                place = shown(os.path.join(directory.path, name))
                self.add_text(text, place, system=directory.system)
                self._reach(directory, os.path.dirname(name))
        if self._pending:
            raise UncacheableError(f"its includes need more than {_MAX_LOOKUPS:,} lookups")
        self._look_at_pasting()

    def _reach(self, parent: Directory, beneath: bytes) -> None:
        """Search the directory that a header was found in, unless it is in the list already."""
        label = f"{parent.label}/{shown(beneath)}"
        if not beneath or label in self.reached:
            return
        path = os.path.join(parent.path, beneath)
        known = self._label_of(path)
        self.reached[label] = known or "itself"
        if known is None:
            self.add_directory(Directory(label, path, parent.system))

    def _label_of(self, path: bytes) -> str | None:
        """Give the label of the directory in the list that is at *path*, however it is spelled."""
        for directory in self._unidentified:  # only now: most programs never get here
            if identity := _identity(directory.path):
                self._identities.setdefault(identity, directory.label)
        self._unidentified.clear()
        return self._identities.get(_identity(path) or (0, 0))

    def _look_at_pasting(self) -> None:
        if any(scan(text).pastes for text in self._texts):
            for word in pasted_words(tuple(self._texts)):
                if word not in LOCATED_WORDS:
                    raise UncacheableError(f"pasting its tokens can make {word.decode()}")
                self.located = True

    def _file(self, path: bytes) -> Text | None:
        if path not in self._files:
            content = _content(path, self._bytes_left)
            self._files[path] = None if content is None else Text(content)
            self._bytes_left -= len(content or b"")
            self._files_left -= content is not None
            if self._files_left < 0:
                raise UncacheableError(f"it reaches more than {_MAX_FILES:,} headers")
        return self._files[path]


def shown(path: bytes) -> str:
    """Give a path as text that any encoding can hold."""
    return path.decode("utf-8", "backslashreplace")


def _identity(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _content(path: bytes, limit: int) -> bytes | None:
    """Read a header; None where a compiler would find nothing.

    Raises:
        UncacheableError: it can't be read, or not within *limit* bytes.
    """
    try:
        # Most candidates are absent, and an exception for each would cost more than all the rest.
        if not os.access(path, os.F_OK):
            return None
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return None
        content = _regular_content(path, limit) if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        if getattr(error, "errno", None) in _ABSENT:
            return None
        raise UncacheableError(f"{shown(path)} can't be read ({error})") from error
    if content is None:
        raise UncacheableError(f"{shown(path)} isn't a regular file")
    if len(content) > limit:
        raise UncacheableError(f"its headers hold more than {_MAX_BYTES:,} bytes")
    return content


def _regular_content(path: bytes, limit: int) -> bytes | None:
    """Read at most one byte more than *limit*; never wait, whatever is there by now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = b""
        while len(content) <= limit:
            part = os.read(descriptor, min(1 << 20, limit + 1 - len(content)))
            if not part:
                break
            content += part
        return content
    finally:
        os.close(descriptor)
