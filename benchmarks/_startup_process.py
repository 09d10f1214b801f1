"""One process of ``startup.py``: prepares a workload's binaries, or times one start with them.

Run as ``python _startup_process.py PLATFORM DIRECTORY TASK WORKLOAD``; prints JSON. The binaries
lie in the directory; ``MACE_CACHE_DIR`` says where ``ProgramCache`` looks.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pyopencl.cache  # no start is to pay for these imports
import pyopencl.characterize
import pyopencl.invoker
from _startup_workloads import find_programs, make_workload

from mace_cache import ProgramCache
from mace_cache.records import record_of

if TYPE_CHECKING:
    from collections.abc import Callable

    # Builds the program of a number, source and options.
    Build = Callable[[int, str, list[str]], Any]


_OPENED: list[ProgramCache] = []  # one that is let go of writes what waits


class TimedBuilds:
    """Hands builds on, numbers them and adds up what they take.

    Args:
        open_way: gives what builds; opening it counts as a build call.
    """

    def __init__(self, open_way: Callable[[], Build]) -> None:
        started = time.perf_counter()
        self._build = open_way()
        self.seconds = time.perf_counter() - started
        self.programs: list[Any] = []
        self.options: list[list[str]] = []

    def build(self, _context: cl.Context, source: str, options: list[str] | None = None) -> Any:
        """Build a program, for the operators too."""
        given = options or []
        started = time.perf_counter()
        program = self._build(len(self.programs), source, given)
        self.seconds += time.perf_counter() - started
        self.programs.append(program)
        self.options.append(given)
        return program


def _source(context: cl.Context, _directory: Path) -> Callable[[], Build]:
    uncached: Any = False

    def build(_number: int, source: str, options: list[str]) -> Any:
        return cl.Program(context, source).build(options, cache_dir=uncached)

    return lambda: build


def _pyopencl(context: cl.Context, directory: Path) -> Callable[[], Build]:
    # pyopencl counts on the caches of some drivers and skips its own.
    vars(pyopencl.characterize)["has_src_build_cache"] = lambda _device: False
    cache_directory: Any = str(directory / "pyopencl")

    def build(_number: int, source: str, options: list[str]) -> Any:
        return cl.Program(context, source).build(options, cache_dir=cache_directory)

    return lambda: build


def _mace_cache(context: cl.Context, _directory: Path) -> Callable[[], Build]:
    def open_cache() -> Build:
        cache = ProgramCache()
        _OPENED.append(cache)
        return lambda _number, source, options: cache.build(context, source, options)

    return open_cache


def _early(context: cl.Context, directory: Path) -> Callable[[], Build]:
    return _by_hand(context, directory / "early")


def _floor(context: cl.Context, directory: Path) -> Callable[[], Build]:
    return _by_hand(context, directory / "floor")


def _by_hand(context: cl.Context, directory: Path) -> Callable[[], Build]:
    devices = context.devices
    options = json.loads((directory / "options.json").read_text())
    encoded_options = [text.encode() for text in options]

    def load(number: int, _source: str, _options: list[str]) -> Any:
        with open(f"{directory}/{number}.bin", "rb", buffering=0) as file:
            binary = file.read()
        program = cl._cl._Program(context, devices, [binary])  # noqa: SLF001 (no Python in between)
        program._build(encoded_options[number], devices)  # noqa: SLF001 (as above)
        return program

    return lambda: load


WAYS = {
    "source": _source,
    "pyopencl": _pyopencl,
    "early": _early,
    "mace_cache": _mace_cache,
    "floor": _floor,
    "cold": _mace_cache,
}


def start(context: cl.Context, directory: Path, way: str, workload: str) -> dict[str, float]:
    """Time a start to its first result.

    Returns:
        Seconds to the first result, and those of the build calls among them.
    """
    run = make_workload(context, directory, workload)
    open_way = WAYS[way](context, directory)
    started = time.perf_counter()
    builds = TimedBuilds(open_way)
    run(builds)
    first = time.perf_counter() - started
    if way in ("mace_cache", "cold"):
        origins = {record_of(program).explanation.origin.value for program in builds.programs}
        if origins != {"source" if way == "cold" else "storage"}:  # the figures would mean nothing
            raise RuntimeError(f"{way}: programs came from {origins}")
    return {"first": first, "builds": builds.seconds}


def prepare_cache(context: cl.Context, directory: Path, workload: str) -> int:
    """Run the workload with an empty cache, close it, and put what it stored into plain files.

    Returns:
        The size of the binaries, in bytes.
    """
    run = make_workload(context, directory, workload)
    builds = TimedBuilds(_mace_cache(context, directory))
    run(builds)
    _OPENED.pop().close()
    binaries = []
    for program in builds.programs:
        record = record_of(program)
        if record.resident is None:
            raise RuntimeError(f"a program isn't cached: {record.explanation.reason}")
        (tiers,) = record.resident.wanted.tiers
        (found,) = tiers.candidates(record.explanation.key)
        binaries.append(bytes(found.program.binary))
    return _keep(context, directory / "floor", binaries, builds.options)


def prepare_early(context: cl.Context, directory: Path, workload: str) -> int:
    """Run the workload from source and keep what is fetched right after each build.

    Returns:
        The size of the binaries, in bytes.
    """
    build = _source(context, directory)()
    binaries: list[bytes] = []

    def build_and_fetch(number: int, source: str, options: list[str]) -> Any:
        program = build(number, source, options)
        answer = program.get_info(cl.program_info.BINARIES)
        binaries.append(answer[0])
        return program

    builds = TimedBuilds(lambda: build_and_fetch)
    make_workload(context, directory, workload)(builds)
    return _keep(context, directory / "early", binaries, builds.options)


def _keep(
    context: cl.Context, directory: Path, binaries: list[bytes], options: list[list[str]]
) -> int:
    directory.mkdir()
    for number, binary in enumerate(binaries):
        (directory / f"{number}.bin").write_bytes(binary)
    driver_options = [
        cl.Program._process_build_options(context, given)[0].decode()  # noqa: SLF001 (the floor skips it)
        for given in options
    ]
    (directory / "options.json").write_text(json.dumps(driver_options))
    return sum(map(len, binaries))


def main() -> None:
    """Do what the arguments say."""
    platform, directory, task, workload = sys.argv[1:]
    warnings.simplefilter("ignore")  # drivers say something when they load: it isn't measured
    context = cl.Context(cl.get_platforms()[int(platform)].get_devices()[:1])
    tasks = {"programs": find_programs, "cache": prepare_cache, "fetch": prepare_early}
    where = Path(directory)
    answer: Any = (
        tasks[task](context, where, workload)
        if task in tasks
        else start(context, where, task, workload)
    )
    print(json.dumps(answer), flush=True)
    if task == "cold":
        os._exit(0)  # what follows the first result isn't asked for: on PoCL it takes seconds


if __name__ == "__main__":
    main()
