"""Precompiled programs, read from bytes."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

from mace_cache.container import encode
from mace_cache.errors import DamagedFileError
from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage
from tests.storage.conformance import (
    BAD_NAMES,
    FINGERPRINT,
    NAME,
    OTHER_FINGERPRINT,
    OTHER_NAME,
    ReadOnlyConformance,
    make_key,
    make_program,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mace_cache.program import CompiledProgram

OURS = make_program(0, b"ours")
THEIRS = make_program(0, b"theirs", OTHER_FINGERPRINT)


class TestReadOnlyByteStreamStorage(ReadOnlyConformance):
    """`ReadOnlyByteStreamStorage` does what every storage that only reads does."""

    def holding(
        self,
        directory: Path,  # noqa: ARG002 (as others)
        programs: Sequence[CompiledProgram],
    ) -> ReadOnlyByteStreamStorage:
        """Encode the programs; no directory is needed."""
        return _loaded(encode(programs))


def _loaded(data: bytes, name: str | None = None) -> ReadOnlyByteStreamStorage:
    storage = ReadOnlyByteStreamStorage(data, name)
    storage.load()
    return storage


def test_programs_of_several_fingerprints_are_told_apart() -> None:
    """The same key of two devices gives each its own binary, and all of them as candidates."""
    storage = _loaded(encode([OURS, THEIRS]))
    assert storage.find_for(FINGERPRINT, OURS.key) == OURS
    assert storage.find_for(OTHER_FINGERPRINT, OURS.key) == THEIRS
    assert storage.find_for("device name: unheard of\n", OURS.key) is None
    assert set(storage.candidates(OURS.key)) == {OURS, THEIRS}
    assert list(storage.candidates(make_key(1))) == []


def test_a_name_narrows_it_to_one_fingerprint() -> None:
    """With a storage name only that device's programs are seen."""
    storage = _loaded(encode([OURS, THEIRS, make_program(1)]), OTHER_NAME)
    assert list(storage.keys()) == [THEIRS.key]
    assert storage.find(THEIRS.key) == THEIRS
    assert storage.find_for(FINGERPRINT, OURS.key) is None
    assert set(_loaded(encode([OURS, THEIRS]), NAME).candidates(OURS.key)) == {OURS}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused(name: str) -> None:
    """The name follows the same rule as everywhere."""
    with pytest.raises(ValueError, match="can't name a storage"):
        ReadOnlyByteStreamStorage(b"", name)


def test_nothing_is_found_before_load_or_after_one_that_failed() -> None:
    """Bytes that weren't verified hold no programs."""
    assert ReadOnlyByteStreamStorage(encode([OURS])).find(OURS.key) is None
    storage = ReadOnlyByteStreamStorage(encode([OURS])[:-1], path="x.mclp")
    with pytest.raises(DamagedFileError, match=r"x\.mclp"):
        storage.load()
    assert storage.find(OURS.key) is None
    assert list(storage.keys()) == []


def test_a_damaged_binary_is_not_given_out() -> None:
    """A bit that flips in one program's binary is found when that program is asked for."""
    other = make_program(1, b"B" * 100)
    data = bytearray(encode([make_program(0, b"A" * 100), other]))
    data[data.index(b"A" * 100) + 50] ^= 1
    storage = _loaded(bytes(data))
    with pytest.raises(DamagedFileError):
        storage.find(make_key(0))
    assert storage.find(make_key(1)) == other


def test_bytes_of_any_kind(tmp_path: Path) -> None:
    """A memoryview, a bytearray and a mapped file serve as well as bytes."""
    data = encode([OURS])
    path = tmp_path / "bundle.mclp"
    path.write_bytes(data)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for form in (memoryview(data), bytearray(data), mapped):
        storage = ReadOnlyByteStreamStorage(form)
        storage.load()
        assert storage.find(OURS.key) == OURS


def test_binaries_are_views() -> None:
    """Nothing is copied: a program's binary lies in the bytes that were given."""
    data = encode([make_program(0, b"A" * 100)])
    found = _loaded(data).find(make_key(0))
    assert found is not None
    assert isinstance(found.binary, memoryview)
    assert found.binary.obj is data


def test_a_mapped_file_that_is_cut_off(tmp_path: Path) -> None:
    """To read behind its end would kill the process: each program is a damaged one instead."""
    path = tmp_path / "bundle.mclp"
    path.write_bytes(encode([make_program(0, b"A" * 10000)]))
    with path.open("rb") as file:
        storage = ReadOnlyByteStreamStorage(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    storage.load()
    os.truncate(path, 100)
    with pytest.raises(DamagedFileError, match="written to"):
        storage.find(make_key(0))


def test_an_index_that_is_overwritten_is_not_believed(tmp_path: Path) -> None:
    """Row and digest of a file written to in place are those that were verified when it opened."""
    path = tmp_path / "bundle.mclp"
    path.write_bytes(encode([make_program(0, b"A" * 100)]))
    with path.open("rb") as file:
        storage = ReadOnlyByteStreamStorage(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    storage.load()
    path.write_bytes(encode([make_program(0, b"B" * 100)]))
    with pytest.raises(DamagedFileError, match="digest is wrong"):
        storage.find(make_key(0))
