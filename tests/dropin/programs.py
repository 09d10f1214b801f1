"""Real programs, unmodified, in processes of their own: all of pyopencl's functions, and loopy.

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
from typing import Any

import numpy as np
import pytest

from mace_cache.statistics import StatisticsFile
from tests.dropin.builders import find_builders, read_modules
from tests.dropin.functions import FUNCTIONS
from tests.helpers import REPOSITORY, entries

PROGRAM = Path(__file__).with_name("functions.py")
RECORDED = Path(__file__).with_name("callers.py")
OCLGRIND = "/usr/lib/oclgrind/liboclgrind-rt-icd.so"
POCL = "Portable Computing Language"
RUNS = {
    POCL: (
        "complex_numbers",
        "making",
        "putting",
        "functions_of_mathematics",
        "bessel",
        "philox",
        "threefry",
        "random_numbers_of_nobody",
        "elementwise_kernel",
        "reduction_kernel",
        "elementwise_template",
        "sort_in_a_network",
        "structures",
        "characteristics",
        "modules_of_arrays",
        "notebook",
        "loops",
    ),
    "Oclgrind": tuple(name for name in FUNCTIONS if name != "threefry"),  # which it can't run
}
# Functions that the source has as builders, and that build nothing here.
NOT_HERE = {
    "__init__:Program": "what all the others call",
    "__init__:Program.build": "what all the others call",
    "_monkeypatch:kernel_set_arg_types": "asks `has_struct_arg_count_bug`",
    "array:Array._zero_fill": "the driver fills, but for OpenCL 1.1 and 2 GiB on NVIDIA",
    "array:zeros": "calls `_zero_fill`",
    "array:zeros_like": "calls `_zero_fill`",
    "cache:_create_built_program_from_source_cached": "called by `Program.build`",
    "cache:create_built_program_from_source_cached": "called by `Program.build`",
    "cache:get_dependencies": "calls its `_inner`",
    "cache:get_dependencies._inner": "assigns to a dictionary, not to an array",
    "characterize.__init__:get_simd_group_size": "builds for AMD's GPUs",
    "characterize.__init__:has_struct_arg_count_bug": "builds for PoCL 0.14, called here by itself",
}
# Functions that build, and call what builds through a variable.
BY_VARIABLE = {
    "array:elwise_kernel_runner.kernel_runner",
    "tools:first_arg_dependent_memoize.wrapper",
}
RANKS = 8
_STARTS = 4
OF_EVERY_RANK = ("putting", "philox", "elementwise_kernel", "sort_in_a_network")
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
        "LOOPY_NO_CACHE": "1",
        **changes,
    }


def start(
    *program: Path | str, environment: dict[str, str], hooked: bool = True
) -> subprocess.Popen[str]:
    """Start a program with its arguments, with or without the cache."""
    run = ["-m", "mace_cache", "run"] if hooked else []
    return subprocess.Popen(
        [sys.executable, *run, *map(str, program)],
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


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each platform, the results without the cache, and the names of those who built."""
    directory = tmp_path_factory.mktemp("plain")
    started = []
    for platform, names in RUNS.items():
        own = environment(directory, f"own {platform}", PYOPENCL_NO_CACHE="1")
        callers, results = (directory / f"{platform}.{kind}" for kind in ("callers", "npz"))
        started.append(
            start(RECORDED, callers, platform, results, *names, environment=own, hooked=False)
        )
    for process in started:
        assert not finish(process)
    return directory


@pytest.mark.timeout(900)
@pytest.mark.parametrize("platform", RUNS)
def test_every_function(platform: str, plain: Path, tmp_path: Path) -> None:
    """The same results without the cache, with an empty one, and with what that has stored."""

    def run(own: str) -> Counter[str]:
        results = tmp_path / f"{own}.npz"
        variables = environment(tmp_path, own)
        outcomes = finish(start(PROGRAM, platform, results, *RUNS[platform], environment=variables))
        assert_same(results, plain / f"{platform}.npz")
        return outcomes

    built = run("cold")
    assert built["miss"]
    assert set(built) <= {"miss", "hit"}
    for number in range(_STARTS):  # what a slow machine had no time for at its exit, the next has
        loaded = run(f"warm {number}")
        if set(loaded) == {"hit"}:  # fewer: pyopencl keeps what some of them found out
            break
    assert set(loaded) == {"hit"}


@pytest.mark.timeout(900)
def test_no_function_is_left_out(plain: Path) -> None:
    """What builds a program, as pyopencl's source says, did so; what did so was found there."""
    called = {line for path in plain.glob("*.callers") for line in path.read_text().splitlines()}
    found = find_builders(read_modules())
    assert len(found) > 200
    assert found - called == set(NOT_HERE)
    assert called - found == BY_VARIABLE


@pytest.mark.timeout(900)
def test_many_processes_at_once(tmp_path: Path, cache_directory: Path) -> None:
    """Ranks of one job that start on an empty cache: all right, and most is built once."""
    plain = tmp_path / "plain.npz"
    own, shared = environment(tmp_path, "own"), environment(tmp_path, "shared")
    program = PROGRAM, POCL
    finish(start(*program, plain, *OF_EVERY_RANK, hooked=False, environment=own))
    paths = [tmp_path / f"{rank}.npz" for rank in range(RANKS)]
    for round_ in ("cold", "warm"):
        ranks = [start(*program, path, *OF_EVERY_RANK, environment=shared) for path in paths]
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
