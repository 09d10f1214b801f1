"""MACE's own file of compiled programs, ``mace_cl_compiled_program.bin``; ``docs/mace-file.md``.

A protobuf message whose field 1 repeats pairs of a key (field 1) and a value (field 2), then the
CRC32 of the message. Each pair is a program; two more say which platform and device it is for.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.errors import MaceFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BUILD_OPTIONS",
    "START",
    "MaceFile",
    "MaceProgram",
    "read_mace_file",
    "write_mace_file",
]

START = b"\n"  # field 1, of a length: what every file with a pair in it begins with
BUILD_OPTIONS = "-Werror -cl-mad-enable -cl-fast-relaxed-math"  # MACE adds them to those in a key

_PLATFORM_KEY = "mace_opencl_precompiled_platform_info_key"
_DEVICE_KEY = "mace_opencl_precompiled_device_name_key"
_PAIRS = 1  # the field of the message
_KEY, _VALUE = 1, 2  # the fields of a pair

_CHECKSUM_SIZE = 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups, long gone
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10  # bytes
_TEXT = ("utf-8", "surrogateescape")  # whatever a key's bytes are, they come out again


class MaceProgram(NamedTuple):
    """A program in a file of MACE's.

    Attributes:
        name: the name of its source.
        options: its build options, without those that MACE adds to all (`BUILD_OPTIONS`).
        binary: what ``clCreateProgramWithBinary`` takes.
    """

    name: str
    options: str
    binary: bytes | memoryview


class MaceFile(NamedTuple):
    """What a file of MACE's holds.

    Attributes:
        programs: the programs, in the file's order.
        platform: the platform's name, profile and version, with ", " between them; empty where the
            file doesn't say.
        device: the device's name, or empty.
    """

    programs: tuple[MaceProgram, ...]
    platform: str = ""
    device: str = ""


def read_mace_file(data: bytes | memoryview) -> MaceFile:
    """Read a file of MACE's; its checksum is verified, fields that aren't known are passed over.

    Args:
        data: the whole file, any bytes whatever.

    Returns:
        What it holds; binaries are views into *data*. Of pairs of one key the last counts.

    Raises:
        MaceFileError: it is no such file.
    """
    view = memoryview(data).cast("B")
    end = len(view) - _CHECKSUM_SIZE
    if end < 0:
        raise MaceFileError(f"it ends after {len(view)} bytes", len(view))
    if zlib.crc32(view[:end]) != int.from_bytes(view[end:], "little"):
        raise MaceFileError("the CRC32 is wrong", end)
    pairs: dict[str, memoryview] = {}
    for start, size in _parts(view, 0, end, _PAIRS):
        key, value = _read_pair(view, start, start + size)
        pairs[key] = value
    about = [str(pairs.pop(key, b""), *_TEXT) for key in (_PLATFORM_KEY, _DEVICE_KEY)]
    programs = tuple(_program(key, value) for key, value in pairs.items())
    return MaceFile(programs, *about)


def write_mace_file(file: MaceFile) -> bytes:
    """Write a file as MACE does, with its pairs in the order of their keys.

    Raises:
        ValueError: a name holds a space, is that of the platform's or the device's pair, or two
            programs have the same name and options; a text can't be written.
    """
    about = {_PLATFORM_KEY: file.platform, _DEVICE_KEY: file.device}
    pairs: dict[bytes, bytes | memoryview] = {
        key.encode(): text.encode(*_TEXT) for key, text in about.items() if text
    }
    for program in file.programs:
        if " " in program.name or program.name in about:
            raise ValueError(f"{program.name!r} can't be a program's name in a file of MACE's")
        key = f"{program.name} {program.options}".rstrip(" ").encode(*_TEXT)
        if key in pairs:
            raise ValueError(f"program {program.name} is there twice with the same options")
        pairs[key] = program.binary
    message = b"".join(
        _field(_PAIRS, _field(_KEY, key) + _field(_VALUE, value))
        for key, value in sorted(pairs.items(), key=lambda pair: pair[0])
    )
    return message + zlib.crc32(message).to_bytes(_CHECKSUM_SIZE, "little")


def _program(key: str, binary: memoryview) -> MaceProgram:
    name, _, options = key.partition(" ")
    return MaceProgram(name, options, binary)


def _read_pair(view: memoryview, start: int, end: int) -> tuple[str, memoryview]:
    key, value = view[:0], view[:0]
    for part, size in _parts(view, start, end, _KEY):
        key = view[part : part + size]
    for part, size in _parts(view, start, end, _VALUE):
        value = view[part : part + size]
    return str(key, *_TEXT), value


def _parts(view: memoryview, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Give offset and size of every part of a message that has a length and that field's number."""
    offset = start
    while offset < end:
        tag, at = _read_varint(view, offset, end)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _read_varint(view, at, end)
            size = 0
        elif wire == _LENGTH:
            size, at = _read_varint(view, at, end)
        else:
            size = _FIXED_SIZES.get(wire, -1)
        if field == 0 or size < 0:
            raise MaceFileError(f"{tag} is no field of a protobuf message", offset)
        if size > end - at:
            raise MaceFileError(f"{size} bytes where {end - at} are left", offset)
        if (field, wire) == (wanted, _LENGTH):
            yield at, size
        offset = at + size


def _read_varint(view: memoryview, start: int, end: int) -> tuple[int, int]:
    """Give a number and the offset of what follows it."""
    number = 0
    for place, byte in enumerate(view[start : min(end, start + _LONGEST_VARINT)]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 (the top bit says that more follows)
            return number, start + place + 1
    raise MaceFileError("a number doesn't end", start)


def _field(number: int, content: bytes | memoryview) -> bytes:
    return bytes([number << 3 | _LENGTH]) + _varint(len(content)) + bytes(content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:  # noqa: PLR2004 (seven bits a byte)
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
