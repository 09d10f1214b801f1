"""Build-ids: read from memory, absent where they can't be had, and never a crash."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache import _driver_library as room
from mace_cache._driver_library import build_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyopencl as cl

PROGRAM_HEADER_KINDS = {"note": 4, "dynamic": 2}


@pytest.fixture
def memory() -> Iterator[int]:
    """The memory of this process, as a file."""
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def mapped_file(name: str) -> Path:
    """Give the file of a library that is loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return Path(next(line.split()[-1] for line in lines if name in line.rpartition("/")[2]))


def library_with(kind: str, content: ctypes.Array[ctypes.c_char]) -> tuple[room._Library, object]:
    """Make a library of one segment, and what must be kept for as long as it is read."""
    fields = (PROGRAM_HEADER_KINDS[kind], 0, 0, ctypes.addressof(content), 0, 0, len(content), 0)
    headers = ctypes.create_string_buffer(room._PROGRAM_HEADER.pack(*fields))
    return room._Library("fake", 0, ctypes.addressof(headers), 1), headers


def test_the_build_id_is_that_of_the_driver(device: cl.Device) -> None:
    """PyPI's PoCL has one, and it is the one in its file."""
    found = dict(build_ids(device.platform.int_ptr))
    note = b"GNU\0" + bytes.fromhex(found["driver"])
    assert len(found["driver"]) >= 16
    with (
        mapped_file("libpocl").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        assert content.find(note) >= 0


def test_a_dispatch_table_on_the_heap(device: cl.Device) -> None:
    """NVIDIA's table isn't in its library, but the functions in it are."""
    expected = build_ids(device.platform.int_ptr)
    table = ctypes.c_void_p.from_address(device.platform.int_ptr).value
    assert table is not None
    copied = (ctypes.c_void_p * 1)(ctypes.c_void_p.from_address(table).value)
    platform = (ctypes.c_void_p * 1)(ctypes.addressof(copied))
    assert build_ids(ctypes.addressof(platform)) == expected != ()


@given(st.integers(min_value=-(2**63), max_value=2**65))
def test_any_pointer_is_survived(pointer: int) -> None:
    """A loader may hand out what isn't a pointer at all."""
    assert build_ids(pointer) == ()


@given(st.binary(min_size=64, max_size=64))
def test_any_content_is_survived(content: bytes) -> None:
    """A loader's own handle may begin with anything, also with an address that isn't mapped."""
    handle = ctypes.create_string_buffer(content)
    assert isinstance(build_ids(ctypes.addressof(handle)), tuple)


def test_a_loaders_own_handle_has_none() -> None:
    """A handle that points at itself leads to no library."""
    handle = (ctypes.c_void_p * 2)()
    handle[0] = ctypes.addressof(handle)
    assert build_ids(ctypes.addressof(handle)) == ()


def test_absent_on_other_systems(device: cl.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no ELF nothing is guessed."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert build_ids(device.platform.int_ptr) == ()


def test_absent_without_proc(device: cl.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may hide /proc."""

    def refuse(*_arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    assert build_ids(device.platform.int_ptr) == ()


def test_a_library_without_a_build_id_is_left_out(memory: int) -> None:
    """Nothing takes its place."""
    note = ctypes.create_string_buffer(b"\4\0\0\0\2\0\0\0\1\0\0\0GNU\0ab\0\0", 20)
    library, _kept = library_with("note", note)
    assert room._build_id(memory, library) == ""


def test_the_build_id_among_other_notes(memory: int) -> None:
    """Notes of other makers and kinds come before it; sizes are padded to four bytes."""
    other = b"\3\0\0\0\5\0\0\0\3\0\0\0Go\0\0abcde\0\0\0"
    wanted = b"\4\0\0\0\4\0\0\0\3\0\0\0GNU\0\xde\xad\xbe\xef"
    note = ctypes.create_string_buffer(other + wanted, len(other + wanted))
    library, _kept = library_with("note", note)
    assert room._build_id(memory, library) == "deadbeef"


def read_needed(memory: int, library: room._Library) -> list[str]:
    """What a library is linked with."""
    return room._names(memory, library, room._DT_NEEDED)


@given(st.binary(max_size=200))
def test_damaged_tables_end(content: bytes) -> None:
    """Notes and dynamic entries of any content: an answer or the one error."""
    table = ctypes.create_string_buffer(content, max(1, len(content)))
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        for kind, read in (("note", room._build_id), ("dynamic", read_needed)):
            library, _kept = library_with(kind, table)
            try:
                read(descriptor, library)
            except (room._MemoryReadError, struct.error):
                continue
    finally:
        os.close(descriptor)
