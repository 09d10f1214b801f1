"""Real programs, unmodified, in processes of their own: all of pyopencl's functions, and loopy.

Cold and warm with the same results, and eight processes at once on an empty cache. The file's name
keeps it out of a plain ``pytest``: it takes minutes, and Debian's Oclgrind, because PoCL takes half
a minute to hand out the binary of one scan.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mace_cache.statistics import StatisticsFile
from tests.dropin.builders import find_builders, read_modules
from tests.dropin.functions import FUNCTIONS
from tests.dropin.running import assert_same, environment, finish, start
from tests.helpers import entries

PROGRAM = Path(__file__).with_name("functions.py")
RECORDED = Path(__file__).with_name("callers.py")
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
