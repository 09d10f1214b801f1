"""The MCLP file: what is written is read back, and nothing else is, whatever the bytes."""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.container import (
    Bundle,
    annotate,
    decode_entry,
    diagnose,
    encode,
)
from mace_cache.container.plain import read_plain_entry
from mace_cache.errors import DamagedFileError, UnknownVersionError
from mace_cache.program import CompiledProgram

DATA = Path(__file__).parent / "data"
HEADER_SIZE, ROW_SIZE, DIGEST_SIZE = 0x50, 0x58, 32

GOLDEN = [
    CompiledProgram(
        key="0123456789abcdef" * 4,
        fingerprint="Example device\ndriver 1.0",
        binary=b"\x7fELF a binary",
        kernel_names=("add", "größer\udcff"),
        options="-DTILE=16 -I/pa\udcffth",
        build_log='warning: "x" unused\n',
        build_seconds=1.25,
        components=(("source", "ab" * 32), ("options", "-DTILE=16")),
        created=1.0,
    ),
    CompiledProgram(key="fe" * 32, fingerprint="Another device", binary=b"12345678"),
    CompiledProgram(key="00" * 32, fingerprint="Another device", binary=b"", kernel_names=("k",)),
]

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
seconds = st.floats(allow_nan=False, allow_infinity=False)
some_programs = st.builds(
    CompiledProgram,
    key=st.binary(min_size=32, max_size=32).map(bytes.hex),
    fingerprint=any_text.filter(lambda text: "\0" not in text),
    binary=st.binary(max_size=40),
    kernel_names=st.lists(any_text, max_size=3).map(tuple),
    options=any_text,
    build_log=any_text,
    build_seconds=seconds,
    components=st.lists(st.tuples(any_text, any_text), max_size=2).map(tuple),
    created=seconds,
    final=st.booleans(),
    tuned=st.lists(st.tuples(any_text, any_text, st.integers()), max_size=2).map(tuple),
)
program_lists = st.lists(some_programs, max_size=4, unique_by=lambda p: (p.fingerprint, p.key))
small_numbers = (
    st.integers(0, 2**32 - 1) | st.integers(0, 700) | st.sampled_from([2**31, 2**32 - 1])
)


def in_order(programs: list[CompiledProgram]) -> list[CompiledProgram]:
    """The order of a file."""
    return sorted(programs, key=lambda program: (program.fingerprint, program.key))


def sealed(data: bytes | bytearray) -> bytes:
    """Make every digest anew that the fields lead to, as one who crafts a file would."""
    data = bytearray(data)

    def number(offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], "little")

    def digest(*ranges: tuple[int, int]) -> bytes:
        return hashlib.sha256(b"".join(data[start:end] for start, end in ranges)).digest()

    table, count, digest_offset = number(0x20), number(0x24), number(0x28)
    for row in range(table, min(table + ROW_SIZE * count, len(data) - ROW_SIZE), ROW_SIZE):
        offset, metadata, binary, kernels = struct.unpack_from("<4I", data, row + 0x24)
        after = row + ROW_SIZE
        kernels_end = digest_offset if after >= table + ROW_SIZE * count else number(after + 0x30)
        end = up(up(offset + metadata) + binary)
        data[row + 0x38 : after] = digest((offset, end), (kernels, kernels_end))
    data[0x30:0x50] = digest((0, 0x30), (0x50, table + ROW_SIZE * count))
    if digest_offset + DIGEST_SIZE <= len(data):
        data[digest_offset : digest_offset + DIGEST_SIZE] = digest((0, digest_offset))
    return bytes(data)


def up(offset: int) -> int:
    """The next multiple of 8."""
    return -(-offset // 8) * 8


def read_all(data: bytes) -> list[CompiledProgram] | None:
    """Read in every way; None where the file is refused. Anything but the one error class fails."""
    try:
        bundle = Bundle(data)
        bundle.verify()
        programs = list(bundle.programs())
    except DamagedFileError:
        programs = None
    try:
        entry = [decode_entry(data)]
    except DamagedFileError:
        entry = None
    plain = read_plain_entry(data)
    if plain is not None:
        assert Bundle(data).entry() == plain
    if programs is not None:
        assert encode(programs)
        assert entry == (programs if len(programs) == 1 else None)
    check_annotation(data, valid=programs is not None)
    return programs


def find_each(data: bytes, wanted: list[CompiledProgram]) -> list[CompiledProgram]:
    """What a bundle still finds, program by program."""
    found = []
    for program in wanted:
        try:
            found.append(Bundle(data).find(program.fingerprint, program.key))
        except DamagedFileError:
            found.append(None)
    return [program for program in found if program is not None]


def check_annotation(data: bytes, *, valid: bool) -> None:
    """Every byte is in one field, fields are in order, and problems are where there are any."""
    fields = annotate(data)
    cursor = 0
    for field in fields:
        assert field.offset == cursor
        assert field.size >= 0
        assert field.value.isprintable()
        cursor += field.size
    assert cursor == len(data)
    errors = diagnose(data, "some file")
    assert bool(errors) != valid
    assert all(type(error) is DamagedFileError for error in errors)
    assert [error.offset for error in errors] == [f.offset for f in fields if f.problem]


@given(program_lists)
def test_any_programs_survive_a_round_trip(programs: list[CompiledProgram]) -> None:
    """What was encoded is read back, whole and program by program, in whatever order it came."""
    data = encode(programs)
    assert data == encode(programs[::-1])
    assert read_all(data) == in_order(programs)
    bundle = Bundle(data, "a path")
    assert bundle.keys() == [(p.fingerprint, p.key) for p in in_order(programs)]
    assert find_each(data, programs) == programs
    assert bundle.signature == b""
    if len(programs) == 1:
        assert decode_entry(memoryview(data)) == programs[0]


@given(st.binary(max_size=600))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Bytes that nobody wrote give the one error, with and without a header before them."""
    assert read_all(data) is None
    assert read_all(b"MCLP\0\0\1\0" + data) is None
    assert read_all(sealed((b"MCLP\0\0\1\0" + data).ljust(200, b"\0"))) is None


@pytest.mark.parametrize("programs", [GOLDEN[:1], GOLDEN, []], ids=["entry", "bundle", "empty"])
def test_a_file_cut_off_anywhere_is_refused(programs: list[CompiledProgram]) -> None:
    """No beginning of a file is a file, nor is a file with something after it."""
    data = encode(programs)
    for size in range(len(data)):
        assert read_all(data[:size]) is None
    assert read_all(data + b"\0") is None


@pytest.mark.parametrize("programs", [GOLDEN[:1], GOLDEN], ids=["entry", "bundle"])
def test_any_flipped_bit_is_noticed(programs: list[CompiledProgram]) -> None:
    """With one wrong bit a file is refused, and a lazy reader finds only what was written."""
    data = bytearray(encode(programs))
    (sections,) = [f.offset for f in annotate(bytes(data)) if f.name == "section[0].metadata"]
    for offset in range(len(data)):
        bit = 1 << offset % 8
        data[offset] ^= bit
        damaged = bytes(data)
        assert read_all(damaged) is None
        assert all(program in programs for program in find_each(damaged, programs))
        if offset < sections:
            with pytest.raises(DamagedFileError):
                Bundle(damaged)
        data[offset] ^= bit


def fields_of(data: bytes) -> list[int]:
    """The offsets of all numbers of 32 bits in a file of the golden programs."""
    starts = [f.offset for f in annotate(data) if f.size == 4 and "header.magic" not in f.name]
    return [offset for offset in starts if offset % 4 == 0]


ENTRY, BUNDLE = encode(GOLDEN[:1]), encode(GOLDEN)
(BINARY,) = [up(f.offset + f.size) for f in annotate(BUNDLE) if f.name == "section[0].metadata"]


@settings(max_examples=400)
@given(st.data(), small_numbers, st.sampled_from([ENTRY, BUNDLE]))
def test_any_value_in_any_field_is_noticed(pick: Any, value: int, original: bytes) -> None:
    """A field of any value gives what was written or the error, with right digests too."""
    offset = pick.draw(st.sampled_from(fields_of(original)))
    data = bytearray(original)
    struct.pack_into("<I", data, offset, value)
    programs = read_all(bytes(data))
    assert programs is None or bytes(data) == original
    resealed = sealed(data)
    again = read_all(resealed)
    if offset >= 0x08:
        assert again is None or resealed == original
        assert all(program in GOLDEN for program in find_each(resealed, GOLDEN))


def crafted(fields: dict[str, int]) -> bytes:
    """The golden bundle with other values in some fields, and right digests behind them."""
    data = bytearray(BUNDLE)
    offsets = {field.name: field.offset for field in annotate(BUNDLE)}
    for name, value in fields.items():
        struct.pack_into("<I", data, offsets[name], value)
    return sealed(data)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"header.kernel_count": 4}, "4 kernels, of which 3 exist"),
        ({"header.vendor_header_offset": 0x58}, "the vendor header isn't where"),
        ({"header.vendor_header_size": 42}, "the fingerprints aren't in order"),
        ({"vendor_header.fingerprint[0]": 0x7A7A7A7A}, "the fingerprints aren't in order"),
        ({"vendor_header.fingerprint[0]": 0xFFFFFFFF}, "text isn't UTF-8"),
        ({"header.section_table_offset": 0x88}, "the section table isn't where"),
        ({"header.section_count": 1000}, "the section table is too large"),
        ({"header.section_count": 2}, "the sections aren't where"),
        ({"header.kernel_table_size": 8}, "the digest isn't where"),
        ({"header.signature_size": 1}, "the signature isn't of the size"),
        ({"section_table[0].fingerprint": 1}, "the sections aren't where"),
        ({"section_table[1].fingerprint": 2}, "fingerprint isn't the next"),
        ({"section_table[2].fingerprint": 2}, "fingerprint isn't the next"),
        ({"section_table[1].key": 0, "section_table[0].key": 1}, "programs aren't in order"),
        ({"section_table[0].offset": 0}, "the sections aren't where"),
        ({"section_table[1].offset": 0x800}, "a section isn't where"),
        ({"section_table[0].binary_size": 9}, "a section isn't where"),
        (
            {"section_table[0].binary_size": 0x10000, "section_table[1].offset": 0x10000 + BINARY},
            "a section ends in the kernel table",
        ),
        ({"section_table[1].kernels_offset": 0}, "kernels aren't where"),
        ({"section_table[1].kernels_offset": 1 << 31}, "kernels end after"),
        ({"section_table[0].kernel_count": 2}, "doesn't name 2 kernels"),
        ({"kernel_table[0].section": 1}, "don't agree"),
        ({"kernel_table[0].binary_offset": 0}, "don't agree"),
        ({"kernel_table[0].name_size": 1 << 31}, "don't agree"),
    ],
)
def test_each_check_behind_the_digests_is_made(fields: dict[str, int], reason: str) -> None:
    """A file that contradicts itself is refused for that, at an offset inside the file."""
    data = crafted(fields)
    with pytest.raises(DamagedFileError, match=reason) as caught:
        Bundle(data).verify()
    assert caught.value.offset is not None
    assert caught.value.offset < len(data)
    assert read_all(data) is None


@settings(max_examples=300)
@given(st.data(), st.sampled_from([ENTRY, BUNDLE]))
def test_any_bytes_behind_right_digests_are_read_or_refused(pick: Any, original: bytes) -> None:
    """The checks behind the digests hold by themselves: a crafted file is a file or an error."""
    data = bytearray(original)
    for _ in range(pick.draw(st.integers(1, 3))):
        data[pick.draw(st.integers(0, len(data) - DIGEST_SIZE - 1))] = pick.draw(
            st.integers(0, 255)
        )
    programs = read_all(sealed(data))
    if programs is not None:
        assert read_all(encode(programs)) == programs


def with_metadata(text: bytes) -> bytes:
    """An entry without kernels whose metadata is *text*."""
    program = CompiledProgram("00" * 32, "device", b"binary!!")
    data = encode([program])
    row = up(HEADER_SIZE + len("device\0"))
    offset, size = struct.unpack_from("<2I", data, row + 0x24)
    head, tail = bytearray(data[:offset]), data[up(offset + size) :]
    grown = up(len(text)) - up(size)
    struct.pack_into("<I", head, row + 0x28, len(text))
    for moved in (0x0C, 0x10, 0x28, row + 0x30):
        struct.pack_into("<I", head, moved, struct.unpack_from("<I", head, moved)[0] + grown)
    return sealed(bytes(head) + text + bytes(-len(text) % 8) + tail)


MEMBERS: dict[str, Any] = {
    "build_log": "",
    "build_seconds": 0.5,
    "components": [["a", "b"]],
    "created": 3,
    "kernels": [],
    "options": "",
}


@given(some_programs)
def test_every_entry_is_read_in_one_go(program: CompiledProgram) -> None:
    """What this version writes isn't left to the slower reader."""
    assert read_plain_entry(encode([program])) == program


def test_unknown_members_are_passed_over() -> None:
    """A later minor version may add to the metadata and raise the version."""
    data = bytearray(with_metadata(json.dumps({**MEMBERS, "new": [{"x": None}]}).encode()))
    data[4] = 7
    (program,) = read_all(sealed(data)) or []
    assert (program.build_seconds, program.created, program.binary) == (0.5, 3.0, b"binary!!")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("kernels", "name"),
        ("kernels", ["a kernel that the table doesn't have"]),
        ("kernels", [1]),
        ("kernels", {}),
        ("options", 1),
        ("options", None),
        ("build_log", ["x"]),
        ("build_seconds", "1"),
        ("build_seconds", True),
        ("final", 1),
        ("signer", 1),
        ("signer", "\x1b]0;"),
        ("tuned", {}),
        ("tuned", [["kernel", "shape"]]),
        ("tuned", [["kernel", "shape", 64.0]]),
        ("tuned", [["kernel", "shape", True]]),
        ("tuned", [["kernel", 1, 64]]),
        ("tuned", ["abc"]),
        ("build_seconds", 10**400),
        ("build_seconds", float("nan")),
        ("created", float("inf")),
        ("created", None),
        ("components", {}),
        ("components", [["a"]]),
        ("components", [["a", "b", "c"]]),
        ("components", ["ab"]),
        ("components", [["a", 1]]),
    ],
)
def test_a_member_of_a_wrong_type_is_refused(member: str, value: object) -> None:
    """Metadata of right digests is still checked member by member."""
    assert read_all(with_metadata(json.dumps({**MEMBERS, member: value}).encode())) is None


@pytest.mark.parametrize("missing", sorted(MEMBERS))
def test_a_missing_member_is_refused(missing: str) -> None:
    """Every member of version 1.0 is required."""
    members = {name: value for name, value in MEMBERS.items() if name != missing}
    assert read_all(with_metadata(json.dumps(members).encode())) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"{} {}",
        b"[" * 200_000,
        b'{"kernels":' * 100_000,
        b'{"created":' + b"9" * 5000 + b"}",
        json.dumps({**MEMBERS, "created": "?"}).replace('"?"', "1e999").encode(),
        json.dumps({**MEMBERS, "new": "?"}).replace('"?"', "-Infinity").encode(),
    ],
    ids=range(11),
)
def test_metadata_that_is_no_such_object_is_refused(text: bytes) -> None:
    """Other JSON, no JSON, no text, depth without end, and numbers without end."""
    assert read_all(with_metadata(text)) is None


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (replace(GOLDEN[0], key="AB" * 32), "isn't a program key"),
        (replace(GOLDEN[0], key="ab" * 31), "isn't a program key"),
        (replace(GOLDEN[0], key="ab" * 32 + "\n"), "isn't a program key"),
        (replace(GOLDEN[0], fingerprint="a\0b"), "NUL"),
        (replace(GOLDEN[0], created=float("nan")), "JSON"),
        (replace(GOLDEN[0], build_seconds=float("inf")), "JSON"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(program: CompiledProgram, message: str) -> None:
    """A value outside the format is an error of the writer, at once."""
    with pytest.raises(ValueError, match=message):
        encode([program])


def test_a_program_twice_is_not_written() -> None:
    """A fingerprint and key name one program of a file."""
    with pytest.raises(ValueError, match="twice"):
        encode([GOLDEN[0], replace(GOLDEN[0], binary=b"another")])


def test_more_than_4_gib_are_not_written() -> None:
    """Offsets have 32 bits: the size is checked before anything is copied."""
    large = bytes(1 << 20)
    programs = [replace(GOLDEN[1], key=f"{number:064x}", binary=large) for number in range(4096)]
    with pytest.raises(ValueError, match="4 GiB"):
        encode(programs)


def test_an_entry_is_a_file_of_one_program() -> None:
    """A bundle isn't taken for an entry."""
    for programs in ([], GOLDEN):
        with pytest.raises(DamagedFileError, match=f"holds {len(programs)} programs"):
            decode_entry(encode(programs))


@given(st.integers(0, 2**32 - 1).filter(lambda version: version >> 16 != 1), st.binary(max_size=99))
def test_another_major_version_has_its_own_error(version: int, rest: bytes) -> None:
    """Whatever stands behind the version, it is the version that is named: for caches, a miss."""
    data = b"MCLP" + struct.pack("<I", version) + rest
    for read in (decode_entry, Bundle):
        with pytest.raises(UnknownVersionError) as caught:
            read(data, "a file")
        assert (caught.value.version, caught.value.offset) == (version, 4)
        assert caught.value.path == "a file"
    check_annotation(data, valid=False)


def test_a_missing_program_is_none() -> None:
    """No unknown fingerprint, no unknown key and no key in another spelling is found."""
    bundle = Bundle(BUNDLE)
    program = GOLDEN[1]
    assert bundle.find(program.fingerprint, program.key) == program
    assert bundle.find("nowhere", program.key) is None
    assert bundle.find(program.fingerprint, "11" * 32) is None
    assert bundle.find(GOLDEN[0].fingerprint, program.key) is None
    for key in ("", "no key", program.key.upper(), program.key[:62]):
        assert bundle.find(program.fingerprint, key) is None


def test_opening_a_bundle_reads_no_section(tmp_path: Path) -> None:
    """A mapped bundle opens with its sections destroyed; only the programs there are refused."""
    sizes = [(f.offset, f.size) for f in annotate(BUNDLE) if f.name == "section[2].metadata"]
    ((start, size),) = sizes
    data = bytearray(BUNDLE)
    data[start : start + size] = bytes(size)
    path = tmp_path / "bundle.mclp"
    path.write_bytes(data)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    bundle = Bundle(mapped, str(path))
    assert len(bundle.keys()) == len(GOLDEN)
    assert find_each(bytes(data), in_order(GOLDEN)) == in_order(GOLDEN)[:2]
    with pytest.raises(DamagedFileError, match=str(path)):
        bundle.find(GOLDEN[0].fingerprint, GOLDEN[0].key)
    with pytest.raises(DamagedFileError, match="the digest is wrong"):
        bundle.verify()


@given(st.binary(min_size=1, max_size=80))
def test_a_signature_is_passed_over_and_given(signature: bytes) -> None:
    """A signed file is read like any other, and its signature handed out as it stands."""
    data = bytearray(BUNDLE + signature)
    struct.pack_into("<I", data, 0x0C, len(data))
    struct.pack_into("<I", data, 0x2C, len(signature))
    assert read_all(sealed(data)) == in_order(GOLDEN)
    assert Bundle(sealed(data)).signature == signature


def test_a_crafted_table_does_not_make_reading_slow() -> None:
    """Rows that all claim the same megabyte are refused after at most one digest of it."""
    rows, filler = 20_000, 1 << 20
    table = b"".join(
        struct.pack("<32s6I32s", bytes(32), 0, 0x60, 0, filler, 0x60, 0, bytes(32))
        for _ in range(rows)
    )
    body = b"device\0\0" + bytes(8) + table + bytes(filler)
    end = HEADER_SIZE + len(body)
    numbers = [0x10000, 0, end + 32, end, 0, 0x50, 16, 0x60, rows, end, 0]
    data = b"MCLP" + struct.pack("<11I", *numbers) + bytes(32) + body + bytes(32)
    digest = hashlib.sha256(data[:0x30] + data[0x50 : 0x60 + len(table)]).digest()
    data = data[:0x30] + digest + data[0x50:]
    assert read_all(data) is None


def test_a_diagnosis_names_every_fault() -> None:
    """Two faults far from each other are both found, each where it is."""
    data = bytearray(BUNDLE)
    fields = {field.name: field for field in annotate(BUNDLE)}
    damaged = ("section_table[1].key", "kernel_table[0].binary_size", "section[2].binary")
    for name in damaged:
        data[fields[name].offset] ^= 0xFF
    reasons = [error.reason for error in diagnose(bytes(data))]
    for name in ("header.index_digest", "kernel_table[0].binary_size", "section_table[2].digest"):
        assert any(reason.startswith(name) for reason in reasons)


def test_golden_files_are_still_written_and_read() -> None:
    """The bytes of version 1.0 stay what they are: a change of the format shows here."""
    assert (DATA / "entry.mclp").read_bytes() == ENTRY
    assert (DATA / "bundle.mclp").read_bytes() == BUNDLE
    assert decode_entry((DATA / "entry.mclp").read_bytes()) == GOLDEN[0]


def second_reader(data: bytes) -> list[dict[str, Any]]:
    """Read a file by ``docs/format.md`` and nothing of the library."""

    def number(offset: int) -> int:
        return int(struct.unpack_from("<I", data, offset)[0])

    assert data[:4] == b"MCLP"
    assert number(0x04) >> 16 == 1
    assert number(0x0C) == len(data)
    digest_offset = len(data) - 32 - number(0x2C)
    assert number(0x28) == digest_offset
    assert data[digest_offset : digest_offset + 32] == hashlib.sha256(data[:digest_offset]).digest()
    table = up(0x50 + number(0x1C))
    assert (number(0x18), number(0x20)) == (0x50, table)
    fingerprints = data[0x50 : 0x50 + number(0x1C)].split(b"\0")[:-1]
    offset, kernels = table + 0x58 * number(0x24), number(0x10)
    assert number(0x14) == digest_offset - kernels
    index = hashlib.sha256(data[:0x30] + data[0x50:offset]).digest()
    assert data[0x30:0x50] == index
    programs = []
    for section in range(number(0x24)):
        row = table + 0x58 * section
        assert (number(row + 0x24), number(row + 0x30)) == (offset, kernels)
        metadata_size, binary_size = number(row + 0x28), number(row + 0x2C)
        metadata = data[offset : offset + metadata_size].decode("utf-8", "surrogatepass")
        binary = up(offset + metadata_size)
        end = up(binary + binary_size)
        start, names = kernels, []
        for _ in range(number(row + 0x34)):
            assert [number(kernels), number(kernels + 4)] == [section, binary]
            size = number(kernels + 0x0C)
            assert number(kernels + 8) == binary_size
            name = data[kernels + 0x10 : kernels + 0x10 + size]
            names.append(name.decode("utf-8", "surrogatepass"))
            kernels = up(kernels + 0x10 + size)
        covered = data[offset:end] + data[start:kernels]
        assert data[row + 0x38 : row + 0x58] == hashlib.sha256(covered).digest()
        fingerprint = fingerprints[number(row + 0x20)].decode("utf-8", "surrogatepass")
        members = json.loads(metadata)
        assert members["kernels"] == names
        content = data[binary : binary + binary_size]
        key = data[row : row + 32].hex()
        programs.append({**members, "fingerprint": fingerprint, "key": key, "binary": content})
        offset = end
    assert (offset, kernels) == (number(0x10), digest_offset)
    return programs


@given(program_lists)
def test_a_second_reader_reads_the_same(programs: list[CompiledProgram]) -> None:
    """The specification is enough: a reader written from it alone agrees."""
    read = second_reader(encode(programs))
    assert [p["binary"] for p in read] == [p.binary for p in in_order(programs)]
    for members, program in zip(read, in_order(programs), strict=True):
        assert members["key"] == program.key
        assert members["fingerprint"] == program.fingerprint
        assert tuple(members["kernels"]) == program.kernel_names
        assert tuple(map(tuple, members["components"])) == program.components
        for name in ("options", "build_log", "build_seconds", "created"):
            assert members[name] == getattr(program, name)
