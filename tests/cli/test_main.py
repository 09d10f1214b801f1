"""The command itself: help, errors, output that fails, and real processes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from mace_cache.cli import maintenance
from tests.cli.conftest import Store, make_program, one_line, run

COMMANDS = (
    "devices",
    "warm",
    "record",
    "list",
    "show",
    "stats",
    "verify",
    "clear",
    "gc",
    "inspect",
    "doctor",
)


def start(
    *arguments: object, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start ``python -m mace_cache``; its standard error is a pipe."""
    command = [sys.executable, "-m", "mace_cache", *map(str, arguments)]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True)


def until_it_asks(process: subprocess.Popen[str]) -> None:
    """Read a process's standard error up to its question, and wait until it waits itself."""
    assert process.stderr is not None
    read = ""
    while "[y/N]" not in read:
        one = process.stderr.read(1)
        assert one, f"the process ended after {read!r}"
        read += one
    # A signal that comes just before it reads would be seen by Python only after the answer.
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)


def test_help() -> None:
    """Without arguments the commands are listed; each has its own help."""
    listed = run()
    assert listed.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in listed.output
        told = run(command, "--help")
        assert told.code == 0
        assert "--json" in told.output


def test_version() -> None:
    """As it is installed."""
    told = run("--version")
    assert told.code == 0
    assert told.output.startswith("mace-cache, version ")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["list", "--nonsense"], ["show"], ["stats", "much"]]
)
def test_wrong_arguments(arguments: list[str]) -> None:
    """One line and exit code 2."""
    assert "--help" in one_line(run(*arguments), code=2)


@pytest.mark.parametrize("arguments", [["list"], ["stats"], ["verify"], ["devices"], ["show", "a"]])
def test_a_directory_that_others_can_write_to(store: Store, arguments: list[str]) -> None:
    """It isn't trusted: one line says so."""
    store.insert(make_program("add"))
    (store.directory / "v1").chmod(0o777)
    complaint = one_line(run(*arguments), code=1)
    assert f"{store.directory}/v1: any other user can write to it" in complaint


@pytest.mark.parametrize("command", [["list"], ["clear", "--yes"], ["stats"], ["gc"]])
def test_a_file_in_the_directory_s_place(tmp_path: Path, command: list[str]) -> None:
    """What can't be read as a directory is no traceback."""
    file = tmp_path / "file"
    file.write_text("mine")
    ran = run(*command, "--cache-directory", file)
    assert "Traceback" not in ran.errors
    assert ran.errors.count("\n") <= 1
    assert file.read_text() == "mine"


def test_the_cache_directory_option(store: Store, tmp_path: Path) -> None:
    """It goes before ``MACE_CACHE_DIR``."""
    store.insert(make_program("add"))
    assert len(run("list", "--json").json["entries"]) == 1
    other = run("list", "--json", "--cache-directory", tmp_path / "other").json
    assert other == {"directory": str(tmp_path / "other"), "entries": []}


def test_no_place_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no home, the options are named."""
    monkeypatch.delenv("MACE_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_names, **_options: "relative")
    assert "--cache-directory" in one_line(run("list"), code=1)


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``stats`` raise an error."""

    def fail(_factory: object) -> NoReturn:
        raise error

    monkeypatch.setattr(maintenance, "files_of", fail)


def test_an_unreadable_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path and the system's reason."""
    fail_with(PermissionError(13, "Permission denied", "/some/where"), monkeypatch)
    complaint = one_line(run("stats"), code=1)
    assert complaint == "mace-cache: /some/where: Permission denied\n"


def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called that, in one line."""
    fail_with(ZeroDivisionError("division\nby zero"), monkeypatch)
    assert "a fault of mace-cache itself" in one_line(run("stats"), code=1)


def test_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130 and without words."""
    fail_with(KeyboardInterrupt(), monkeypatch)
    interrupted = run("stats")
    assert (interrupted.code, interrupted.output, interrupted.errors.strip()) == (130, "", "")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(missing: str) -> None:
    """What to install is said in one plain line."""
    script = f"import sys; sys.modules[{missing!r}] = None\nimport mace_cache.__main__ as m\n"
    ran = subprocess.run(
        [sys.executable, "-c", script + "sys.exit(m.main(['list']))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr == f"mace-cache: {missing} is missing: install 'mace-cache[cli]'\n"


def test_a_real_process(store: Store) -> None:
    """``python -m mace_cache`` prints to a pipe as wide as it needs, without colours."""
    program = make_program("add", options="-DLONG=" + "x" * 500)
    store.insert(program)
    output, errors = start("list").communicate()
    assert errors == ""
    (line,) = [line for line in output.splitlines() if line.startswith(program.key[:12])]
    assert program.options in line
    assert "\x1b" not in output


def test_an_encoding_without_the_characters(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the output's encoding lacks is escaped."""
    store.insert(make_program("add", options="-Dµ=…"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = start("list")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "-D\\xb5=\\u2026" in output


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["stats"]])
def test_a_reader_that_goes_away(store: Store, arguments: list[str]) -> None:
    """A broken pipe is no reason for words."""
    store.insert(make_program("add"))
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*arguments, stdout=writing)
    os.close(writing)
    _output, errors = process.communicate()
    assert (process.returncode, errors) == (1, "")


def test_a_full_disk(store: Store) -> None:
    """Output that can't be written is one line and exit code 1."""
    store.insert(make_program("add"))
    with open("/dev/full", "w", encoding="ascii") as full:
        for arguments in (["list"], ["list", "--json"]):
            process = start(*arguments, stdout=full.fileno())
            _output, errors = process.communicate()
            assert process.returncode == 1
            assert errors == "mace-cache: No space left on device\n"


def test_a_terminal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines fit a terminal's width, and only our own escapes reach it."""
    store.insert(make_program("add", options="\x1b[31m-DLONG=" + "x" * 500))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    main_end, terminal = pty.openpty()
    process = start("list", stdout=terminal)
    os.close(terminal)
    _output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    output = os.read(main_end, 100_000).decode()
    os.close(main_end)
    assert "\x1b[31m" not in output
    table = [line for line in output.splitlines() if "DLONG" in line]
    assert table
    assert all(len(line) < 100 for line in table)


@pytest.fixture
def asking(store: Store) -> tuple[subprocess.Popen[str], int, Path]:
    """``clear`` in a terminal, at its question: the process, the terminal's end, an entry."""
    path = store.insert(make_program("add"))
    main_end, terminal = pty.openpty()
    process = start("clear", stdin=terminal)
    os.close(terminal)
    until_it_asks(process)
    return process, main_end, path


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_clear_asks(
    asking: tuple[subprocess.Popen[str], int, Path], answer: bytes, code: int
) -> None:
    """Only a yes removes the programs."""
    process, main_end, path = asking
    os.write(main_end, answer)
    process.communicate()
    os.close(main_end)
    assert process.returncode == code
    assert path.exists() == bool(code)


def test_a_real_interrupt(asking: tuple[subprocess.Popen[str], int, Path]) -> None:
    """Ctrl-C at the question removes nothing and leaves no traceback."""
    process, main_end, path = asking
    process.send_signal(signal.SIGINT)
    _output, errors = process.communicate()
    os.close(main_end)
    assert process.returncode == 130
    assert errors.strip() == ""
    assert path.exists()
