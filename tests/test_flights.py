"""Single flight: of those that miss a program at once one builds it, and nobody waits for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import MemoryStorageFactory, Origin, ProgramCache, opencl
from mace_cache.fingerprint import fingerprint
from mace_cache.flights import Flights
from tests.helpers import entries, make_heavy_source, make_source, read_entry, run_child, scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyopencl as cl

SOURCE = make_source("flights")
CROWD = 32

# Says where each program came from, and leaves what PoCL says of its work in a file. The processes
# begin when all of them are ready, and close when all have built.
_CHILD = """
import os, sys
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 2)
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale
context = open_context()
caches = [ProgramCache(harvest=policy, harvest_after=1e6) for policy in ("eager", "auto")]
def wait_for_others(said):
    os.write(1, said.encode() + b"\\n")
    sys.stdin.readline()
wait_for_others("ready")
origins = []
for number, cache in enumerate(caches):
    program = cache.build(context, make_source(head=f"#define FACTOR {number + 2}\\n"))
    origins.append(cache.explain(program).origin.value)
    assert scale(program) == number + 2
wait_for_others(" ".join(origins))
for cache in caches:
    cache.close()
"""

_FRONT_END = "Writing program.bc to"
_NATIVE_CODE = "Built a generic WG function"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every source that was built in this process."""
    built: list[str] = []
    build = opencl.build_from_source

    def watched(context: cl.Context, source: str, *arguments: object, **named: object) -> object:
        built.append(source)
        return build(context, source, *arguments, **named)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(opencl, "build_from_source", watched)
    return built


def start_crowd(number: int, directory: Path, driver_caches: list[Path]) -> list[list[str]]:
    """What each of many processes says that start together on an empty cache.

    Each has one of PoCL's cache directories, and writes what PoCL says into *directory*.
    """
    crowd = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _CHILD, str(directory / f"{each}.txt")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={
                **os.environ,
                "POCL_CACHE_DIR": str(driver_caches[each % len(driver_caches)]),
                "POCL_DEBUG": "llvm,general",
                "MACE_CACHE_LOCK_TIMEOUT": "200",  # a busy machine is no reason to build twice
            },
        )
        for each in range(number)
    ]
    try:
        assert set(let_go(crowd)) == {"ready\n"}
        told = let_go(crowd)
        for process in crowd:
            process.communicate(timeout=240)
    finally:
        for process in crowd:
            process.kill()
            process.wait()
    assert [process.returncode for process in crowd] == [0] * number
    return [line.split() for line in told]


def let_go(crowd: list[subprocess.Popen[str]]) -> list[str]:
    """Wait until all have said a line, and let them go on."""
    pipes = [(process.stdin, process.stdout) for process in crowd]
    said = [output.readline() for _, output in pipes if output is not None]
    for given, _ in pipes:
        assert given is not None
        given.write("go\n")
        given.flush()
    return said


_ROOT = Path(__file__).parent.parent


def times_said(directory: Path, text: str) -> int:
    """How often PoCL has said something, in all processes."""
    return sum(path.read_text().count(text) for path in directory.glob("*.txt"))


def test_32_processes_compile_each_program_once(tmp_path: Path) -> None:
    """Of a program that is stored at once, and of one that is after its launches.

    What PoCL itself tells is counted: one front end and one kernel's native code for each program.
    """
    at_once, late = zip(*start_crowd(CROWD, tmp_path, [tmp_path / "pocl"]), strict=True)
    assert sorted(at_once) == ["source", *["storage"] * (CROWD - 1)]
    assert set(late) == {"source"}
    assert times_said(tmp_path, _FRONT_END) == 2
    assert times_said(tmp_path, _NATIVE_CODE) == 2


def test_processes_whose_drivers_share_nothing(tmp_path: Path) -> None:
    """Each builds what is stored late, but one only has it compiled for the storage."""
    driver_caches = [tmp_path / f"pocl-{number}" for number in range(4)]
    at_once, late = zip(*start_crowd(4, tmp_path, driver_caches), strict=True)
    assert sorted(at_once) == ["source", *["storage"] * 3]
    assert set(late) == {"source"}
    assert times_said(tmp_path, _FRONT_END) == 1 + 4
    assert times_said(tmp_path, _NATIVE_CODE) == 2


def test_threads_build_a_program_once(context: cl.Context, builds: list[str]) -> None:
    """All threads get it, from one build."""
    with ProgramCache() as cache, ThreadPoolExecutor(CROWD) as pool:
        programs = list(pool.map(lambda _: cache.build(context, SOURCE), range(CROWD)))
    assert [scale(program) for program in programs] == [2] * CROWD
    assert builds == [SOURCE]


def test_threads_without_a_cache_directory(context: cl.Context, builds: list[str]) -> None:
    """Threads wait for each other where processes can't."""
    cache = ProgramCache(storage_factory=MemoryStorageFactory())
    with cache, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.build(context, SOURCE), range(4)))
    assert builds == [SOURCE]


def test_each_thread_gets_the_error(context: cl.Context, builds: list[str]) -> None:
    """A source that doesn't build holds nobody up: each thread is told by its own build."""
    with ProgramCache() as cache, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.build, context, "kernel nonsense") for _ in range(4)]
        messages = {str(future.exception()).partition("\n")[0] for future in futures}
    assert len(messages) == 1
    assert len(builds) == 4


@pytest.fixture
def held(cache_directory: Path, context: cl.Context) -> Iterator[list[int]]:
    """The locks of the program, to build and to harvest it, as if other processes had them."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (entry,) = entries(cache_directory)
    entry.unlink()
    locks = sorted((cache_directory / "v1" / "locks").iterdir())
    assert len(locks) == 2
    descriptors = [os.open(path, os.O_RDWR) for path in locks]
    for descriptor in descriptors:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.usefixtures("held")
def test_the_wait_is_bounded(
    context: cl.Context, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``MACE_CACHE_LOCK_TIMEOUT`` a process builds for itself, and stores it."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.2")
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        assert cache.explain(program).origin is Origin.SOURCE
    assert builds == [SOURCE]
    assert cache.is_stored(program)


@pytest.mark.usefixtures("held")
def test_what_another_process_harvests_holds_no_exit_up(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun when the time is over; what isn't stored by then stays to be harvested."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.2")
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        assert not cache._unwritten._pending.flush(time.monotonic() + 0.1)
        assert not cache.is_stored(program)
    assert cache.is_stored(program)


def test_a_harvest_in_the_middle_of_another(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection may close another cache then: this thread doesn't wait for itself."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "3600")
    first, second = ProgramCache(), ProgramCache()
    for cache in (first, second):
        program = cache.build(context, SOURCE)
    fetch = opencl.fetch_binaries

    def fetch_late(*arguments: Any) -> list[bytes]:
        second.close()
        return fetch(*arguments)

    monkeypatch.setattr(opencl, "fetch_binaries", fetch_late)
    first.close()
    assert first.is_stored(program)


def test_a_build_known_to_take_longer_is_waited_for(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program took for another fingerprint, as before a driver's update, counts."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.5")
    (device,) = context.devices
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
    key, own = cache.explain(program).key, fingerprint(device)
    stored = cache.factory.create_storage(own.storage_name).find(key)
    assert stored is not None
    other = ProgramCache()
    tiers = other.builder._tiers(type(own)(own.text + "driver version: 2\n", own.family))
    assert tiers.known_build_seconds(key) == stored.build_seconds > 0
    assert tiers.known_build_seconds("0" * 64) == 0


def test_a_killed_builder_holds_nobody_up(cache_directory: Path, context: cl.Context) -> None:
    """Its lock ends with it, however long it had meant to take."""
    builder = (
        "import os\nfrom mace_cache import ProgramCache, opencl\n"
        "from tests.helpers import make_source, open_context\nimport time\n"
        "def hang(*arguments, **named): os.write(1, b'building\\n'); time.sleep(600)\n"
        "opencl.build_from_source = hang\n"
        "ProgramCache().build(open_context(), make_source('flights'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", builder], stdout=subprocess.PIPE, text=True, cwd=_ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        cache = ProgramCache()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(cache.build, context, SOURCE)
            time.sleep(0.3)
            assert not waiting.done()
            process.send_signal(signal.SIGKILL)
            assert scale(waiting.result()) == 2
        cache.close()
    assert len(entries(cache_directory)) == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ESTALE])
def test_where_locks_do_not_work(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On some network file systems each process builds for itself."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
    assert cache.is_stored(program)


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    """What the parent's threads were building at the fork, the child builds by itself."""
    code = (
        "import os, threading\nfrom mace_cache.flights import Flights\n"
        "from mace_cache._program_locks import ProgramLocks\n"
        "from types import SimpleNamespace as Name\n"
        "wanted = Name(identified=Name(identity='x'), tiers=(), source=Name(key='k'))\n"
        "flights = Flights(ProgramLocks(None, 600.0))\n"
        "flight = flights.join(wanted)\n"
        "child = os.fork()\n"
        "if not child: print(flights.join(wanted).waited, flush=True); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    assert run_child(code).split() == ["False"]


def test_what_is_stored_at_once_is_found_by_the_next(
    context: cl.Context, cache_directory: Path
) -> None:
    """A flight lands when its program is stored, not before."""
    first, second = ProgramCache(harvest="eager"), ProgramCache(harvest="eager")
    first.build(context, SOURCE)
    program = second.build(context, SOURCE)
    assert second.explain(program).origin is Origin.STORAGE
    (path,) = entries(cache_directory)
    assert read_entry(path).kernel_names == ("scale",)
    first.close()
    second.close()


def test_long_builds_in_many_threads(context: cl.Context, builds: list[str]) -> None:
    """Different programs don't wait for each other, and one that two want is built once."""
    sources = [make_heavy_source(f"flights {number // 2}", kernels=1) for number in range(8)]
    barrier = threading.Barrier(8)

    def build(source: str) -> object:
        barrier.wait()
        return cache.build(context, source)

    with ProgramCache(storage_factory=MemoryStorageFactory()) as cache:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(build, sources))
        assert len(builds) == 4
        cache._resident.clear()


@pytest.mark.parametrize("timeout", ["0.01", "1e10"])
def test_any_timeout_will_do(
    context: cl.Context, builds: list[str], monkeypatch: pytest.MonkeyPatch, timeout: str
) -> None:
    """However short or long: no error comes of it."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", timeout)
    source = make_heavy_source(f"timeout {timeout}", kernels=1)
    with ProgramCache() as cache, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: cache.build(context, source), range(3)))
    assert set(builds) == {source}


def test_two_caches_in_a_process(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stores late doesn't keep the other waiting."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "3600")
    first, second = ProgramCache(harvest="deferred"), ProgramCache(harvest="deferred")
    for cache in (first, second):
        assert scale(cache.build(context, SOURCE)) == 2
    first.close()
    second.close()


def test_there_is_one_deadline_for_all_waits() -> None:
    """What was waited for a process of this machine isn't waited for another machine as well."""
    patience: list[float] = []

    class Locks:
        def patience(self, _wanted: object) -> float:
            return 10.0

        def take(self, _wanted: object, seconds: float) -> Callable[[], None] | None:
            time.sleep(0.2 if seconds else 0.0)
            return (lambda: None) if seconds else None

    class Tiers:
        fingerprint = SimpleNamespace(digest="")
        release = str

        def claim(self, _key: str, seconds: float, _when_awaited: object) -> bool:
            patience.append(seconds)
            return False

    wanted: Any = SimpleNamespace(
        identified=SimpleNamespace(identity=""), source=SimpleNamespace(key=""), tiers=[Tiers()]
    )
    locks: Any = Locks()
    flight = Flights(locks).join(wanted)
    flight.claim(wanted, 10.0, lambda: None)
    flight.claim(wanted, 0.1, lambda: None)
    assert patience[0] <= 9.8
    assert patience[1] == 0
