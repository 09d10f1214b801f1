"""MACE's own file: read and written, and any bytes whatever."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache.errors import MaceFileError
from mace_cache.mace_file import MaceFile, MaceProgram, read_mace_file, write_mace_file

PROGRAMS = (
    MaceProgram("addn", "-DDATA_TYPE=half -DINPUT_NUM=2", b"\x7fELF" * 100),
    MaceProgram("conv_2d", "", b""),
)
FILE = MaceFile(
    PROGRAMS, "QUALCOMM Snapdragon(TM), FULL_PROFILE, OpenCL 2.0", "QUALCOMM Adreno(TM)"
)

# By hand: field 1 of a length, in it field 1 (the key) and field 2 (the value), then the CRC32.
BYTES = b"\x0a\x0a\x0a\x04a -b\x12\x02\x01\x02"
NAMES = st.text(st.characters(exclude_characters=" ", exclude_categories=["Cs"]), max_size=8)
FILES = st.builds(
    MaceFile,
    st.dictionaries(
        st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
        st.binary(max_size=300),
    ).map(lambda found: tuple(MaceProgram(*key, binary) for key, binary in sorted(found.items()))),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


def sealed(message: bytes) -> bytes:
    """Give a message its checksum."""
    return message + zlib.crc32(message).to_bytes(4, "little")


def test_the_bytes() -> None:
    """They are a protobuf message and its CRC32."""
    file = MaceFile((MaceProgram("a", "-b", b"\x01\x02"),))
    assert write_mace_file(file) == sealed(BYTES)
    assert read_mace_file(sealed(BYTES)) == file
    assert read_mace_file(bytes(4)) == MaceFile(())


def test_what_is_written_is_read() -> None:
    """Platform, device, names, options and binaries; the order of programs doesn't matter."""
    data = write_mace_file(FILE)
    assert read_mace_file(data) == FILE
    assert write_mace_file(FILE._replace(programs=PROGRAMS[::-1])) == data
    assert isinstance(read_mace_file(data).programs[0].binary, memoryview)


@given(FILES)
def test_any_programs_survive(file: MaceFile) -> None:
    """Whatever names, options and sizes they have, if they can be told apart."""
    found = None
    with suppress(ValueError):
        found = read_mace_file(write_mace_file(file))
    keys = {f"{one.name} {one.options}".rstrip(" ") for one in file.programs}
    if found is None:
        assert len(keys) < len(file.programs)
        return
    assert (found.platform, found.device) == (file.platform, file.device)
    assert {f"{one.name} {one.options}".rstrip(" "): one.binary for one in found.programs} == {
        f"{one.name} {one.options}".rstrip(" "): one.binary for one in file.programs
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but the one error leaves the reader, as they are and with their checksum right."""
    for file in (data, sealed(data), sealed(b"\n" + bytes([len(data) & 0x7F]) + data)):
        with suppress(MaceFileError):
            found = read_mace_file(file)
            assert sum(len(one.binary) for one in found.programs) <= len(file)


@given(st.integers(0, len(write_mace_file(FILE)) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_found(place: int, bit: int) -> None:
    """By the CRC32, wherever it is."""
    data = bytearray(write_mace_file(FILE))
    data[place] ^= 1 << bit
    with pytest.raises(MaceFileError, match="CRC32"):
        read_mace_file(bytes(data))


@pytest.mark.parametrize("size", range(len(write_mace_file(FILE))))
def test_a_file_that_is_cut_off(size: int) -> None:
    """Nothing of it is believed."""
    if size != 4:
        with pytest.raises(MaceFileError):
            read_mace_file(write_mace_file(FILE)[:size])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x0a\x05abc", "5 bytes where 3 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "bytes where 0 are left"),
        (b"\x0a" + b"\xff" * 20, "a number doesn't end"),
        (b"\x0a", "a number doesn't end"),
        (b"\x0b\x0c", "no field"),
        (b"\x0e", "no field"),
        (b"\x02\x00", "no field"),
        (b"\x0a\x02\x0a\x01", "1 bytes where 0 are left"),
        (b"\x25abc", "4 bytes where 3 are left"),
    ],
)
def test_messages_that_are_none(message: bytes, reason: str) -> None:
    """Each is refused with what is wrong and where, before anything is allocated."""
    with pytest.raises(MaceFileError, match=reason) as caught:
        read_mace_file(sealed(message))
    assert 0 <= caught.value.offset <= len(message)


def test_fields_of_later_releases_are_passed_over() -> None:
    """Of every wire type, in the message and in a pair."""
    later = b"\x18\x96\x01" + b"\x25abcd" + b"\x29abcdefgh" + b"\x1a\x02hi"
    pair = later + BYTES[2:]
    message = later + b"\x0a" + bytes([len(pair)]) + pair
    assert read_mace_file(sealed(message)) == read_mace_file(sealed(BYTES))


@pytest.mark.parametrize("name", ["two words", "mace_opencl_precompiled_platform_info_key"])
def test_names_that_cannot_be_written(name: str) -> None:
    """They would be read as something else."""
    with pytest.raises(ValueError, match="can't be a program's name"):
        write_mace_file(MaceFile((MaceProgram(name, "", b"x"),)))
    with pytest.raises(ValueError, match="twice"):
        write_mace_file(MaceFile(PROGRAMS[:1] * 2))
