"""Install time: all is built, launched and stored by processes that a driver may crash."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from mace_cache import ProgramCache, _warm_process, warm, warm_cache
from mace_cache._progress import progress_bar
from mace_cache._warm_process import WorkerDiedError, WorkerProcess
from mace_cache.errors import ConfigurationError, FingerprintError, ManifestError
from mace_cache.fingerprint import fingerprint
from mace_cache.library import load_manifest
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.memory import MemoryStorageFactory
from mace_cache.warm import WarmReport, WarmResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyopencl as cl

CHECKOUT = Path(warm.__file__).parent.parent

# The kernel writes to the standard output, as drivers and their compilers may.
TALKATIVE = """
kernel void talk(global float *values) {
    values[get_global_id(0)] += STEP;
    if (get_global_id(0) == 0)
        printf("{}\\n");
}
"""
TINY = "kernel void tiny(global int *values) { values[get_global_id(0)] = 1; }"
BROKEN = "kernel void broken() { this_is_no_opencl(); }"

# Loads every program of a manifest, launches its kernels, and tells for each program where it came
# from and how many files of native code the driver made while the kernels were launched.
APPLICATION = """
import glob, json, os, sys
import pyopencl as cl
from mace_cache import ProgramCache
from mace_cache.library import build_options, launch_once, load_manifest

def compiled():
    return set(glob.glob(os.environ["POCL_CACHE_DIR"] + "/**/*.so", recursive=True))

(device,) = [d for p in cl.get_platforms() for d in p.get_devices()]
queue = cl.CommandQueue(cl.Context([device]))
with ProgramCache(storage_path=sys.argv[1]) as cache:
    for program in load_manifest(sys.argv[2]).programs:
        for variant in program.variants:
            options = build_options(program, variant)
            built = cache.build(queue.context, program.read_source(), options)
            before = compiled()
            for launch in program.launches:
                launch_once(built, queue, launch)
            print(json.dumps([cache.explain(built).origin.value, len(compiled() - before)]))
"""

# As an installer's author writes it: at the top level, with the package where only the script
# knows to look.
SCRIPT = """
import sys
sys.path.insert(1, sys.argv[1])
import mace_cache
report = mace_cache.warm_cache([sys.argv[2]], jobs=1)
sys.exit(report.exit_code or str(report))
"""


class Warmed(NamedTuple):
    """A cache directory that has been warmed with a manifest."""

    directory: Path
    manifest: Path
    report: WarmReport

    def copy(self, directory: Path) -> Path:
        """Make a copy of the cache directory that may be harmed."""
        shutil.copytree(self.directory, directory)
        return directory


def write_manifest(directory: Path, launch: dict[str, Any] | None = None) -> Path:
    """Write a manifest: a program of two variants, with one that doesn't build before it."""
    (directory / "talk.cl").write_text(TALKATIVE, encoding="utf-8")
    (directory / "broken.cl").write_text(BROKEN, encoding="utf-8")
    launch = {
        "kernel": "talk",
        "global_size": [64],
        "local_size": [16],
        "arguments": [{"buffer": 256}],
        **(launch or {}),
    }
    variants = [{"name": name, "options": [f"-DSTEP={name}.0f"]} for name in ("1", "2")]
    default = [{"name": "default", "options": []}]
    programs = [
        {"name": "broken", "source": "broken.cl", "variants": default, "launches": []},
        {"name": "talk", "source": "talk.cl", "variants": variants, "launches": [launch]},
    ]
    manifest = directory / "manifest.json"
    manifest.write_text(json.dumps({"version": 1, "programs": programs}), encoding="utf-8")
    return manifest


def statuses(report: WarmReport) -> list[tuple[str, str, str]]:
    """Give what became of each program, in the order of the manifest."""
    return [(result.program, result.variant, result.status) for result in report.results]


def start_application(directory: Path, manifest: Path, scratch: Path) -> list[tuple[str, int]]:
    """Run an application in a process of its own, with a driver that has cached nothing."""
    scratch.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", APPLICATION, directory, manifest],
        env={**os.environ, "POCL_CACHE_DIR": str(scratch)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("[")]
    return [(origin, compiled) for origin, compiled in map(json.loads, lines)]


def contents(directory: Path) -> dict[str, int]:
    """Give the programs' files and when they were written."""
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*.mclp")}


@pytest.fixture(scope="module")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Warmed:
    """A small manifest, warmed once for all tests."""
    directory = tmp_path_factory.mktemp("warmed")
    manifest = write_manifest(directory)
    with ProgramCache(storage_path=directory / "cache") as cache:
        return Warmed(directory / "cache", manifest, warm_cache(manifest, cache=cache))


@pytest.fixture
def cache(warmed: Warmed, tmp_path: Path) -> Iterator[ProgramCache]:
    """A cache of its own for each test, warm already."""
    with ProgramCache(storage_path=warmed.copy(tmp_path / "cache")) as cache:
        yield cache


def test_one_bad_program_fails_alone(warmed: Warmed) -> None:
    """It is reported with its log, the others are built, and the exit code tells."""
    assert statuses(warmed.report) == [
        ("broken", "default", "failed"),
        ("talk", "1", "built"),
        ("talk", "2", "built"),
    ]
    assert "this_is_no_opencl" in warmed.report.results[0].message
    assert warmed.report.exit_code == 1
    assert "failed: broken [default] on pocl-" in str(warmed.report)
    assert len(contents(warmed.directory)) == 2


def test_launched_programs_need_no_compiler(warmed: Warmed, tmp_path: Path) -> None:
    """Not even for the launch; one that was stored without a launch does, and isn't proven."""
    text = json.loads(warmed.manifest.read_text(encoding="utf-8"))
    del text["programs"][0]
    shutil.copy(warmed.manifest.with_name("talk.cl"), tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(text), encoding="utf-8")
    assert start_application(warmed.directory, manifest, tmp_path / "one") == [("storage", 0)] * 2
    with ProgramCache(storage_path=tmp_path / "unlaunched") as cache:
        assert warm_cache(manifest, cache=cache, launch=False).exit_code == 0
    stored = [list(top.rglob("*.mclp")) for top in (warmed.directory, tmp_path / "unlaunched")]
    proven = [{bool(path.stat().st_mode & stat.S_ISVTX) for path in paths} for paths in stored]
    assert proven == [{True}, {False}]
    unlaunched = start_application(tmp_path / "unlaunched", manifest, tmp_path / "two")
    assert [origin for origin, _compiled in unlaunched] == ["storage"] * 2
    assert all(compiled > 0 for _origin, compiled in unlaunched)


def test_a_driver_crash_costs_one_program(
    warmed: Warmed, cache: ProgramCache, device: cl.Device
) -> None:
    """PoCL 3.0 dies of a binary cut in half: its process goes, and the installation goes on."""
    assert isinstance(cache.factory.state_directory, Path)
    directory = Path(str(cache.settings.directory))
    storage = DirectoryStorageFactory(directory).create_storage(fingerprint(device).storage_name)
    storage.load()
    programs = [storage.find(key) for key in list(storage.keys())]
    for program in programs:
        assert program is not None
        if "STEP=1" in program.options:
            cut = program.binary[: len(program.binary) // 2]
            storage.insert(program.key, replace(program, binary=cut))
        else:
            next(directory.rglob(f"{program.key}.mclp")).unlink()
    report = warm_cache(warmed.manifest, cache=cache, jobs=1)
    assert statuses(report)[1:] == [("talk", "1", "failed"), ("talk", "2", "built")]
    message = report.results[1].message
    # PoCL sometimes notices, and has no such kernel then.
    assert message.startswith("the driver ended its process by SIG") or "KERNEL" in message
    assert report.exit_code == 1


def test_a_launch_that_fails(tmp_path: Path) -> None:
    """A driver that takes the program and not its launch is told of, at every run."""
    manifest = write_manifest(tmp_path, {"arguments": [{"buffer": 256}, {"int32": 1}]})
    for _run in range(2):
        report = warm_cache(manifest)
        assert [status for _program, _variant, status in statuses(report)] == ["failed"] * 3
        assert "INVALID_ARG_INDEX" in report.results[1].message


def test_own_sources(tmp_path: Path, cache_directory: Path) -> None:
    """A file, a directory of files, a directory with a manifest, and texts."""
    sources = tmp_path / "sources"
    sources.mkdir()
    file = sources / "tiny.cl"
    file.write_text(TINY, encoding="utf-8")
    (sources / "notes.txt").write_text("no program", encoding="utf-8")
    assert statuses(warm_cache(file)) == [(str(file), "default", "built")]
    assert statuses(warm_cache(str(sources))) == [(str(file), "default", "present")]
    assert statuses(warm_cache([file, TINY])) == [
        (str(file), "default", "present"),
        ("source 1", "default", "present"),
    ]
    assert len(contents(cache_directory)) == 1


def test_manifests(warmed: Warmed, cache: ProgramCache) -> None:
    """A manifest is one by its file, its directory, or as it was read."""
    path = warmed.manifest
    expected = statuses(warm_cache(path, cache=cache))
    assert [status for _program, _variant, status in expected] == ["failed", "present", "present"]
    for programs in (path.parent, load_manifest(path), [path]):
        assert statuses(warm_cache(programs, cache=cache)) == expected


@pytest.mark.parametrize("name", ["missing.cl", "missing.json", "empty", "latin1.cl", "form.json"])
def test_programs_that_cannot_be_read(tmp_path: Path, cache_directory: Path, name: str) -> None:
    """An error that names the file, before anything is begun."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin1.cl").write_bytes(b"// \xe9\n")
    (tmp_path / "form.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ManifestError, match=name):
        warm_cache(tmp_path / name)
    assert not cache_directory.exists()


def test_an_uncacheable_program_is_skipped(tmp_path: Path) -> None:
    """With the reason; nothing was warmed then."""
    header = tmp_path / "header.h"
    header.write_text("#define ONE 1\n", encoding="utf-8")
    text = f'#define HEADER "{header}"\n#include HEADER\nkernel void one() {{}}\n'
    report = warm_cache([text])
    assert statuses(report) == [("source 0", "default", "skipped")]
    assert "#include of a computed name in line 2" in report.results[0].message
    assert "skipped: source 0 [default] on " in str(report)
    assert report.exit_code == 1


@pytest.mark.parametrize("hidden", ["by name", "altogether"])
def test_no_device(hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says so and what to do."""
    devices = None
    if hidden == "by name":
        devices = ["nothing-like-this"]
    else:
        monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path / "not-there"))
    report = warm_cache([TINY], devices=devices)
    assert report.results == []
    assert len(report.notes) == 1
    assert report.notes[0].startswith("there is no OpenCL device")
    assert "pip install" in report.notes[0]
    assert report.exit_code == 1


def test_devices_by_object_and_by_name(
    warmed: Warmed, cache: ProgramCache, device: cl.Device
) -> None:
    """The same device twice is one."""
    name = fingerprint(device).storage_name
    report = warm_cache(warmed.manifest, devices=[device, "pocl", name], cache=cache)
    assert [result.device for result in report.results] == [name] * 3
    assert report.count("present") == 2


def test_a_device_that_cannot_be_identified(
    device: cl.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is passed over with the reason: nothing can be cached for it."""

    def fail(_device: cl.Device) -> None:
        raise FingerprintError("CL_DEVICE_NAME", "INVALID_VALUE")

    monkeypatch.setattr(warm, "fingerprint", fail)
    report = warm_cache([TINY], devices=[device])
    assert statuses(report) == [("(all)", "(all)", "skipped")]
    assert "CL_DEVICE_NAME" in str(report)
    assert report.exit_code == 1


def test_disabled(monkeypatch: pytest.MonkeyPatch, cache_directory: Path) -> None:
    """Nothing is warmed or touched, and the reason is told."""
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    report = warm_cache([TINY])
    assert report == WarmReport([], ["nothing was warmed: " + ProgramCache().disabled_by])
    assert "MACE_CACHE_DISABLE" in str(report)
    assert report.exit_code == 1
    assert not cache_directory.exists()


def test_read_only(cache_directory: Path) -> None:
    """A cache that isn't written can't be warmed."""
    report = warm_cache([TINY], cache=ProgramCache(read_only=True))
    assert report == WarmReport([], ["nothing was warmed: the cache is read-only"])
    assert not cache_directory.exists()


@pytest.mark.parametrize("kind", ["memory", "own factory", "own directories"])
def test_a_cache_that_no_other_process_can_open(kind: str, tmp_path: Path) -> None:
    """What a worker would write could not be found again: an error instead."""
    cache = {
        "memory": lambda: ProgramCache(url="memory:"),
        "own factory": lambda: ProgramCache(storage_factory=MemoryStorageFactory()),
        "own directories": lambda: ProgramCache(storage_factory=DirectoryStorageFactory(tmp_path)),
    }[kind]()
    with pytest.raises(ConfigurationError, match="expected a"):
        warm_cache([TINY], cache=cache)


def test_a_cache_in_one_file(tmp_path: Path) -> None:
    """Workers that write one file merge what they wrote."""
    with ProgramCache(cache_full_path=tmp_path / "all.mclp") as cache:
        texts = [TINY, TINY + "// another"]
        assert warm_cache(texts, cache=cache, jobs=2).count("built") == 2
        assert warm_cache(texts, cache=cache, jobs=2).count("present") == 2
    assert (tmp_path / "all.mclp").is_file()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A program that could not be stored has failed, whatever the driver made of it."""
    (tmp_path / "file").touch()
    report = warm_cache([TINY], cache=ProgramCache(storage_path=tmp_path / "file" / "cache"))
    assert statuses(report) == [("source 0", "default", "failed")]
    assert f"could not be stored in {tmp_path / 'file' / 'cache'}" in report.results[0].message
    assert report.exit_code == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs(
    warmed: Warmed, cache: ProgramCache, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """No more processes than that, and each does more than one program."""
    started = []

    class Counted(WorkerProcess):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    monkeypatch.setattr(warm, "WorkerProcess", Counted)
    warm_cache(warmed.manifest, cache=cache, jobs=jobs)
    assert 1 <= len(started) <= jobs
    assert all(worker._process.returncode is not None for worker in started)


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs(jobs: int) -> None:
    """Nobody could do the work."""
    with pytest.raises(ConfigurationError, match="jobs="):
        warm_cache([TINY], jobs=jobs)


def test_an_interrupted_run_ends(monkeypatch: pytest.MonkeyPatch, cache_directory: Path) -> None:
    """What hasn't begun isn't begun any more."""

    @contextmanager
    def interrupted(_total: int, *, shown: bool) -> Iterator[Callable[[str], None]]:
        def advance(_name: str) -> None:
            raise KeyboardInterrupt

        assert shown
        yield advance

    monkeypatch.setattr(warm, "progress_bar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warm_cache([TINY + f"// {number}" for number in range(20)], jobs=1)
    assert len(contents(cache_directory)) < 5


def test_a_script_without_a_guard(tmp_path: Path, cache_directory: Path) -> None:
    """It runs once, prints nothing, finds the package, and nothing else in its directory."""
    script = tmp_path / "install.py"
    script.write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "tiny.cl").write_text(TINY, encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    (here / "json.py").write_text("raise SystemExit('a stranger was imported')", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, script, CHECKOUT, tmp_path / "tiny.cl"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "1 built, 0 already there, 0 skipped, 0 failed\n"
    assert len(contents(cache_directory)) == 1


def test_progress_off_a_terminal(
    warmed: Warmed, cache: ProgramCache, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed, neither here nor by the processes."""
    warm_cache(warmed.manifest, cache=cache, progress=True)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("total", "shown", "has_rich", "printed"),
    [
        (2, True, True, True),
        (2, False, True, False),
        (0, True, True, False),
        (2, True, False, False),
    ],
)
def test_progress_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, *, total: int, shown: bool, has_rich: bool, printed: bool
) -> None:
    """A bar, where it is wanted, there is something to do, and rich is installed."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with progress_bar(total, shown=shown) as advance:
        advance("talk [1]")
        advance("talk [2]")
    assert ("talk [2]" in terminal.getvalue()) == printed
    assert bool(terminal.getvalue()) == printed


def test_a_worker_that_is_killed() -> None:
    """Who waits for its answer is told how it ended."""
    worker = WorkerProcess()
    try:
        assert worker.ask(None)
        worker._process.send_signal(signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"^the driver ended its process by SIGKILL$"):
            worker.ask(None)
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("raise SystemExit('no more memory')", "with exit code 1; it had said: no more memory"),
        ("import sys; sys.stdin.readline(); print('[1,', end='')", "with exit code 0"),
        ("import os; os.kill(os.getpid(), 40)", "by signal 40"),
    ],
)
def test_a_worker_that_ends(monkeypatch: pytest.MonkeyPatch, start: str, message: str) -> None:
    """By itself, in the middle of an answer, or by a signal without a name."""
    monkeypatch.setattr(_warm_process, "_START", start)
    worker = WorkerProcess()
    try:
        with pytest.raises(WorkerDiedError, match=f"^the driver ended its process {message}$"):
            worker.ask(None)
    finally:
        worker.close()


def test_devices_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that crashes when it is asked for devices ends in a report too."""
    monkeypatch.setattr(_warm_process, "_START", "import os; os.abort()")
    report = warm_cache([TINY])
    assert report.results == []
    assert "the devices could not be listed: the driver ended its process by SIGABRT" in str(report)
    assert report.exit_code == 1


BUILT = WarmResult("add", "default", "pocl-x", "built", 1.5)
PRESENT = WarmResult("add", "half", "pocl-x", "present", 0.1)
SKIPPED = WarmResult("mul", "default", "pocl-x", "skipped", 0.5, "this program can't be cached")
FAILED = WarmResult("sub", "default", "pocl-x", "failed", 0.5, "error: no\nline 2")


@pytest.mark.parametrize(
    ("results", "notes", "code"),
    [
        ([BUILT, PRESENT], [], 0),
        ([BUILT, SKIPPED], [], 0),
        ([BUILT, FAILED], [], 1),
        ([SKIPPED], [], 1),
        ([], ["there is no OpenCL device"], 1),
    ],
)
def test_exit_code(results: list[WarmResult], notes: list[str], code: int) -> None:
    """0 where something is warm and nothing failed."""
    assert WarmReport(results, notes).exit_code == code


def test_report_as_text() -> None:
    """What isn't in order, a line each, and a summary."""
    report = WarmReport([BUILT, PRESENT, SKIPPED, FAILED], ["a note"])
    assert str(report).split("\n") == [
        "a note",
        "skipped: mul [default] on pocl-x: this program can't be cached",
        "failed: sub [default] on pocl-x: error: no",
        "line 2",
        "1 built, 1 already there, 1 skipped, 1 failed",
    ]
    assert [report.count(status) for status in ("built", "failed")] == [1, 1]


def test_report_as_json() -> None:
    """All that is known, for a program."""
    report = json.loads(WarmReport([BUILT, FAILED], ["a note"]).to_json())
    assert report == {
        "results": [
            {
                "program": "add",
                "variant": "default",
                "device": "pocl-x",
                "status": "built",
                "seconds": 1.5,
                "message": "",
            },
            {
                "program": "sub",
                "variant": "default",
                "device": "pocl-x",
                "status": "failed",
                "seconds": 0.5,
                "message": "error: no\nline 2",
            },
        ],
        "notes": ["a note"],
        "exit_code": 1,
    }
