"""What is made of bytes from disk and memory, each as a function that a fuzzer can call.

A target returns, whatever bytes it is given: the errors that a room documents are caught here, and
all else, a wrong answer too, is a finding.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from mace_cache import _driver_library as driver_library
from mace_cache import reuse
from mace_cache._mounts import mount_of, parse_mounts
from mace_cache._preprocessor import Text, asks_nothing, pasted_words, scan
from mace_cache._signing_keys import SHARED, Key, TrustedKeys
from mace_cache.cli.examination import examine
from mace_cache.container import Bundle, annotate, decode_entry, diagnose, encode
from mace_cache.container.metadata import decode_metadata, encode_metadata
from mace_cache.container.plain import read_plain_entry
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    MAGIC,
    SECTION_ROW,
    Header,
    SectionRow,
    digest_of,
)
from mace_cache.errors import DamagedFileError, MaceFileError, ManifestError, SignatureError
from mace_cache.fingerprint import components, storage_name
from mace_cache.harvest import nvidia
from mace_cache.mace_file import MaceFile, read_mace_file, write_mace_file
from mace_cache.manifest import read_manifest
from mace_cache.rejections import _parse as parse_rejections
from mace_cache.signing import check_signature, sign
from mace_cache.statistics import Counts
from mace_cache.statistics import _parse as parse_counts
from mace_cache.storage import _usage as usage
from mace_cache.storage.base import check_name
from mace_cache.storage.recorded import parse_note

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TARGETS"]

_MOST_ROWS = 64


@cache
def _memory() -> int:
    return os.memfd_create("fuzz", os.MFD_CLOEXEC)


def _in_memory(data: bytes) -> int:
    memory = _memory()
    os.ftruncate(memory, 0)
    os.pwrite(memory, data, 0)
    return memory


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mace-cache-fuzz-")


def read_container(data: bytes) -> None:
    """An MCLP file: every reader comes to the same answer, and programs survive a rewriting."""
    fields = annotate(data)
    assert [field.offset + field.size for field in fields[:-1]] == [f.offset for f in fields[1:]]
    assert sum(field.size for field in fields) == len(data)
    problems = diagnose(data)
    examination = examine(data)
    assert bool(examination.problems) == bool(problems)
    try:
        bundle = Bundle(data)
        bundle.verify()
        programs = list(bundle.programs())
    except DamagedFileError:
        assert problems
        assert read_plain_entry(data) is None
        return
    assert not problems
    assert bundle.keys() == [(program.fingerprint, program.key) for program in programs]
    assert all(bundle.find(one.fingerprint, one.key) == one for one in programs)
    assert list(Bundle(encode(programs)).programs()) == programs
    assert read_plain_entry(data) in (None, *programs)
    with suppress(DamagedFileError):
        assert [decode_entry(data)] == programs


def read_sealed_container(data: bytes) -> None:
    """The same, with all digests set right: a fuzzer guesses none."""
    read_container(_sealed(data))


def _sealed(data: bytes) -> bytes:
    if len(data) < HEADER.size + DIGEST_SIZE:
        return data
    file = bytearray(data)
    file[: HEADER.size] = HEADER.pack(*_plausible(HEADER.unpack_from(file), len(file)))
    header = Header._make(HEADER.unpack_from(file))
    table = header.section_table_offset
    count = min(header.section_count, _MOST_ROWS, (len(file) - table) // SECTION_ROW.size)
    rows = [
        SectionRow._make(SECTION_ROW.unpack_from(file, table + SECTION_ROW.size * number))
        for number in range(count)
    ]
    ends = [*(row.kernels_offset for row in rows[1:]), header.digest_offset]
    for number, (row, end) in enumerate(zip(rows, ends, strict=False)):
        section, kernels = file[row.offset : row.end], file[row.kernels_offset : end]
        row_end = table + SECTION_ROW.size * (number + 1)
        file[row_end - DIGEST_SIZE : row_end] = digest_of([bytes(section + kernels)])
    index = file[:INDEX_DIGEST_OFFSET] + file[HEADER.size : header.sections_offset]
    file[INDEX_DIGEST_OFFSET : HEADER.size] = digest_of([bytes(index)])
    digest = digest_of([bytes(file[: header.digest_offset])])
    file[header.digest_offset : header.digest_offset + DIGEST_SIZE] = digest
    return bytes(file)


def _plausible(fields: tuple[int | bytes, ...], size: int) -> tuple[int | bytes, ...]:
    header = Header._make(fields)
    return header._replace(magic=MAGIC, version=FORMAT_MAJOR << 16, total_size=size)


def read_metadata(data: bytes) -> None:
    """What a section says of its program, as text that is any JSON or none."""
    try:
        program = decode_metadata(data.decode("utf-8", "surrogateescape"), "0" * 64, "", b"")
    except ValueError:
        return
    with suppress(UnicodeEncodeError):  # lone surrogates that no file can have brought
        text = encode_metadata(program).decode("utf-8", "surrogatepass")
        assert decode_metadata(text, program.key, "", b"") == program


def read_rejections(data: bytes) -> None:
    """A note of what a driver rejected."""
    note = parse_rejections(data)
    assert note is None or note[0] >= 0


def read_counts(data: bytes) -> None:
    """A line of the statistics: whatever it holds can be added up."""
    total = Counts()
    for line in data.splitlines():
        total.add(parse_counts(line))
        total.add(parse_counts(line))


def read_ledger(data: bytes) -> None:
    """How much the programs take."""
    used = usage._read(_in_memory(data))
    assert used is None or used >= 0


def read_note(data: bytes) -> None:
    """What a storage was given in a rehearsal."""
    note = parse_note(data)
    if note is not None:
        assert isinstance(note.storage + note.place, str)
        assert all(size is None or size >= 0 for size in note.programs.values())


def read_fingerprint(data: bytes) -> None:
    """The fingerprint that a stored program names, which decides whether it may be reused."""
    text = data.decode("utf-8", "surrogateescape")
    components(text)
    check_name(storage_name(text))
    own = "platform name: QUALCOMM Snapdragon(TM)\nplatform version: OpenCL 2.0 Date: 10/01/21\n"
    for policy in (None, *reuse.ReusePolicy):
        reuse.may_reuse(policy, text, own)
        reuse.may_reuse(policy, own, text)
        assert reuse.may_reuse(policy, text, text)


def read_native_code(data: bytes) -> None:
    """What NVIDIA's driver leaves in its cache."""
    nvidia.is_ptx(data)
    assert nvidia._is_whole_cubin(data) in (True, False)


def read_library(data: bytes) -> None:
    """A driver's library as it lies in memory, and the list of what is mapped there."""
    driver_library._mapped_files(data)
    memory = _in_memory(data)
    with suppress(driver_library._MemoryReadError, OSError, struct.error):
        library = driver_library._library(memory, driver_library._MappedFile("any", 0))
        if library is not None:
            driver_library._build_id(memory, library)
            driver_library._names(memory, library, driver_library._DT_NEEDED)
    with suppress(driver_library._MemoryReadError, OSError, struct.error):
        driver_library._driver(memory, 0, [driver_library._MappedFile("any", 0)])


def read_a_manifest(data: bytes) -> None:
    """A kernel manifest that somebody ships."""
    path = os.path.join(_directory().name, "manifest.json")
    with open(path, "wb") as file:
        file.write(data)
    with suppress(ManifestError):
        read_manifest(path)


def read_mounts(data: bytes) -> None:
    """The kernel's table of mounts, in which users choose names."""
    mounts = parse_mounts(data)
    mount_of("/", mounts)


def read_header(data: bytes) -> None:
    """A header that a source includes."""
    text = Text(data)
    scan(text)
    asks_nothing(text)
    pasted_words((text, text))


def read_mace(data: bytes) -> None:
    """A file of MACE's, as it is and with its checksum set right: what is read is written again."""
    for file in (data, data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")):
        try:
            found = read_mace_file(file)
        except MaceFileError:
            continue
        assert sum(len(program.binary) for program in found.programs) <= len(file)
        with suppress(ValueError):  # names that differ in spaces at their end only
            again = read_mace_file(write_mace_file(found))
            assert _sorted(again) == _sorted(found)


def _sorted(file: MaceFile) -> MaceFile:
    programs = sorted(
        (one.name, one.options.rstrip(" "), bytes(one.binary)) for one in file.programs
    )
    return file._replace(programs=tuple(programs))  # type: ignore[arg-type] # to be compared only


def read_signature(data: bytes) -> None:
    """What follows a signed file's digest: nobody without the key makes one that is believed."""
    key = Key(SHARED, b"0" * 32)
    try:
        bundle = Bundle(_sealed(data))
        check_signature(bundle, TrustedKeys((key,)), "a fuzzer")
    except (DamagedFileError, SignatureError):
        return
    assert _sealed(data) == sign(_sealed(data), key)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "container": read_container,
    "sealed_container": read_sealed_container,
    "metadata": read_metadata,
    "rejections": read_rejections,
    "counts": read_counts,
    "ledger": read_ledger,
    "note": read_note,
    "fingerprint": read_fingerprint,
    "native_code": read_native_code,
    "library": read_library,
    "manifest": read_a_manifest,
    "header": read_header,
    "mounts": read_mounts,
    "mace_file": read_mace,
    "signature": read_signature,
}
