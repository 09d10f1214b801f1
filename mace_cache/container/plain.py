"""An entry as this version writes it, read in one go; all other files are left to `reading`.

Every warm build comes through here, right after a driver has taken the processor's caches for
itself, so this has no step that it could do without. What it accepts `reading` accepts too.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from mace_cache.container.metadata import decode_metadata
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    MAGIC,
    SECTION_ROW,
    TEXT,
    digest_of,
    kernel_records,
)

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram

__all__ = ["read_plain_entry"]

_VERSION = FORMAT_MAJOR << 16 | FORMAT_MINOR


class _NotPlainError(ValueError):
    """The bytes aren't laid out as this version does it, or aren't what was written."""


def read_plain_entry(data: bytes | memoryview) -> CompiledProgram | None:
    """Read an unsigned file of one program, and verify all of it.

    Args:
        data: the whole file.

    Returns:
        The program, whose binary is a view into *data*; or None where the bytes are anything else.
    """
    try:
        return _read(memoryview(data).cast("B"))
    except (ValueError, struct.error):
        return None


def _read(view: memoryview) -> CompiledProgram:
    size = len(view)
    # The names are those of docs/format.md.
    (magic, version, kernel_count, total_size, kernel_table, kernel_table_size, vendor_header,
     vendor_header_size, section_table, section_count, digest, signature_size, index_digest,
    ) = HEADER.unpack_from(view)  # fmt: skip
    vendor_header_end = HEADER.size + vendor_header_size
    table = (vendor_header_end + 7) & ~7
    section = table + SECTION_ROW.size
    stated = magic, version, total_size, vendor_header, section_table, section_count, signature_size
    if (
        stated != (MAGIC, _VERSION, size, HEADER.size, table, 1, 0)
        or digest != size - DIGEST_SIZE
        or kernel_table + kernel_table_size != digest
        or section > kernel_table
    ):
        raise _NotPlainError
    row = SECTION_ROW.unpack_from(view, table)
    key, fingerprint, offset, metadata_size, binary_size, kernels, row_kernel_count, _digest = row
    metadata_end = section + metadata_size
    binary = (metadata_end + 7) & ~7
    binary_end = binary + binary_size
    if (
        (fingerprint, offset, kernels, row_kernel_count)
        != (0, section, kernel_table, kernel_count)
        or (binary_end + 7) & ~7 != kernel_table
    ):  # fmt: skip
        raise _NotPlainError
    if (
        digest_of([view[:digest]]) != view[digest:]
        or digest_of([view[:INDEX_DIGEST_OFFSET], view[HEADER.size : section]]) != index_digest
        or any(view[vendor_header_end:table])
        or any(view[metadata_end:binary])
        or any(view[binary_end:kernel_table])
    ):
        raise _NotPlainError
    text, end, rest = str(view[HEADER.size : vendor_header_end], *TEXT).partition("\0")
    if not end or rest:
        raise _NotPlainError
    metadata = str(view[section:metadata_end], *TEXT)
    program = decode_metadata(metadata, key.hex(), text, view[binary:binary_end])
    names = program.kernel_names
    records = kernel_records(0, binary, binary_size, names)
    if kernel_count != len(names) or records != view[kernel_table:digest]:
        raise _NotPlainError
    return program
