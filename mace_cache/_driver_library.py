"""Which library a driver is: the ELF build-ids of a platform's library and of its compilers.

The first word of a ``cl_platform_id`` points at the dispatch table that the ICD loader calls
through (``cl_khr_icd``). It lies in the driver's own library, or else (NVIDIA) its functions do.
In memory a library says its build-id (``PT_NOTE``, ``NT_GNU_BUILD_ID``) and what it was linked with
(``DT_NEEDED``). All is read through ``/proc/self/mem``: there a wrong address is an error instead
of a crash, and what was loaded is seen rather than the file, which an upgrade may have replaced.
What can't be had is absent.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["build_ids"]

_COMPILERS = (
    "LLVM",
    "clang",
    "SPIRV",
    "pocl",
    "oclgrind",
    "gallium",
    "igc",
    "comgr",
    "nvvm",
    "amdocl",
)
_LARGEST_TABLE = 1 << 20  # bytes of notes or dynamic entries that are believed
_LONGEST_NAME = 256  # bytes, NAME_MAX
_FIELDS_WITH_PATH = 6  # of a line of /proc/self/maps

_PT_LOAD, _PT_DYNAMIC, _PT_NOTE = 1, 2, 4
_DT_NEEDED, _DT_STRTAB, _DT_SONAME = 1, 5, 14
_NT_GNU_BUILD_ID = 3


_WORD = struct.Struct("@P")
_ELF64 = struct.calcsize("P") == 8  # noqa: PLR2004 (bytes)
# elf(5), Elf64_Ehdr: the magic number; then where the program headers are, and how many.
_ELF_HEADER = struct.Struct("=4s28xQ16xH6x" if _ELF64 else "=4s24xI12xH6x")
_PROGRAM_HEADER = struct.Struct("=IIQQQQQQ" if _ELF64 else "=IIIIIIII")  # elf(5), Elf64_Phdr
_DYNAMIC_ENTRY = struct.Struct("=qQ" if _ELF64 else "=iI")
_NOTE_HEADER = struct.Struct("=III")


class _MappedFile(NamedTuple):
    name: str  # without its directory
    start: int  # where its first byte is


class _Library(NamedTuple):
    name: str  # without its directory
    base: int  # what the addresses of its program headers are relative to
    headers: int  # where its program headers are
    header_count: int


class _Segment(NamedTuple):
    kind: int
    address: int
    size: int  # bytes in memory


class _MemoryReadError(Exception):
    """An address that isn't readable, or a table that can't be one."""


def build_ids(platform_pointer: int) -> tuple[tuple[str, str], ...]:
    """Give the build-ids of a driver and of the compiler libraries it is linked with.

    The answer doesn't depend on what the process has built: only libraries that were loaded
    together with the driver's are looked at, never those that a driver opens later.

    Args:
        platform_pointer: the ``cl_platform_id``, as a number (``pyopencl.Platform.int_ptr``).

    Returns:
        Pairs of a name and a build-id in hexadecimal: ``driver`` first, then the compiler libraries
        by the names they are linked by, sorted. Empty where it can't be known: not Linux, or a
        loader that doesn't hand out the driver's own handles. A library without a build-id is left
        out.
    """
    if not sys.platform.startswith("linux"):
        return ()
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return tuple(_build_ids(memory, platform_pointer))
    except (_MemoryReadError, OSError, struct.error):
        return ()
    finally:
        os.close(memory)


def _build_ids(memory: int, platform_pointer: int) -> Iterator[tuple[str, str]]:
    with open("/proc/self/maps", "rb") as mappings:
        files = _mapped_files(mappings.read())
    driver = _driver(memory, platform_pointer, files)
    if driver is None:
        return
    compilers = _compilers(memory, driver, files)
    for name, library in [("driver", driver), *sorted(compilers.items())]:
        build_id = _build_id(memory, library)
        if build_id:
            yield name, build_id


def _driver(memory: int, platform_pointer: int, files: list[_MappedFile]) -> _Library | None:
    dispatch_table = _word(memory, platform_pointer)
    found = _containing(memory, dispatch_table, files)
    if found is None:
        first_function = _word(memory, dispatch_table)
        found = _containing(memory, first_function, files)
    return found


def _mapped_files(mappings: bytes) -> list[_MappedFile]:
    """Give every file that is mapped from its beginning, as ``/proc/self/maps`` has it.

    Not through ``dl_iterate_phdr``, which calls back under the dynamic linker's lock: a callback in
    Python would wait there for the interpreter, which another thread may hold as it waits for the
    lock.
    """
    found = []
    for line in mappings.splitlines():
        if b" 00000000 " not in line:  # of many hundred, most are none, and this is at every start
            continue
        fields = line.split(maxsplit=5)  # proc(5): addresses, permissions, offset, device, inode
        with suppress(ValueError):
            if len(fields) == _FIELDS_WITH_PATH and int(fields[2], 16) == 0:
                name = os.fsdecode(fields[5]).removesuffix(" (deleted)").rpartition("/")[2]
                found.append(_MappedFile(name, int(fields[0].partition(b"-")[0], 16)))
    return found


def _library(memory: int, file: _MappedFile) -> _Library | None:
    """Give the library that a mapped file is, or None where it is none."""
    try:
        magic, offset, count = _ELF_HEADER.unpack(_read(memory, file.start, _ELF_HEADER.size))
        if magic != b"\x7fELF":
            return None
        unmoved = _Library(file.name, 0, file.start + offset, count)
        lowest = [s.address for s in _segments(memory, unmoved) if s.kind == _PT_LOAD][:1]
    except _MemoryReadError:
        return None
    return unmoved._replace(base=file.start - lowest[0]) if lowest else None


def _containing(memory: int, address: int, files: Iterable[_MappedFile]) -> _Library | None:
    below = [file for file in files if file.start <= address]
    nearest = max(below, key=lambda file: file.start, default=None)
    library = None if nearest is None else _library(memory, nearest)
    if library is None:
        return None
    inside = any(
        segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size
        for segment in _segments(memory, library)
    )
    return library if inside else None


def _compilers(memory: int, driver: _Library, files: Iterable[_MappedFile]) -> dict[str, _Library]:
    """Give the compiler libraries that *driver* is linked with, itself or through another one."""
    by_name: dict[str, _Library] = {}
    for file in files:
        library = _library(memory, file) if _is_compiler(file.name) else None
        if library is not None:
            # Who links a library names it by its DT_SONAME; its file may be called otherwise.
            for name in (library.name, *_names(memory, library, _DT_SONAME)):
                by_name.setdefault(name, library)
    found: dict[str, _Library] = {}
    waiting = [driver]
    while waiting:
        for name in _names(memory, waiting.pop(), _DT_NEEDED):
            if name in by_name and name not in found:
                found[name] = by_name[name]
                waiting.append(by_name[name])
    return found


def _is_compiler(name: str) -> bool:
    return any(mark in name for mark in _COMPILERS)


def _segments(memory: int, library: _Library) -> Iterator[_Segment]:
    table = _read(memory, library.headers, library.header_count * _PROGRAM_HEADER.size)
    for fields in _PROGRAM_HEADER.iter_unpack(table):
        if _ELF64:
            kind, _flags, _offset, address, _physical, _stored, size, _alignment = fields
        else:
            kind, _offset, address, _physical, _stored, size, _flags, _alignment = fields
        yield _Segment(kind, library.base + address, size)


def _build_id(memory: int, library: _Library) -> str:
    """Give the build-id, in hexadecimal, or nothing (elf(5), Notes)."""
    for segment in _segments(memory, library):
        if segment.kind != _PT_NOTE:
            continue
        notes = _read(memory, segment.address, segment.size)
        position = 0
        while position + _NOTE_HEADER.size <= len(notes):
            name_size, size, kind = _NOTE_HEADER.unpack_from(notes, position)
            name_at = position + _NOTE_HEADER.size
            value_at = name_at + _padded(name_size)
            if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
                return notes[value_at : value_at + size].hex()
            position = value_at + _padded(size)
    return ""


def _names(memory: int, library: _Library, wanted: int) -> list[str]:
    """Give the names under a tag: DT_NEEDED, what it is linked with (elf(5), Dynamic tags)."""
    entries = [
        entry
        for segment in _segments(memory, library)
        if segment.kind == _PT_DYNAMIC
        for entry in _DYNAMIC_ENTRY.iter_unpack(_read(memory, segment.address, segment.size))
    ]
    strings = dict(entries).get(_DT_STRTAB, 0)
    if strings < library.base:  # glibc has made it an absolute address, musl hasn't
        strings += library.base
    return [_name(memory, strings + offset) for tag, offset in entries if tag == wanted]


def _word(memory: int, address: int) -> int:
    return int(_WORD.unpack(_read(memory, address, _WORD.size))[0])


def _name(memory: int, address: int) -> str:
    try:
        return os.fsdecode(os.pread(memory, _LONGEST_NAME, address).partition(b"\0")[0])
    except (OSError, OverflowError) as error:
        raise _MemoryReadError from error


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _read(memory: int, address: int, size: int) -> bytes:
    if not 0 <= size <= _LARGEST_TABLE or address < 0:
        raise _MemoryReadError
    try:
        found = os.pread(memory, size, address)
    except (OSError, OverflowError) as error:
        raise _MemoryReadError from error
    if len(found) != size:
        raise _MemoryReadError
    return found
