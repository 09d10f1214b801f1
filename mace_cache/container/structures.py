"""The fixed structures of an MCLP file, as ``docs/format.md`` lays them out.

header | vendor header | section table | sections | kernel table | digest | signature
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DIGEST_SIZE",
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "HEADER",
    "INDEX_DIGEST_OFFSET",
    "KERNEL_RECORD",
    "LARGEST_FILE",
    "MAGIC",
    "SECTION_ROW",
    "SIGNATURE_HEAD",
    "SIGNATURE_MAGIC",
    "TEXT",
    "VERSION_END",
    "Header",
    "SectionRow",
    "aligned",
    "digest_of",
    "kernel_records",
    "padding",
]

FORMAT_MAJOR, FORMAT_MINOR = 1, 0
MAGIC = b"MCLP"
VERSION_END = 8  # what every major version begins with: magic and version
DIGEST_SIZE = 32  # SHA-256
LARGEST_FILE = 0xFFFFFFFF  # bytes: sizes and offsets have 32 bits
TEXT = ("utf-8", "surrogatepass")  # any str at all: options may hold a path's undecodable bytes

HEADER = struct.Struct("<4s11I32s")
INDEX_DIGEST_OFFSET = HEADER.size - DIGEST_SIZE
SECTION_ROW = struct.Struct("<32s6I32s")
KERNEL_RECORD = struct.Struct("<4I")  # section, binary's offset and size, size of the name
SIGNATURE_HEAD = struct.Struct("<4sI16s")  # magic, algorithm, the key's identifier
SIGNATURE_MAGIC = b"MSIG"


class Header(NamedTuple):
    """What a file starts with. Offsets count from the start of the file, sizes are in bytes."""

    magic: bytes
    version: int
    kernel_count: int
    total_size: int
    kernel_table_offset: int
    kernel_table_size: int
    vendor_header_offset: int
    vendor_header_size: int
    section_table_offset: int
    section_count: int
    digest_offset: int
    signature_size: int
    index_digest: bytes = b""

    @property
    def sections_offset(self) -> int:
        """Where the section table ends and the first section begins."""
        return self.section_table_offset + SECTION_ROW.size * self.section_count


class SectionRow(NamedTuple):
    """A row of the section table: one program, its section and its records in the kernel table."""

    key: bytes
    fingerprint: int
    offset: int
    metadata_size: int
    binary_size: int
    kernels_offset: int
    kernel_count: int
    digest: bytes = b""

    @property
    def binary_offset(self) -> int:
        """Where the section's binary begins."""
        return aligned(self.offset + self.metadata_size)

    @property
    def end(self) -> int:
        """Where the section ends, padding included."""
        return aligned(self.binary_offset + self.binary_size)


def aligned(offset: int) -> int:
    """Give the first multiple of 8 that isn't below *offset*."""
    return (offset + 7) & ~7


def padding(size: int) -> bytes:
    """Give the zeros that fill *size* bytes up to a multiple of 8."""
    return bytes(-size & 7)


def kernel_records(section: int, offset: int, size: int, names: Iterable[str]) -> bytes:
    """Give a program's part of the kernel table.

    Args:
        section: the number of the program's row in the section table.
        offset: where the program's binary begins.
        size: the binary's size in bytes.
        names: the program's kernels, in the driver's order.
    """
    records = bytearray()
    for name in names:
        text = name.encode(*TEXT)
        records += KERNEL_RECORD.pack(section, offset, size, len(text))
        records += text
        records += padding(len(text))
    return bytes(records)


def digest_of(parts: Iterable[bytes | memoryview]) -> bytes:
    """Give the SHA-256 of *parts*, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
