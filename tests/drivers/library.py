"""The whole kernel library on PoCL: warmed, loaded, launched, and nothing left to compile.

It compiles for a minute or two. The file's name keeps it out of a plain ``pytest``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mace_cache import ProgramCache, warm_cache
from mace_cache.library import load_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from mace_cache.warm import WarmReport

# Loads and launches all that the manifest lists, then runs every operator on other shapes; tells
# where programs came from, and what the driver compiled until then and after.
_APPLICATION = """
import glob, json, os, sys
import pyopencl as cl
from mace_cache import ProgramCache
from mace_cache.library import build_options, launch_once, load_manifest
from mace_cache.operators import Runtime
from tests.operators.test_runtime import run_every_operator

def compiled():
    return len(glob.glob(os.environ["POCL_CACHE_DIR"] + "/**/*.so", recursive=True))

(device,) = [d for p in cl.get_platforms() for d in p.get_devices()]
queue = cl.CommandQueue(cl.Context([device]))
origins, launched = [], []
with ProgramCache(storage_path=sys.argv[1]) as cache:
    for program in load_manifest().programs:
        for variant in program.variants:
            options = build_options(program, variant)
            built = cache.build(queue.context, program.read_source(), options)
            before = compiled()
            for launch in program.launches:
                launch_once(built, queue, launch)
            origins.append(cache.explain(built).origin.value)
            launched.append(compiled() - before)
    before = compiled()
    for data_type in ("float32", "float16"):
        run_every_operator(Runtime(queue, cache, data_type), edge=300)
    print(json.dumps([origins, launched, compiled() - before]))
"""


def _statuses(report: WarmReport) -> list[tuple[str, str, str]]:
    return [(result.program, result.variant, result.status) for result in report.results]


@pytest.mark.timeout(900)
def test_the_whole_library(tmp_path: Path) -> None:
    """Everything is built once; an application then compiles nothing, whatever it launches."""
    expected = [(p.name, v.name) for p in load_manifest().programs for v in p.variants]
    with ProgramCache(storage_path=tmp_path / "cache") as cache:
        first = warm_cache(cache=cache)
        second = warm_cache(cache=cache)
    assert _statuses(first) == [(*names, "built") for names in expected]
    assert _statuses(second) == [(*names, "present") for names in expected]
    assert (first.exit_code, second.exit_code) == (0, 0)
    (tmp_path / "pocl").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", _APPLICATION, str(tmp_path / "cache")],
        env={**os.environ, "POCL_CACHE_DIR": str(tmp_path / "pocl"), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    origins, launched, later = json.loads(run.stdout.splitlines()[-1])
    assert origins == ["storage"] * len(expected)
    assert launched == [0] * len(expected)
    assert later == 0
