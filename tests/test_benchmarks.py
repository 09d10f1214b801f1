"""The benchmarks run and report what their README says; no figure is judged here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet import tables

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


def test_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle is opened with and without a signature, cold and hot; then packages are searched."""
    arguments = ("--size", "100000", "--programs", "10", "--rounds", "2")
    report = report_of("bundle", tmp_path / "report.json", *arguments)
    assert report["bytes"] > 100000
    for taken in report["seconds"].values():
        assert len(taken) == 4
        assert all(seconds > 0 for seconds in taken.values())
    assert all(seconds > 0 for seconds in report["looking"].values())
    assert "open, cold" in capsys.readouterr().out


def test_dropin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Builds with and without the hook are timed in three ways."""
    arguments = ("--platform", "Portable", "--programs", "2", "--rounds", "2")
    report = report_of("dropin", tmp_path / "report.json", *arguments)
    (driver,) = report["drivers"]
    assert set(driver["figures"]) == {"warm", "memory", "disabled"} == set(report["aims"])
    for figure in driver["figures"].values():
        assert figure["with"] > 0
        assert figure["without"] > 0
    assert "disabled" in capsys.readouterr().out


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


def made_up(family: str, **seconds: float) -> dict[str, Any]:
    """A driver as `startup.py` would report it, build calls being half of the time."""
    cells = {
        way: {state: {"first": [value] * 3, "builds": [value / 2]} for state in ("empty", "hot")}
        for way, value in seconds.items()
    }
    measured = {"programs": [], "binary_bytes": {}, "seconds": cells}
    return {
        "platform": "made-up",
        "version": "OpenCL 3.0 PoCL 9.9-rc1",
        "device": "NVIDIA H100 80GB",
        "driver": "1.2",
        "family": family,
        "workloads": {"library": measured, "detection": {"missing": "there is no model"}},
    }


MET = {
    "source": 5.0,
    "cold": 5.2,
    "pyopencl": 2.5,
    "early": 2.5,
    "mace_cache": 0.02,
    "floor": 0.018,
}


def test_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A driver is started in all ways, and both figures of each start are positive."""
    startup = importlib.import_module("startup")
    aims = importlib.import_module("_startup_aims")
    arguments = ["--platform", "Portable", "--quick", "--output", str(tmp_path / "report")]
    assert startup.main(arguments) in (0, 1)
    report = json.loads((tmp_path / "report.json").read_text())
    (driver,) = report["drivers"]
    assert set(driver["workloads"]) == set(aims.TITLES)
    library = driver["workloads"]["library"]
    assert library["programs"] == [startup.QUICK]
    assert 0 < library["binary_bytes"]["early"] < library["binary_bytes"]["mace_cache"]
    assert set(library["seconds"]) == set(aims.WAYS)
    for way, states in library["seconds"].items():
        assert set(states) == ({"empty"} if way == "cold" else {"empty", "hot"})
        for cell in states.values():
            assert cell["first"][0] > cell["builds"][0] > 0
    printed = capsys.readouterr().out
    assert "mace-cache / floor" in printed
    assert "the face detection, PoCL 3.0: not measured: a quick run" in printed


@pytest.mark.parametrize(
    ("family", "changed", "missed"),
    [
        ("pocl", {}, set()),
        ("pocl", {"source": 0.9, "cold": 0.9}, {("mace_cache", "source")}),
        ("pocl", {"early": 0.3}, {("mace_cache", "early")}),
        ("pocl", {"floor": 0.017}, {("mace_cache", "floor")}),
        ("pocl", {"pyopencl": 0.01}, set()),
        ("nvidia", {}, set()),
        ("nvidia", {"source": 1.9, "cold": 1.9}, {("mace_cache", "source")}),
        ("nvidia", {"early": 0.9}, {("mace_cache", "early")}),
        ("rusticl", {"source": 0.02, "cold": 0.02, "floor": 0.001}, set()),
        ("rusticl", {"pyopencl": 0.01995}, set()),  # printed as 1.00
        ("oclgrind", {"pyopencl": 0.0197}, {("mace_cache", "pyopencl")}),
        ("oclgrind", {"cold": 5.3}, {("cold", "source")}),
    ],
)
def test_startup_tells_which_aims_are_missed(
    family: str, changed: dict[str, float], missed: set[tuple[str, str]]
) -> None:
    """Each driver family's own aims, and those of all; a missed one has a reason in the table."""
    aims = importlib.import_module("_startup_aims")
    report = importlib.import_module("startup_report")
    driver = made_up(family, **MET | changed)
    assert aims.misses(driver) == [("library", *pair) for pair in sorted(missed)]
    table = report.make_ratios([driver])
    assert table.count("**") == 2 * len(missed)
    for pair in missed:
        assert f"- {aims.label_of(*pair)}, {aims.title_of(driver)} (library" in table
    assert "not measured: there is no model" in table


def test_startup_never_prints_a_missed_aim_as_met() -> None:
    """A ratio between 1/49 and 1/50 isn't rounded to the aim."""
    driver = made_up("pocl", **MET | {"source": 0.995, "cold": 0.995})
    table = importlib.import_module("startup_report").make_ratios([driver])
    assert "| **1/49** (aim 1/50) |" in table


def test_startup_has_a_reason_for_every_miss() -> None:
    """Of every family, known to the aims or not."""
    reason_of = importlib.import_module("_startup_reasons").reason_of
    aims = importlib.import_module("_startup_aims")
    for family in ("pocl", "nvidia", "rusticl", "oclgrind", "other"):
        for pair in aims.ratios(made_up(family, **MET), "library"):
            assert reason_of(family, *pair).endswith(".")


def test_startup_says_why_there_is_no_face_detection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that isn't the model is named, and so is a package that isn't installed."""
    workloads = importlib.import_module("_startup_workloads")
    model = tmp_path / "model.tflite"
    model.write_bytes(b"no model")
    found, reason = workloads.model_or_reason(model)
    assert found is None
    assert f"{model}: not the model" in reason
    monkeypatch.setattr(workloads, "_is_installed", lambda name: name != "skimage")
    assert workloads.model_or_reason(model) == (
        None,
        "scikit-image not installed: pip install '.[examples]'",
    )


def test_startup_tables_in_the_readmes_are_those_of_the_kept_results() -> None:
    """`startup_report.py --write` has been run since the figures or the tables changed."""
    report = importlib.import_module("startup_report")
    drivers = report.read_results()
    marked = "<!-- startup -->\n{}<!-- end -->"
    readme = (BENCHMARKS.parent / "README.md").read_text()
    assert marked.format(report.make_ratios(drivers)) in readme
    assert marked.format(report.make_report(drivers)) in (BENCHMARKS / "README.md").read_text()


def test_startup_chart_shows_the_kept_results_and_is_the_same_each_time(tmp_path: Path) -> None:
    """Every driver and way is named, a driver without face detection too, and nothing is dated."""
    draw = importlib.import_module("_startup_chart").draw
    report = importlib.import_module("startup_report")
    aims = importlib.import_module("_startup_aims")
    drivers = [*report.read_results(), made_up("nvidia", **MET)]
    draw(drivers, tmp_path / "first.svg")
    draw(drivers, tmp_path / "second.svg")
    drawn = (tmp_path / "first.svg").read_text()
    assert drawn == (tmp_path / "second.svg").read_text()
    kept = report.CHART.read_text()
    for label in (*map(aims.title_of, drivers[:-1]), *aims.WAYS.values(), *aims.TITLES.values()):
        assert f">{label}<" in drawn
        assert f">{label}<" in kept
    assert ">NVIDIA H100<" in drawn


def test_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each start is timed in both ways, the warm one from what is stored and proven."""
    arguments = ("--platform", "Portable", "--programs", "2", "--rounds", "1")
    report = report_of("many", tmp_path / "report.json", *arguments)
    (driver,) = report["drivers"]
    programs = {name: start["programs"] for name, start in driver["starts"].items()}
    assert programs == {"cold": 2, "cold, more programs": 6, "warm": 2}
    for start in driver["starts"].values():
        assert all(start[way] > 0 for way in ("loop", "many", "ratio"))
        assert len(start["each"]) == start["programs"]
    assert 0 < driver["starts"]["cold"]["bound"] <= 1
    assert driver["starts"]["warm"]["bound"] is None
    assert "aim 0.65" in capsys.readouterr().out


def test_many_reports_what_was_measured() -> None:
    """A missed aim is bold and has its reason; one that is met has none."""
    report = importlib.import_module("many_report")
    start = {"programs": 8, "loop": 1.0, "many": 0.72, "ratio": 0.72, "bound": 0.68}
    starts = {
        "cold": start,
        "cold, more programs": start | {"programs": 24, "ratio": 0.6},
        "warm": start | {"ratio": 0.9, "bound": None},
    }
    driver = made_up("pocl") | {"starts": starts, "aim": 0.65, "missed": True}
    table = report.make_table([driver])
    assert "| **0.72** (aim 0.65, bound 0.68, 720 ms / 1.00 s) |" in table
    assert "| 0.90 (720 ms / 1.00 s) |" in table
    assert "can't go below 0.68" in report.make_sentences([driver])
    met = driver | {"missed": False}
    assert "**" not in report.make_table([met])
    assert "can't" not in report.make_sentences([met])
    assert report.make_sentences([driver | {"aim": None}]) == ""


def test_many_in_the_readmes_is_that_of_the_kept_results() -> None:
    """`many_report.py --write` has been run since the figures or the table changed."""
    report = importlib.import_module("many_report")
    drivers = report.read_results()
    marked = "<!-- many -->\n{}<!-- end -->"
    readme = (BENCHMARKS.parent / "README.md").read_text()
    assert marked.format(report.make_sentences(drivers)) in readme
    assert marked.format(report.make_table(drivers)) in (BENCHMARKS / "README.md").read_text()


def test_the_tables_of_fleets_are_those_of_the_kept_results() -> None:
    """``python -m tests.fleet --write`` has been run since the figures or the tables changed."""
    kept, document = tables.read(), (BENCHMARKS.parent / "docs" / "fleet.md").read_text()
    assert tables.marked("harms", tables.harms_table(kept["harms"])) in document
    assert tables.marked("hosts", tables.hosts_table(kept["hosts"])) in document


def test_a_marked_text_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """A file without the mark is left as it is, with an error."""
    replace_marked = importlib.import_module("_common").replace_marked
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- x -->\nold\n<!-- end -->\n<!-- y -->\nkept\n<!-- end -->\n")
    replace_marked(path, "x", "new\n")
    expected = "a\n<!-- x -->\nnew\n<!-- end -->\n<!-- y -->\nkept\n<!-- end -->\n"
    assert path.read_text() == expected
    with pytest.raises(ValueError, match="no mark 'z'"):
        replace_marked(path, "z", "")
    assert path.read_text() == expected


def test_unmodified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that knows nothing of the cache misses in one process, and hits in the next."""
    arguments = ("--platform", "Portable Computing Language", "--function", "structures")
    report = report_of("unmodified", tmp_path / "report.json", *arguments)
    plain, first, following = report["starts"]
    assert (plain["builds"], set(first["builds"])) == ({}, {"miss"})
    assert following["builds"] == {"hit": first["builds"]["miss"]}
    assert "without a cache" in capsys.readouterr().out
