"""The package as it is imported, and as it is installed from a wheel."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mace_cache
from mace_cache import errors

ROOT = Path(__file__).parent.parent
MODULES = [
    "mace_cache",
    *(
        module.name
        for module in pkgutil.walk_packages(mace_cache.__path__, "mace_cache.")
        if module.name != "mace_cache.__main__"
    ),
]


def python(program: str, *arguments: object) -> str:
    """Run a program in an interpreter of its own, outside the checkout, and give its output."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("name", MODULES)
def test_all(name: str) -> None:
    """Each module says what is its own to give: sorted, there, and public."""
    module = importlib.import_module(name)
    if not inspect.getdoc(module) or module.__spec__ is None:
        pytest.fail("no docstring")
    names = getattr(module, "__all__", None)
    if names is None:  # the face of a directory gives nothing of its own
        assert str(module.__file__).endswith("__init__.py")
        return
    assert names == sorted(set(names), key=_as_ruff_sorts)
    assert all(hasattr(module, given) for given in names)
    assert not [given for given in names if given.startswith("_")]


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_public_names() -> None:
    """Every name is given and listed; one that there isn't is an error like any module's."""
    assert set(mace_cache.__all__) <= set(dir(mace_cache))
    for name in mace_cache.__all__:
        value = getattr(mace_cache, name)
        assert value.__name__ == name
        assert inspect.getdoc(value)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mace_cache.nothing  # noqa: B018 (that there is none)


def test_an_import_brings_only_what_a_start_needs() -> None:
    """The rest comes with the first use of a name."""
    program = """
import sys
import pyopencl
before = set(sys.modules)
import mace_cache
added = {name.partition(".")[0] for name in set(sys.modules) - before}
slow = {"filelock", "platformdirs", "rich", "click", "multiprocessing", "concurrent", "subprocess"}
print(sorted(added & slow), "mace_cache.warm" in sys.modules)
mace_cache.warm_cache
print("mace_cache.warm" in sys.modules)
"""
    assert python(program).splitlines() == ["[] False", "True"]


def test_import_touches_no_driver() -> None:
    """An application decides when the drivers are loaded, or never."""
    program = """
import pyopencl
def asked(*_):
    raise SystemExit("a platform was asked for")
pyopencl.get_platforms = asked
import mace_cache, mace_cache.warm, mace_cache.library
print("no driver")
"""
    assert python(program) == "no driver"


def test_version() -> None:
    """The package states the version that it is released under."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall('^version = "(.+)"$', project, re.MULTILINE) == [mace_cache.__version__]


def test_errors_are_shown_as_they_are() -> None:
    """The tree in the docstring is the tree in the code."""
    assert errors.__doc__ is not None
    shown = re.findall(r"^([│├└─ ]*)(\w+Error)(?: \((\w+)\))? +\S", errors.__doc__, re.MULTILINE)
    assert len(shown) == len(errors.__all__) - 1  # all but the root, which has no description
    above = {0: errors.MaceCacheError}
    for branch, name, builtin in shown:
        depth = len(branch) // 4
        error = getattr(errors, name)
        wanted = (
            (above[depth - 1], getattr(__import__("builtins"), builtin))
            if builtin
            else (above[depth - 1],)
        )
        assert error.__bases__ == wanted, name
        above[depth] = error


def test_errors_are_all_in_the_tree() -> None:
    """``except MaceCacheError`` catches whatever the module defines."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.MaceCacheError) for name in defined)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir"]
    subprocess.run(
        [sys.executable, *command, "--wheel-dir", directory, ROOT], check=True, timeout=200
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def test_what_the_wheel_holds(wheel: Path) -> None:
    """All modules, the type marker, the kernels and the licence; nothing of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    information = f"mace_cache-{mace_cache.__version__}.dist-info/"
    packed = {name for name in names if not name.startswith(information)}
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("mace_cache/**/*.py")}
    kernels = {f"mace_cache/kernels/{path.name}" for path in (ROOT / "kernels").iterdir()}
    assert packed == modules | kernels | {"mace_cache/py.typed"}
    assert f"{information}licenses/LICENSE" in names


def test_the_installed_wheel_finds_its_kernels(wheel: Path, tmp_path: Path) -> None:
    """Inside itself, and not in a checkout."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from mace_cache.library import kernels_directory, load_manifest
print(kernels_directory())
print(len(load_manifest().programs))
"""
    directory, programs = python(program, tmp_path).splitlines()
    assert directory == str(tmp_path / "mace_cache" / "kernels")
    assert int(programs) >= 1


def test_py_typed() -> None:
    """Type checkers of applications look into the package."""
    assert (Path(mace_cache.__path__[0]) / "py.typed").is_file()


@pytest.mark.parametrize("mark", ["first detection", "overhead"])
def test_the_readme_shows_figures(mark: str) -> None:
    """The tables that commands write into the README are there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(f"<!-- {mark} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert table.count("\n|") >= 2
