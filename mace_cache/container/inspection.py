"""What the bytes of an MCLP file mean, field by field, and what is wrong with a broken one.

The reader stops at the first fault. Here a fault is noted and the walk goes on, as far as the sizes
that the file states lead; where they lead nowhere, the offsets that it states are tried.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mace_cache.container.reading import Bundle
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    KERNEL_RECORD,
    MAGIC,
    SECTION_ROW,
    SIGNATURE_HEAD,
    SIGNATURE_MAGIC,
    Header,
    SectionRow,
    aligned,
    digest_of,
)
from mace_cache.errors import DamagedFileError

__all__ = ["Field", "annotate", "diagnose"]


class Field(NamedTuple):
    """A run of bytes of an MCLP file.

    Attributes:
        offset: where it begins, in bytes from the start of the file.
        size: how many bytes it has.
        name: what it is, such as ``section_table[0].key``.
        value: what it holds, as text.
        problem: what is wrong with it, or None.
    """

    offset: int
    size: int
    name: str
    value: str
    problem: str | None = None


def annotate(data: bytes | memoryview) -> list[Field]:
    """Name every byte of a file, valid or not.

    Args:
        data: the whole file, any bytes whatever.

    Returns:
        Fields in the order of the file, which cover each byte once. A file that a reader refuses
        has at least one field with a problem, any other none.
    """
    walk = _Walk(memoryview(data).cast("B"))
    walk.file()
    try:
        Bundle(data).verify()
    except DamagedFileError as error:
        return _with_problem(walk.fields, error)
    return walk.fields


def diagnose(data: bytes | memoryview, path: str | None = None) -> list[DamagedFileError]:
    """Say what is wrong with a file, and where.

    Args:
        data: the whole file, any bytes whatever.
        path: where it comes from, for the messages.

    Returns:
        An error for every fault that was found, by ascending offset; none for a valid file.
    """
    return [
        DamagedFileError(f"{field.name}: {field.problem}", field.offset, path)
        for field in annotate(data)
        if field.problem is not None
    ]


def _with_problem(fields: list[Field], error: DamagedFileError) -> list[Field]:
    """Add what the reader says to the field it says it of, unless that one has its problem."""
    offset = error.offset or 0
    before = [number for number, field in enumerate(fields) if field.offset <= offset]
    if not before:
        return [Field(0, 0, "header", "", error.reason)]
    number = before[-1]
    if fields[number].problem is None:
        fields[number] = fields[number]._replace(problem=error.reason)
    return fields


class _Walk:
    """Goes through a file from its first byte to its last, and never back."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.fields: list[Field] = []
        self.cursor = 0
        self.limit = len(view)

    def file(self) -> None:
        header = self.header()
        if header is not None:
            self.vendor_header(header)
            rows = self.section_table(header)
            self.sections(header, rows)
            self.kernel_table(header, rows)
            self.begin(header.digest_offset, len(self.view))
            wanted = digest_of([self.view[: self.cursor]]).hex()
            self.take(DIGEST_SIZE, "digest", wanted=wanted)
            self.signature(header.signature_size)
        self.begin(len(self.view), len(self.view))

    def begin(self, offset: int, end: int) -> None:
        """Go on at *offset*, which the file states, if that is still to come, and up to *end*."""
        size = len(self.view)
        if self.cursor < offset <= size:
            self.limit = offset
            self.take(offset - self.cursor, "gap", problem="bytes that mean nothing here")
        self.limit = end if self.cursor <= end <= size else size

    def take(
        self,
        size: int,
        name: str,
        value: str | None = None,
        *,
        wanted: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Make the next bytes a field, up to the limit; one that isn't *wanted* is a problem."""
        start = self.cursor
        self.cursor = min(start + size, self.limit)
        taken = self.view[start : self.cursor]
        if value is None:
            value = taken.hex() if size <= DIGEST_SIZE else f"{size} bytes"
        if len(taken) < size:
            problem = f"cut off: {len(taken)} of {size} bytes"
        elif wanted is not None and value != wanted:
            problem = f"should be {wanted}"
        if taken or (problem and start < len(self.view)):
            self.fields.append(Field(start, len(taken), name, value, problem))

    def padding(self) -> None:
        size = -self.cursor & 7
        dirty = any(self.view[self.cursor : min(self.cursor + size, self.limit)])
        self.take(size, "padding", problem="not zero" if dirty else None)

    def text(self, size: int) -> str:
        content = bytes(self.view[self.cursor : min(self.cursor + size, self.limit)])
        return _readable(content)

    def structure(self, label: str, values: Header | SectionRow, wanted: dict[str, str]) -> None:
        parts: tuple[int | bytes, ...] = values
        for name, value in zip(values._fields, parts, strict=True):
            size = len(value) if isinstance(value, bytes) else 4
            self.take(size, f"{label}.{name}", _shown(name, value), wanted=wanted.get(name))

    def header(self) -> Header | None:
        start = bytes(self.view[: HEADER.size])
        header = Header._make(HEADER.unpack(start.ljust(HEADER.size, b"\0")))
        covered = self.view[:INDEX_DIGEST_OFFSET], self.view[HEADER.size : header.sections_offset]
        wanted = {
            "magic": ascii(MAGIC),
            "total_size": str(len(self.view)),
            "kernel_table_size": str(header.digest_offset - header.kernel_table_offset),
            "vendor_header_offset": hex(HEADER.size),
            "section_table_offset": hex(aligned(HEADER.size + header.vendor_header_size)),
            "digest_offset": hex(len(self.view) - DIGEST_SIZE - header.signature_size),
            "index_digest": digest_of(covered).hex(),
        }
        if header.version >> 16 != FORMAT_MAJOR:  # what follows has another meaning
            self.take(4, "header.magic", _shown("magic", header.magic), wanted=wanted["magic"])
            self.take(4, "header.version", _shown("version", header.version))
            return None
        self.structure("header", header, wanted)
        return header if len(start) == HEADER.size else None

    def vendor_header(self, header: Header) -> None:
        self.begin(header.vendor_header_offset, header.section_table_offset)
        end = min(self.cursor + header.vendor_header_size, self.limit)
        *texts, rest = bytes(self.view[self.cursor : end]).split(b"\0")
        for number, text in enumerate(texts):
            name = f"vendor_header.fingerprint[{number}]"
            self.take(len(text) + 1, name, _readable(text))
        self.take(len(rest), "vendor_header.rest", problem="no NUL at its end" if rest else None)
        self.padding()

    def section_table(self, header: Header) -> list[SectionRow]:
        self.begin(header.section_table_offset, header.kernel_table_offset)
        count = min(header.section_count, (self.limit - self.cursor) // SECTION_ROW.size)
        table = self.view[self.cursor : self.cursor + count * SECTION_ROW.size]
        rows = [SectionRow._make(values) for values in SECTION_ROW.iter_unpack(table)]
        offset, kernels_offset = self.cursor + len(table), header.kernel_table_offset
        kernels_ends = [*(row.kernels_offset for row in rows[1:]), header.digest_offset]
        for number, (row, kernels_end) in enumerate(zip(rows, kernels_ends, strict=False)):
            wanted = {"offset": hex(offset), "kernels_offset": hex(kernels_offset)}
            # digests only of bytes that no row before has claimed: else this could take for ever
            if (row.offset, row.kernels_offset) == (offset, kernels_offset) and (
                row.end <= kernels_offset <= kernels_end <= len(self.view)
            ):
                section = self.view[row.offset : row.end]
                wanted["digest"] = digest_of([section, self.view[kernels_offset:kernels_end]]).hex()
            offset, kernels_offset = max(offset, row.end), max(kernels_offset, kernels_end)
            self.structure(f"section_table[{number}]", row, wanted)
        return rows

    def sections(self, header: Header, rows: list[SectionRow]) -> None:
        ends = [*(row.offset for row in rows[1:]), header.kernel_table_offset]
        for number, (row, end) in enumerate(zip(rows, ends, strict=False)):
            self.begin(row.offset, end)
            text = self.text(row.metadata_size)
            self.take(row.metadata_size, f"section[{number}].metadata", text)
            self.padding()
            self.take(row.binary_size, f"section[{number}].binary", f"{row.binary_size} bytes")
            self.padding()

    def kernel_table(self, header: Header, rows: list[SectionRow]) -> None:
        self.begin(header.kernel_table_offset, header.digest_offset)
        number = 0
        while self.limit - self.cursor >= KERNEL_RECORD.size:
            section, *_, name_size = KERNEL_RECORD.unpack_from(self.view, self.cursor)
            unknown = None if section < len(rows) else "there is no such section"
            label = f"kernel_table[{number}]."
            self.take(4, label + "section", str(section), problem=unknown)
            row = None if unknown else rows[section]
            self.number(label + "binary_offset", row and row.binary_offset)
            self.number(label + "binary_size", row and row.binary_size)
            self.number(label + "name_size", None)
            self.take(name_size, label + "name", self.text(name_size))
            self.padding()
            number += 1

    def signature(self, size: int) -> None:
        start = self.view[self.cursor : self.cursor + len(SIGNATURE_MAGIC)]
        if start == SIGNATURE_MAGIC and size >= SIGNATURE_HEAD.size <= self.limit - self.cursor:
            self.take(4, "signature.magic", ascii(SIGNATURE_MAGIC))
            self.number("signature.algorithm", None)
            self.take(16, "signature.key")
            size -= SIGNATURE_HEAD.size
        self.take(size, "signature")

    def number(self, name: str, wanted: int | None) -> None:
        (value,) = struct.unpack_from("<I", self.view, self.cursor)
        self.take(
            4,
            name,
            _shown(name, value),
            wanted=None if wanted is None else _shown(name, wanted),
        )


def _readable(content: bytes) -> str:
    text = content.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _shown(name: str, value: int | bytes) -> str:
    if isinstance(value, bytes):
        return ascii(value) if name == "magic" else value.hex()
    if name == "version":
        return f"{value >> 16}.{value & 0xFFFF}"
    return hex(value) if name.endswith("offset") else str(value)
