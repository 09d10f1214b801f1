"""Compiled programs to the bytes of an MCLP file."""

from __future__ import annotations

from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING

from mace_cache.container.metadata import encode_metadata
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    KERNEL_RECORD,
    LARGEST_FILE,
    MAGIC,
    SECTION_ROW,
    TEXT,
    Header,
    SectionRow,
    aligned,
    digest_of,
    kernel_records,
    padding,
)
from mace_cache.program import CompiledProgram, is_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["encode"]


def encode(programs: Sequence[CompiledProgram]) -> bytes:
    """Write programs as one MCLP file; the same programs in any order give the same bytes.

    Args:
        programs: one program for an entry, any number of them for a bundle.

    Returns:
        The file, unsigned.

    Raises:
        ValueError: a key isn't 64 lower-case hexadecimal digits, a fingerprint holds a NUL
            character, a number of seconds isn't finite, two programs have the same fingerprint and
            key, or the file would be larger than 4 GiB - 1.
    """
    ordered = sorted(programs, key=lambda program: (program.fingerprint, program.key))
    _refuse_unusable(ordered)
    fingerprints = sorted({program.fingerprint for program in ordered})
    vendor_header = b"".join(text.encode(*TEXT) + b"\0" for text in fingerprints)
    metadata = [encode_metadata(program) for program in ordered]

    header, rows = _plan(ordered, fingerprints, len(vendor_header), metadata)
    sections = [
        [text, padding(len(text)), program.binary, padding(len(program.binary))]
        for text, program in zip(metadata, ordered, strict=True)
    ]
    kernels = [
        kernel_records(number, row.binary_offset, row.binary_size, program.kernel_names)
        for number, (row, program) in enumerate(zip(rows, ordered, strict=True))
    ]
    table = [
        SECTION_ROW.pack(*row._replace(digest=digest_of([*section, records])))
        for row, section, records in zip(rows, sections, kernels, strict=True)
    ]
    fixed = HEADER.pack(*header)[:INDEX_DIGEST_OFFSET]
    index = [vendor_header, padding(len(vendor_header)), *table]
    parts = [fixed, digest_of([fixed, *index]), *index, *chain.from_iterable(sections), *kernels]
    return b"".join([*parts, digest_of(parts)])


def _refuse_unusable(ordered: list[CompiledProgram]) -> None:
    for program in ordered:
        if not is_key(program.key):
            raise ValueError(f"{program.key!r} isn't a program key: 64 lower-case hex digits")
        if "\0" in program.fingerprint:
            raise ValueError(f"the fingerprint {program.fingerprint!r} holds a NUL character")
    for one, next_one in pairwise(ordered):
        if (one.fingerprint, one.key) == (next_one.fingerprint, next_one.key):
            raise ValueError(f"program {one.key} is there twice, for {one.fingerprint!r}")


def _plan(
    programs: list[CompiledProgram],
    fingerprints: list[str],
    vendor_header_size: int,
    metadata: list[bytes],
) -> tuple[Header, list[SectionRow]]:
    """Say where everything goes; the digests aren't known yet."""
    table = aligned(HEADER.size + vendor_header_size)
    section_sizes = [
        aligned(len(text)) + aligned(len(program.binary))
        for text, program in zip(metadata, programs, strict=True)
    ]
    kernels_sizes = [
        sum(KERNEL_RECORD.size + aligned(len(name.encode(*TEXT))) for name in program.kernel_names)
        for program in programs
    ]
    offsets = list(accumulate(section_sizes, initial=table + SECTION_ROW.size * len(programs)))
    kernels_offsets = list(accumulate(kernels_sizes, initial=offsets[-1]))
    header = Header(
        magic=MAGIC,
        version=FORMAT_MAJOR << 16 | FORMAT_MINOR,
        kernel_count=sum(len(program.kernel_names) for program in programs),
        total_size=kernels_offsets[-1] + DIGEST_SIZE,
        kernel_table_offset=kernels_offsets[0],
        kernel_table_size=kernels_offsets[-1] - kernels_offsets[0],
        vendor_header_offset=HEADER.size,
        vendor_header_size=vendor_header_size,
        section_table_offset=table,
        section_count=len(programs),
        digest_offset=kernels_offsets[-1],
        signature_size=0,
    )
    if header.total_size > LARGEST_FILE:
        raise ValueError(f"{header.total_size} bytes don't fit into an MCLP file of 4 GiB - 1")
    numbers = {text: number for number, text in enumerate(fingerprints)}
    rows = [
        SectionRow(
            key=bytes.fromhex(program.key),
            fingerprint=numbers[program.fingerprint],
            offset=offsets[index],
            metadata_size=len(metadata[index]),
            binary_size=len(program.binary),
            kernels_offset=kernels_offsets[index],
            kernel_count=len(program.kernel_names),
        )
        for index, program in enumerate(programs)
    ]
    return header, rows
