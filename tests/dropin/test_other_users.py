"""What one user has stored, others read, as docs/adopting.md and configuration.md tell how."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import run
from tests.helpers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT = 5000
MAKE_PROGRAM = """
import pyopencl as cl
context = cl.Context(cl.get_platforms()[0].get_devices()[:1])

def build():
    program = cl.Program(context, "kernel void f(global int *x) { x[0] = 1; }")
    return program.build()
"""
# What it needs is imported before it is another user, who may not read where Python lies.
READER = f"""{MAKE_PROGRAM}
import logging, mmap, os, subprocess, sys
import mace_cache

warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("mace_cache").addHandler(handler)

def told(trust, bundle):
    os.environ["MACE_CACHE_TRUST"] = trust
    binary_paths = [bundle] if bundle else []
    with mace_cache.installed(mace_cache.ProgramCache(binary_paths=binary_paths)):
        try:
            answer = mace_cache.explain(build())
        except cl.RuntimeError:  # it is built from source by who may not read where PoCL lies
            return f"source {{warnings}}"
    return f"{{answer.origin.value}} {{answer.reason}}"

told("", sys.argv[1])
own = sys.argv[2]
if os.geteuid() == 0:
    subprocess.run(["chmod", "-R", "a+rwX", os.environ["POCL_CACHE_DIR"]], check=True)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
os.environ["XDG_CACHE_HOME"] = own
print(flush=True)
for line in sys.stdin:
    print(told(*line.rstrip("\\n").split(",")), flush=True)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can look into: pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def image(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image: root has recorded the application, and written what is stored to a bundle."""
    (place / "app.py").write_text(f"{MAKE_PROGRAM}\nbuild()\n")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MACE_CACHE_DIR", str(place / "cache"))
    python = (sys.executable, "-m", "mace_cache")
    record = (*python, "record", "--", *python, "run", place / "app.py")
    subprocess.run(record, check=True, capture_output=True)
    assert run("export", "--output", place / "app.mclp").code == 0
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    return place


@pytest.fixture
def start(image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Starts of another user of the image: where the program came from, and why."""
    for name in ("own", "pocl"):
        (image / name).mkdir()
        (image / name).chmod(0o777)
    monkeypatch.setenv("POCL_CACHE_DIR", str(image / "pocl"))
    command = [sys.executable, "-c", READER, str(image / "app.mclp"), str(image / "own")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        to, back = child.stdin, child.stdout
        assert back.readline() == "\n"

        def build(settings: str) -> str:
            to.write(f"{settings}\n")
            to.flush()
            return back.readline()

        yield build
        to.close()


def test_a_read_only_image(image: Path, start: Callable[[str], str]) -> None:
    """What root has stored is closed to others until it is opened to them, then it is loaded."""
    cache = image / "cache"
    if os.geteuid() == 0:
        assert "Permission denied" in start(",")
    subprocess.run(["chmod", "-R", "go+rX", cache], check=True)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (cache, *cache.rglob("*")))
    assert start(",") == "storage it was stored\n"


def test_a_bundle_in_an_image(image: Path, start: Callable[[str], str]) -> None:
    """It is readable as it was written, and the application's code names it."""
    shutil.rmtree(image / "cache")
    assert start(f",{image}/app.mclp").startswith("precompiled ")


def test_a_directory_that_a_cluster_shares(image: Path, start: Callable[[str], str]) -> None:
    """An account that isn't root has filled it: who reads it says that they trust that account."""
    cache = image / "cache"
    subprocess.run(["chmod", "-R", "go+rX", cache], check=True)
    if os.geteuid() == 0:
        for path in (cache, *cache.rglob("*")):
            os.chown(path, ACCOUNT, ACCOUNT)
        assert f"another user ({ACCOUNT}) owns it" in start(",")
    assert start(f"uid:{ACCOUNT},") == "storage it was stored\n"
