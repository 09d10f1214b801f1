"""``tune``: real trials in real processes, and what the command makes of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import ProgramCache, tune
from mace_cache._warm_process import WorkerDiedError
from mace_cache.cli import tune as command
from mace_cache.library import Argument, Launch, Manifest, ProgramSpecification, Variant
from mace_cache.tune import TuneReport, TuneResult, tune_library
from tests.cli.conftest import one_line, run
from tests.helpers import entries, read_entry

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

_SLOW_BUT_WITH_32 = """
kernel void pick(global int *x, int n) {
    const int steps = get_local_size(0) == 32 ? 1 : 20000;
    for (int i = get_global_id(0); i < n; i += get_global_size(0)) {
        int v = i;
        for (int step = 0; step < steps; step++) v = v * 3 ^ step;
        x[i] = v;
    }
}
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void one_size(global int *x) { x[0] = 1; }
kernel void with_local(global int *x, local int *y, int n) { y[get_local_id(0)] = n; x[0] = y[0]; }
"""
FOUND = TuneResult("add", "float", "pocl-x", "add_one", "64 3", 2e-5, 128, 1e-5)
SAME = TuneResult("mul", "float", "pocl-x", "mul_one", "64 3", 2e-5, 64, 2e-5)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Instead of the bundled kernels one program, one kernel of which takes any local size."""
    path = tmp_path / "tuned.cl"
    path.write_text(_SLOW_BUT_WITH_32)
    buffer, count = Argument("buffer", 4096), Argument("int32", 1000)
    launches = (
        Launch("pick", (1024,), (64,), (buffer, count)),
        Launch("one_size", (64,), (64,), (buffer, count)[:1]),
        Launch("with_local", (64,), (64,), (buffer, Argument("local", 256), count)),
    )
    program = ProgramSpecification("tuned", str(path), (Variant("plain", ("-DA",)),), launches)
    made = Manifest(str(tmp_path / "manifest.json"), (program,))
    monkeypatch.setattr(tune, "load_manifest", lambda: made)
    return made


def test_the_best_sizes_are_kept_with_their_code(
    manifest: Manifest, context: cl.Context, cache_directory: Path, tmp_path: Path
) -> None:
    """The size that is best by far is found and kept; the binary has its code, and no trial's."""
    ran = run("tune", "--json")
    assert ran.errors == ""
    assert ran.code == 0
    (found,) = ran.json["results"]
    assert (found["kernel"], found["shape"], found["local_size"]) == ("pick", "1024", 32)
    assert found["seconds"] < found["before"]
    (program,) = manifest.programs
    options = ["-DA", "-I", str(tmp_path)]
    with ProgramCache() as cache:
        built = cache.build(context, program.read_source(), options)
        assert cache.explain(built).tier
        assert cache.tuned_sizes(built) == {("pick", "1024"): 32}
    (stored,) = [one for one in map(read_entry, entries(cache_directory)) if not one.tuned]
    binary = bytes(stored.binary)
    assert b"/pick/32-1-1" in binary
    assert b"/pick/64-1-1" in binary
    assert b"/pick/128-1-1" not in binary


def test_a_process_that_dies_is_reported(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its program; the command fails."""

    class Dying(tune._Worker):
        def ask(self, message: dict[str, Any] | None) -> Any:
            if message is None:
                return [{"name": "pocl-x", "problem": ""}, {"name": "?", "problem": "no version"}]
            raise WorkerDiedError("it died")

    monkeypatch.setattr(tune, "_Worker", Dying)
    report = tune_library(progress=False)
    assert report.notes == ["?: no version", "tuned [plain] on pocl-x: it died"]
    assert report.exit_code == 1
    assert manifest.programs


@pytest.mark.usefixtures("manifest")
def test_where_nothing_can_be_tuned(monkeypatch: pytest.MonkeyPatch, cache_directory: Path) -> None:
    """It says why, and writes nothing."""
    assert "expected one of tuned" in one_line(run("tune", "--program", "other"), code=2)
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
