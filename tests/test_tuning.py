"""Tuned local sizes: kept beside their program, found for it alone, and no driver gets them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mace_cache import ProgramCache
from mace_cache.container import encode
from mace_cache.errors import ConfigurationError
from mace_cache.explanation import Origin
from mace_cache.tuning import tuning_key
from tests.helpers import (
    FakeFactory,
    FaultyStorage,
    entries,
    make_source,
    plant,
    read_entry,
    scale,
    start_child,
    watch_loads,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

SIZES = {("scale", "4096 3"): 128, ("scale", "16 1"): 16}


def tune(context: cl.Context, tag: str, sizes: dict[tuple[str, str], int] = SIZES) -> None:
    """Keep sizes for a program, and the program."""
    with ProgramCache() as cache:
        cache.keep_tuned_sizes(cache.build(context, make_source(tag)), sizes)


def record_in(directory: Path) -> Path:
    """The file of the one record in a cache directory."""
    (path,) = [path for path in entries(directory) if read_entry(path).tuned]
    return path


def test_sizes_are_kept_at_once(context: cl.Context, cache_directory: Path) -> None:
    """Other caches find them before the program itself is stored, and after that."""
    with ProgramCache() as cache, ProgramCache() as other:
        program = cache.build(context, make_source("kept"))
        cache.keep_tuned_sizes(program, SIZES)
        (path,) = entries(cache_directory)
        assert path.stem == tuning_key(cache.explain(program).key)
        assert other.tuned_sizes(other.build(context, make_source("kept"))) == SIZES
    with ProgramCache() as cache:
        program = cache.build(context, make_source("kept"))
        assert cache.explain(program).origin is Origin.STORAGE
        assert cache.tuned_sizes(program) == SIZES


def test_they_are_those_of_one_source_and_its_options(context: cl.Context) -> None:
    """Another source or other options have none."""
    tune(context, "one")
    with ProgramCache() as cache:
        assert cache.tuned_sizes(cache.build(context, make_source("another"))) == {}
        assert cache.tuned_sizes(cache.build(context, make_source("one"), "-DFACTOR=3")) == {}


def test_more_are_added_to_what_is_kept(context: cl.Context) -> None:
    """What others have tuned stays, a new size takes the place of an old one; not without bound."""
    tune(context, "more")
    tune(context, "more", {("scale", "4096 3"): 256, ("scale", "1 1"): 32})
    with ProgramCache() as cache:
        program = cache.build(context, make_source("more"))
        both = {**SIZES, ("scale", "4096 3"): 256, ("scale", "1 1"): 32}
        assert cache.tuned_sizes(program) == both
        cache.keep_tuned_sizes(program, {("scale", str(number)): 64 for number in range(2000)})
        assert list(cache.tuned_sizes(program))[::999] == [("scale", "1000"), ("scale", "1999")]


def test_numbers_of_numpy_are_kept(context: cl.Context) -> None:
    """As numbers of Python."""
    tune(context, "numpy", {("scale", "1"): np.int64(256)})
    with ProgramCache() as cache:
        sizes = cache.tuned_sizes(cache.build(context, make_source("numpy")))
    assert sizes == {("scale", "1"): 256}
    assert type(sizes["scale", "1"]) is int


@pytest.mark.parametrize(
    "sizes",
    [
        *({("scale", "1"): size} for size in (0, -64, 2**31, 1.5, "64", True, None)),
        {("scale", 1): 64},
        {"scale": 64},
        {("scale", "1", "2"): 64},
    ],
)
def test_what_is_no_local_size_is_refused(
    context: cl.Context, caplog: pytest.LogCaptureFixture, sizes: Any
) -> None:
    """It says which, and what is kept already stays; nothing of the call is kept."""
    tune(context, "checked")
    with ProgramCache() as cache:
        program = cache.build(context, make_source("checked"))
        with pytest.raises(ConfigurationError, match="whole number from 1 to 2147483647"):
            cache.keep_tuned_sizes(program, {("scale", "2"): 128, **sizes})
        assert cache.tuned_sizes(program) == SIZES
    assert caplog.text == ""


_TUNE_AT_THE_SAME_TIME = """
import sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context
with ProgramCache() as cache:
    program = cache.build(open_context(), make_source("crowd"))
    for number in range(100):
        cache.keep_tuned_sizes(program, {("scale", f"{sys.argv[1]} {number}"): 64})
        assert cache.tuned_sizes(program), "there is always a whole record"
"""


def test_processes_that_tune_at_the_same_time_leave_a_sound_record(context: cl.Context) -> None:
    """At any time there is one; what the last one of them wrote is there at the end."""
    children = [start_child(_TUNE_AT_THE_SAME_TIME, number) for number in range(2)]
    for child in children:
        _output, errors = child.communicate(timeout=120)
        assert (child.returncode, errors) == (0, "")
    with ProgramCache() as cache:
        sizes = cache.tuned_sizes(cache.build(context, make_source("crowd")))
    assert {("scale", "0 99"), ("scale", "1 99")} & sizes.keys()


@pytest.mark.parametrize("variable", ["MACE_CACHE_DISABLE", "MACE_CACHE_READ_ONLY"])
def test_nothing_is_kept_where_nothing_may_be_written(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """Disabled or read-only, no file appears, and nothing is raised."""
    monkeypatch.setenv(variable, "1")
    with ProgramCache() as cache:
        program = cache.build(context, make_source("unwritten"))
        cache.keep_tuned_sizes(program, SIZES)
        assert cache.tuned_sizes(program) == {}
    assert not cache_directory.exists()


def test_what_is_kept_is_used_where_it_may_only_be_read(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only cache and one that builds everything anew have the sizes; a disabled one not."""
    tune(context, "read")
    for variable, found in (
        ("MACE_CACHE_READ_ONLY", SIZES),
        ("MACE_CACHE_RECACHE", SIZES),
        ("MACE_CACHE_DISABLE", {}),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            with ProgramCache() as cache:
                assert cache.tuned_sizes(cache.build(context, make_source("read"))) == found


def test_a_damaged_record_is_no_record(context: cl.Context, cache_directory: Path) -> None:
    """Its sizes aren't used; the next are kept in its place."""
    tune(context, "damaged")
    path = record_in(cache_directory)
    path.write_bytes(path.read_bytes().replace(b"4096 3", b"4096 9"))
    with ProgramCache() as cache:
        program = cache.build(context, make_source("damaged"))
        assert cache.tuned_sizes(program) == {}
        cache.keep_tuned_sizes(program, {("scale", "1"): 32})
        assert cache.tuned_sizes(program) == {("scale", "1"): 32}


@pytest.mark.parametrize("method", ["find", "insert", "flush"])
def test_no_fault_of_a_storage_reaches_the_application(context: cl.Context, method: str) -> None:
    """What can't be kept or found isn't there."""
    storage = FaultyStorage(method, OSError(5, "a dead disk"))
    with ProgramCache(storage_factory=FakeFactory(storage), guard="off") as cache:
        program = cache.build(context, make_source("faulty"))
        cache.keep_tuned_sizes(program, SIZES)
        assert cache.tuned_sizes(program) == (SIZES if method == "flush" else {})
    assert method in storage.calls


def test_no_driver_is_given_a_record(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that somebody has put in the place of a program: that is built, and heals."""
    with ProgramCache() as cache:
        program = cache.build(context, make_source("record"))
        scale(program)
    (path,) = entries(cache_directory)
    sound = read_entry(path)
    plant(path, tuned=(("scale", "1", 64),))
    loads = watch_loads(monkeypatch)
    with ProgramCache() as cache:
        program = cache.build(context, make_source("record"))
        assert cache.explain(program).origin is Origin.SOURCE
        assert cache.tuned_sizes(program) == {}
    assert loads == []
    assert read_entry(path).tuned == ()
    assert read_entry(path).kernel_names == sound.kernel_names


def test_records_are_shipped_and_written_back(
    context: cl.Context, cache_directory: Path, tmp_path: Path
) -> None:
    """A bundle may hold them; from then on they lie in the local storage."""
    tune(context, "shipped")
    record = read_entry(record_in(cache_directory))
    other = replace(record, fingerprint="another device", tuned=(("scale", "1", 64),))
    for path in entries(cache_directory):
        path.unlink()
    bundle = tmp_path / "bundle.mclp"
    bundle.write_bytes(encode([record, other]))
    with ProgramCache(precompiled=[bundle]) as cache:
        assert cache.tuned_sizes(cache.build(context, make_source("shipped"))) == SIZES
    assert read_entry(record_in(cache_directory)) == record
