"""Statistics: counted by every process, lost by none, and never in anybody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache import ProgramCache, opencl
from mace_cache.errors import BinaryRejectedError
from mace_cache.statistics import Counts, StatisticsFile

if TYPE_CHECKING:
    import pyopencl as cl

SOURCE = "kernel void counted() {}"
BUILD_SECONDS = 1000.0

CROWD = """
import os, sys
from mace_cache.statistics import Counts, StatisticsFile
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        for _ in range(int(sys.argv[3])):
            StatisticsFile(sys.argv[1]).append(Counts(hits=1, seconds_saved=0.5))
        os._exit(0)
while True:
    try:
        assert os.wait()[1] == 0
    except ChildProcessError:
        break
"""


@pytest.fixture
def file(tmp_path: Path) -> StatisticsFile:
    """A file that isn't there yet, in a directory that isn't either."""
    return StatisticsFile(tmp_path / "state")


def test_appended_counts_are_summed(file: StatisticsFile) -> None:
    """A line a process, private, and only with what isn't nothing."""
    assert file.total() == Counts()
    file.append(Counts(hits=2, seconds_saved=1.5))
    file.append(Counts(hits=1, misses=4))
    assert file.total() == Counts(hits=3, misses=4, seconds_saved=1.5)
    lines = Path(file.path).read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"hits": 2, "seconds_saved": 1.5},
        {"hits": 1, "misses": 4},
    ]
    assert Path(file.path).stat().st_mode & 0o777 == 0o600
    assert Path(file.path).parent.stat().st_mode & 0o777 == 0o700


def test_nothing_counted_touches_nothing(file: StatisticsFile) -> None:
    """No directory is made for a process that did nothing."""
    file.append(Counts())
    assert file.total() == Counts()
    file.zero()
    assert not Path(file.path).parent.exists()


def test_zero(file: StatisticsFile) -> None:
    """Counting starts anew, also where it has already."""
    file.append(Counts(hits=1))
    file.zero()
    file.zero()
    assert file.total() == Counts()
    file.append(Counts(misses=1))
    assert file.total() == Counts(misses=1)


def test_take_and_add() -> None:
    """What is taken is counted from nothing again; adding adds every field."""
    counts = Counts(*range(1, len(fields(Counts)) + 1))
    taken = counts.take()
    assert list(asdict(taken).values()) == list(range(1, len(fields(Counts)) + 1))
    assert counts == Counts()
    taken.add(taken)
    assert list(asdict(taken).values()) == [2 * n for n in range(1, len(fields(Counts)) + 1)]


def test_a_long_file_is_compacted(file: StatisticsFile) -> None:
    """A file of some 256 KiB becomes one line, with the same sum."""
    line = b'{"hits":1,"seconds_saved":0.5}\n'
    lines = (256 << 10) // len(line)
    Path(file.path).parent.mkdir(mode=0o700)
    Path(file.path).write_bytes(line * lines)
    file.append(Counts(hits=1, seconds_saved=0.5))
    assert Path(file.path).read_bytes().count(b"\n") == 1
    assert file.total() == Counts(hits=lines + 1, seconds_saved=(lines + 1) / 2)
    file.append(Counts(hits=1))
    assert file.total().hits == lines + 2


def test_processes_that_append_at_once(file: StatisticsFile) -> None:
    """None of their lines is lost or torn."""
    crowd, times = 8, 100
    directory = os.path.dirname(file.path)
    subprocess.run(
        [sys.executable, "-c", CROWD, directory, str(crowd), str(times)], check=True, timeout=60
    )
    assert Path(file.path).read_bytes().count(b"\n") == crowd * times
    assert file.total() == Counts(hits=crowd * times, seconds_saved=crowd * times / 2)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00\xff\xfe",
        b"not JSON",
        b'{"hits": 1',
        b"[1, 2]",
        b"null",
        b"7",
        b'{"hits": "many"}',
        b'{"hits": NaN}',
        b'{"hits": 1e999}',
        b'{"hits": null, "misses": [1]}',
        b'{"hits": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"of a later release": 5}',
    ],
)
def test_a_damaged_line_is_left_out(file: StatisticsFile, damaged: bytes) -> None:
    """The lines around it still count."""
    file.append(Counts(hits=1))
    with open(file.path, "ab") as appended:
        appended.write(damaged + b"\n")
    file.append(Counts(hits=2))
    assert file.total() == Counts(hits=3)


@settings(max_examples=50)
@given(content=st.binary())
def test_any_content(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever stands in the file, it is summed without an error, and counts go on after it."""
    file = StatisticsFile(tmp_path_factory.mktemp("any"))
    Path(file.path).write_bytes(content + b"\n")
    file.total()
    file.append(Counts(misses=3))
    assert file.total().misses >= 3


@pytest.mark.parametrize("thing", ["fifo", "directory", "link", "dangling link"])
def test_something_else_in_its_place(file: StatisticsFile, tmp_path: Path, thing: str) -> None:
    """Nothing waits for it, follows it or writes to it: the counts are lost and that is all."""
    path = Path(file.path)
    path.parent.mkdir(mode=0o700)
    target = tmp_path / "target"
    if thing == "link":
        target.write_bytes(b'{"hits":1}\n')
    if thing == "fifo":
        os.mkfifo(path)
    elif thing == "directory":
        path.mkdir()
    else:
        path.symlink_to(target)
    assert file.total() == Counts()
    with pytest.raises(OSError, match=path.name):
        file.append(Counts(hits=1))
    assert target.exists() == (thing == "link")
    if thing == "link":
        assert target.read_bytes() == b'{"hits":1}\n'


def test_zero_removes_a_link_and_not_its_target(file: StatisticsFile, tmp_path: Path) -> None:
    """What the link leads to isn't ours."""
    Path(file.path).parent.mkdir(mode=0o700)
    (tmp_path / "target").write_bytes(b"somebody's")
    Path(file.path).symlink_to(tmp_path / "target")
    file.zero()
    assert (tmp_path / "target").read_bytes() == b"somebody's"


class FakeProgram:
    """Stands for a `pyopencl.Program` that no driver has built."""

    int_ptr = 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the driver's calls; ``binary`` is what it hands out, ``rejects`` whether it does."""
    state: dict[str, Any] = {"binary": b"binary", "rejects": False}

    def load_from_binaries(*_arguments: object) -> FakeProgram:
        if state["rejects"]:
            raise BinaryRejectedError("INVALID_BINARY", "clBuildProgram")
        return FakeProgram()

    fakes = {
        "build_from_source": lambda *_arguments, **_named: (FakeProgram(), BUILD_SECONDS),
        "load_from_binaries": load_from_binaries,
        "create_kernels": lambda _program, _names: None,
        "fetch_binaries": lambda _program, devices: [state["binary"] for _ in devices],
        "kernel_names": lambda _program: ("counted",),
        "build_log": lambda _program, _device: "",
        "share": lambda program: program,
        "state_of": lambda _program, _devices: (),
        "handle_of": id,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(opencl, name, fake)
    return state


def counted(cache_directory: Path) -> Counts:
    """Give the counts on disk, and start anew."""
    file = StatisticsFile(cache_directory / "v1")
    total = file.total()
    file.zero()
    return total


@pytest.mark.usefixtures("driver")
def test_misses_hits_and_seconds_saved(context: cl.Context, cache_directory: Path) -> None:
    """A cold process, and a warm one: each is counted for what it did."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        cache.build(context, SOURCE)
        cache.build(context, SOURCE)
    assert counted(cache_directory) == Counts(misses=1, memory_hits=2, stored=1)
    started = time.perf_counter()
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    elapsed = time.perf_counter() - started
    total = counted(cache_directory)
    saved, total.seconds_saved = total.seconds_saved, 0.0
    assert total == Counts(hits=1)
    assert BUILD_SECONDS - elapsed <= saved < BUILD_SECONDS


def test_rebuilds(context: cl.Context, cache_directory: Path, driver: dict[str, Any]) -> None:
    """A rejected binary costs a rebuild, which is no miss, and is stored again."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    counted(cache_directory)
    driver["rejects"] = True
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    assert counted(cache_directory) == Counts(rebuilds=1, stored=1)


@pytest.mark.usefixtures("driver")
def test_bypasses(context: cl.Context, cache_directory: Path) -> None:
    """A program whose key can't be known is neither hit nor miss."""
    with ProgramCache() as cache:
        cache.build(context, "#define H <h.h>\n#include H\n" + SOURCE)
    assert counted(cache_directory) == Counts(bypasses=1)


@pytest.mark.usefixtures("driver")
def test_failures(context: cl.Context, cache_directory: Path) -> None:
    """A damaged file is a failure, and the build a miss."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    counted(cache_directory)
    (entry,) = cache_directory.rglob("*.mclp")
    entry.write_bytes(entry.read_bytes()[:-1])
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    assert counted(cache_directory) == Counts(failures=1, misses=1, stored=1)


def test_evictions(context: cl.Context, cache_directory: Path, driver: dict[str, Any]) -> None:
    """A program that made room for another is counted."""
    driver["binary"] = os.urandom(60_000)
    with ProgramCache(max_size="100K") as cache:
        cache.build(context, SOURCE)
        cache.flush()
        cache.build(context, SOURCE + "// another")
    assert counted(cache_directory) == Counts(misses=2, stored=2, evictions=1)


@pytest.mark.usefixtures("driver")
def test_what_may_not_write_counts_nothing(context: cl.Context, cache_directory: Path) -> None:
    """Neither a read-only cache nor one in memory leaves a file."""
    for arguments in ({"read_only": True}, {"url": "memory:"}):
        with ProgramCache(**arguments) as cache:
            cache.build(context, SOURCE)
    assert not cache_directory.exists()


@pytest.mark.usefixtures("driver")
def test_counts_that_cannot_be_written(context: cl.Context, cache_directory: Path) -> None:
    """The application goes on, and its programs are stored all the same."""
    (cache_directory / "v1").mkdir(mode=0o700, parents=True)
    (cache_directory / "v1" / "statistics.jsonl").mkdir()
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        cache.flush()
        assert cache.is_stored(program)
