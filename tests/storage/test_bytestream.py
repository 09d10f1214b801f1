"""Precompiled programs, read from bytes."""

from __future__ import annotations

import logging
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from mace_cache._report import forget_reported
from mace_cache.container import encode
from mace_cache.errors import DamagedFileError
from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage, open_precompiled
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


def test_the_first_precompiled_file_that_exists_is_used(tmp_path: Path) -> None:
    """As in MACE: later paths aren't looked at; the bytes come after the file."""
    for name, program in (("b", OURS), ("c", THEIRS)):
        (tmp_path / name).write_bytes(encode([program]))
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    from_file, from_bytes = open_precompiled(paths, encode([THEIRS]))
    assert str(from_file) == str(tmp_path / "b")
    assert list(from_file.candidates(OURS.key)) == [OURS]
    assert list(from_bytes.candidates(OURS.key)) == [THEIRS]
    assert open_precompiled([tmp_path / "a"]) == ()


def test_what_cannot_be_used_is_reported_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 1: a broken precompiled file costs a warning, not the application."""
    forget_reported()
    (tmp_path / "damaged").write_bytes(encode([OURS])[:-1])
    with caplog.at_level(logging.WARNING):
        assert open_precompiled([tmp_path / "damaged"]) == ()
        assert open_precompiled([tmp_path]) == ()
    assert len(caplog.records) == 2


def test_a_fifo_holds_nobody_up_and_a_link_is_followed(tmp_path: Path) -> None:
    """What isn't a file is left out; where an application's link points is its own business."""
    os.mkfifo(tmp_path / "fifo")
    assert open_precompiled([tmp_path / "fifo"]) == ()
    (tmp_path / "bundle").write_bytes(encode([OURS]))
    (tmp_path / "link").symlink_to("bundle")
    (storage,) = open_precompiled([tmp_path / "missing", tmp_path / "link"])
    assert storage.find(OURS.key) == OURS
