"""``warm``: what it hands to `warm_cache`, and what it makes of the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache.cli import warm
from mace_cache.warm import WarmReport, WarmResult
from tests.cli.conftest import one_line, run

if TYPE_CHECKING:
    from pathlib import Path

BUILT = WarmResult("add", "default", "pocl-x", "built", 1.5)
FAILED = WarmResult("mul", "default", "pocl-x", "failed", 0.5, "error: \x1b[31mno\nline 2")


class FakeWarmCache:
    """Answers with a report, and keeps what it was called with."""

    def __init__(self) -> None:
        self.report = WarmReport([BUILT])
        self.programs: Any = "not called"
        self.options: dict[str, Any] = {}

    def __call__(self, programs: Any, **options: Any) -> WarmReport:
        """Stand in for `warm_cache`."""
        self.programs, self.options = programs, options
        return self.report


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWarmCache:
    """Build nothing: what `warm_cache` does has its own tests."""
    fake = FakeWarmCache()
    monkeypatch.setattr(warm, "warm_cache", fake)
    return fake


def test_the_bundled_kernels_by_default(fake: FakeWarmCache, cache_directory: Path) -> None:
    """Without arguments everything is left to `warm_cache`, in the cache of the settings."""
    warmed = run("warm")
    assert warmed.code == 0
    assert warmed.output == "1 built, 0 already there, 0 skipped, 0 failed\n"
    assert fake.programs is None
    assert fake.options["cache"].settings.directory == str(cache_directory)
    del fake.options["cache"]
    assert fake.options == {"devices": None, "jobs": None, "launch": True, "progress": True}


def test_options_are_handed_on(fake: FakeWarmCache, tmp_path: Path) -> None:
    """Devices, jobs, launch and the cache directory."""
    run(
        *("warm", "--device", "pocl", "--device", "nvidia", "--jobs", 3, "--no-launch"),
        *("--cache-directory", tmp_path / "other"),
    )
    assert fake.options["cache"].settings.directory == str(tmp_path / "other")
    assert fake.options["devices"] == ("pocl", "nvidia")
    assert fake.options["jobs"] == 3
    assert fake.options["launch"] is False


def test_a_manifest_or_directory_is_one_and_sources_are_many(
    fake: FakeWarmCache, tmp_path: Path
) -> None:
    """`warm_cache` takes one manifest or directory, or a sequence of sources."""
    source, manifest = tmp_path / "a.cl", tmp_path / "manifest.json"
    source.touch()
    manifest.touch()
    for given, wanted in (
        ([source], (str(source),)),
        ([source, source], (str(source), str(source))),
        ([manifest], str(manifest)),
        ([tmp_path], str(tmp_path)),
    ):
        run("warm", *given)
        assert fake.programs == wanted


def test_a_failure_is_told_by_the_exit_code(fake: FakeWarmCache) -> None:
    """The report names the program; its log can't command the terminal."""
    fake.report = WarmReport([BUILT, FAILED])
    warmed = run("warm")
    assert warmed.code == 1
    assert "failed: mul [default] on pocl-x: error: \\x1b[31mno\nline 2\n" in warmed.output


def test_json(fake: FakeWarmCache) -> None:
    """The report as JSON and nothing else; no progress bar."""
    fake.report = WarmReport([BUILT, FAILED])
    warmed = run("warm", "--json")
    assert warmed.code == 1
    assert warmed.json == json.loads(fake.report.to_json())
    assert fake.options["progress"] is False


def test_quiet(fake: FakeWarmCache) -> None:
    """Nothing is printed unless something is wrong."""
    quiet = run("warm", "--quiet")
    assert (quiet.code, quiet.output, quiet.errors) == (0, "", "")
    assert fake.options["progress"] is False
    fake.report = WarmReport([FAILED])
    assert "failed: mul" in run("warm", "--quiet").output


@pytest.mark.parametrize("arguments", [["/nowhere/x.cl"], ["--jobs", "0"], ["--jobs", "many"]])
def test_wrong_arguments(fake: FakeWarmCache, arguments: list[str]) -> None:
    """One line, exit code 2, and nothing is begun."""
    one_line(run("warm", *arguments), code=2)
    assert fake.programs == "not called"
