"""The bytes of an MCLP file to compiled programs: nothing is believed before it is checked."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mace_cache._file_bytes import FileBytes
from mace_cache.container.metadata import decode_metadata
from mace_cache.container.plain import read_plain_entry
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    MAGIC,
    SECTION_ROW,
    TEXT,
    VERSION_END,
    Header,
    SectionRow,
    aligned,
    digest_of,
    kernel_records,
)
from mace_cache.errors import DamagedFileError, UnknownVersionError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from mace_cache.program import CompiledProgram

__all__ = ["Bundle", "decode_entry"]


def decode_entry(data: bytes | memoryview, path: str | None = None) -> CompiledProgram:
    """Read a file of exactly one program, and verify all of it.

    Args:
        data: the whole file.
        path: where it comes from, for the error.

    Raises:
        DamagedFileError: the bytes aren't a valid MCLP file of one program.
    """
    return read_plain_entry(data) or Bundle(data, path).entry()


class Bundle:
    """A file of any number of programs, each verified when it is asked for.

    Opening one verifies the header, the vendor header and the section table, and keeps a copy of
    them. The rest stays in *data*, and is read once for each program. A file that is mapped into
    memory has to be replaced, never shortened or written to; `FileBytes` asks for no such care.

    Args:
        data: the whole file.
        path: where it comes from, for errors.

    Raises:
        DamagedFileError: these parts aren't those of a valid MCLP file.

    Attributes:
        header: what the file starts with.
        path: where it comes from.
    """

    def __init__(
        self,
        data: bytes | bytearray | memoryview | mmap.mmap | FileBytes,
        path: str | None = None,
    ) -> None:
        self.path = path
        self._view = data if isinstance(data, FileBytes) else memoryview(data).cast("B")
        self._index = bytes(self._view[: HEADER.size])  # a copy: what is verified stays as it is
        self.header = self._read_header()
        self._index += bytes(self._view[HEADER.size : self.header.sections_offset])
        self._fingerprints = self._read_fingerprints()
        start = self._row_or_end(0)
        starts = self.header.sections_offset, self.header.kernel_table_offset
        if start.fingerprint or (start.offset, start.kernels_offset) != starts:
            raise self._damaged("the sections aren't where they belong", starts[0])

    @property
    def signature(self) -> bytes:
        """What follows the file's digest: not verified here, and empty for an unsigned file."""
        return bytes(self._view[self.header.digest_offset + DIGEST_SIZE :])

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The texts of the device fingerprints that it has programs for, in ascending order."""
        return tuple(self._fingerprints)

    def keys(self) -> list[tuple[str, str]]:
        """Give each program's fingerprint and key, in ascending order.

        Raises:
            DamagedFileError: the section table contradicts itself.
        """
        rows = map(self._row, range(self.header.section_count))
        return [(self._fingerprints[row.fingerprint], row.key.hex()) for row in rows]

    def find(self, fingerprint: str, key: str) -> CompiledProgram | None:
        """Give the program of that fingerprint and key, or None; its binary is a view.

        Raises:
            DamagedFileError: its bytes aren't what was written.
        """
        try:
            wanted = self._fingerprints.index(fingerprint), bytes.fromhex(key)
        except ValueError:
            return None
        if wanted[1].hex() != key:
            return None
        low, high = 0, self.header.section_count
        while low < high:
            middle = (low + high) // 2
            row = self._row(middle)
            here = row.fingerprint, row.key
            if here == wanted:
                return self._verified_program(middle, copied=False)
            low, high = (middle + 1, high) if here < wanted else (low, middle)
        return None

    def programs(self) -> Iterator[CompiledProgram]:
        """Give every program, by ascending fingerprint and key.

        Raises:
            DamagedFileError: the program that is next isn't what was written.
        """
        return map(self._verified_program, range(self.header.section_count))

    def entry(self) -> CompiledProgram:
        """Give the file's only program, with the whole file verified.

        Raises:
            DamagedFileError: the file isn't what was written, or doesn't hold one program.
        """
        self._verify_digest()  # covers the section too: one pass over the bytes is enough
        if self.header.section_count != 1:
            raise self._damaged(f"it holds {self.header.section_count} programs, not one", 0x24)
        if self.header.signature_size:  # which covers the section's digest, and not the file's
            program = self._verified_program(0, copied=False)
        else:
            row = self._row(0)
            program = self._program(0, row, *self._parts(0, row), copied=False)
        self._verify_kernel_count(len(program.kernel_names))
        return program

    def verify(self) -> None:
        """Verify every byte of the file, except for the signature.

        Raises:
            DamagedFileError: the file isn't what was written.
        """
        self._verify_digest()
        self._verify_kernel_count(sum(len(program.kernel_names) for program in self.programs()))

    def _damaged(self, reason: str, offset: int | None) -> DamagedFileError:
        return DamagedFileError(reason, offset, self.path)

    def _read_header(self) -> Header:
        size, start = len(self._view), self._index
        if start[: len(MAGIC)] != MAGIC:
            raise self._damaged("it doesn't start with MCLP", 0)
        version = int.from_bytes(start[len(MAGIC) : VERSION_END], "little")
        if size >= VERSION_END and version >> 16 != FORMAT_MAJOR:
            raise UnknownVersionError(version, 0x04, self.path)
        if size < HEADER.size + DIGEST_SIZE:
            raise self._damaged(f"it ends after {size} bytes", size)
        header = Header._make(HEADER.unpack(start))
        if header.total_size != size:
            raise self._damaged(f"{size} bytes where {header.total_size} were written", 0x0C)
        if header.vendor_header_offset != HEADER.size:
            raise self._damaged("the vendor header isn't where it belongs", 0x18)
        if header.section_table_offset != aligned(HEADER.size + header.vendor_header_size):
            raise self._damaged("the section table isn't where it belongs", 0x20)
        if header.digest_offset != header.kernel_table_offset + header.kernel_table_size:
            raise self._damaged("the digest isn't where it belongs", 0x28)
        if header.digest_offset + DIGEST_SIZE + header.signature_size != size:
            raise self._damaged("the signature isn't of the size that is left", 0x2C)
        if header.sections_offset > header.kernel_table_offset:
            raise self._damaged("the section table is too large", 0x24)
        return header

    def _read_fingerprints(self) -> list[str]:
        """Verify all before the sections, and give the fingerprints."""
        header, index = self.header, memoryview(self._index)
        vendor_end = HEADER.size + header.vendor_header_size
        covered = index[:INDEX_DIGEST_OFFSET], index[HEADER.size :]
        if digest_of(covered) != header.index_digest:
            raise self._damaged("the index digest is wrong", INDEX_DIGEST_OFFSET)
        if any(index[vendor_end : header.section_table_offset]):
            raise self._damaged("padding isn't zero", vendor_end)
        *fingerprints, rest = self._text(index[HEADER.size : vendor_end], HEADER.size).split("\0")
        if rest or any(one >= two for one, two in pairwise(fingerprints)):
            raise self._damaged("the fingerprints aren't in order", HEADER.size)
        return fingerprints

    def _row_or_end(self, number: int) -> SectionRow:
        """Give a row as it stands, or after the last one a row of where everything ends."""
        header = self.header
        if number < header.section_count:
            offset = header.section_table_offset + SECTION_ROW.size * number
            return SectionRow._make(SECTION_ROW.unpack_from(self._index, offset))
        ends = header.kernel_table_offset, 0, 0, header.digest_offset, 0
        return SectionRow(b"", len(self._fingerprints), *ends)

    def _row(self, number: int) -> SectionRow:
        """Give a row that fits to the one after it."""
        header = self.header
        row, following = self._row_or_end(number), self._row_or_end(number + 1)
        at = header.section_table_offset + SECTION_ROW.size * number
        step = following.fingerprint - row.fingerprint
        if step not in (0, 1) or row.fingerprint >= len(self._fingerprints):
            raise self._damaged("a program's fingerprint isn't the next one", at + 0x20)
        if step == 0 and row.key >= following.key:
            raise self._damaged("the programs aren't in order", at)
        if not header.sections_offset <= row.offset <= row.end == following.offset:
            raise self._damaged("a section isn't where it belongs", at + 0x24)
        if following.offset > header.kernel_table_offset:
            raise self._damaged("a section ends in the kernel table", at + 0x24)
        if not header.kernel_table_offset <= row.kernels_offset <= following.kernels_offset:
            raise self._damaged("a program's kernels aren't where they belong", at + 0x30)
        if following.kernels_offset > header.digest_offset:
            raise self._damaged("a program's kernels end after the kernel table", at + 0x30)
        return row

    def _verify_digest(self) -> None:
        end = self.header.digest_offset
        if digest_of([self._view[:end]]) != self._view[end : end + DIGEST_SIZE]:
            raise self._damaged("the digest is wrong", end)

    def _verify_kernel_count(self, count: int) -> None:
        if count != self.header.kernel_count:
            raise self._damaged(f"{self.header.kernel_count} kernels, of which {count} exist", 0x08)

    def _parts(self, number: int, row: SectionRow) -> tuple[memoryview, memoryview]:
        """Read a program's section and its records in the kernel table."""
        kernels_end = self._row_or_end(number + 1).kernels_offset
        section = self._view[row.offset : row.end]
        return memoryview(section), memoryview(self._view[row.kernels_offset : kernels_end])

    def _verified_program(self, number: int, *, copied: bool = True) -> CompiledProgram:
        row = self._row(number)
        section, kernels = self._parts(number, row)
        if digest_of([section, kernels]) != row.digest:
            raise self._damaged("a section's digest is wrong", row.offset)
        return self._program(number, row, section, kernels, copied=copied)

    def _program(
        self,
        number: int,
        row: SectionRow,
        section: memoryview,
        kernels: memoryview,
        *,
        copied: bool = True,
    ) -> CompiledProgram:
        start = row.binary_offset - row.offset
        end = start + row.binary_size
        for from_, to in ((row.metadata_size, start), (end, len(section))):
            if any(section[from_:to]):
                raise self._damaged("padding isn't zero", row.offset + from_)
        text = self._text(section[: row.metadata_size], row.offset)
        view = section[start:end]
        binary = bytes(view) if copied else view
        try:
            program = decode_metadata(
                text, row.key.hex(), self._fingerprints[row.fingerprint], binary
            )
        except ValueError as error:
            raise self._damaged(f"metadata can't be read ({error})", row.offset) from error
        if row.kernel_count != len(program.kernel_names):
            raise self._damaged(f"the metadata doesn't name {row.kernel_count} kernels", row.offset)
        if kernels != kernel_records(
            number, row.binary_offset, row.binary_size, program.kernel_names
        ):
            raise self._damaged("kernel table and metadata don't agree", row.kernels_offset)
        return program

    def _text(self, view: memoryview, offset: int) -> str:
        try:
            return str(view, *TEXT)
        except UnicodeDecodeError as error:
            raise self._damaged("text isn't UTF-8", offset + error.start) from error
