"""``record``: rehearsals of real applications, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache.cli import record
from mace_cache.cli.rehearsal import Recorded, Rehearsal
from mace_cache.storage.recorded import Note
from tests.cli.conftest import Ran, one_line, run
from tests.helpers import REPOSITORY, entries, make_source, read_entry

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.capture import CaptureFixture

# The harm is done between the build and the launches: a flush takes what PoCL has compiled until
# then, and a cache that is closed or collected is written; an application may ask for an early one.
_APPLICATION = """
import json, os, signal, sys
from pathlib import Path
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def compiled():
    return {path.parent for path in Path(os.environ["POCL_CACHE_DIR"]).rglob("scale.so")}

arguments, end = json.loads(sys.argv[1]), sys.argv[2]
context = open_context()
cache = ProgramCache(**arguments)
program = cache.build(context, make_source("rehearsed"))
origin = cache.explain(program).origin.value
cache.flush()
cache.close()
del cache
before = compiled()
for local in (1, 2):
    assert scale(program, local=local) == 2
print(origin, len(compiled() - before))
sys.stdout.flush()
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _modules_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: CaptureFixture[str]
) -> Application:
    """An application that launches a kernel with two local sizes."""
    return Application(tmp_path, monkeypatch, capfd)


class Application:
    """Runs the application, each time with an empty driver cache."""

    def __init__(
        self, directory: Path, patch: pytest.MonkeyPatch, capture: CaptureFixture[str]
    ) -> None:
        self._directory = directory
        self._patch = patch
        self._capture = capture
        self._starts = 0

    def command(self, end: str = "", **arguments: Any) -> list[str]:
        """Give its command line."""
        self._starts += 1
        driver_cache = self._directory / f"driver {self._starts}"
        driver_cache.mkdir()
        self._patch.setenv("POCL_CACHE_DIR", str(driver_cache))
        return [sys.executable, "-W", "error", "-c", _APPLICATION, json.dumps(arguments), end]

    def start(self, **arguments: Any) -> str:
        """Run it as ever: the program's origin and for how many local sizes PoCL compiled it."""
        command = self.command(**arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.strip()

    def record(self, *options: object, end: str = "", **arguments: Any) -> tuple[Ran, str, str]:
        """Rehearse it: what the command answered, and what the application itself printed."""
        ran = run("record", *options, "--", *self.command(end, **arguments))
        return ran, *self._capture.readouterr()


def test_a_rehearsal_is_complete(application: Application, cache_directory: Path) -> None:
    """An entry that lacks the launches is replaced by one with which nothing is compiled again."""
    assert application.start() == "source 2"
    assert application.start() == "storage 2"
    early = read_entry(*entries(cache_directory))
    counted = run("stats", "--json").json["counts"]

    ran, output, errors = application.record(harvest="eager")
    assert (ran.code, ran.output, output, errors) == (0, "", "source 2\n", "")
    complete = read_entry(*entries(cache_directory))
    assert complete.key == early.key
    assert len(complete.binary) > len(early.binary)
    (line,) = ran.errors.splitlines()
    (storage,) = (cache_directory / "v1").glob("pocl-*")
    assert line.startswith("mace-cache: recorded 1 program, ")
    assert line.endswith(f" KiB, for {storage.name}, in {storage}")
    assert run("stats", "--json").json["counts"] == counted

    assert application.start() == "storage 0"


def test_a_bundle(application: Application, cache_directory: Path, tmp_path: Path) -> None:
    """It has it all, whoever may read files may read it, and the cache isn't touched."""
    bundle = tmp_path / "app.mclp"
    bundle.write_text("an older one")
    options = ("--output", bundle, "--json")
    ran, output, errors = application.record(
        *options, url="memory:", read_only=True, harvest_after=0
    )
    assert (ran.code, output, errors) == (0, "", "source 2\n")
    told = ran.json
    (recorded,) = told.pop("recorded")
    assert told.pop("command")[0] == sys.executable
    assert told == {"exit_code": 0, "signal": None, "output": str(bundle), "warnings": []}
    assert not cache_directory.exists()
    assert bundle.stat().st_mode & 0o777 == 0o666 & ~_umask()

    (inspected,) = run("inspect", bundle, "--json").json["programs"]
    assert recorded["binary_bytes"] == inspected["binary_bytes"]
    assert (recorded["place"], recorded["entries"]) == (str(bundle), 1)
    assert application.start(binary_paths=[str(bundle)], url="memory:") == "precompiled 0"


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_killed(application: Application, cache_directory: Path, tmp_path: Path) -> None:
    """What wasn't stored is lost, and it is said; a bundle that was there stays."""
    bundle = tmp_path / "app.mclp"
    bundle.write_text("an older one")
    ran, output, _errors = application.record("--output", bundle, end="killed")
    assert (ran.code, ran.output, output) == (128 + signal.SIGKILL, "", "source 2\n")
    assert bundle.read_text() == "an older one"
    killed, nothing, lost = ran.errors.splitlines()
    assert killed == "mace-cache: the application was killed by SIGKILL"
    assert nothing == "mace-cache: nothing was recorded"
    assert "a process was killed before" in lost
    assert not cache_directory.exists()


_FORKED = """
import multiprocessing
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def work():
    global program
    program = ProgramCache().build(open_context(), make_source("forked"))
    assert scale(program) == 2

child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
"""


def test_a_forked_child(cache_directory: Path) -> None:
    """It ends without running what is registered for the exit, and is recorded nevertheless."""
    ran = run("record", "--", sys.executable, "-c", _FORKED)
    assert ran.code == 0
    assert "recorded 1 program" in ran.errors
    assert len(entries(cache_directory)) == 1


def test_warming(tmp_path: Path, cache_directory: Path) -> None:
    """An installer that calls `warm_cache` can be rehearsed too: its workers are recorded."""
    (tmp_path / "scale.cl").write_text(make_source("warmed"))
    bundle = tmp_path / "warm.mclp"
    ran = run("record", "--output", bundle, "-m", "mace_cache", "warm", tmp_path / "scale.cl")
    assert ran.code == 0, ran.errors
    assert "recorded 1 program" in ran.errors
    assert not cache_directory.exists()


@pytest.mark.parametrize(
    "before",
    [["-m"], ["--", "-m"], ["--", sys.executable, "-m"], [sys.executable, "-m"], ["-m", "--"]],
)
def test_a_module(
    before: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: CaptureFixture[str]
) -> None:
    """It gets all that follows its name, options of this command's too."""
    (tmp_path / "its_module.py").write_text("import sys; print(__name__, sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    ran = run("record", *before, "its_module", "--json", "--", "-m", "--output")
    assert (ran.code, ran.output) == (0, "")
    assert capfd.readouterr().out == "__main__ ['--json', '--', '-m', '--output']\n"


def test_an_application_without_a_cache(tmp_path: Path) -> None:
    """It is said that nothing was recorded, and why that may be; there is no bundle."""
    ran = run("record", "--output", tmp_path / "app.mclp", "--json", "true")
    assert ran.code == 0
    (warning,) = ran.json["warnings"]
    assert "nothing was recorded: the application built no program" in warning
    assert (ran.json["output"], ran.json["recorded"]) == (None, [])
    assert list(tmp_path.iterdir()) == []


def test_switched_off_by_the_application(cache_directory: Path) -> None:
    """No file is touched, not even in the record."""
    code = "import os; os.environ['MACE_CACHE_DISABLE'] = '1'\n" + _FORKED
    check = "\nassert not os.path.exists(os.environ['MACE_CACHE_RECORD'] + '/notes')"
    ran = run("record", "--", sys.executable, "-c", code + check)
    assert ran.code == 0
    assert "nothing was recorded" in ran.errors
    assert not cache_directory.exists()


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("exit 3", 3, "ended with exit code 3"),
        ("kill -TERM $$", 143, "was killed by SIGTERM"),
        ("kill -40 $$", 168, "was killed by signal 40"),
    ],
)
def test_the_exit_code_is_the_application_s(end: str, code: int, said: str) -> None:
    """Of one that was killed, what a shell makes of it."""
    ran = run("record", "--json", "--", "sh", "-c", end)
    assert (ran.code, ran.json["exit_code"]) == (code, code)
    assert said in ran.json["warnings"][0]
    assert ran.json["signal"] == (said.rpartition("by ")[2] if code > 128 else None)


@pytest.mark.parametrize(
    ("command", "reason"),
    [("nowhere", "No such file"), ("/dev/null", "Permission"), ("/", "Permission")],
)
def test_a_command_that_cannot_be_started(command: str, reason: str) -> None:
    """One line, and the exit code that a shell has for it."""
    assert f"{command} can't be started: {reason}" in one_line(run("record", command), code=127)


@pytest.mark.parametrize(
    ("arguments", "variable", "code", "said"),
    [
        ([], "", 2, "--help"),
        (["touch", "ran"], "MACE_CACHE_DISABLE", 1, "MACE_CACHE_DISABLE is set"),
        (["touch", "ran"], "MACE_CACHE_READ_ONLY", 1, "give --output"),
        (["--output", "no/app.mclp", "touch", "ran"], "", 1, "no/app.mclp can't be written"),
        (["--output", ".", "touch", "ran"], "", 2, "is a directory"),
        (["--output", "a", "--cache-directory", "b", "touch", "ran"], "", 2, "--cache-directory"),
    ],
)
def test_what_cannot_come_to_anything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: list[str],
    variable: str,
    code: int,
    said: str,
) -> None:
    """It is refused before the application runs."""
    monkeypatch.chdir(tmp_path)
    if variable:
        monkeypatch.setenv(variable, "1")
    assert said in one_line(run("record", *arguments), code=code)
    assert list(tmp_path.iterdir()) == []


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache directory is handed on; a rehearsal within one is its own."""
    monkeypatch.setenv("MACE_CACHE_RECORD", "outer")
    monkeypatch.setenv("MACE_CACHE_RECORD_ONLY", "1")
    monkeypatch.chdir(tmp_path)
    shown = 'echo "$MACE_CACHE_DIR" "$MACE_CACHE_RECORD_ONLY" "$MACE_CACHE_RECORD" > shown'
    assert run("record", "--cache-directory", "here", "--", "sh", "-c", shown).code == 0
    directory, recorded = (tmp_path / "shown").read_text().split()
    assert directory == str(tmp_path / "here")
    assert os.path.isabs(recorded)
    assert not os.path.exists(recorded)


_PATIENT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
Path(sys.argv[1]).touch()
try:
    for _ in range(1200):  # a signal that comes just before a sleep doesn't end it
        time.sleep(0.05)
except KeyboardInterrupt:
    sys.exit(6)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 5), (signal.SIGINT, 6)])
def test_signals_are_the_application_s(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A Ctrl-C reaches both, SIGTERM the command alone: it stays to the application's end."""
    started = tmp_path / "started"
    command = ["-m", "mace_cache", "record", "--", sys.executable, "-c", _PATIENT, str(started)]
    process = subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"ended with exit code {code}\n" in errors
    assert "nothing was recorded" in errors


def test_a_bundle_that_cannot_be_written(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application was fine, the command isn't."""

    def fail(_path: str, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "publish_readable", fail)
    ran, _output, _errors = application.record("--output", tmp_path / "app.mclp")
    assert ran.code == 1
    (line,) = ran.errors.splitlines()
    assert "app.mclp could not be written: " in line
    assert "No space left on device" in line


def test_a_signature_that_cannot_be_made(tmp_path: Path) -> None:
    """It is said before the application runs."""
    assert "--output" in one_line(run("record", "--sign", "key", "--", "true"), code=2)
    ran = run("record", "--output", tmp_path / "x", "--sign", tmp_path / "none", "--", "true")
    assert "--sign=" in one_line(ran, code=2)


def note(*, writable: bool = True, **programs: int | None) -> Note:
    """What a storage that was flushed had noted."""
    return Note("pocl-x", "/place", writable, flushed=True, programs=programs)


@pytest.mark.parametrize(
    ("rehearsal", "lines"),
    [
        (Rehearsal(0, [note(a=1)], 0, []), []),
        (Rehearsal(0, [note(a=1, b=None)], 0, []), ["1 program could not be stored"]),
        (Rehearsal(0, [note(a=1)], 2, []), ["2 builds could not be cached"]),
        (Rehearsal(0, [], 1, []), ["nothing was recorded", "1 build could not"]),
        (Rehearsal(0, [note(writable=False)], 0, []), ["nothing was", "/place is read-only"]),
    ],
)
def test_warnings(rehearsal: Rehearsal, lines: list[str]) -> None:
    """Whatever isn't complete is said."""
    warnings = record._warnings(rehearsal, rehearsal.recorded(None))
    for warning, line in zip(warnings, lines, strict=True):
        assert warning.startswith(line)


def test_places_are_told_apart() -> None:
    """Caches of one place are summed, each program once, as it was last written there."""
    notes = [
        note(a=1, b=2),
        note(a=10),
        note(c=None),
        Note("pocl-x", "/other", True, True, {"a": 5}),
    ]
    assert Rehearsal(0, notes, 0, []).recorded(None) == [
        Recorded("pocl-x", "/other", 1, 5),
        Recorded("pocl-x", "/place", 2, 12),
    ]
