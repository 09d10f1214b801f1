"""Programs that build again and again, for a long time, with the cache that they know nothing of.

The file's name keeps it out of a plain ``pytest``: it takes a minute, and Debian's Oclgrind.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.dropin.running import environment
from tests.helpers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

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
