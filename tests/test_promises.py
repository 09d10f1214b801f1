"""The promises that the cache makes to an application: each test does the harm it is about."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import socket
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

from mace_cache import Origin, ProgramCache, opencl
from mace_cache._report import forget_reported
from mace_cache.container import encode
from mace_cache.fingerprint import fingerprint, storage_name
from mace_cache.statistics import StatisticsFile
from mace_cache.storage import directory as directory_storage
from mace_cache.storage.directory import DirectoryStorageFactory
from tests.helpers import (
    GARBAGE,
    FakeFactory,
    FaultyStorage,
    entries,
    halve,
    make_source,
    plant,
    read_entry,
    refuse_loads,
    run_child,
    scale,
    start_child,
    watch_fetches,
    watch_loads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mace_cache.program import CompiledProgram

SOURCE = make_source("promises")
INCLUDING = make_source("including", head='#include "factor.h"\n')
STATUSES = [
    "INVALID_BINARY",
    "INVALID_VALUE",
    "BUILD_PROGRAM_FAILURE",
    "INVALID_PROGRAM_EXECUTABLE",
    "status -9999",
]
FAULTS = [
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
    ValueError("nonsense"),
    RuntimeError("broken"),
    KeyError("surprise"),
]

_BUILD_ONCE = """
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale, watch_loads
import pytest

loads = watch_loads(pytest.MonkeyPatch())
with ProgramCache() as cache:
    program = cache.build(open_context(), make_source("promises"))
    print(scale(program), len(loads), cache.explain(program))
"""

_KILLED = """
import os, random, signal, time
from pathlib import Path
import pyopencl as cl
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def work(start):
    context = open_context()
    queue = cl.CommandQueue(context)
    for number in range(start, start + 1000):
        with ProgramCache() as cache:
            assert scale(cache.build(context, make_source(f"kill {number % 40}")), queue) == 2

def is_anything_stored():
    return any(Path(os.environ["MACE_CACHE_DIR"]).rglob("*.mclp"))

for number in range(60):
    if number >= 15 and is_anything_stored():
        break
    child = os.fork()
    if not child:
        try:
            work(number * 4)
        finally:
            os._exit(1)
    time.sleep(random.uniform(0.03, 0.2 + number / 50))  # a machine may be slow
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
"""

_DISABLED = """
import os, sys
directory, trap = sys.argv[1:]
seen = []

def watch(event, arguments):
    texts = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
    seen.extend((event, text) for text in texts if text.startswith(directory))

sys.addaudithook(watch)
os.listdir(directory)
assert seen, "the hook sees what is opened"
del seen[:]

from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

for arguments in ({}, {"storage_path": directory}, {"cache_full_path": trap},
                  {"url": "dir:" + directory}, {"binary_paths": [trap]}):
    with ProgramCache(**arguments) as cache:
        program = cache.build(open_context(), make_source("promises"))
        assert scale(program) == 2
        cache.flush()
        print(cache.explain(program).reason)
assert not seen, seen
"""


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def own_name(device: cl.Device) -> str:
    """The name of the storage of the device's programs."""
    return fingerprint(device).storage_name


@pytest.fixture
def entry(context: cl.Context, cache_directory: Path) -> Path:
    """The file of SOURCE's program, which a cache has written."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    return path


def build(
    context: cl.Context, source: str = SOURCE, factor: int = 2, **arguments: Any
) -> tuple[Origin, str]:
    """Build through a new cache, see that the result is right, and tell origin and reason."""
    with ProgramCache(**arguments) as cache:
        program = cache.build(context, source)
        assert scale(program) == factor
        told = cache.explain(program)
    return told.origin, told.reason


def _write_again(entry: Path, data: bytes) -> None:
    """Put a file where it lay: with the last of its programs its directory goes too."""
    entry.parent.mkdir(mode=0o700, exist_ok=True)
    entry.write_bytes(data)


def assert_warned_once_a_cause(caplog: pytest.LogCaptureFixture, most: int = 1) -> None:
    """At most as many warnings as there are causes: one, unless said."""
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) <= most, caplog.text


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """What lies below a directory: kind, time of modification and contents."""
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            os.readlink(path).encode()
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else b"",
        )
        for path in directory.rglob("*")
    }


# Promise 1: it never takes the application down.


@pytest.mark.parametrize("method", ["load", "find", "insert", "clear", "flush"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_promise_1_a_storage_that_fails(
    context: cl.Context,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fault: Exception,
) -> None:
    """Whatever a storage's method raises, programs are right, with a warning at most."""
    storage = FaultyStorage(method, fault)
    factory = FakeFactory(storage)
    for number in range(2):
        build(context, make_source(number), storage_factory=factory)
    if method == "clear":
        assert len(list(storage.keys())) == 2
        refuse_loads(monkeypatch)
        for number in range(2):
            build(context, make_source(number), storage_factory=factory)
    assert method in storage.calls
    assert_warned_once_a_cause(caplog, 2 if method == "clear" else 1)
    assert len([r for r in caplog.records if f"{method} failed" in r.getMessage()]) == 1


@pytest.mark.parametrize("method", ["create_storage", "names"])
def test_promise_1_a_factory_that_fails(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A factory that can't make a storage, or list them, costs a build from source."""

    def fail(*_arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    factory = FakeFactory()
    monkeypatch.setattr(factory, method, fail)
    assert build(context, storage_factory=factory)[0] is Origin.SOURCE


def _is_a_file(path: Path) -> None:
    path.write_bytes(b"a file")


def _is_a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _is_open_to_others(path: Path) -> None:
    (path / "v1").mkdir(parents=True)
    (path / "v1").chmod(0o777)


def _is_not_writable(path: Path) -> None:
    path.mkdir()
    path.chmod(0o500)


def _has_a_file_inside(path: Path) -> None:
    path.mkdir()
    (path / "v1").write_bytes(b"a file")


@pytest.mark.parametrize(
    "harm",
    [
        _is_a_file,
        _is_a_dangling_link,
        _is_open_to_others,
        _is_not_writable,
        _has_a_file_inside,
    ],
)
def test_promise_1_an_unusable_directory(
    context: cl.Context,
    cache_directory: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
) -> None:
    """A cache directory that can't be used costs one warning, whatever is tried with it."""
    harm(cache_directory)
    for number in range(3):
        build(context, make_source(number))
    assert_warned_once_a_cause(caplog)


@pytest.mark.parametrize("place", ["/proc/mace-cache", "/dev/null/mace-cache", "\0"])
def test_promise_1_an_impossible_directory(
    context: cl.Context, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """A directory that nobody can make, not even the superuser."""
    for number in range(2):
        build(context, make_source(number), storage_path=place)
    assert_warned_once_a_cause(caplog)


def test_promise_1_a_directory_that_goes(
    context: cl.Context, cache_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody tidies up while the cache is in use: what is written next is there again."""
    with ProgramCache() as cache:
        for number in range(3):
            assert scale(cache.build(context, make_source(number))) == 2
            cache.flush()
            shutil.rmtree(cache_directory)
        assert scale(cache.build(context, SOURCE)) == 2
    assert build(context)[0] is Origin.STORAGE
    assert_warned_once_a_cause(caplog, 0)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_promise_1_an_entry_that_cannot_be_read(
    context: cl.Context,
    entry: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: int,
) -> None:
    """A file that the system doesn't let us read, whoever we are."""

    def fail(*_arguments: object) -> None:
        raise OSError(error, os.strerror(error), str(entry))

    monkeypatch.setattr(directory_storage, "read_regular_file", fail)
    for _ in range(2):
        origin, reason = build(context)
        assert origin is Origin.SOURCE
        assert os.strerror(error) in reason
    assert_warned_once_a_cause(caplog)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "dangling link", "socket"])
def test_promise_1_what_stands_in_the_place_of_an_entry(
    context: cl.Context,
    entry: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """What is no file is never waited for, followed or loaded; what a link leads to stays."""
    outside = tmp_path / "outside.mclp"
    shutil.copy(entry, outside)
    entry.unlink()
    if kind == "fifo":
        os.mkfifo(entry)
    elif kind == "directory":
        entry.mkdir()
    elif kind == "link":
        entry.symlink_to(outside)
    elif kind == "dangling link":
        entry.symlink_to(tmp_path / "nowhere")
    else:
        parent = os.open(entry.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{parent}/socket")  # its path must be short
        os.close(parent)
        (entry.parent / "socket").rename(entry)
    before = outside.read_bytes()
    assert build(context)[0] is Origin.SOURCE
    healed = build(context)[0]
    assert healed is (Origin.SOURCE if kind == "directory" else Origin.STORAGE)
    assert outside.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()
    assert_warned_once_a_cause(caplog)


# Promise 2: no unverified byte reaches a driver.


def _damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A file in every way that a file can be damaged."""
    binary = data.index(b"poclbin")
    places = [*range(0, 160, 4), *range(160, binary, 97), *range(binary, len(data), 5000)]
    for place in [*places, *range(len(data) - 64, len(data), 9)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        yield f"bit flipped at {place}", bytes(flipped)
    for size in (0, 1, 4, 20, 64, binary, len(data) // 2, len(data) - 1):
        yield f"cut to {size}", data[:size]
        if any(data[size:]):  # a digest may end with a zero
            yield f"zeros from {size}", data[:size] + bytes(len(data) - size)
    yield "lengthened", data + b"\0"
    yield "twice", data + data
    yield "garbage", GARBAGE


def test_promise_2_damaged_files(
    context: cl.Context,
    entry: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever happens to a file: the driver is handed what was written, or nothing.

    The result is right (promise 1), and the next process hits again.
    """
    whole, stored = entry.read_bytes(), read_entry(entry)
    loads = watch_loads(monkeypatch)
    for damage, data in _damaged(whole):
        entry.write_bytes(data)
        origin, reason = build(context)
        assert set(loads) <= {stored.binary}, damage
        assert origin is Origin.SOURCE, damage
        assert "not a valid MCLP file" in reason or data[4:8] != whole[4:8], damage
    assert loads == []
    assert_warned_once_a_cause(caplog)
    entry.unlink(missing_ok=True)
    assert [build(context)[0] for _ in range(2)] == [Origin.SOURCE, Origin.STORAGE]


def _of_another_program(program: CompiledProgram) -> CompiledProgram:
    return replace(program, key=program.key[::-1])


def _of_another_device(program: CompiledProgram) -> CompiledProgram:
    return replace(program, fingerprint=program.fingerprint + "environment POCL_X: 1\n")


@pytest.mark.parametrize("exchange", [_of_another_program, _of_another_device])
def test_promise_2_another_programs_file(
    context: cl.Context,
    entry: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    exchange: Callable[[CompiledProgram], CompiledProgram],
) -> None:
    """A whole file in the wrong place is no program of that place."""
    entry.write_bytes(encode([exchange(read_entry(entry))]))
    loads = watch_loads(monkeypatch)
    assert build(context)[0] is Origin.SOURCE
    assert loads == []
    assert build(context)[0] is Origin.STORAGE
    assert_warned_once_a_cause(caplog)


def test_promise_2_one_file_for_all(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for a cache that is one file."""
    path = tmp_path / "all.mclp"
    build(context, cache_full_path=path)
    whole = path.read_bytes()
    loads = watch_loads(monkeypatch)
    for place in (20, 200, 400, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        assert build(context, cache_full_path=path)[0] is Origin.SOURCE
    assert loads == []
    assert build(context, cache_full_path=path)[0] is Origin.STORAGE


# Promise 3: a rejected binary heals.


@pytest.mark.parametrize("status", STATUSES)
def test_promise_3_every_status(
    context: cl.Context, entry: Path, cache_directory: Path, status: str
) -> None:
    """The fingerprint's storage is cleared, the program written again, and the next one hits."""
    build(context, make_source("beside it"))
    foreign = replace(read_entry(entry), fingerprint="platform name: Other\ndevice name: Other\n")
    others = DirectoryStorageFactory(cache_directory).create_storage(
        storage_name(foreign.fingerprint)
    )
    others.insert(foreign.key, foreign)
    assert len(entries(cache_directory)) == 3
    with pytest.MonkeyPatch.context() as patch:
        refused = refuse_loads(patch, status)
        origin, reason = build(context)
    assert (origin, len(refused)) == (Origin.SOURCE, 1)
    assert status in reason
    assert others.find(foreign.key) == foreign
    assert len(entries(cache_directory)) == 2, "its own storage was cleared, and no other"
    assert build(context)[0] is Origin.STORAGE


@pytest.mark.parametrize("binary", [GARBAGE, bytes(5000), b"", b"poclbin\0" + GARBAGE])
def test_promise_3_what_pocl_really_rejects(
    context: cl.Context, entry: Path, caplog: pytest.LogCaptureFixture, binary: bytes
) -> None:
    """A well-formed entry with a binary that is none: rejected by the driver, healed."""
    plant(entry, binary)
    origin, reason = build(context)
    assert origin is Origin.SOURCE
    assert "the driver rejected the binary: clCreateProgramWithBinary answered INVALID_" in reason
    assert build(context)[0] is Origin.STORAGE
    assert_warned_once_a_cause(caplog)


def test_promise_3_after_three_in_a_row_it_steps_aside(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch, own_name: str
) -> None:
    """Then nothing is loaded, fetched or written for the fingerprint; for another one it is."""
    plant(entry)
    planted = entry.read_bytes()
    for _ in range(3):
        _write_again(entry, planted)
        assert "rejected" in build(context)[1]
    _write_again(entry, planted)
    loads, fetches = watch_loads(monkeypatch), watch_fetches(monkeypatch)
    before = snapshot(entry.parents[1])
    for _ in range(2):
        origin, reason = build(context)
        assert origin is Origin.SOURCE
        assert f"3 binaries in a row: the cache steps aside for {own_name}" in reason
    assert loads == fetches == []
    assert snapshot(entry.parents[1]) == before
    monkeypatch.setenv("POCL_WORK_GROUP_METHOD", "loopvec")
    assert [build(context)[0] for _ in range(2)] == [Origin.SOURCE, Origin.STORAGE]


def test_promise_3_in_real_processes(entry: Path) -> None:
    """Processes that are rejected one after the other count together."""
    plant(entry)
    planted = entry.read_bytes()
    for _ in range(3):
        _write_again(entry, planted)
        told = run_child(_BUILD_ONCE)
        assert told.startswith("2 1 from source")
        assert "rejected" in told
    _write_again(entry, planted)
    told = run_child(_BUILD_ONCE)
    assert told.startswith("2 0 from source")
    assert "steps aside" in told


def test_promise_3_a_success_starts_the_count_anew(context: cl.Context, entry: Path) -> None:
    """Two rejections, a hit, and again two: the fifth is tried still."""
    for _ in range(2):
        for _ in range(2):
            plant(entry)
            assert build(context)[0] is Origin.SOURCE
        assert build(context)[0] is Origin.STORAGE


def test_promise_3_the_limit_can_be_set(context: cl.Context, entry: Path) -> None:
    """``max_retries`` says after how many."""
    plant(entry)
    assert "rejected the binary" in build(context, max_retries=1)[1]
    assert "steps aside" in build(context, max_retries=1)[1]


def test_promise_3_a_storage_that_only_reads(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejected entry that can't be cleared is passed over, and stays as it is."""
    plant(entry)
    before = entry.read_bytes()
    loads = watch_loads(monkeypatch)
    with ProgramCache(read_only=True) as cache:
        for number in range(5):
            other = cl.Context(context.devices)
            assert scale(cache.build(other, SOURCE)) == 2, number
    assert len(loads) == 3, "after three it stepped aside"
    assert entry.read_bytes() == before


# Promise 4: a binary that crashes the process does so once.

_BUILD_AND_TELL = """
import json, sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

with ProgramCache(**json.loads(sys.argv[1])) as cache:
    program = cache.build(open_context(), make_source("promises"))
    print(scale(program), cache.explain(program))
"""
_KILLED_IN_USE = """
import json, os, signal, sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context

cache = ProgramCache()
program = cache.build(open_context(), make_source("promises"))
if sys.argv[1] == "flushed":
    cache.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


_KILLED_IN_LOAD = """
import os, signal
from mace_cache import ProgramCache, opencl
from tests.helpers import make_source, open_context

opencl.load_from_binaries = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ProgramCache().build(open_context(), make_source("promises"))
"""

_USED_LATER = """
import sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

cache = ProgramCache()
program = cache.build(open_context(), make_source("promises"))
if sys.argv[1] != "at once":
    cache.flush()
    cache.close()
if sys.argv[1] != "never":
    scale(program)
"""

_CRASH = "kernel void scale(global int *x) { *(global volatile int *)(size_t)(8 + x[0]) = 1; }"
_HASH = slice(32, 74)  # in PoCL's file: what it unpacks it as


def _crash_in_kernel(context: cl.Context, entry: Path, *, as_its_own: bool) -> None:
    """Put a binary into an entry that loads, and ends the process when it is launched."""
    bad = opencl.fetch_binaries(opencl.build_from_source(context, _CRASH)[0], context.devices)[0]
    own = bytes(read_entry(entry).binary)
    assert bad[:4] == own[:4] == b"pocl"
    plant(entry, bad if as_its_own else bad[: _HASH.start] + own[_HASH] + bad[_HASH.stop :])


def _run_to_its_end(code: str, *arguments: object) -> tuple[int, str, str]:
    child = start_child(code, *arguments)
    told, warned = child.communicate(timeout=60)
    return child.returncode, told, warned


def _start_application(**arguments: Any) -> tuple[int, str, str]:
    """Start an application that builds SOURCE: its exit code, what it tells and its warnings."""
    return _run_to_its_end(_BUILD_AND_TELL, json.dumps(arguments))


def _crashes(cache_directory: Path) -> int:
    return StatisticsFile(cache_directory / "v1").total().crashes


def test_promise_4_the_process_dies_once(entry: Path, cache_directory: Path) -> None:
    """The next process drops what killed its predecessor and is right; the one after it hits."""
    halve(entry)
    assert _start_application()[0] == -signal.SIGSEGV
    code, told, warned = _start_application()
    assert code == 0, warned
    assert told.startswith("2 from source")
    assert "the process that last loaded its binary died while loading it" in told
    assert len(warned.splitlines()) == 1
    assert "died: it was dropped and built from source" in warned
    assert _start_application()[1].startswith("2 from storage")
    assert _crashes(cache_directory) == 1


def test_promise_4_processes_that_start_together(entry: Path, cache_directory: Path) -> None:
    """Of several that start at once on what kills the driver, one dies."""
    halve(entry)
    children = [start_child(_BUILD_AND_TELL, "{}") for _ in range(5)]
    ended = [(child.communicate(timeout=60)[0], child.returncode) for child in children]
    assert sorted(code for _, code in ended) == [-signal.SIGSEGV, 0, 0, 0, 0], ended
    assert all(told.startswith("2 from") for told, code in ended if not code)
    assert _crashes(cache_directory) == 1
    assert _start_application()[1].startswith("2 from")


@pytest.fixture
def _pocl_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started share a directory of PoCL's that this one has not written to."""
    (tmp_path / "pocl").mkdir()
    monkeypatch.setenv("POCL_CACHE_DIR", str(tmp_path / "pocl"))


@pytest.mark.parametrize("kernel_file", ["its own", "that of the source"])
@pytest.mark.parametrize("when", ["at once", "closed"])
@pytest.mark.usefixtures("_pocl_anew")
def test_promise_4_it_dies_at_the_first_launch(
    context: cl.Context, entry: Path, cache_directory: Path, when: str, kernel_file: str
) -> None:
    """Also long after the load, and where PoCL has unpacked it as what the source would give."""
    _crash_in_kernel(context, entry, as_its_own=kernel_file == "its own")
    assert _run_to_its_end(_USED_LATER, when)[0] == -signal.SIGSEGV
    code, told, warned = _start_application()
    assert code == 0, warned
    assert told.startswith("2 from source")
    assert "the process that last loaded its binary died while launching it" in told
    assert len(warned.splitlines()) == 1
    for _ in range(2):
        assert _start_application()[1].startswith("2 from storage")
    assert _crashes(cache_directory) == 1


@pytest.mark.usefixtures("_pocl_anew")
def test_promise_4_a_shipped_program_dies_at_its_launch_once(
    context: cl.Context, entry: Path, tmp_path: Path
) -> None:
    """Though it is there again at each start, and the copy of it in the cache goes."""
    _crash_in_kernel(context, entry, as_its_own=True)
    shipped = shutil.move(entry, tmp_path / "shipped.mclp")
    arguments = {"storage_path": str(tmp_path / "own"), "binary_paths": [str(shipped)]}
    assert _start_application(**arguments)[0] == -signal.SIGSEGV
    for _ in range(4):
        code, told, warned = _start_application(**arguments)
        assert (code, told[:7]) == (0, "2 from "), warned


def test_promise_4_a_program_that_is_not_launched(context: cl.Context, entry: Path) -> None:
    """It isn't proven by that: whoever launches it is guarded still."""
    _crash_in_kernel(context, entry, as_its_own=True)
    assert _run_to_its_end(_USED_LATER, "never")[0] == 0
    assert _run_to_its_end(_USED_LATER, "closed")[0] == -signal.SIGSEGV
    assert "died while launching" in _start_application()[1]


def test_promise_4_killed_with_nothing_under_way(entry: Path, cache_directory: Path) -> None:
    """A process that was killed after it had loaded a program didn't die of it."""
    for when in ("at once", "flushed"):
        assert _run_to_its_end(_KILLED_IN_USE, when)[0] == -signal.SIGKILL
        assert _start_application()[1].startswith("2 from storage")
    assert _crashes(cache_directory) == 0
    assert entry.exists()


def test_promise_4_killed_while_it_loads(entry: Path, cache_directory: Path) -> None:
    """It can't be told from a crash: built anew once, then a child shows that it does no harm."""
    assert _run_to_its_end(_KILLED_IN_LOAD)[0] == -signal.SIGKILL
    assert "died while loading" in _start_application()[1]
    assert _start_application()[1].startswith("2 from storage")
    assert _start_application()[1].startswith("2 from storage")
    assert _crashes(cache_directory) == 1
    assert entry.exists()


def test_promise_4_a_child_dies_instead(entry: Path, cache_directory: Path) -> None:
    """With ``subprocess`` no process of the application dies at all, and the next one hits."""
    halve(entry)
    code, told, warned = _start_application(guard="subprocess")
    assert code == 0, warned
    assert told.startswith("2 from source")
    assert "a child process that tried its binary died" in told
    assert "SIGSEGV" in told
    assert len(warned.splitlines()) == 1
    assert _start_application(guard="subprocess")[1].startswith("2 from storage")
    assert _crashes(cache_directory) == 1


def test_promise_4_a_storage_that_only_reads(
    entry: Path, cache_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is guarded from the user's own place, and stays as it is; so are shipped programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    halve(entry)
    shipped = tmp_path / "shipped.mclp"
    shutil.copy(entry, shipped)
    before = snapshot(cache_directory)
    for arguments in (
        {"read_only": True},
        {"storage_path": str(tmp_path / "own"), "binary_paths": [str(shipped)]},
    ):
        shutil.rmtree(tmp_path / "xdg", ignore_errors=True)
        assert _start_application(**arguments)[0] == -signal.SIGSEGV
        code, told, warned = _start_application(**arguments)
        assert (code, told[:13]) == (0, "2 from source"), warned
        assert "died: it is passed over from now on" in warned
        code, told, warned = _start_application(**arguments)
        assert (code, warned) == (0, "")
        own = "storage_path" in arguments
        assert told.startswith("2 from storage" if own else "2 from source")
    assert snapshot(cache_directory) == before


def test_promise_4_switched_off(entry: Path) -> None:
    """With ``off`` every process dies of it: so the tests above show something."""
    halve(entry)
    for _ in range(2):
        assert _start_application(guard="off")[0] == -signal.SIGSEGV
    assert not (entry.parents[2] / "guard").exists()


# Promise 5: never stale.


@pytest.fixture
def header(tmp_path: Path) -> Path:
    """A header that says 3, in a directory of its own."""
    path = tmp_path / "include" / "factor.h"
    path.parent.mkdir()
    path.write_text("#define FACTOR 3\n")
    return path


def test_promise_5_an_edited_header(context: cl.Context, header: Path) -> None:
    """In memory and on disk, an edit is seen, and an edit taken back is too."""
    options = f"-I {header.parent}"
    with ProgramCache() as cache:
        assert scale(cache.build(context, INCLUDING, options)) == 3
        header.write_text("#define FACTOR 5\n")
        assert scale(cache.build(context, INCLUDING, options)) == 5
    with ProgramCache() as cache:
        program = cache.build(context, INCLUDING, options)
        assert scale(program) == 5
        assert cache.explain(program).origin is Origin.STORAGE
        header.write_text("#define FACTOR 3\n")
        assert scale(cache.build(context, INCLUDING, options)) == 3
        program = cache.build(context, INCLUDING, options)
        assert scale(program) == 3
        assert cache.explain(program).origin is Origin.MEMORY


def test_promise_5_a_header_that_shadows_another(
    context: cl.Context, header: Path, tmp_path: Path
) -> None:
    """A new header earlier on the path counts, and stops counting when it goes."""
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    options = f"-I {earlier} -I {header.parent}"
    with ProgramCache() as cache:
        assert scale(cache.build(context, INCLUDING, options)) == 3
        (earlier / "factor.h").write_text("#define FACTOR 5\n")
        assert scale(cache.build(context, INCLUDING, options)) == 5
    with ProgramCache() as cache:
        assert scale(cache.build(context, INCLUDING, options)) == 5
        (earlier / "factor.h").unlink()
        assert scale(cache.build(context, INCLUDING, options)) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_promise_5_a_header_that_changes_during_the_build(
    context: cl.Context,
    header: Path,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """What was compiled from another text than was hashed is handed out, and not stored."""
    real = opencl.build_from_source

    def build_and_edit(*arguments: Any, **named: Any) -> tuple[cl.Program, float]:
        if moment == "before":
            header.write_text("#define FACTOR 5\n")
        built = real(*arguments, **named)
        header.write_text("#define FACTOR 5\n")
        return built

    options = f"-I {header.parent}"
    with ProgramCache() as cache:
        with monkeypatch.context() as patch:
            patch.setattr(opencl, "build_from_source", build_and_edit)
            program = cache.build(context, INCLUDING, options)
        assert scale(program) == (5 if moment == "before" else 3)
        assert "it was not stored" in cache.explain(program).reason
        cache.flush()
        assert entries(cache_directory) == []
        assert scale(cache.build(context, INCLUDING, options)) == 5
        header.write_text("#define FACTOR 3\n")
        assert scale(cache.build(context, INCLUDING, options)) == 3


@pytest.mark.filterwarnings("ignore::pyopencl.CompilerWarning")  # a macro is defined anew
def test_promise_5_the_order_of_options(context: cl.Context) -> None:
    """The same options in another order are another program."""
    three, five = "-DFACTOR=3", "-DFACTOR=5"
    for _ in range(2):
        with ProgramCache() as cache:
            assert scale(cache.build(context, SOURCE, [five, three])) == 3
            assert scale(cache.build(context, SOURCE, [three, five])) == 5


def test_promise_5_the_order_of_include_directories(
    context: cl.Context, header: Path, tmp_path: Path
) -> None:
    """The first directory that has a header decides."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "factor.h").write_text("#define FACTOR 5\n")
    three, five = ["-I", str(header.parent)], ["-I", str(other)]
    for _ in range(2):
        with ProgramCache() as cache:
            assert scale(cache.build(context, INCLUDING, [*five, *three])) == 5
            assert scale(cache.build(context, INCLUDING, [*three, *five])) == 3


def test_promise_5_options_from_the_environment(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PYOPENCL_BUILD_OPTIONS adds counts, also when it changes under a running cache."""
    with ProgramCache() as cache:
        assert scale(cache.build(context, SOURCE)) == 2
        monkeypatch.setenv("PYOPENCL_BUILD_OPTIONS", "-DFACTOR=3")
        assert scale(cache.build(context, SOURCE)) == 3
    assert build(context, factor=3)[0] is Origin.STORAGE
    monkeypatch.delenv("PYOPENCL_BUILD_OPTIONS")
    assert build(context, factor=2)[0] is Origin.STORAGE


@pytest.mark.parametrize(
    ("name", "value"), [("POCL_WORK_GROUP_METHOD", "loopvec"), ("POCL_NOT_KNOWN_YET", "1")]
)
def test_promise_5_the_compilers_environment(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A variable that may change the code is another fingerprint, in memory as on disk."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        monkeypatch.setenv(name, value)
        program = cache.build(context, SOURCE)
        assert cache.explain(program).origin is Origin.SOURCE
        assert scale(program) == 2
        monkeypatch.delenv(name)
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.MEMORY
    assert build(context)[0] is Origin.STORAGE
    assert entry.exists()


def test_promise_5_what_cannot_be_known_is_not_cached(
    context: cl.Context, header: Path, cache_directory: Path
) -> None:
    """An include that only the compiler can resolve: built from source every time."""
    source = make_source(head="#define WHERE <factor.h>\n#include WHERE\n")
    options = f"-I {header.parent}"
    for factor in (3, 5):
        header.write_text(f"#define FACTOR {factor}\n")
        with ProgramCache() as cache:
            for _ in range(2):
                program = cache.build(context, source, options)
                assert scale(program) == factor
                assert "can't be cached" in cache.explain(program).reason
    assert entries(cache_directory) == []


# Promise 6: published atomically.


def test_promise_6_killed_at_any_moment(context: cl.Context, cache_directory: Path) -> None:
    """Processes killed while they build and write leave whole entries, or none."""
    run_child(_KILLED)
    paths = entries(cache_directory)
    assert paths, "something was written"
    for path in paths:
        assert read_entry(path).key == path.stem
    with ProgramCache() as cache:
        programs = [cache.build(context, make_source(f"kill {number}")) for number in range(40)]
        assert {scale(program) for program in programs} == {2}
        told = [cache.explain(program) for program in programs]
    dropped = [explanation for explanation in told if "died while using" in explanation.reason]
    origins = Counter(explanation.origin for explanation in told)
    assert origins[Origin.STORAGE] + len(dropped) == len(paths)
    assert len(entries(cache_directory)) == 40


# Promise 8: it removes only what it wrote.


def test_promise_8_the_users_own_files(
    context: cl.Context, entry: Path, cache_directory: Path, tmp_path: Path
) -> None:
    """A storage that is cleared leaves every file of the user's where it lies, and links too."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(entry, outside)
    (outside / "precious").write_bytes(b"precious")
    storage = entry.parents[1]
    for place in (cache_directory, cache_directory / "v1", storage, entry.parent, storage / "ab"):
        place.mkdir(exist_ok=True)
        for name in ("notes.txt", "precious.mclp", f"{entry.name}.bak", "0" * 64, ".tmp-mine"):
            (place / name).write_bytes(b"precious")
    (storage / "my directory").mkdir()
    shutil.copy(entry, storage / "my directory")
    (storage / "cd").symlink_to(outside)
    (entry.parent / f"{'0' * 64}.mclp").symlink_to(outside / "precious")
    users = {path: data for path, data in snapshot(tmp_path).items() if path != str(entry)}
    plant(entry)
    origin, reason = build(context)
    assert origin is Origin.SOURCE
    assert "rejected" in reason
    after = snapshot(tmp_path)
    for path, (mode, _modified, content) in users.items():
        if not path.endswith(("usage", "statistics.jsonl", "missed.jsonl")):
            assert (after[path][0], after[path][2]) == (mode, content), path


# Promise 10: disabled means absent.


def test_promise_10_no_file_is_touched(entry: Path, cache_directory: Path, tmp_path: Path) -> None:
    """Nothing below the cache directory is opened, listed or made, and no precompiled file read.

    The trap is a FIFO: reading it would never end.
    """
    trap = cache_directory / "trap.mclp"
    os.mkfifo(trap)
    before = snapshot(tmp_path)
    told = run_child(_DISABLED, cache_directory, trap, MACE_CACHE_DISABLE="1")
    assert told.splitlines() == ["caching is switched off (MACE_CACHE_DISABLE)"] * 5
    assert snapshot(tmp_path) == before
    assert entry.exists()


def test_promise_10_no_directory_is_made(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the directory come into being, and a program is built each time it is asked for."""
    monkeypatch.setenv("MACE_CACHE_DISABLE", "yes")
    assert build(context)[0] is Origin.SOURCE
    assert list(tmp_path.iterdir()) == []
