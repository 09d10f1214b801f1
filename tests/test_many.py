"""Many programs in one call: as the loop gives them, with threads and processes that help."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

from mace_cache import ProgramCache, ProgramRequest, _crew, _helping, many, opencl
from mace_cache._driver_family import keeps_builds
from mace_cache._helping import choose_help
from mace_cache._report import forget_reported
from mace_cache._warm_process import WorkerDiedError, WorkerProcess, has_interpreter
from mace_cache.errors import ConfigurationError
from mace_cache.explanation import Origin
from mace_cache.program import CompiledProgram
from mace_cache.request import identify, make_request
from mace_cache.storage.memory import MemoryStorage
from tests.helpers import (
    FakeFactory,
    FaultyStorage,
    entries,
    make_source,
    refuse_loads,
    run_child,
    scale,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BROKEN = "kernel void broken() { this_is_no_opencl(); }"


@pytest.fixture(params=["by turns", "ahead"])
def _reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every load, or none, take so long that a thread reads ahead meanwhile."""
    monkeypatch.setattr(many, "_LONG_LOAD", 3600.0 if request.param == "by turns" else -1.0)


@pytest.fixture
def cache() -> Iterator[ProgramCache]:
    """A cache whose programs are not harvested in the middle of a test."""
    with ProgramCache(harvest_after=1e6) as cache:
        yield cache


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that this process builds from now on."""
    sources: list[str] = []
    real = opencl.build_from_source

    def build(context: cl.Context, source: str, *rest: Any, **named: Any) -> Any:
        sources.append(source)
        return real(context, source, *rest, **named)

    monkeypatch.setattr(opencl, "build_from_source", build)
    return sources


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """The worker processes that are started from now on."""
    started: list[WorkerProcess] = []

    class Seen(WorkerProcess):
        def __init__(self, arguments: Any = None) -> None:
            super().__init__(arguments)
            started.append(self)

    monkeypatch.setattr(_crew, "WorkerProcess", Seen)
    return started


def factors(count: int, tag: str) -> list[ProgramRequest]:
    """Requests of programs that multiply by 3, 4, ..., which PoCL compiles once for all tests."""
    return [
        ProgramRequest(make_source(f"{tag} {number}"), [f"-DFACTOR={number + 3}"])
        for number in range(count)
    ]


def origins(cache: ProgramCache, programs: list[cl.Program]) -> list[Origin]:
    """Where each came from."""
    return [cache.explain(program).origin for program in programs]


@pytest.mark.usefixtures("_reading")
def test_programs_come_in_the_order_given(
    cache: ProgramCache, context: cl.Context, built: list[str]
) -> None:
    """In whatever form they are asked for; one that is asked for twice is built once."""
    text = make_source("order")
    requests: list[Any] = [
        (text, "-DFACTOR=5"),
        text,
        ProgramRequest(text, ["-DFACTOR=6"]),
        (text,),
        text,
    ]
    programs = cache.build_many(context, iter([*requests, (text.encode(), ("-DFACTOR=7",))]))
    assert [scale(program) for program in programs] == [5, 2, 6, 2, 2, 7]
    assert len(built) == 4
    assert len({id(program) for program in programs}) == len(programs)
    assert programs[1].int_ptr == programs[3].int_ptr
    assert cache.build_many(context, []) == []


@pytest.mark.usefixtures("_reading")
def test_a_warm_call_builds_nothing(
    cache: ProgramCache, context: cl.Context, built: list[str], workers: list[WorkerProcess]
) -> None:
    """From memory, and in a later process from the storage, in the order given."""
    requests = factors(5, "warm")
    for origin in (Origin.SOURCE, Origin.MEMORY, Origin.STORAGE):
        programs = cache.build_many(context, requests, jobs=1)
        assert [scale(program) for program in programs] == [3, 4, 5, 6, 7]
        assert origins(cache, programs) == [origin] * 5
        if origin is Origin.MEMORY:
            cache.close()
    assert len(built) == 5
    assert not workers


@pytest.mark.usefixtures("_reading")
def test_stored_and_missing_ones_mix(cache: ProgramCache, context: cl.Context) -> None:
    """Each is loaded or built as it is needed."""
    requests = factors(5, "mixed")
    for number in (1, 3):
        cache.build(context, *requests[number])
    cache.close()
    programs = cache.build_many(context, requests)
    assert [scale(program) for program in programs] == [3, 4, 5, 6, 7]
    stored, source = Origin.STORAGE, Origin.SOURCE
    assert origins(cache, programs) == [source, stored, source, stored, source]


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_first_error_in_the_order_given(
    cache: ProgramCache, context: cl.Context, jobs: int
) -> None:
    """It is the one that the loop would end with; what stands before it is built and kept."""
    good = factors(4, f"error {jobs}")
    first, second = (f"kernel void broken() {{ {name}_error(); }}" for name in ("first", "second"))
    with pytest.raises(cl.RuntimeError) as expected:
        cache.build(context, first)
    with pytest.raises(cl.RuntimeError, match="first_error") as raised:
        cache.build_many(context, [*good[:2], first, *good[2:], second], jobs)
    assert raised.value.code == expected.value.code
    assert (
        origins(cache, [cache.build(context, *request) for request in good[:2]])
        == [Origin.MEMORY] * 2
    )
    assert not helping_threads()


def helping_threads() -> list[threading.Thread]:
    """Those that a call may leave to nobody."""
    names = ("mace-cache read", "mace-cache worker")
    return [thread for thread in threading.enumerate() if thread.name in names]


@pytest.mark.parametrize("jobs", [1, 3])
def test_only_the_last_one_fails(cache: ProgramCache, context: cl.Context, jobs: int) -> None:
    """A worker takes it first, and the error is told by this process."""
    requests = [*factors(3, f"last {jobs}"), ProgramRequest(BROKEN)]
    with pytest.raises(cl.RuntimeError, match="this_is_no_opencl"):
        cache.build_many(context, requests, jobs)


# In a process of its own: PoCL goes on with what its variables were at its first build, which other
# tests change. Prints how many programs PoCL has compiled before, after the worker, and after this.
HELPED = """
import os
from mace_cache import opencl
from mace_cache._helping import choose_help
from mace_cache._warm_process import WorkerProcess
from mace_cache.request import identify, make_request
from mace_cache.storage.memory import MemoryStorage
from tests.helpers import make_source, open_context, scale

def compiled():
    files = [name for _, _, names in os.walk(os.environ["POCL_CACHE_DIR"]) for name in names]
    return files.count("program.bc")

context = open_context()
text = make_source("by a worker")
identified = identify(make_request(context, text, "-DFACTOR=9 -DUNUSED", None))
help_ = choose_help(identified, None)
counts = [compiled()]
worker = WorkerProcess(help_.arguments)
assert worker.ask(help_.message(identified)) == 0
worker.close()
counts.append(compiled())
program, _ = opencl.build_from_source(context, text, ["-DFACTOR=9", "-DUNUSED"])
counts.append(compiled())
print(help_.stores, counts, scale(program))
"""


def test_what_a_worker_builds_the_driver_has(tmp_path: Path) -> None:
    """PoCL hashes the same text in both: this process doesn't compile it again."""
    said = run_child(HELPED, POCL_CACHE_DIR=str(tmp_path))
    assert said.strip() == "False [0, 1, 1] 9"


def test_workers_help_and_leave(
    cache: ProgramCache,
    context: cl.Context,
    built: list[str],
    workers: list[WorkerProcess],
) -> None:
    """No more than jobs, this process being one; each program is still built from source here."""
    programs = cache.build_many(context, factors(6, "helped"), jobs=3)
    assert [scale(program) for program in programs] == [3, 4, 5, 6, 7, 8]
    assert origins(cache, programs) == [Origin.SOURCE] * 6
    assert len(built) == 6
    assert len(workers) == 2
    assert all(worker._process.returncode is not None for worker in workers)


class Shared(MemoryStorage):
    """A storage with a place behind it where others put programs while this machine waits."""

    claims = True

    def __init__(self, others: MemoryStorage) -> None:
        super().__init__()
        self.others = others
        self.claimed: set[str] = set()

    def claim(self, key: str, *_: Any) -> bool:
        """Wait for others, who have built it then, or claim it."""
        self.claimed.add(key)
        return key in self.others.keys()  # noqa: SIM118 (a storage is no mapping)

    def fetch(self, key: str) -> CompiledProgram | None:
        """Give what others have built meanwhile."""
        return self.others.find(key) if key in self.claimed else None


def test_workers_compile_nothing_that_another_machine_builds(
    context: cl.Context, workers: list[WorkerProcess]
) -> None:
    """They claim nothing, so they wait until this machine has turned out to build one itself."""
    requests, made = factors(6, "claimed"), MemoryStorage()
    with ProgramCache(storage_factory=FakeFactory(made), harvest="eager") as cache:
        cache.build_many(context, requests, jobs=1)
    with ProgramCache(storage_factory=FakeFactory(Shared(made))) as cache:
        programs = cache.build_many(context, requests, jobs=3)
        assert origins(cache, programs) == [Origin.REMOTE] * 6
        assert [scale(program) for program in programs] == [3, 4, 5, 6, 7, 8]
    assert workers == []
    with ProgramCache(storage_factory=FakeFactory(Shared(MemoryStorage()))) as cache:
        programs = cache.build_many(context, requests, jobs=3)
        assert origins(cache, programs) == [Origin.SOURCE] * 6
    assert len(workers) == 2


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import os; os.abort()"], ["-c", "input(); import os; os.abort()"], ["-c", ""]],
)
def test_a_worker_that_dies_costs_nothing_but_itself(
    cache: ProgramCache,
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    """Before or while it builds: its program is built here."""
    monkeypatch.setattr(_helping, "_SOURCE_WORKER", arguments)
    programs = cache.build_many(context, factors(5, f"dying {arguments}"), jobs=3)
    assert [scale(program) for program in programs] == [3, 4, 5, 6, 7]


STOP = "import os, signal, sys; {}os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.mark.parametrize(
    ("script", "padding"),
    [
        (STOP.format("sys.stdin.readline(); "), ""),
        (STOP.format(""), "/" * (1 << 20)),  # no pipe takes that: the message can't even be sent
    ],
    ids=["while it builds", "before it reads"],
)
def test_a_worker_that_hangs_is_killed(
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    workers: list[WorkerProcess],
    script: str,
    padding: str,
) -> None:
    """It is waited for no longer than a build may take, and its program is built here."""
    monkeypatch.setattr(_helping, "_SOURCE_WORKER", ["-c", script])
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.2")
    hold_first_build(monkeypatch, lambda: len(workers) == 2 and all(map(is_stopped, workers)))
    with ProgramCache(harvest_after=1e6) as cache:
        programs = cache.build_many(context, factors(4, f"hung {padding}"), jobs=3)
        assert [scale(program) for program in programs] == [3, 4, 5, 6]
        assert origins(cache, programs) == [Origin.SOURCE] * 4
    assert [worker._process.returncode for worker in workers] == [-signal.SIGKILL] * 2
    assert not helping_threads()


def hold_first_build(monkeypatch: pytest.MonkeyPatch, over: Callable[[], bool]) -> None:
    """Have this process build nothing until something is so."""
    real, held = opencl.build_from_source, [over]

    def build(*arguments: Any, **named: Any) -> Any:
        while held and not over():
            time.sleep(0.001)
        held.clear()
        return real(*arguments, **named)

    monkeypatch.setattr(opencl, "build_from_source", build)


def is_stopped(worker: WorkerProcess) -> bool:
    """Whether a signal has stopped a process, as Linux tells."""
    return "\nState:\tT" in Path(f"/proc/{worker._process.pid}/status").read_text()


def test_a_build_known_to_take_long_is_waited_for(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a program took before a driver's update bounds the wait for a worker, too."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    script = (
        "import sys, time; from pathlib import Path; sys.stdin.readline();"
        f"Path({str(begun)!r}).touch(); time.sleep(1); Path({str(ended)!r}).touch(); print(0)"
    )
    monkeypatch.setattr(_helping, "_SOURCE_WORKER", ["-c", script])
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.01")
    hold_first_build(monkeypatch, begun.exists)
    requests = factors(2, "known to take long")
    with ProgramCache(harvest_after=1e6) as cache:
        for request in requests:
            key = identify(make_request(context, *request, None)).describe().key
            before = CompiledProgram(key, "another driver's", b"binary", build_seconds=600.0)
            cache.factory.create_storage("before").insert(key, before)
        programs = cache.build_many(context, requests, jobs=2)
        assert [scale(program) for program in programs] == [3, 4]
    assert ended.exists()


def test_a_worker_that_cannot_be_told(
    cache: ProgramCache, context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with it, the program that it took is built here."""

    def fail(_worker: WorkerProcess, _message: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(WorkerProcess, "ask", fail)
    programs = cache.build_many(context, factors(4, "not told"), jobs=3)
    assert [scale(program) for program in programs] == [3, 4, 5, 6]


def test_processes_that_cannot_be_started(
    cache: ProgramCache, context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one does it all."""
    monkeypatch.setattr(sys, "executable", os.path.join(os.path.dirname(__file__), "python-not"))
    programs = cache.build_many(context, factors(4, "no process"), jobs=3)
    assert [scale(program) for program in programs] == [3, 4, 5, 6]


@pytest.mark.usefixtures("_reading")
def test_threads_that_cannot_be_started(
    cache: ProgramCache, context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's does it all, and the rest of the cache likewise."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        programs = cache.build_many(context, factors(4, "no thread"), jobs=3)
    assert [scale(program) for program in programs] == [3, 4, 5, 6]


def test_an_application_without_an_interpreter(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``sys.executable`` names would be the application once more: it isn't started."""
    monkeypatch.setattr(sys, "executable", "/opt/application")
    assert not has_interpreter()
    assert choose_help(identify(make_request(context, "//", None, None)), None) is None


def test_an_interrupt_ends_the_workers(
    cache: ProgramCache,
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    workers: list[WorkerProcess],
) -> None:
    """Also one that never answers; no thread is left waiting for it."""
    monkeypatch.setattr(_helping, "_SOURCE_WORKER", ["-c", "import time; time.sleep(600)"])

    def interrupt(*_arguments: Any, **_named: Any) -> None:
        while not workers:
            time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(opencl, "build_from_source", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.build_many(context, factors(4, "interrupted"), jobs=2)
    assert [worker._process.returncode for worker in workers] == [-signal.SIGKILL]
    assert not helping_threads()


def test_a_worker_ends_with_its_parent() -> None:
    """When nobody holds the other end of its input any more."""
    worker = WorkerProcess(_helping._SOURCE_WORKER)
    try:
        assert worker._process.stdin is not None
        worker._process.stdin.close()
        assert worker._process.wait(timeout=30) == 0
    finally:
        worker._process.stdin = None
        worker.close()


@pytest.mark.parametrize(
    "message", [{"library": "nothing.so"}, {"platform": 99}, {"devices": [99]}]
)
def test_a_worker_that_finds_something_else(context: cl.Context, message: dict[str, Any]) -> None:
    """It dies, and its programs are left to the parent."""
    identified = identify(make_request(context, make_source(), None, None))
    help_ = choose_help(identified, None)
    assert help_ is not None
    worker = WorkerProcess(help_.arguments)
    try:
        with pytest.raises(WorkerDiedError):
            worker.ask({**(help_.message(identified) or {}), **message})
    finally:
        worker.close()


def test_workers_that_store(
    cache: ProgramCache,
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    cache_directory: Path,
) -> None:
    """For drivers that keep nothing themselves: what a worker has stored is loaded."""
    monkeypatch.setattr(_helping, "_NEVER_STORED", frozenset())
    monkeypatch.setattr(_helping, "keeps_builds", lambda _family: False)
    monkeypatch.setattr(_helping, "_STORING_WORKER_START", 1e-6)
    real = opencl.build_from_source
    built: list[Any] = []

    def build(*arguments: Any, **named: Any) -> Any:
        if built:  # the worker is there after the first
            while not entries(cache_directory):
                time.sleep(0.01)
        built.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(opencl, "build_from_source", build)
    programs = cache.build_many(context, factors(3, "stored"), jobs=2)
    assert [scale(program) for program in programs] == [3, 4, 5]
    assert origins(cache, programs) == [Origin.SOURCE, Origin.SOURCE, Origin.STORAGE]


def test_no_worker_stores_what_would_be_early(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PoCL's own cache off nothing is gained by another process."""
    identified = identify(make_request(context, make_source(), None, None))
    monkeypatch.setenv("POCL_KERNEL_CACHE", "0")
    assert choose_help(identified, {}) is None


@pytest.mark.parametrize(
    ("family", "variable", "value", "expected"),
    [
        ("pocl", "POCL_KERNEL_CACHE", "1", True),
        ("pocl", "POCL_KERNEL_CACHE", "0", False),
        ("nvidia", "CUDA_CACHE_DISABLE", "0", True),
        ("nvidia", "CUDA_CACHE_DISABLE", "1", False),
        ("oclgrind", "POCL_KERNEL_CACHE", "1", False),
    ],
)
def test_drivers_that_keep_what_they_build(
    monkeypatch: pytest.MonkeyPatch, family: str, variable: str, value: str, *, expected: bool
) -> None:
    """Two do, unless their caches are switched off."""
    monkeypatch.setenv(variable, value)
    assert keeps_builds(family) is expected


def test_parts_of_a_device() -> None:
    """No other process sees them: they have no place in the list."""
    platform: Any = SimpleNamespace(get_devices=list)
    part: Any = SimpleNamespace(platform=platform)
    assert _helping._place_of([part]) == {}


def test_sources_that_a_worker_cannot_be_told(context: cl.Context) -> None:
    """Bytes that aren't text: the message has them for the driver, and there is none to store."""
    identified = identify(make_request(context, b"// \xe9\n", None, None))
    sent = _helping.Help(False, None, {}, 0.0).message(identified)
    assert sent is not None
    assert sent["source"].encode("latin-1") == b"// \xe9\n"
    assert _helping.Help(True, None, {}, 0.0).message(identified) is None


@pytest.mark.parametrize("kind", ["memory", "read-only", "recache", "deferred", "disabled"])
def test_caches_in_which_a_worker_stores_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch, context: cl.Context
) -> None:
    """All is built here then, as ever."""
    if kind in {"recache", "disabled"}:
        monkeypatch.setenv({"recache": "MACE_CACHE_RECACHE"}.get(kind, "MACE_CACHE_DISABLE"), "1")
    arguments: dict[str, dict[str, Any]] = {
        "memory": {"url": "memory:"},
        "read-only": {"read_only": True},
        "deferred": {"harvest": "deferred"},
    }
    with ProgramCache(**arguments.get(kind, {}), harvest_after=1e6) as cache:
        assert cache._arguments_of_workers() is None
        programs = cache.build_many(context, factors(3, kind), jobs=2)
        assert [scale(program) for program in programs] == [3, 4, 5]
        assert origins(cache, programs) == [Origin.SOURCE] * 3


def test_a_cache_that_workers_open(cache: ProgramCache) -> None:
    """The default one; what is precompiled has been asked before."""
    arguments = cache.reopening_arguments()
    assert cache._arguments_of_workers() == {**arguments, "precompiled": []}


@pytest.mark.usefixtures("_reading")
def test_a_storage_that_fails(context: cl.Context, caplog: pytest.LogCaptureFixture) -> None:
    """Every program is built from source, with one warning."""
    forget_reported()
    factory = FakeFactory(FaultyStorage("find", OSError(5, "no")))
    with ProgramCache(storage_factory=factory, harvest_after=1e6) as cache:
        programs = cache.build_many(context, factors(4, "faulty"), jobs=1)
        assert [scale(program) for program in programs] == [3, 4, 5, 6]
        explanations = [cache.explain(program) for program in programs]
    assert all("find failed" in explanation.reason for explanation in explanations)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.usefixtures("_reading")
def test_rejected_binaries_are_rebuilt(
    cache: ProgramCache, context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is cleared once, and what was read ahead of that heals too."""
    requests = factors(4, "rejected")
    cache.build_many(context, requests, jobs=1)
    cache.close()
    with monkeypatch.context() as patch:
        refused = refuse_loads(patch)
        programs = cache.build_many(context, requests, jobs=1)
    assert refused
    assert [scale(program) for program in programs] == [3, 4, 5, 6]
    assert origins(cache, programs) == [Origin.SOURCE] * 4


@pytest.mark.parametrize("jobs", [0, -2, 1.5, "2"])
def test_no_jobs(cache: ProgramCache, context: cl.Context, jobs: Any) -> None:
    """Nobody could do the work."""
    with pytest.raises(ConfigurationError, match="jobs="):
        cache.build_many(context, [], jobs)


def test_arguments_that_pyopencl_refuses(cache: ProgramCache, context: cl.Context) -> None:
    """With its own error, as from `build`."""
    bad: Any = [["-DFACTOR=3"]]
    with pytest.raises(TypeError, match="bytes-like") as expected:
        cache.build(context, make_source("bad"), bad)
    with pytest.raises(TypeError, match=str(expected.value)):
        cache.build_many(context, [(make_source("bad"), bad)])


@pytest.mark.usefixtures("_reading")
def test_32_threads_at_once(context: cl.Context, cache: ProgramCache) -> None:
    """Each gets what it asked for, whatever the others do with the same programs."""
    requests = factors(6, "hammered")

    def hammer(number: int) -> list[int]:
        if number % 3 == 0:
            programs = cache.build_many(context, requests, jobs=1)
        elif number % 3 == 1:
            programs = [cache.build(context, *request) for request in requests]
        else:
            futures = [cache.build_async(context, *request) for request in requests]
            programs = [future.result() for future in futures]
        if number % 8 == 0:
            cache._resident.clear()
        return [scale(program) for program in programs]

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(hammer, range(32))) == [[3, 4, 5, 6, 7, 8]] * 32


@pytest.mark.parametrize("requests", ["kernel void f() { }", [("a", "b", "c")], [1], [None]])
def test_what_is_no_request(cache: ProgramCache, context: cl.Context, requests: Any) -> None:
    """A source in the place of many, and what is none."""
    with pytest.raises(ConfigurationError, match="requests"):
        cache.build_many(context, requests)


def test_a_worker_that_starts_with_a_greeting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site's own start-up code may print: what it says is no answer."""
    (tmp_path / "sitecustomize.py").write_text("print('hello')\nprint('{}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = WorkerProcess()
    assert all(set(device) == {"name", "problem"} for device in worker.ask(None))
    worker.close()


def test_a_worker_that_answers_nonsense() -> None:
    """It counts as dead."""
    worker = WorkerProcess(["-c", "input(); print('hello', flush=True); input()"])
    with pytest.raises(WorkerDiedError, match="hello"):
        worker.ask(None)
    worker.close()
