"""Real programs, unmodified, in processes of their own: pyopencl's own functions, all of them.

Cold and warm with the same results, eight processes at once on an empty cache, and threads for a
long time. The file's name keeps it out of a plain ``pytest``: it takes minutes, and Debian's
Oclgrind, because PoCL takes half a minute to hand out the binary of one scan.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mace_cache.statistics import StatisticsFile
from tests.dropin.functions import FUNCTIONS
from tests.helpers import REPOSITORY, entries

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = Path(__file__).with_name("functions.py")
OCLGRIND = "/usr/lib/oclgrind/liboclgrind-rt-icd.so"
POCL = "Portable Computing Language"
SCANNING = {"templates", "scans", "selections", "radix_sort", "lists", "key_value_sort"}
RUNS = {
    POCL: tuple(name for name in FUNCTIONS if name not in SCANNING),
    "Oclgrind": tuple(name for name in FUNCTIONS if name != "random_numbers"),  # it has no Threefry
}
RANKS = 8
OF_EVERY_RANK = ("arithmetic", "comparisons", "random_numbers", "sort_in_a_network")
_LINE = re.compile(r"^mace-cache: (\w+) [\d.]+ ms (\S+): ", re.MULTILINE)

_LONG = """
import resource, sys, threading
import numpy as np
import pyopencl as cl

(platform,) = [one for one in cl.get_platforms() if one.name == "Portable Computing Language"]
context = cl.Context(platform.get_devices()[:1])
wrong = []
SOURCE = "kernel void scale(global int *x) {{ x[get_global_id(0)] *= {}; }}"

def work(thread, rounds):
    queue = cl.CommandQueue(context)
    for number in range(rounds):
        factor = 2 + (thread + number) % 12
        program = cl.Program(context, SOURCE.format(factor)).build()
        numbers = np.arange(8, dtype=np.int32)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffer = cl.Buffer(context, flags, hostbuf=numbers)
        cl.Kernel(program, "scale")(queue, (8,), None, buffer)
        result = np.empty_like(numbers)
        cl.enqueue_copy(queue, result, buffer)
        if (result != numbers * factor).any():
            wrong.append((thread, number))
        if number % 50 == 0:
            try:
                cl.Program(context, "kernel void broken( {").build()
            except cl.RuntimeError:
                pass

def run(rounds):
    threads = [threading.Thread(target=work, args=(n, rounds)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = run(200)
print(wrong, run(int(sys.argv[1])) - before)
"""

_SOURCES, _BUILDS = 264, 9_121  # as a real program was seen to do

_MANY = f"""
import gc, random
import numpy as np
import pyopencl as cl

(platform,) = [one for one in cl.get_platforms() if one.name == "Oclgrind"]
context = cl.Context(platform.get_devices()[:1])
queue = cl.CommandQueue(context)
SOURCE = "kernel void scale(global int *x) {{{{ x[get_global_id(0)] *= {{}}; }}}}"
built = {{cl.program_kind.SOURCE: 0, cl.program_kind.BINARY: 0}}
real = cl._cl._Program._build

def count(program, *arguments, **named):
    built[program.kind()] += 1
    return real(program, *arguments, **named)

cl._cl._Program._build = count

def check(program, factor):
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    numbers = np.arange(4, dtype=np.int32)
    buffer = cl.Buffer(context, flags, hostbuf=numbers)
    cl.Kernel(program, "scale")(queue, (4,), None, buffer)
    result = np.empty_like(numbers)
    cl.enqueue_copy(queue, result, buffer)
    assert (result == numbers * factor).all()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4  # KiB

def build(factor, number):
    program = cl.Program(context, SOURCE.format(factor)).build()
    assert program.kernel_names == "scale"
    if number % 50 == 0:
        check(program, factor)

for number in range({_SOURCES}):
    build(number, number)
randomly = random.Random(1)
for number in range({_SOURCES}, {_BUILDS}):
    if number == 2 * {_SOURCES}:
        before = resident()
    build(randomly.randrange({_SOURCES}), number)
grown = resident() - before
gc.collect()
alive = sum(isinstance(each, cl.Program) for each in gc.get_objects())
print(*built.values(), alive, grown)
"""

_STARTS = 4


def environment(tmp_path: Path, own: str, **changes: str) -> dict[str, str]:
    """What a program starts with: an empty cache of the driver's own, and a line for each build."""
    (tmp_path / own).mkdir()
    vendors = tmp_path / own / "vendors"
    vendors.mkdir()
    (vendors / "oclgrind.icd").write_text(f"{OCLGRIND}\n")
    return {
        **os.environ,
        "OCL_ICD_VENDORS": str(vendors),  # PyPI's PoCL is there in any case
        "MACE_CACHE_TRACE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "POCL_CACHE_DIR": str(tmp_path / own),
        **changes,
    }


def start(
    platform: str, results: Path, names: Sequence[str], *, hooked: bool, environment: dict[str, str]
) -> subprocess.Popen[str]:
    """Start the program, with or without the cache."""
    run = ["-m", "mace_cache", "run"] if hooked else []
    return subprocess.Popen(
        [sys.executable, *run, str(PROGRAM), platform, str(results), *names],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Counter[str]:
    """Wait for a program's end: how often each outcome was told."""
    _output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return Counter(outcome for outcome, _key in _LINE.findall(errors))


def assert_same(results: Path, expected: Path) -> None:
    """Every array of one file is in the other, to the last bit."""
    ours: Any = np.load(results)
    theirs: Any = np.load(expected)
    assert ours.files == theirs.files
    for name in theirs.files:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("platform", RUNS)
def test_every_function(platform: str, tmp_path: Path) -> None:
    """The same results without the cache, with an empty one, and with what that has stored."""
    plain, cold, warm = (tmp_path / f"{name}.npz" for name in ("plain", "cold", "warm"))

    def run(results: Path, own: str, *, hooked: bool, **changes: str) -> Counter[str]:
        variables = environment(tmp_path, own, **changes)
        names = RUNS[platform]
        return finish(start(platform, results, names, hooked=hooked, environment=variables))

    assert not run(plain, "a", hooked=False, PYOPENCL_NO_CACHE="1")
    built = run(cold, "b", hooked=True)
    assert_same(cold, plain)
    assert built["miss"]
    assert set(built) <= {"miss", "hit"}
    for number in range(_STARTS):  # what a slow machine had no time for at its exit, the next has
        loaded = run(warm, f"c{number}", hooked=True)
        assert_same(warm, plain)
        if set(loaded) == {"hit"}:  # fewer: pyopencl keeps what some of them found out
            break
    assert set(loaded) == {"hit"}


@pytest.mark.timeout(900)
def test_many_processes_at_once(tmp_path: Path, cache_directory: Path) -> None:
    """Ranks of one job that start on an empty cache: all right, and most is built once."""
    plain = tmp_path / "plain.npz"
    own, shared = environment(tmp_path, "own"), environment(tmp_path, "shared")
    finish(start(POCL, plain, OF_EVERY_RANK, hooked=False, environment=own))
    paths = [tmp_path / f"{rank}.npz" for rank in range(RANKS)]
    for round_ in ("cold", "warm"):
        ranks = [
            start(POCL, path, OF_EVERY_RANK, hooked=True, environment=shared) for path in paths
        ]
        outcomes = sum((finish(rank) for rank in ranks), Counter[str]())
        for path in paths:
            assert_same(path, plain)
            path.unlink()
        assert set(outcomes) <= {"hit", "miss"}, round_
    assert set(outcomes) == {"hit"}
    assert entries(cache_directory)
    assert StatisticsFile(cache_directory / "v1").total().failures == 0


@pytest.mark.timeout(900)
def test_threads_for_a_long_time(tmp_path: Path) -> None:
    """Ten thousand builds of a dozen sources in four threads, some of which fail: none is wrong."""
    path = tmp_path / "long.py"
    path.write_text(_LONG)
    done = subprocess.run(
        [sys.executable, "-m", "mace_cache", "run", str(path), "2500"],
        cwd=REPOSITORY,
        env=environment(tmp_path, "own", MACE_CACHE_TRACE=""),
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wrong, _, grown = done.stdout.strip().rpartition(" ")
    assert wrong == "[]"
    assert int(grown) < 32 << 10, "KiB"


@pytest.mark.timeout(900)
def test_few_sources_are_built_very_often(tmp_path: Path) -> None:
    """The driver builds each source once, or loads it; nothing grows with the number of builds."""
    path = tmp_path / "many.py"
    path.write_text(_MANY)
    for own, expected in (("cold", [_SOURCES, 0]), ("warm", [0, _SOURCES])):
        done = subprocess.run(
            [sys.executable, "-m", "mace_cache", "run", str(path)],
            cwd=REPOSITORY,
            env=environment(tmp_path, own, MACE_CACHE_TRACE=""),
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        *built, alive, grown = map(int, done.stdout.split())
        assert built == expected
        assert alive == _SOURCES
        assert grown < 4 << 10, "KiB"
