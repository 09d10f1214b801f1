"""What a missed program differs in from the nearest one; what is noted and told of it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

import mace_cache
from mace_cache import Outcome, ProgramCache
from mace_cache._directories import Place
from mace_cache.missed import MOST_NOTED, Missed, MissedFile
from mace_cache.nearest import Traits, find_nearest, read_traits
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.tracing import Tracer
from tests.cli.conftest import FINGERPRINT, make_program, one_line, run
from tests.helpers import FakeFactory, FaultyStorage, make_source, plant, read_entry

if TYPE_CHECKING:
    from pathlib import Path

COMPONENTS = (
    ("source", "1" * 64),
    ("options", "-DA=1 -O2"),
    ("header <a.h>", "-I 1 abc"),
)
MISSED = Missed("miss", "no tier has it", 0.5, "f" * 64, ("one", "two"), (FINGERPRINT,), COMPONENTS)


def stored(key: str = "a", **changes: Any) -> Traits:
    """A program that is stored, like the missed one but for these components of its key."""
    components = tuple((name, changes.pop(name, value)) for name, value in COMPONENTS)
    known: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "kernel_names": MISSED.kernel_names,
        "components": components,
    }
    return Traits(key=key * 64, **{**known, **changes})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (stored(source="2" * 64), "the source"),
        (stored(options="-DA=2 -O2"), "options (-DA=2 before, -DA=1 now)"),
        (stored(options="-O2"), "options (none before, -DA=1 now)"),
        (stored(options="-O2 -DA=1"), "the order of the options"),
        (stored(**{"header <a.h>": "absent"}), "header <a.h>"),
        (
            stored(fingerprint=FINGERPRINT + "device driver version: 3.0\n"),
            "driver version (3.0 before, none now)",
        ),
        (
            stored(fingerprint=FINGERPRINT + "environment POCL_X: 1\n"),
            "environment variable POCL_X (1 before, none now)",
        ),
        (
            stored(options="-D" + "B" * 100 + " -DA=1 -O2"),
            f"options (-D{'B' * 58}... before, none now)",
        ),
    ],
    ids=str,
)
def test_which_part_differs(other: Traits, difference: str) -> None:
    """Source, header, options, driver or environment, by its name."""
    nearest = find_nearest(MISSED, [other])
    assert nearest is not None
    assert nearest.differences == (difference,)
    assert str(nearest) == f"it differs from {'a' * 12} in {difference}"


def test_the_nearest_counts() -> None:
    """The same source before another; then the fewest differences; then the latest."""
    several = [
        stored("0", source="2" * 64),
        stored("1", options="-DA=2", **{"header <a.h>": "absent"}),
        stored("2", options="-DA=2", created=1.0),
        stored("3", options="-DA=3", created=2.0),
    ]
    for known in (several, several[::-1]):
        nearest = find_nearest(MISSED, known)
        assert nearest is not None
        assert nearest.key[0] == "3"


def test_nothing_is_like_it() -> None:
    """Another source with other kernels is another program; itself tells nothing."""
    assert find_nearest(MISSED, [stored(source="2" * 64, kernel_names=("one",))]) is None
    nameless = MISSED._replace(kernel_names=())
    assert find_nearest(nameless, [stored(source="2" * 64, kernel_names=())]) is None
    assert find_nearest(MISSED, [stored()]) is None
    assert find_nearest(MISSED, []) is None


def test_many_differences_are_counted() -> None:
    """A line names the first few."""
    other = stored(fingerprint="".join(f"device name {n}: x\n" for n in range(9)))
    nearest = find_nearest(MISSED, [other])
    assert nearest is not None
    assert str(nearest).endswith(f"and {len(nearest.differences) - 4} more")


def test_reading_what_is_stored(cache_directory: Path) -> None:
    """It changes nothing, not even the time of use, and passes over what is damaged."""
    factory = DirectoryStorageFactory(cache_directory)
    programs = [make_program(name) for name in "abc"]
    for program in programs:
        factory.create_storage("storage").insert(program.key, program)
    files = sorted(cache_directory.rglob("*.mclp"))
    for file in files:
        os.utime(file, (1e9, 1e9))
    damaged = next(file for file in files if file.stem == programs[0].key)
    damaged.write_bytes(b"damaged")
    os.utime(damaged, (1e9, 1e9))
    read = {traits.key: traits for traits in read_traits(factory)}
    assert read.keys() == {program.key for program in programs[1:]}
    assert read[programs[1].key].components == programs[1].components
    assert {file.stat().st_mtime for file in files} == {1e9}


def test_a_storage_that_fails_is_passed_over() -> None:
    """Another one is read all the same."""
    storages = {
        "a": FaultyStorage("load", OSError(5, "broken")),
        "b": FaultyStorage("find", ValueError("broken")),
        "c": FaultyStorage(),
    }
    for storage in storages.values():
        program = make_program("p")
        storage.insert(program.key, program)
    assert [traits.key for traits in read_traits(FakeFactory(**storages))] == [program.key]


# The file of the last run


def test_the_last_run(tmp_path: Path) -> None:
    """What one process wrote several times is put together."""
    file = MissedFile(Place(str(tmp_path / "place")))
    assert file.last() is None
    file.append([MISSED], 1, 2)
    file.append([MISSED._replace(key="")], 2, 1)
    file.append([], 0, 0)
    last = file.last()
    assert last is not None
    assert last.missed == (MISSED, MISSED._replace(key=""))
    assert (last.hits, last.left_out) == (3, 1)
    assert last.command[0] == sys.orig_argv[0]
    (path,) = (tmp_path / "place").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_process_is_another_run(tmp_path: Path) -> None:
    """Only the one that wrote last counts; a damaged line is left out."""
    file = MissedFile(Place(str(tmp_path)))
    tmp_path.chmod(0o700)
    file.append([MISSED], 1, 0)
    path = tmp_path / "missed.jsonl"
    other = json.loads(path.read_text()) | {"process": [1, 5.0]}
    path.write_text(f"{json.dumps(other)}\nno JSON\n{path.read_text()}")
    last = file.last()
    assert last is not None
    assert last.started > 5
    assert len(last.missed) == 1


@pytest.mark.parametrize("line", ["[]", "3", "{}", '{"process": 1}', '{"process": [1, 2]}'])
def test_a_file_of_another_form(tmp_path: Path, line: str) -> None:
    """It is as good as none."""
    tmp_path.chmod(0o700)
    (tmp_path / "missed.jsonl").write_text(line + "\n")
    assert MissedFile(Place(str(tmp_path))).last() is None


def test_the_file_stays_small(tmp_path: Path) -> None:
    """Whatever is missed, however often: what is too large is shortened, then left out."""
    file = MissedFile(Place(str(tmp_path / "place")))
    large = MISSED._replace(components=(("options", "x" * 20_000),))
    wide = MISSED._replace(components=(("options", "x" * 10_000),))
    for _ in range(10):
        file.append([large, *[wide] * 500], 501, 0)
    last = file.last()
    assert last is not None
    assert last.missed[0] == large._replace(fingerprints=(), components=())
    assert last.left_out > 400
    assert (tmp_path / "place" / "missed.jsonl").stat().st_size < 300_000


def test_notes_are_bounded_in_memory(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that misses for ever keeps only the first; the statistics count all."""
    cache = ProgramCache()
    for _ in range(MOST_NOTED + 50):
        cache._unwritten.note_missed(MISSED)
    assert len(cache._unwritten._missed) == MOST_NOTED
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    reader = ProgramCache()
    reader.build(context, make_source("nearest"))
    assert not reader._unwritten._missed


# Tracing


def traced(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that were printed since the last call, without their times."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "mace-cache: " in line]
    return [
        " ".join(word for n, word in enumerate(line.split()) if n not in {2, 3}) for line in lines
    ]


def test_a_line_a_build(
    context: cl.Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Miss, hit and bypass, with key and reason; a miss names the header that has changed."""
    monkeypatch.setenv("MACE_CACHE_TRACE", "1")
    header = tmp_path / "factor.h"
    header.write_text("#define FACTOR 3\n")
    source = make_source("traced", '#include "factor.h"\n')
    options = ["-I", str(tmp_path)]
    with ProgramCache() as cache:
        keys = [cache.explain(cache.build(context, source, options)).key for _ in range(2)]
        with pytest.raises(Exception, match="BUILD_PROGRAM_FAILURE"):
            cache.build(context, "kernel void broken( {")
        cache.build(context, source, [*options, "-DX=__TIME__"])
    lines = traced(capsys)
    assert lines[0] == f"mace-cache: miss {keys[0][:16]}: no tier has it; nothing like it is stored"
    assert lines[1].startswith(f"mace-cache: hit {keys[0][:16]}: this process has built")
    assert lines[2].startswith("mace-cache: miss ")
    assert lines[2].endswith("no tier has it, and its source doesn't build")
    assert lines[3].startswith("mace-cache: bypass -: this program can't be cached")
    header.write_text("#define FACTOR 4\n")
    with ProgramCache() as cache:
        cache.build(context, source, options)
    (line,) = traced(capsys)
    assert line.endswith(f"no tier has it; it differs from {keys[0][:12]} in header factor.h")
    with ProgramCache() as cache:
        cache.build(context, source, options)
    assert traced(capsys)[0].endswith(": it was stored")


def test_a_stream_that_is_gone(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears of it, and the build goes on."""
    monkeypatch.setenv("MACE_CACHE_TRACE", "1")
    monkeypatch.setattr(sys, "stderr", None)
    with ProgramCache() as cache:
        assert cache.build(context, make_source("silent")) is not None


def test_a_cache_that_is_off_is_traced(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bypass says why."""
    monkeypatch.setenv("MACE_CACHE_TRACE", "1")
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    with mace_cache.installed():
        cl.Program(context, make_source("off")).build()
    assert traced(capsys) == ["mace-cache: bypass -: caching is switched off (MACE_CACHE_DISABLE)"]


def test_a_factory_that_fails_is_no_fault_of_the_build(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line then says less."""

    class Failing(FakeFactory):
        def names(self) -> list[str]:
            raise OSError(5, "broken")

    explanation = mace_cache.explain.__globals__["NONE"].explanation
    missed = explanation._replace(outcome=Outcome.MISS, reason="no tier has it")
    Tracer(Failing()).tell(missed, MISSED)
    assert traced(capsys) == ["mace-cache: miss -: no tier has it; nothing like it is stored"]


# The command


def test_explain_miss(context: cl.Context, cache_directory: Path) -> None:
    """The last run's misses, compared with what was stored before it; then a run without any."""
    with ProgramCache() as cache:
        cache.build(context, make_source("explained"), ["-DFACTOR=3"])
    for file in cache_directory.rglob("*.mclp"):
        make_older(file)
    (cache_directory / "v1" / "missed.jsonl").unlink()
    with ProgramCache() as cache:
        key = cache.explain(cache.build(context, make_source("explained"), ["-DFACTOR=5"])).key
    output = run("explain-miss").output
    assert "0 hits, 1 build from source" in output
    assert key[:16] in output
    assert "options (-DFACTOR=3 before, -DFACTOR=5 now)" in output
    (missed,) = run("explain-miss", "--json").json["missed"]
    assert missed["differences"] == ["options (-DFACTOR=3 before, -DFACTOR=5 now)"]
    (cache_directory / "v1" / "missed.jsonl").unlink()
    assert "nothing is known of a last run" in one_line(run("explain-miss"), code=1)
    with ProgramCache() as cache:
        cache.build(context, make_source("explained"), ["-DFACTOR=5"])
    assert "1 hit, 0 builds from source" in run("explain-miss").output


def make_older(file: Path) -> None:
    """Make an entry one that was stored before this process began."""
    plant(file, read_entry(file).binary, created=1.0)
