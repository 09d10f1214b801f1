"""The benchmarks run and report what their README says; no figure is judged here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def report_of(name: str, path: Path, *arguments: str) -> Any:
    """Run a benchmark, and give the report that it wrote."""
    module = importlib.import_module(name)
    assert module.main([*arguments, "--json", str(path)]) in (0, 1)  # aims hold, or one is missed
    return json.loads(path.read_text())


def test_overhead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A driver is measured in all ways, and every figure is a positive number."""
    arguments = ("--platform", "Portable", "--programs", "2", "--rounds", "1", "--pairs", "1")
    report = report_of("overhead", tmp_path / "report.json", *arguments)
    (driver,) = report["drivers"]
    assert len(driver["programs"]) == 2
    for program in driver["programs"]:
        assert all(program[way] > 0 for way in ("floor", "cache", "pyopencl", "binary_bytes"))
    assert set(driver["summary"]) == {*report["aims"], "programs_holding", "missed"}
    assert driver["memory_hit"] > 0
    assert set(driver["miss"]) == {"plain", "cache", "ratio", "added", "pairs", "flush"}
    assert set(driver["first_added"]) == {"cache", "pyopencl"}
    assert "memory hit" in capsys.readouterr().out


def test_imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways to import the package are timed beside pyopencl."""
    report = report_of("imports", tmp_path / "report.json", "--rounds", "1")
    assert len(report["seconds"]) == 3
    assert all(seconds > 0 for seconds in report["seconds"].values())
    assert "import mace_cache" in capsys.readouterr().out


def test_generated_programs_are_as_heavy_and_never_the_same() -> None:
    """A driver's cache helps with none of them, and no side of a comparison has the longer ones."""
    generate = importlib.import_module("_programs").generate
    sources = [generate(2, salt) for salt in range(20)]
    assert len(set(sources)) == len(sources)
    assert len({len(source) for source in sources}) == 1


def test_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation is timed at each size."""
    scale = importlib.import_module("scale")
    monkeypatch.setattr(scale, "SIZES", (2, 3, 12))
    monkeypatch.setattr(scale, "REPEATS", 2)
    monkeypatch.setattr(scale, "ROUNDS", 2)
    report = report_of("scale", tmp_path / "report.json")
    assert set(report["ratios"]) == {"open", "miss", "hit", "insert", "evict"}
