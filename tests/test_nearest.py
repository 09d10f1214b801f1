"""What a missed program differs in from the nearest one; what is noted and told of it."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

import mace_cache
from mace_cache import Outcome, ProgramCache
from mace_cache._directories import Place
from mace_cache.config import RUN_VARIABLE
from mace_cache.fingerprint import storage_name
from mace_cache.missed import MOST_NOTED, Missed, MissedFile
from mace_cache.nearest import Known, Traits, find_nearest, read_traits, say_nearest
from mace_cache.source import describe
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.tracing import Tracer
from tests.cli.conftest import FINGERPRINT, make_program, one_line, run
from tests.helpers import FakeFactory, FaultyStorage, make_source, read_entry, run_child

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
        (stored(options="-DA=1 -O2 -DA=1"), "options (-DA=1 before, none now)"),
    ],
    ids=str,
)
def test_which_part_differs(other: Traits, difference: str) -> None:
    """Source, header, options, driver or environment, by its name."""
    nearest = find_nearest(MISSED, [other])
    assert nearest is not None
    assert nearest.differences == (difference,)
    assert str(nearest) == f"it differs from {'a' * 12} in {difference}"


@pytest.mark.parametrize(
    ("before", "now"),
    [("a", "b"), ("", "b"), ("a", ""), ("a" + "Z" * 100, "b")],
)
def test_values_that_differ_late(before: str, now: str) -> None:
    """Two long ones are shown where they differ."""
    long = "-D" + "V" * 100
    missed = MISSED._replace(components=(("options", long + now),))
    nearest = find_nearest(missed, [stored()._replace(components=(("options", long + before),))])
    assert nearest is not None
    then, since = before[:50], now
    then += "..." if before[50:] else ""
    same = "..." + "V" * 10
    assert nearest.differences == (f"options ({same}{then} before, {same}{since} now)",)


@pytest.mark.parametrize(
    ("before", "difference"),
    [
        ("-I /a -DX=1", "options (-DX=1 before, -I/b -DX=2 now)"),
        ("-DX=2", "options (none before, -I/a -I/b now)"),
        ("-I /c -I /d -DX=1", "options (-DX=1 before, -DX=2 now)"),  # places aren't in the key
    ],
)
def test_include_directories_have_names(before: str, difference: str) -> None:
    """The key knows their numbers only; a person is told which one is new."""

    def components(options: str) -> tuple[tuple[str, str], ...]:
        return (("source", "1" * 64), *describe("", options).components[1:2])

    now = '-I "/a" -I/b -DX=2'
    missed = MISSED._replace(components=components(now), options=now)
    nearest = find_nearest(
        missed, [stored()._replace(components=components(before), options=before)]
    )
    assert nearest is not None
    assert nearest.differences == (difference,)
    noted = missed._replace(options="-include x")
    nearest = find_nearest(noted, [stored()._replace(components=components("-DX=2"))])
    assert nearest is not None
    assert nearest.differences == ("options (none before, -I<1> -I<2> now)",)


def test_words_of_the_options_count() -> None:
    """One that differs in a header and a word is nearer than one that differs in many words."""
    many = stored("1", options="-DA=2 -DB -DC -DD -O2")
    few = stored("2", options="-O2", **{"header <a.h>": "absent"})
    for known in ([many, few], [few, many]):
        nearest = find_nearest(MISSED, known)
        assert nearest is not None
        assert nearest.key[0] == "2"


def test_the_same_program_for_another_device() -> None:
    """It has the same key, which says nothing: where it is stored is told instead."""
    fingerprint = FINGERPRINT + "environment POCL_X: 1\n"
    nearest = find_nearest(MISSED, [stored("f", fingerprint=fingerprint)])
    said = "environment variable POCL_X (1 before, none now)"
    place = storage_name(fingerprint)
    assert str(nearest) == f"it differs from the one stored for {place} in {said}"


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


def test_what_is_said_where_nothing_is_found() -> None:
    """Only what is known: that nothing is like it only if all was read."""
    known = Known((stored(),), complete=True)
    assert say_nearest(MISSED, None, known) == "nothing like it was stored before"
    assert "among the 1 programs" in say_nearest(MISSED, None, known._replace(complete=False))
    assert "too much" in say_nearest(MISSED._replace(components=()), None, known)


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
    known = read_traits(factory)
    assert not known.complete
    read = {traits.key: traits for traits in known.traits}
    assert read.keys() == {program.key for program in programs[1:]}
    assert read[programs[1].key].components == programs[1].components
    assert {file.stat().st_mtime for file in files} == {1e9}


@pytest.mark.parametrize(("most", "read"), [(2, 2), (3, 3), (4, 3)])
def test_no_more_is_read(monkeypatch: pytest.MonkeyPatch, most: int, read: int) -> None:
    """Of very many programs not all are compared, and that is known."""
    monkeypatch.setattr("mace_cache.nearest._MOST", most)
    storage = FaultyStorage()
    for program in map(make_program, "abc"):
        storage.insert(program.key, program)
    known = read_traits(FakeFactory(a=storage))
    assert (len(known.traits), known.complete) == (read, most >= 3)


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
    known = read_traits(FakeFactory(**storages))
    assert [traits.key for traits in known.traits] == [program.key]
    assert not known.complete


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
    other = json.loads(path.read_text()) | {"name": "1 5.0", "processes": [[1, 5.0]]}
    path.write_text(f"{json.dumps(other)}\nno JSON\n{path.read_text()}")
    last = file.last()
    assert last is not None
    assert last.started > 5
    assert len(last.missed) == len(last.processes) == 1


def test_processes_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one name count as one, whoever writes last; the first one's command is theirs."""
    file = MissedFile(Place(str(tmp_path / "place")))
    file.append([MISSED], 1, 7)
    for run_, process, started, misses in (
        ("a", 1, 1.0, 1),
        ("b", 2, 0.0, 3),
        ("a", 3, 3.0, 2),
        ("a", 1, 1.0, 4),
    ):
        monkeypatch.setenv(RUN_VARIABLE, run_)
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        monkeypatch.setattr("mace_cache.missed._STARTED", started)
        monkeypatch.setattr(sys, "orig_argv", [str(process)])
        file.append([MISSED] * misses, misses, 1)
    last = file.last()
    assert last is not None
    assert (last.name, last.command, last.started) == ("a", ("1",), 1.0)
    assert last.processes == ((1, 1.0), (3, 3.0))
    assert (len(last.missed), last.hits, last.left_out) == (7, 3, 0)


@pytest.mark.parametrize(
    "changes",
    [
        "[]", "3", "{}", "[" * 100_000, {"processes": 1}, {"processes": []}, {"hits": 1e999},
        {"missed": [{}]}, {"processes": [[1, "x"]]},
    ],
    ids=lambda changes: str(changes)[:20],
)  # fmt: skip
def test_a_file_of_another_form(tmp_path: Path, changes: Any) -> None:
    """It is as good as none."""
    tmp_path.chmod(0o700)
    file = MissedFile(Place(str(tmp_path)))
    file.append([MISSED], 1, 0)
    path = tmp_path / "missed.jsonl"
    ours = json.loads(path.read_text())
    path.write_text(changes if isinstance(changes, str) else json.dumps(ours | changes))
    assert file.last() is None


def test_the_file_stays_small(tmp_path: Path) -> None:
    """Whatever one run misses, however often: the first misses stay, and the others are counted."""
    file = MissedFile(Place(str(tmp_path / "place")))
    large = MISSED._replace(components=(("options", "x" * 20_000),))
    wide = MISSED._replace(components=(("options", "x" * 10_000),))
    path = tmp_path / "place" / "missed.jsonl"
    for number in range(10):
        file.append([large._replace(seconds=number), *[wide] * 500], 501, 3)
        assert path.stat().st_size < 300_000
    last = file.last()
    assert last is not None
    assert last.missed[0] == large._replace(seconds=0, components=())
    assert len(last.missed) + last.left_out == 5010
    assert last.hits == 30


def test_the_file_forgets_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is full only the run that writes stays."""
    monkeypatch.setattr("mace_cache.missed._LARGEST_FILE", 3_000)
    file = MissedFile(Place(str(tmp_path / "place")))
    for run_ in ("a", "b"):
        monkeypatch.setenv(RUN_VARIABLE, run_)
        for _ in range(5):
            file.append([MISSED], 1, 0)
    text = (tmp_path / "place" / "missed.jsonl").read_text()
    assert '"name":"a"' not in text
    last = file.last()
    assert last is not None
    assert len(last.missed) == 5


def test_notes_are_bounded_in_memory(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that misses for ever keeps only the first; the statistics count all."""
    cache = ProgramCache()
    for _ in range(MOST_NOTED + 50):
        cache._unwritten.note_missed(MISSED)
    assert len(cache._unwritten._missed) == MOST_NOTED
    cache.flush()
    assert run("explain-miss", "--json").json["left_out"] == 50
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
    assert (
        lines[0]
        == f"mace-cache: miss {keys[0][:16]}: no tier has it; nothing like it was stored before"
    )
    assert lines[1].startswith(f"mace-cache: hit {keys[0][:16]}: this process has built")
    assert lines[2].startswith("mace-cache: miss ")
    assert lines[2].endswith("and it doesn't build; nothing like it was stored before")
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
    (line,) = traced(capsys)
    assert line.endswith("nothing like it is among the 0 programs that could be compared")


# The command


def test_explain_miss(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last run's misses, compared with what was stored before it; then a run without any."""
    with ProgramCache() as cache:
        cache.build(context, make_source("explained"), ["-DFACTOR=3"])
    begin_another_run(monkeypatch)
    with ProgramCache() as cache:
        key = cache.explain(cache.build(context, make_source("explained"), ["-DFACTOR=5"])).key
    output = run("explain-miss").output
    assert "one process: 0 hits, 1 build from source" in output
    assert key[:16] in output
    assert "options (-DFACTOR=3 before, -DFACTOR=5 now)" in output
    (missed,) = run("explain-miss", "--json").json["missed"]
    assert missed["differences"] == ["options (-DFACTOR=3 before, -DFACTOR=5 now)"]
    (cache_directory / "v1" / "missed.jsonl").unlink()
    assert "nothing is known of a last run" in one_line(run("explain-miss"), code=1)
    with ProgramCache() as cache:
        cache.build(context, make_source("explained"), ["-DFACTOR=5"])
    output = run("explain-miss").output
    assert "1 hit, 0 builds from source" in output
    assert "runs that only read or had caching disabled are noted nowhere" in " ".join(
        output.split()
    )


def begin_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is one that has just begun."""
    monkeypatch.setattr("mace_cache.missed._STARTED", time.time())


def differences() -> list[list[str]]:
    """What the programs that the last run has missed differ in."""
    missed = run("explain-miss", "--json").json["missed"]
    return [one["differences"] for one in missed]


@pytest.mark.parametrize("stored_since", [True, False])
def test_what_is_too_much_to_be_noted(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored_since: bool,
) -> None:
    """It is looked up in the program itself; where it isn't stored, that is said."""
    monkeypatch.setattr("mace_cache.missed._LARGEST_NOTE", 1)
    with ProgramCache() as cache:
        cache.build(context, make_source("large"), ["-DFACTOR=3"])
    begin_another_run(monkeypatch)
    before = set(cache_directory.rglob("*.mclp"))
    with ProgramCache() as cache:
        cache.build(context, make_source("large"), ["-DFACTOR=5"])
    if stored_since:
        assert differences() == [["options (-DFACTOR=3 before, -DFACTOR=5 now)"]]
    else:
        (since,) = set(cache_directory.rglob("*.mclp")) - before
        since.unlink()
        assert "too much to be noted" in run("explain-miss").output


def test_a_variable_of_the_compiler(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that PoCL compiles in for real, under another environment."""
    code = """
import mace_cache, tests.helpers as h
with mace_cache.ProgramCache() as cache:
    cache.build(h.open_context(), h.make_source("environment"))
"""
    run_child(code, POCL_WORK_GROUP_METHOD="loops")
    begin_another_run(monkeypatch)
    with ProgramCache() as cache:
        cache.build(context, make_source("environment"))
    expected = "environment variable POCL_WORK_GROUP_METHOD (loops before, none now)"
    assert differences() == [[expected]]


def test_a_driver_update(
    context: cl.Context,
    device: cl.Device,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What PoCL has compiled, as if by an earlier release of it."""
    with ProgramCache() as cache:
        cache.build(context, make_source("updated"))
    (path,) = cache_directory.rglob("*.mclp")
    now = read_entry(path)
    path.unlink()
    told = f"device driver version: {device.driver_version}\n"
    assert told in now.fingerprint
    text = now.fingerprint.replace(told, "device driver version: 0.9\n")
    storage = DirectoryStorageFactory(cache_directory).create_storage(storage_name(text))
    storage.insert(now.key, replace(now, fingerprint=text))
    begin_another_run(monkeypatch)
    with ProgramCache() as cache:
        cache.build(context, make_source("updated"))
    assert differences() == [[f"driver version (0.9 before, {device.driver_version} now)"]]


def test_what_went_by_the_cache(
    context: cl.Context, device: cl.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of bypasses and of builds that fail is a run too: each is told, and why."""
    with ProgramCache() as cache:
        binary = cache.build(context, make_source("by"), ["-DFACTOR=3"]).binaries[0]
        cache.build(context, make_source("by"), ["-DFACTOR=5"])
    begin_another_run(monkeypatch)
    with mace_cache.installed():
        cl.Program(context, make_source("by")).build(cache_dir=False)  # type: ignore[arg-type] # pyopencl takes it
        cl.Program(context, [device], [binary]).build()
        for place in (None, False):
            with pytest.raises(cl.RuntimeError):
                cl.Program(context, "kernel void broken( {").build(cache_dir=place)  # type: ignore[arg-type] # as above
    told = run("explain-miss", "--json").json
    assert (told["hits"], told["left_out"]) == (0, 0)
    assert run("stats", "--json").json["counts"]["bypasses"] == 2
    assert [(one["outcome"], one["reason"], one["kernels"]) for one in told["missed"]] == [
        ("bypass", "it is built with cache_dir=False", ["scale"]),
        ("bypass", "it isn't made of a source", ["scale"]),
        ("miss", "no tier has it, and it doesn't build", []),
        ("bypass", "it is built with cache_dir=False, and it doesn't build", []),
    ]
