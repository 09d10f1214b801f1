"""One process of ``dropin.py``: builds the same programs with and without the hook, by turns.

Run as ``python _dropin_process.py PLATFORM DIRECTORY PROGRAMS TURN``; prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from typing import Any

import pyopencl as cl
from _programs import generate

import mace_cache
from mace_cache import Origin, ProgramCache, opencl

_REPEATS = 30
_OPTIONS = ["-DBENCHMARK=1"]

Taken = dict[str, list[float]]


def _new() -> Taken:
    return {"without": [], "with": []}


def _warm(
    context: cl.Context, sources: list[str], directory: str, turn: int
) -> dict[str, dict[int, float]]:
    """Load each program in a cache that is open but hasn't got it, one way or the other.

    Once they are stored the driver's part is replaced by nothing: its milliseconds vary by more
    than what is measured.
    """
    taken: dict[str, dict[int, float]] = {"without": {}, "with": {}}
    if turn:
        loaded = cl.Program(context, sources[0]).build(_OPTIONS)
        vars(opencl)["load_from_binaries"] = lambda *_: opencl.share(loaded)
    for number, source in enumerate(sources):
        way = ("without", "with")[(number + turn) % 2]
        with ProgramCache(storage_path=directory) as cache, mace_cache.installed(cache):
            cl.Program(context, sources[number - 1]).build(_OPTIONS)
            program = cl.Program(context, source)
            start = time.perf_counter()
            if way == "with":
                program.build(_OPTIONS)
            else:
                program = cache.build(context, source, _OPTIONS)
            taken[way][number] = time.perf_counter() - start
            if turn and cache.explain(program).origin is not Origin.STORAGE:
                raise RuntimeError(f"a program came from elsewhere: {cache.explain(program)}")
    return taken


def _memory(context: cl.Context, sources: list[str], directory: str) -> Taken:
    """Build what the process has."""
    taken = _new()
    with ProgramCache(storage_path=directory) as cache, mace_cache.installed(cache):
        for source in sources:
            cl.Program(context, source).build(_OPTIONS)
            for _ in range(_REPEATS):
                start = time.perf_counter()
                cache.build(context, source, _OPTIONS)
                taken["without"].append(time.perf_counter() - start)
                taken["with"].append(_build(context, source))
    return taken


def _disabled(context: cl.Context, sources: list[str]) -> Taken:
    """Build with a driver whose compiler takes no time, so that microseconds show."""
    taken = _new()
    os.environ["MACE_CACHE_DISABLE"] = "1"
    disabled = ProgramCache()
    program_class: Any = cl.Program
    program_class._build_and_catch_errors = lambda *_, **__: (None, False)  # noqa: SLF001 (see above)
    for source in sources:
        for _ in range(_REPEATS):
            taken["without"].append(_build(context, source))
        with mace_cache.installed(disabled):
            _build(context, source)
            for _ in range(_REPEATS):
                taken["with"].append(_build(context, source))
    return taken


def _build(context: cl.Context, source: str) -> float:
    program = cl.Program(context, source)
    start = time.perf_counter()
    program.build(_OPTIONS)
    return time.perf_counter() - start


def main() -> None:
    """Do what the arguments say."""
    platform, directory, programs, turn = sys.argv[1:]
    warnings.simplefilter("ignore")  # drivers say something when they load: it isn't measured
    context = cl.Context(cl.get_platforms()[int(platform)].get_devices()[:1])
    sources = [generate(2, salt) for salt in range(int(programs))]
    answer = {
        "warm": _warm(context, sources, os.path.join(directory, "programs"), int(turn)),
        "memory": _memory(context, sources, os.path.join(directory, "programs")),
        "disabled": _disabled(context, sources),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
