"""``run`` and ``hook``: programs that never heard of the cache start warm."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from mace_cache.cli.run import with_hook
from tests.cli.conftest import one_line, run
from tests.helpers import REPOSITORY, entries

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION = """
import os, sys
import pyopencl as cl
context = cl.Context(cl.get_platforms()[0].get_devices()[:1])
program = cl.Program(context, "kernel void f(global int *x) { x[0] = VALUE; }")
assert program.build("-DVALUE=1") is program
print(__name__, sys.argv, os.path.basename(sys.path[0]), program.kernel_names)
raise SystemExit(3)
"""


def start(
    *command: object, cwd: Path | None = None, code: int = 0, **environment: str
) -> tuple[str, str]:
    """Run a command in a process of its own: what it says on its two streams."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd or REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def start_run(*arguments: object, cwd: Path, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run ``mace-cache run`` in a process of its own."""
    command = (sys.executable, "-m", "mace_cache", "run", *arguments)
    return start(*command, cwd=cwd, code=code, **environment)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A directory with an application, which ends with exit code 3."""
    directory = tmp_path / "applications"
    directory.mkdir()
    (directory / "app.py").write_text(APPLICATION)
    return directory


def test_an_application_runs_as_it_is(application: Path, cache_directory: Path) -> None:
    """Its name, arguments, path and exit code are its own; its programs are cached."""
    output, _errors = start_run("app.py", "--json", "-m", "x", cwd=application, code=3)
    assert output == "__main__ ['app.py', '--json', '-m', 'x'] applications f\n"
    assert len(entries(cache_directory)) == 1
    output, errors = start_run("-m", "app", "--y", cwd=application, code=3, MACE_CACHE_TRACE="1")
    assert output == f"__main__ ['{application}/app.py', '--y'] applications f\n"
    assert errors.startswith("mace-cache: hit ")


def test_a_directory_of_its_own(application: Path, tmp_path: Path, cache_directory: Path) -> None:
    """``--cache-directory`` says where, and two dashes end the options."""
    where = tmp_path / "elsewhere"
    start_run("--cache-directory", where, "--", "app.py", cwd=application, code=3)
    assert entries(where)
    assert not entries(cache_directory)


def test_a_rehearsal(application: Path, tmp_path: Path, cache_directory: Path) -> None:
    """``record`` runs it as any command, and what it builds lies in the bundle."""
    python = (sys.executable, "-m", "mace_cache")
    record = (*python, "record", "--output", tmp_path / "app.mclp", "--")
    _output, errors = start(*record, *python, "run", "app.py", cwd=application, code=3)
    assert "recorded 1 program" in errors
    assert (tmp_path / "app.mclp").exists()
    assert not entries(cache_directory)


def test_an_application_that_isnt_there(tmp_path: Path) -> None:
    """Python says so, as it does without us."""
    _output, errors = start_run("nothing.py", cwd=tmp_path, code=2)
    assert "nothing.py" in errors


def test_processes_of_the_application(tmp_path: Path) -> None:
    """What it starts is hooked too, sees its own path, and keeps its own ``sitecustomize``."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('its own start')\n")
    look = (
        "import sys, pyopencl as cl\n"
        "print(hasattr(cl.Program.build, 'replaced'), [p for p in sys.path if 'startup' in p])"
    )
    (tmp_path / "parent.py").write_text(
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {look!r}])\n"
    )
    path = os.pathsep.join([str(own), str(REPOSITORY)])
    output, errors = start_run("parent.py", cwd=tmp_path, PYTHONPATH=path)
    assert output.splitlines()[-2:] == ["its own start", "True []"]
    assert not errors


BUILDS = """
import sys, subprocess
import pyopencl as cl
context = cl.Context(cl.get_platforms()[0].get_devices()[:1])
name = sys.argv[1]
cl.Program(context, "kernel void %s(global int *x) { x[0] = 1; }" % name).build()
if name == "parent":
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""


def test_a_run_of_several_processes(tmp_path: Path) -> None:
    """What each of them missed is told, whoever wrote last."""
    (tmp_path / "app.py").write_text(BUILDS)
    start_run("app.py", "parent", cwd=tmp_path)
    told = run("explain-miss", "--json").json
    assert told["command"][-2:] == ["app.py", "parent"]
    assert told["processes"] == 2
    assert sorted(one["kernels"] for one in told["missed"]) == [["child"], ["parent"]]


def test_only_pyopencl_installs_it(tmp_path: Path) -> None:
    """A program without pyopencl doesn't even import the package; nor does one where it fails."""
    (tmp_path / "app.py").write_text(
        "import sys, json\n"
        "sys.path.insert(0, 'broken')\n"
        "try:\n    import pyopencl\nexcept ZeroDivisionError:\n    print('fails as ever')\n"
        "print('mace_cache.dropin' in sys.modules)\n"
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pyopencl.py").write_text("1 / 0\n")
    output, errors = start_run("app.py", cwd=tmp_path)
    assert (output, errors) == ("fails as ever\nFalse\n", "")


_LOOKED_FOR = """
import importlib.util
print(importlib.util.find_spec("pyopencl") is not None)
"""
_FAILED_AT_FIRST = """
import os, sys
os.mkdir("broken")
with open("broken/pyopencl.py", "w") as file:
    file.write("1 / 0")
sys.path.insert(0, "broken")
try:
    import pyopencl
except ZeroDivisionError:
    print(True)
sys.path.pop(0)
"""


@pytest.mark.parametrize("before", [_LOOKED_FOR, _FAILED_AT_FIRST])
def test_whatever_came_before_the_import(tmp_path: Path, before: str) -> None:
    """A program that looks for pyopencl first, or tries to import it, is hooked as well."""
    look = "import pyopencl as cl; print(hasattr(cl.Program.build, 'replaced'))"
    (tmp_path / "app.py").write_text(f"{before}\n{look}\n")
    assert start_run("app.py", cwd=tmp_path) == ("True\nTrue\n", "")


_OTHER_LOADERS = """
import importlib.machinery, sys
class Loader:
    __slots__ = ("real",)
    def __init__(self, real): self.real = real
    def create_module(self, spec): return None
    def exec_module(self, module): self.real.exec_module(module)
class Finder:
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if name == "pyopencl":
            spec.loader = Loader(spec.loader)
        return spec
sys.meta_path.insert(1, Finder())
import pyopencl
print(pyopencl.VERSION_TEXT != "", hasattr(pyopencl.Program.build, "replaced"))
"""


def test_a_loader_that_cant_be_changed(tmp_path: Path) -> None:
    """The import goes on without the cache."""
    (tmp_path / "app.py").write_text(_OTHER_LOADERS)
    assert start_run("app.py", cwd=tmp_path) == ("True False\n", "")


@pytest.mark.parametrize("paths", ["", ":", "/a:", ":/a", "/a::/b", "/a:/b"])
def test_the_path_stays_as_it_is(paths: str) -> None:
    """An empty entry means the current directory."""
    once = with_hook({"PYTHONPATH": paths})
    ours, _, rest = once["PYTHONPATH"].partition(":")
    assert (os.path.basename(ours), rest) == ("startup", paths)
    assert with_hook(once) == once


def test_run_needs_a_command() -> None:
    """One line says how it is used."""
    assert "COMMAND" in one_line(run("run"), code=2)


# The hook


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The Python of a virtual environment that sees what this one has installed."""
    directory = tmp_path / "environment"
    venv.create(directory, symlinks=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join([str(REPOSITORY), *others]) + "\n")
    return directory / "bin" / "python"


def test_the_hook_of_a_virtual_environment(environment: Path, cache_directory: Path) -> None:
    """Off until it is switched on; then any program of the environment is cached."""
    look = (
        "import sys; early = 'mace_cache' in sys.modules; import pyopencl as cl; "
        "print(early, hasattr(cl.Program.build, 'replaced'))"
    )
    command = (environment, "-m", "mace_cache", "hook")
    assert start(*command, "status")[0].startswith("disabled: ")
    assert start(environment, "-c", look) == ("False False\n", "")
    assert start(*command, "enable")[0].startswith("enabled: ")
    assert start(environment, "-c", look) == ("False True\n", "")
    assert start(*command, "disable")[0].startswith("disabled: ")
    assert start(environment, "-c", look) == ("False False\n", "")
    assert not cache_directory.exists()


_ANOTHER_RELEASE = """
import importlib.metadata as metadata, sys
real = metadata.version
metadata.version = lambda name: "2031.1" if name == "pyopencl" else real(name)
"""


def test_the_hook_is_there_once(environment: Path, tmp_path: Path) -> None:
    """Some Pythons run it twice, and ``run`` comes on top; the command itself does without."""
    command = (environment, "-m", "mace_cache")
    start(*command, "hook", "enable")
    (path,) = environment.parent.parent.glob("lib/python*/site-packages/mace_cache_hook.pth")
    path.with_name("twice.pth").write_text(path.read_text())
    (tmp_path / "finders.py").write_text(
        "import sys; print([type(f).__module__[:10] for f in sys.meta_path].count('mace_cache'))"
    )
    assert start(*command, "run", "finders.py", cwd=tmp_path) == ("1\n", "")
    (tmp_path / "sitecustomize.py").write_text(_ANOTHER_RELEASE)
    path_with = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    assert not start(*command, "hook", "status", PYTHONPATH=path_with)[1]
    code = "import pyopencl"
    assert "not tested" in start(environment, "-c", code, PYTHONPATH=path_with)[1]


def test_the_hook_without_the_package(environment: Path) -> None:
    """Whoever has uninstalled the package first sees nothing of the hook but that it is useless."""
    start(environment, "-m", "mace_cache", "hook", "enable")
    (others,) = environment.parent.parent.glob("lib/python*/site-packages/others.pth")
    kept = [line for line in others.read_text().splitlines() if line != str(REPOSITORY)]
    blocked = environment.parent / "blocked"
    (blocked / "mace_cache").mkdir(parents=True)
    (blocked / "mace_cache" / "__init__.py").write_text("raise ModuleNotFoundError('gone')\n")
    others.write_text("\n".join(kept) + "\n")
    code = "import pyopencl as cl; print(hasattr(cl.Program.build, 'replaced'))"
    output = start(environment, "-c", code, cwd=environment.parent, PYTHONPATH=str(blocked))
    assert output == ("False\n", "")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for the installed packages of this very process."""
    directory = tmp_path / "packages"
    directory.mkdir()
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(directory))
    return directory


def test_not_outside_a_virtual_environment(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's Python is changed only if that is said."""
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "isn't a virtual environment" in one_line(run("hook", "enable"), code=1)
    assert not list(packages.iterdir())
    assert run("hook", "enable", "--anywhere").code == 0
    (file,) = packages.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644
    for _ in range(2):
        assert run("hook", "disable").code == 0
    assert not list(packages.iterdir())


def test_packages_that_cant_be_written(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that can't be written is named."""
    monkeypatch.setattr(sys, "prefix", "/an/environment")

    def refuse(temporary: str, name: str, **_directories: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), temporary, None, name)

    monkeypatch.setattr(os, "replace", refuse)
    said = one_line(run("hook", "enable"), code=1)
    assert said == f"mace-cache: {packages}/mace_cache_hook.pth: Read-only file system\n"


def test_what_isnt_ours_stays(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name that somebody else has written is neither replaced nor removed."""
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    (packages / "mace_cache_hook.pth").write_text("theirs\n")
    for command in ("enable", "disable"):
        assert "isn't ours" in one_line(run("hook", command), code=1)
    assert (packages / "mace_cache_hook.pth").read_text() == "theirs\n"


def test_the_hook_of_another_release(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and mended by switching it on again."""
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    for _ in range(2):
        assert run("hook", "enable").output.startswith("enabled: ")
    path = packages / "mace_cache_hook.pth"
    path.write_text(path.read_text() + "# of another release\n")
    assert "another release" in run("hook", "status").output
    assert run("hook", "status", "--json").json == {
        "enabled": True,
        "current": False,
        "path": str(path),
    }
    run("hook", "enable")
    assert run("hook", "status", "--json").json["current"]
