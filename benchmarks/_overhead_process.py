"""One process of ``overhead.py``: prepares a driver's programs, or times one way to get at them.

Run as ``python _overhead_process.py PLATFORM DIRECTORY TASK [NUMBER]``; prints JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pyopencl.cache  # no way is to pay for this import
import pyopencl.characterize
from _programs import candidates, generate

from mace_cache import ProgramCache
from mace_cache.records import record_of

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY_ROUNDS = 50
_MISS_KERNELS = 8
_MISS_SECONDS = 15.0
_FEWEST_PAIRS = 5

Program = dict[str, Any]


def prepare(context: cl.Context, directory: Path, count: int) -> list[Program]:
    """Build *count* programs, and keep each in all three places that it is later taken from."""
    cache = ProgramCache(storage_path=directory / "mace-cache", max_size=0)
    built = []
    for candidate in candidates():
        try:
            program = cache.build(context, candidate.source, candidate.options)
        except cl.Error:
            continue
        built.append((candidate, program))
        if len(built) == count:
            break
    cache.flush()
    store = _pyopencl(context, directory)
    programs = []
    for number, (candidate, program) in enumerate(built):
        answer: Any = program.get_info(cl.program_info.BINARIES)
        binary = answer[0]
        (directory / f"{number}.bin").write_bytes(binary)
        options = cl.Program._process_build_options(context, candidate.options)[0]  # noqa: SLF001 (the floor skips it)
        prepared = {
            **candidate._asdict(),
            "number": number,
            "binary_bytes": len(binary),
            "driver_options": options.decode(),
        }
        store(prepared)
        programs.append(prepared)
    cache.close()
    (directory / "programs.json").write_text(json.dumps(programs))
    return [{name: one[name] for name in ("name", "binary_bytes")} for one in programs]


def _floor(context: cl.Context, _directory: Path) -> Callable[[Program], Any]:
    devices = context.devices

    def load(program: Program) -> Any:
        with open(program["path"], "rb", buffering=0) as file:
            binary = file.read()
        loaded = cl._cl._Program(context, devices, [binary])  # noqa: SLF001 (no Python in between)
        loaded._build(program["encoded_options"], devices)  # noqa: SLF001 (as above)
        return loaded

    return load


def _cache(context: cl.Context, directory: Path) -> Callable[[Program], Any]:
    cache = ProgramCache(storage_path=directory / "mace-cache", max_size=0)
    return lambda program: cache.build(context, program["source"], program["options"])


def _pyopencl(context: cl.Context, directory: Path) -> Callable[[Program], Any]:
    # pyopencl counts on the caches of some drivers and skips its own.
    vars(pyopencl.characterize)["has_src_build_cache"] = lambda _device: False
    cache_directory: Any = str(directory / "pyopencl")

    def build(program: Program) -> Any:
        made = cl.Program(context, program["source"])
        return made.build(program["options"], cache_dir=cache_directory)

    return build


WAYS = {"floor": _floor, "cache": _cache, "pyopencl": _pyopencl}


def warm(context: cl.Context, directory: Path, way: str, turn: int) -> dict[str, Any]:
    """Time every program once, another one first at each turn, and then hits in memory."""
    programs = json.loads((directory / "programs.json").read_text())
    for program in programs:
        program["path"] = str(directory / f"{program['number']}.bin")
        program["encoded_options"] = program["driver_options"].encode()
    start = time.perf_counter()
    get = WAYS[way](context, directory)
    opening = time.perf_counter() - start
    first = turn % len(programs)
    seconds: dict[int, float] = {}
    kept = []
    for program in programs[first:] + programs[:first]:
        start = time.perf_counter()
        kept.append(get(program))
        seconds[program["number"]] = time.perf_counter() - start
    if way == "cache":
        origins = {record_of(program).explanation.origin.value for program in kept}
        if origins != {"storage"}:  # the figures would mean nothing
            raise RuntimeError(f"programs came from {origins}, not from the storage")
    answer = {
        "seconds": [seconds[number] for number in range(len(programs))],
        "first": opening + seconds[first],
    }
    if way == "cache":
        answer["memory_hit"] = statistics.median(
            _seconds(get, program) for _ in range(_MEMORY_ROUNDS) for program in programs
        )
    return answer


def miss(context: cl.Context, directory: Path, pairs: int) -> dict[str, Any]:
    """Time builds of sources that nothing has seen, by turns with the cache and plainly."""
    cache = ProgramCache(storage_path=directory / "misses", max_size=0)

    def plainly(source: str) -> Any:
        uncached: Any = False
        return cl.Program(context, source).build(cache_dir=uncached)

    def through_cache(source: str) -> Any:
        return cache.build(context, source)

    measured: list[tuple[float, float]] = []
    until = time.perf_counter() + _MISS_SECONDS
    kept: list[Any] = []

    def timed(build: Callable[[str], Any], salt: int) -> float:
        source = generate(_MISS_KERNELS, salt)
        start = time.perf_counter()
        kept.append(build(source))  # or the next one would pay for releasing it
        return time.perf_counter() - start

    for pair in range(pairs):
        if pair % 2:
            plain = timed(plainly, 2 * pair)
            cached = timed(through_cache, 2 * pair + 1)
        else:
            cached = timed(through_cache, 2 * pair + 1)
            plain = timed(plainly, 2 * pair)
        measured.append((plain, cached))
        if pair >= _FEWEST_PAIRS and time.perf_counter() > until:
            break
    start = time.perf_counter()
    cache.flush()
    return {"pairs": measured, "flush": (time.perf_counter() - start) / len(measured)}


def _seconds(action: Callable[[Program], Any], program: Program) -> float:
    start = time.perf_counter()
    action(program)
    return time.perf_counter() - start


def main() -> None:
    """Do what the arguments say."""
    platform, directory, task, number = sys.argv[1:]
    warnings.simplefilter("ignore")  # drivers say something when they load: it isn't measured
    context = cl.Context(cl.get_platforms()[int(platform)].get_devices()[:1])
    where = Path(directory)
    answer: Any
    if task == "prepare":
        answer = prepare(context, where, int(number))
    elif task == "miss":
        answer = miss(context, where, int(number))
    else:
        answer = warm(context, where, task, int(number))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
