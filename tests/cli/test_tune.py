"""``tune``: real trials in real processes, and what the command makes of the report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyopencl as cl
import pytest

from mace_cache import ProgramCache, _trials, _warm_worker, local_sizes, operators, tune
from mace_cache._warm_process import WorkerDiedError
from mace_cache.cli import tune as command
from mace_cache.library import Manifest, build_options, load_manifest
from mace_cache.operators import Runtime, copying
from mace_cache.tune import TuneReport, TuneResult, tune_library
from tests.cli.conftest import one_line, run
from tests.helpers import entries, read_entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOUND = TuneResult("add", "float", "pocl-x", "add_one", "64 3", 2e-5, 128, 1e-5)
SAME = TuneResult("mul", "float", "pocl-x", "mul_one", "64 3", 2e-5, 64, 2e-5)


def choose(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have one program alone in the manifest, stored as float alone."""
    (program,) = [program for program in load_manifest().programs if program.name == name]
    one = replace(program, variants=(program.variant("float"),))
    monkeypatch.setattr(tune, "load_manifest", lambda: Manifest("manifest.json", (one,)))


@pytest.fixture
def tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials are made in this process; their times are those of which the smallest size is best."""

    def time(queue: cl.CommandQueue, launch: Callable[[int], cl.Event], size: int, _: int) -> float:
        launch(size)
        queue.finish()
        return float(size)

    class Here(tune._Worker):
        worker = _warm_worker._Worker()

        def ask(self, message: dict[str, Any] | None) -> Any:
            if message is None or "tune" not in message:
                return super().ask(message)
            return json.loads(json.dumps(self.worker.answer(json.loads(json.dumps(message)))))

    monkeypatch.setattr(tune, "_Worker", Here)
    monkeypatch.setattr(local_sizes, "_TRIED", (32, 64, 128))
    monkeypatch.setattr(_trials, "_time", time)


def sizes_of_a_relu(cache: ProgramCache, queue: cl.CommandQueue, *shape: int) -> list[int]:
    """Run an operator on features, and give the local sizes that are launched."""
    sizes: list[int] = []
    enqueue = cl.enqueue_nd_range_kernel

    def record(queue: Any, kernel: Any, size: tuple[int], local: tuple[int]) -> cl.Event:
        sizes.append(local[0])
        return enqueue(queue, kernel, size, local)

    runtime = Runtime(queue, cache)
    with patch.object(cl, "enqueue_nd_range_kernel", record):
        operators.activate(runtime, runtime.to_device(np.ones(shape)), "relu")
    queue.finish()
    return sizes


@pytest.mark.usefixtures("tried_here")
@pytest.mark.parametrize("is_cpu", [True, False], ids=["as on CPUs", "as on GPUs"])
def test_operators_use_what_the_command_has_found(
    queue: cl.CommandQueue,
    monkeypatch: pytest.MonkeyPatch,
    cache_directory: Path,
    is_cpu: bool,
) -> None:
    """On tensors of the same shape, however the device is given its work; on others they don't.

    The stored binary has the code of the sizes that are kept, and of no others that were tried.
    """
    monkeypatch.setattr(copying, "on_cpu", lambda _runtime: is_cpu)
    choose(monkeypatch, "elementwise")
    ran = run("tune", "--json")
    assert (ran.code, ran.errors) == (0, "")
    assert {found["local_size"] for found in ran.json["results"]} == {32}
    (stored,) = [one for one in map(read_entry, entries(cache_directory)) if not one.tuned]
    binary = bytes(stored.binary)
    sizes = [size for size in (32, 64, 128) if f"/add_activate/{size}-1-1".encode() in binary]
    assert sizes == [32, 64]
    with ProgramCache() as cache:
        assert sizes_of_a_relu(cache, queue, 1, 56, 56, 64) == [32]
        assert sizes_of_a_relu(cache, queue, 1, 9, 56, 64) == [64]


def test_trials_in_a_process_of_their_own(
    monkeypatch: pytest.MonkeyPatch, context: cl.Context
) -> None:
    """What they find is kept and reported."""
    choose(monkeypatch, "image")
    ran = run("tune", "--json")
    assert (ran.code, ran.errors) == (0, "")
    (found,) = ran.json["results"]
    assert found["kernel"] == "resize_normalise"
    assert 0 < found["seconds"] <= found["before"]
    (program,) = [one for one in load_manifest().programs if one.name == "image"]
    options = build_options(program, program.variant("float"))
    with ProgramCache() as cache:
        sizes = cache.tuned_sizes(cache.build(context, program.read_source(), options))
    assert sizes == {(found["kernel"], found["shape"]): found["local_size"]}


@pytest.mark.usefixtures("tried_here")
def test_a_place_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, cache_directory: Path
) -> None:
    """What was found isn't kept: it says so, and the command fails."""
    choose(monkeypatch, "image")
    cache_directory.write_text("no directory")
    ran = run("tune", "--quiet")
    assert ran.code == 1
    assert "image [float] on pocl" in ran.errors
    assert f"could not be kept in {cache_directory}" in ran.errors


def test_a_process_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its program; the command fails."""
    choose(monkeypatch, "image")

    class Dying(tune._Worker):
        def ask(self, message: dict[str, Any] | None) -> Any:
            if message is None:
                return [{"name": "pocl-x", "problem": ""}, {"name": "?", "problem": "no version"}]
            raise WorkerDiedError("it died")

    monkeypatch.setattr(tune, "_Worker", Dying)
    report = tune_library(progress=False)
    assert report.notes == ["?: no version", "image [float] on pocl-x: it died"]
    assert report.exit_code == 1


def test_where_nothing_can_be_tuned(monkeypatch: pytest.MonkeyPatch, cache_directory: Path) -> None:
    """It says why, and writes nothing."""
    choose(monkeypatch, "image")
    assert "expected one of image" in one_line(run("tune", "--program", "other"), code=2)
    assert "there is no OpenCL device" in run("tune", "--device", "nowhere").errors
    for variable, why in (
        ("MACE_CACHE_READ_ONLY", "the cache is read-only"),
        ("MACE_CACHE_DISABLE", "caching is switched off"),
    ):
        monkeypatch.setenv(variable, "1")
        ran = run("tune", "--quiet")
        assert (ran.code, ran.output) == (1, "")
        assert f"nothing was tuned: {why}" in ran.errors
    assert not cache_directory.exists()


def test_the_report(monkeypatch: pytest.MonkeyPatch, cache_directory: Path) -> None:
    """A table for each device; notes go to the standard error, and cost the exit code."""
    asked = []

    def fake(programs: Any, devices: Any, *, cache: ProgramCache, progress: bool) -> TuneReport:
        asked.append((programs, devices, cache.settings.directory, progress))
        return TuneReport([FOUND, SAME], [] if progress else ["max: it died"])

    monkeypatch.setattr(command, "tune_library", fake)
    ran = run("tune", "--program", "add", "--device", "pocl")
    assert ran.code == 0
    title, heading, add, mul, _empty, last = ran.output.splitlines()
    assert title == "pocl-x"
    assert heading.split()[-3:] == ["BEST", "SIZE", "GAIN"]
    assert add.split()[2:] == ["add_one", "64", "3", "20.0", "us", "10.0", "us", "128", "2.00x"]
    assert mul.endswith("1.00x")
    assert last == "1 of 2 launches are faster with another size than 64"
    quiet = run("tune", "--quiet")
    assert (quiet.code, quiet.output, quiet.errors) == (1, "", "mace-cache: max: it died\n")
    assert [result["local_size"] for result in run("tune", "--json").json["results"]] == [128, 64]
    directory = str(cache_directory)
    nothing: tuple[str, ...] = ()
    assert asked[:2] == [
        (("add",), ("pocl",), directory, True),
        (nothing, None, directory, False),
    ]
