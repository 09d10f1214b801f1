"""Harvest: binaries are taken when they are complete, once, and only where they are wanted."""

from __future__ import annotations

import gc
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import Origin, ProgramCache, opencl, request, unwritten
from mace_cache._directories import Place
from mace_cache._notebook import note_name
from mace_cache._notes import MOST_DEATHS, take_note
from mace_cache._report import forget_reported
from mace_cache.container import encode
from mace_cache.errors import ConfigurationError
from mace_cache.fingerprint import DeviceFingerprint, fingerprint
from mace_cache.harvest import finalise, nvidia
from mace_cache.harvest.pending import PendingHarvest
from mace_cache.harvest.policy import harvests_late
from mace_cache.harvest.quiet import QuietMoment
from mace_cache.tiers import Tiers
from tests.helpers import (
    REPOSITORY,
    FakeFactory,
    entries,
    make_source,
    opencl_error,
    read_entry,
    run_child,
    scale,
    start_child,
    watch_fetches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pyopencl as cl

    from mace_cache.program import CompiledProgram

SOURCE = make_source("harvest")
_PATIENCE = 60.0  # seconds for what takes a moment on an idle machine

_START = """
import os, sys
from pathlib import Path
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def compiled():
    return {path.parent.name for path in Path(os.environ["POCL_CACHE_DIR"]).rglob("scale.so")}

with ProgramCache() as cache:
    program = cache.build(open_context(), make_source("first start"))
    if sys.argv[1] == "early":
        cache.flush()
    before = compiled()
    assert scale(program) == 2
    print(cache.explain(program).origin.value, len(compiled() - before))
"""


@pytest.fixture(autouse=True)
def _no_harvest_of_other_tests() -> None:
    """Let the threads of caches that other tests never closed come to their end first."""
    gc.collect()
    for thread in harvest_threads():
        thread.join(_PATIENCE)


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


def as_nvidia(device: cl.Device) -> DeviceFingerprint:
    """The fingerprint that a device of another family would have."""
    return DeviceFingerprint(fingerprint(device).text, "nvidia")


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < until, "it didn't come"
        time.sleep(0.01)


def harvest_threads() -> list[threading.Thread]:
    """The threads that wait for a quiet moment now."""
    return [thread for thread in threading.enumerate() if thread.name == "mace-cache harvest"]


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[cl.Program]:
    """Every program whose binaries were asked for."""
    return watch_fetches(monkeypatch)


_FAMILIES = ("pocl", "oclgrind", "nvidia", "rusticl", "other")


@pytest.mark.parametrize(
    ("policy", "late"),
    [("auto", ["pocl"]), ("eager", []), ("deferred", [*_FAMILIES])],
)
def test_policies(policy: Any, late: list[str]) -> None:
    """PoCL alone compiles at the launch and hands out what was launched, unless a user decides."""
    assert [family for family in _FAMILIES if harvests_late(policy, [family])] == late
    assert harvests_late(policy, ["nvidia", "pocl"]) is ("pocl" in late)


@pytest.mark.parametrize("policy", ["late", "", "EAGER", None, 1, []])
def test_a_policy_that_there_is_not(policy: Any) -> None:
    """The error names the argument and what it takes."""
    with pytest.raises(ConfigurationError, match=r"harvest.*auto, eager or deferred"):
        ProgramCache(harvest=policy)


def test_eager(context: cl.Context, fetches: list[cl.Program]) -> None:
    """On PoCL too the binary is fetched before `build` returns, and written without a flush."""
    cache = ProgramCache(harvest="eager", harvest_after=3600)
    program = cache.build(context, SOURCE)
    assert fetches == [program]
    wait_for(lambda: cache.is_stored(program))
    cache.close()
    assert fetches == [program]
    wait_for(lambda: not harvest_threads())


def test_what_was_fetched_is_written_by_a_flush(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush doesn't leave it to the thread, and waits for one that is writing."""
    monkeypatch.setattr(unwritten, "_WRITE_AFTER", 3600.0)
    cache = ProgramCache(harvest="eager")
    program = cache.build(context, SOURCE)
    assert not cache.is_stored(program)
    cache.flush()
    assert cache.is_stored(program)
    wait_for(lambda: not harvest_threads())


def test_what_was_fetched_is_written_at_exit(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends before its thread has written does so then."""
    monkeypatch.setattr(unwritten, "_WRITE_AFTER", 3600.0)
    cache = ProgramCache(harvest="eager")
    program = cache.build(context, SOURCE)
    cache._unwritten.finish(60.0)
    assert cache.is_stored(program)


def test_without_a_thread_it_is_written_by_the_flush(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started the program waits for the next flush."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        cache = ProgramCache(harvest="eager")
        program = cache.build(context, SOURCE)
    assert not cache.is_stored(program)
    cache.flush()
    assert cache.is_stored(program)


def test_deferred(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, fetches: list[cl.Program]
) -> None:
    """So a driver whose binary is complete at once is asked late."""
    monkeypatch.setattr(request, "fingerprint", as_nvidia)
    with ProgramCache(harvest="deferred") as cache:
        program = cache.build(context, SOURCE)
        assert fetches == []
        assert not cache.is_stored(program)
    assert fetches == [program]
    assert cache.is_stored(program)


def test_once_and_late(
    context: cl.Context, cache_directory: Path, fetches: list[cl.Program]
) -> None:
    """The binary is fetched at the flush, after the launches, and never again."""
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        cache.build(context, SOURCE)
        scale(program)
        assert fetches == []
        assert entries(cache_directory) == []
        cache.flush()
        assert fetches == [program]
        assert len(entries(cache_directory)) == 1
        cache.flush()
        cache.build(context, SOURCE)
    assert len(fetches) == 1


@pytest.mark.parametrize(("moment", "compiled_warm"), [("late", 0), ("early", 1)])
def test_a_warm_process_launches_without_compiling(
    tmp_path: Path, moment: str, compiled_warm: int
) -> None:
    """Harvested late the binary has the code of the launched size; early PoCL compiles it again.

    Each process has an empty driver cache: what the driver compiles shows there.
    """
    told = []
    for start in ("cold", "warm"):
        (tmp_path / start).mkdir()
        told.append(run_child(_START, moment, POCL_CACHE_DIR=str(tmp_path / start)).split())
    assert told == [["source", "1"], ["storage", str(compiled_warm)]]


def test_other_families_are_harvested_at_once(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetches: list[cl.Program],
) -> None:
    """Where fetching is cheap and complete `build` does it, and the program is soon stored."""
    monkeypatch.setattr(request, "fingerprint", as_nvidia)
    cache = ProgramCache()
    program = cache.build(context, SOURCE)
    assert fetches == [program]
    wait_for(lambda: cache.is_stored(program))
    (path,) = entries(cache_directory)
    assert read_entry(path).kernel_names == ("scale",)


def test_what_another_process_has_written_is_not_fetched(
    context: cl.Context, fetches: list[cl.Program]
) -> None:
    """Of two that missed, the one that flushes later has nothing to do."""
    first, second = ProgramCache(), ProgramCache()
    first.build(context, SOURCE)
    second.build(context, SOURCE)
    first.close()
    second.close()
    assert len(fetches) == 1


def test_a_driver_that_hands_out_nothing(
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error, or an empty binary, and nothing is stored: with a warning at most."""

    def fail(_program: cl.Program, _devices: Sequence[cl.Device]) -> list[bytes]:
        raise opencl_error("OUT_OF_HOST_MEMORY", "clGetProgramInfo")

    def nothing(_program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        return [b""] * len(devices)

    factory = FakeFactory()
    for answer in (nothing, fail, fail):
        monkeypatch.setattr(opencl, "fetch_binaries", answer)
        with ProgramCache(storage_factory=factory) as cache:
            program = cache.build(context, SOURCE)
            assert scale(program) == 2
            assert cache.explain(program).origin is Origin.SOURCE
    (warning,) = caplog.records
    assert "OUT_OF_HOST_MEMORY" in warning.getMessage()
    assert not any(key for storage in factory.storages.values() for key in storage.keys())  # noqa: SIM118 (no mapping)


def test_one_program_that_fails_leaves_the_others(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one program's binary, the rest is written."""
    real = opencl.fetch_binaries
    programs: list[cl.Program] = []

    def fail_first(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        programs.append(program)
        if len(programs) == 1:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a driver's nonsense")
        return real(program, devices)

    monkeypatch.setattr(opencl, "fetch_binaries", fail_first)
    with ProgramCache() as cache:
        for number in range(3):
            cache.build(context, make_source(number))
    assert len(entries(cache_directory)) == 2


def test_a_quiet_moment(
    context: cl.Context, cache_directory: Path, fetches: list[cl.Program]
) -> None:
    """While the process goes on the program gets into the cache by itself, launches and all."""
    cache = ProgramCache(harvest_after=0.2)
    program = cache.build(context, SOURCE)
    wait_for(lambda: entries(cache_directory))
    wait_for(lambda: not harvest_threads())
    assert cache.is_stored(program)
    cache.close()
    assert fetches == [program]


def test_only_builds_postpone_it(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each program built from source begins the wait anew; one that was there doesn't."""
    events = []
    postpone = QuietMoment.postpone

    def count(moment: QuietMoment) -> None:
        events.append(moment)
        postpone(moment)

    monkeypatch.setattr(QuietMoment, "postpone", count)
    with ProgramCache() as cache:
        for source, so_far in ((SOURCE, 1), (make_source("another"), 2), (SOURCE, 2)):
            cache.build(context, source)
            assert len(events) == so_far
    for _ in range(2):
        with ProgramCache() as cache:
            scale(cache.build(context, SOURCE))
        assert len(events) == 3, "what is stored is watched for a while when it is first loaded"


def test_a_fault_in_the_quiet_moment(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one warning: the application goes on, and so does the cache."""
    flush = PendingHarvest.flush

    def fail(_pending: PendingHarvest) -> None:
        raise MemoryError

    cache = ProgramCache(harvest_after=0)
    monkeypatch.setattr(PendingHarvest, "flush", fail)
    assert scale(cache.build(context, SOURCE)) == 2
    wait_for(lambda: caplog.records)
    wait_for(lambda: not harvest_threads())
    (warning,) = caplog.records
    assert "could not be harvested" in warning.getMessage()
    monkeypatch.setattr(PendingHarvest, "flush", flush)
    program = cache.build(context, make_source("after the fault"))
    wait_for(lambda: cache.is_stored(program))
    cache.close()


def test_a_flush_beside_the_quiet_moment(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both harvest once between them, and what the flush was asked for is there when it is over."""
    fetched: list[cl.Program] = []
    may_go_on = threading.Event()
    fetch = opencl.fetch_binaries

    def wait(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        fetched.append(program)
        assert may_go_on.wait(_PATIENCE)
        return fetch(program, devices)

    monkeypatch.setattr(opencl, "fetch_binaries", wait)
    cache = ProgramCache(harvest_after=0)
    program = cache.build(context, SOURCE)
    wait_for(lambda: fetched)
    stored_after_flush = []

    def flush() -> None:
        cache.flush()
        stored_after_flush.append(cache.is_stored(program))

    flushing = threading.Thread(target=flush)
    flushing.start()
    time.sleep(0.05)  # a flush that doesn't wait would be over by now
    assert stored_after_flush == []
    may_go_on.set()
    flushing.join(_PATIENCE)
    assert stored_after_flush == [True]
    assert fetched == [program]
    cache.close()


def test_a_collected_cache_does_not_wait_for_quiet(
    context: cl.Context, cache_directory: Path
) -> None:
    """What it built is stored when it is gone, and its thread goes with it."""
    cache = ProgramCache(harvest_after=3600)
    cache.build(context, SOURCE)
    assert len(harvest_threads()) == 1
    del cache
    gc.collect()
    assert len(entries(cache_directory)) == 1
    wait_for(lambda: not harvest_threads())


_TERMINATED = """
import os, signal, sys, time
from pathlib import Path
from mace_cache import ProgramCache
from tests.helpers import entries, make_source, open_context, scale

cache = ProgramCache(harvest_after=0.2)
program = cache.build(open_context(), make_source("terminated"))
print(cache.explain(program).origin.value, flush=True)
scale(program)
while not entries(Path(os.environ["MACE_CACHE_DIR"])):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


def test_terminated_after_the_quiet_moment() -> None:
    """A service that only ever ends by SIGTERM: what it built is there for the next one."""
    told = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", _TERMINATED],
            cwd=REPOSITORY,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == -signal.SIGTERM, ended.stderr
        told.append(ended.stdout.strip())
    assert told == ["source", "storage"]


_SHORT_EXIT = """
import logging, sys, time
from mace_cache import ProgramCache, opencl
from tests.helpers import make_heavy_source, open_context

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
if sys.argv[1] == "hangs":
    opencl.fetch_binaries = lambda *_: time.sleep(3600)
cache = ProgramCache(exit_timeout=float(sys.argv[2]))
program = cache.build(open_context(), make_heavy_source("exit"))
print(cache.explain(program).origin.value)
"""


@pytest.mark.parametrize(("driver", "exit_timeout"), [("compiles", "0"), ("hangs", "0.2")])
def test_an_exit_is_not_held_up(
    cache_directory: Path, tmp_path: Path, driver: str, exit_timeout: str
) -> None:
    """Whatever the driver is at: one warning, the entry is lost, and the next process has it."""
    here = {"POCL_CACHE_DIR": str(tmp_path)}  # a driver that has it already wouldn't take long
    origin, warning = run_child(_SHORT_EXIT, driver, exit_timeout, **here).splitlines()
    assert origin == "source"
    assert warning.startswith("WARNING programs were not all stored within 0")
    assert entries(cache_directory) == []
    assert run_child(_SHORT_EXIT, "compiles", "inf", **here).splitlines() == ["source"]
    assert len(entries(cache_directory)) == 1


_INTERRUPTED_EXIT = """
import logging, os, signal, sys, time
from mace_cache import ProgramCache, opencl
from tests.helpers import make_source, open_context

def interrupt(*_arguments):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

logging.basicConfig(stream=sys.stdout)
opencl.fetch_binaries = interrupt
cache = ProgramCache(exit_timeout=60)
program = cache.build(open_context(), make_source("interrupted"))
if sys.argv[1] == "close":
    cache.close()
"""


@pytest.mark.parametrize("when", ["exit", "close"])
def test_ctrl_c_while_an_exit_stores(when: str) -> None:
    """The exit ends at once, with a warning; in a call of the application's it is told as ever."""
    with start_child(_INTERRUPTED_EXIT, when) as child:
        output, errors = child.communicate(timeout=50)
    if when == "exit":
        assert (child.returncode, errors) == (0, "")
        assert "not all stored before the interrupt: exiting without" in output
    else:
        assert child.returncode == -signal.SIGINT
        assert errors.rstrip().endswith("KeyboardInterrupt")


def test_several_caches_share_the_time_of_an_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for the second is what the first hasn't used."""
    monkeypatch.setattr(unwritten, "_exit_began", None)
    assert unwritten._end_of_exit(60.0) > time.monotonic() + 59.0
    assert unwritten._exit_began is None, "the process goes on"
    ended = threading.Thread()
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    first, second = unwritten._end_of_exit(60.0), unwritten._end_of_exit(60.0)
    assert first == second


def test_a_flush_elsewhere_does_not_hold_up_an_exit(context: cl.Context) -> None:
    """Another thread is at it, and takes longer than there is."""
    cache = ProgramCache(harvest_after=3600)
    cache.build(context, SOURCE)
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with cache._unwritten._flushing:
            begun.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    assert not cache._unwritten._flush(time.monotonic() + 0.05)
    end.set()
    thread.join()
    cache.close()


def test_a_cache_collected_in_its_own_thread(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes may be the one that a collection happens in: it waits for nobody."""
    insert = Tiers.insert
    cache = ProgramCache(harvest="eager", harvest_after=3600)

    def collect(tiers: Tiers, program: CompiledProgram) -> None:
        if threading.current_thread() is not threading.main_thread():
            cache._unwritten.prove_later()  # something is left for the other thread
            cache._unwritten.finish(60.0)
        insert(tiers, program)

    monkeypatch.setattr(Tiers, "insert", collect)
    began = time.monotonic()
    cache.build(context, SOURCE)
    wait_for(lambda: entries(cache_directory))
    assert time.monotonic() - began < _PATIENCE
    cache.close()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_flush_goes_on_with_the_next(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: type[BaseException],
) -> None:
    """Ctrl-C in a harvest takes no program away: whoever flushes next has all of them."""
    fetch = opencl.fetch_binaries
    interrupts = [interrupt()]

    def interrupted(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        if interrupts:
            raise interrupts.pop()
        return fetch(program, devices)

    cache = ProgramCache()
    for number in range(3):
        cache.build(context, make_source(f"interrupted {number}"))
    with monkeypatch.context() as patch:
        patch.setattr(opencl, "fetch_binaries", interrupted)
        with pytest.raises(interrupt):
            cache.close()
        cache.close()
    assert len(entries(cache_directory)) == 3


def test_a_fault_of_one_program_is_its_own(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a driver answers about one, the others are stored."""
    faults = [ValueError("a driver's nonsense")]
    log = opencl.build_log

    def faulty(program: cl.Program, device: cl.Device) -> str:
        if faults:
            raise faults.pop()
        return log(program, device)

    monkeypatch.setattr(opencl, "build_log", faulty)
    with ProgramCache() as cache:
        for number in range(3):
            cache.build(context, make_source(f"faulty {number}"))
    assert len(entries(cache_directory)) == 2


_FORKED = """
import os, sys, threading, warnings
from pathlib import Path
from mace_cache import ProgramCache, opencl
from tests.helpers import entries, make_source, open_context

application = os.getpid()
real = opencl.fetch_binaries
def fetch(program, devices):
    assert os.getpid() == application
    return real(program, devices)
opencl.fetch_binaries = fetch

cache = ProgramCache(harvest_after=3600)
cache.build(open_context(), make_source("forked"))
assert [thread.name for thread in threading.enumerate()][1:] == ["mace-cache harvest"]
warnings.simplefilter("ignore", DeprecationWarning)  # about a fork with threads
child = os.fork()
if child == 0:
    assert threading.enumerate() == [threading.current_thread()]
    cache.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert entries(Path(os.environ["MACE_CACHE_DIR"])) == []
"""


def test_a_forked_child_has_no_quiet_moment(cache_directory: Path) -> None:
    """Neither thread nor harvest, and it waits for neither; its parent stores the program."""
    run_child(_FORKED)
    assert len(entries(cache_directory)) == 1


def test_closed_it_leaves_no_thread(context: cl.Context) -> None:
    """What waited is written: nothing comes later."""
    with ProgramCache(harvest_after=3600) as cache:
        cache.build(context, SOURCE)
        (thread,) = harvest_threads()
    thread.join(_PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", ["harvest_after", "exit_timeout"])
@pytest.mark.parametrize("seconds", [-1, float("nan"), None, "soon"])
def test_times_are_numbers_of_seconds(name: str, seconds: object) -> None:
    """What can't be waited for is refused when the cache is made."""
    with pytest.raises(ConfigurationError, match=name):
        ProgramCache(**{name: seconds})  # type: ignore[arg-type] # on purpose


@pytest.fixture
def finalising(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """What the finaliser answers next; the CPU device passes for one whose binaries it takes."""
    answers: list[bytes | None] = []
    monkeypatch.setattr(request, "fingerprint", as_nvidia)
    monkeypatch.setattr(nvidia, "is_ptx", lambda _binary: True)
    monkeypatch.setattr(finalise, "_NATIVE", b"what no binary begins with")
    monkeypatch.setattr(nvidia, "finalise_all", lambda _texts, _device: [answers.pop()])
    return answers


def test_what_a_dead_process_left_is_finalised_by_the_next(
    context: cl.Context, cache_directory: Path, finalising: list[bytes | None]
) -> None:
    """A binary that is still to be finalised is so after its first load; a final one is not."""
    finalising.append(None)
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    stored = read_entry(path)
    finalising.append(bytes(stored.binary))
    with ProgramCache() as cache:
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.STORAGE
    assert finalising == []
    assert not read_entry(path).final


def test_what_is_best_left_as_it_is_stays(
    context: cl.Context, cache_directory: Path, finalising: list[bytes | None]
) -> None:
    """Code that turns out to be another program isn't stored, and not made again."""
    other = opencl.build_from_source(context, make_source("other").replace("scale", "another"))[0]
    finalising.append(opencl.fetch_binaries(other, context.devices)[0])
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    assert read_entry(path).final
    assert read_entry(path).kernel_names == ("scale",)
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)  # the finaliser has no answer left
        assert scale(program) == 2


def test_native_code_is_proven_when_it_was_loaded_back(
    context: cl.Context,
    cache_directory: Path,
    finalising: list[bytes | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading it back is guarded as any first load, and needn't be done again."""
    finalising.append(None)
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    stored = read_entry(path)
    other = opencl.build_from_source(context, f"// native\n{SOURCE}")[0]
    scale(other, local=2)
    native = opencl.fetch_binaries(other, context.devices)[0]
    assert native != stored.binary
    state = Place(str(cache_directory / "v1"))
    name = note_name(fingerprint(context.devices[0]).storage_name, replace(stored, binary=native))
    noted = take_note(state, name, 1)
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.01")
    for binary in (stored.binary, native):
        finalising.append(native)
        with ProgramCache() as cache:
            cache.build(context, SOURCE)
        assert read_entry(path).binary == binary, "it was left to who was at it, then done"
        assert not read_entry(path).final
        noted.end()
    assert path.stat().st_mode & stat.S_ISVTX
    path.write_bytes(encode([stored]))
    take_note(state, name, 1).end(MOST_DEATHS)
    finalising.append(native)
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    assert read_entry(path).binary == stored.binary
    assert read_entry(path).final, "what a process died of isn't stored"


def test_nothing_is_finalised_where_nothing_may_be_written(
    context: cl.Context, finalising: list[bytes | None]
) -> None:
    """A read-only cache leaves a binary as it is."""
    finalising.append(None)
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    with ProgramCache(read_only=True) as cache:
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.STORAGE
    assert finalising == []
