"""What all tests share: one PoCL device from PyPI, and no state outside the test's own directories.

The driver is chosen before pyopencl is imported: the loader that its wheel carries always sees the
PoCL of ``pocl-binary-distribution``; an empty vendors directory keeps the machine's drivers out.
``TESTS_VENDORS`` names another directory, and ``TESTS_PLATFORM`` a part of the platform's name: so
the operators' tests run on other drivers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.umask(0o022)  # what tests make beside the library is then writable for nobody else
_SESSION = Path(tempfile.mkdtemp(prefix="mace-cache-tests-"))


def _private(name: str) -> str:
    directory = _SESSION / name
    directory.mkdir(mode=0o700)
    return str(directory)


for _name in [
    name for name in os.environ if name.startswith(("MACE_CACHE_", "POCL_", "PYOPENCL_"))
]:
    del os.environ[_name]
os.environ["OCL_ICD_VENDORS"] = os.environ.get("TESTS_VENDORS") or _private("no-vendors")
os.environ["POCL_CACHE_DIR"] = _private("pocl")
os.environ["XDG_CACHE_HOME"] = _private("cache")
os.environ["MACE_CACHE_DIR"] = _private("mace-cache")

import hypothesis  # noqa: E402 (as below)
import pyopencl as cl  # noqa: E402 (the driver is chosen above)

from tests.servers import s3, valkey  # noqa: E402, F401 (fixtures)

if TYPE_CHECKING:
    from collections.abc import Iterator


hypothesis.settings.register_profile("untimed", deadline=None)  # machines have other work
hypothesis.settings.load_profile("untimed")

_BUNDLED_KERNELS = ("operators", "test_library.py", "test_face_detection.py", "test_file_types.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all that runs the bundled kernels in one process, which then compiles each once."""
    for item in items:
        if {*item.path.parts} & {*_BUNDLED_KERNELS}:
            item.add_marker(pytest.mark.xdist_group("kernels"))


@pytest.fixture(scope="session", autouse=True)
def _remove_session_directory() -> Iterator[None]:
    yield
    shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache directory for every test, named by ``MACE_CACHE_DIR``; it doesn't exist yet."""
    directory = tmp_path / "mace-cache"
    monkeypatch.setenv("MACE_CACHE_DIR", str(directory))
    return directory


@pytest.fixture(scope="session")
def device() -> cl.Device:
    """The CPU device of the PoCL that PyPI carries, unless another platform is asked for."""
    wanted = os.environ.get("TESTS_PLATFORM", "Portable Computing Language")
    (platform,) = [p for p in cl.get_platforms() if wanted in f"{p.name} {p.version}"]
    return platform.get_devices()[0]


@pytest.fixture(scope="session")
def context(device: cl.Device) -> cl.Context:
    """One context for the whole run: PoCL compiles slowly."""
    return cl.Context([device])


@pytest.fixture(scope="session")
def queue(context: cl.Context) -> cl.CommandQueue:
    """An in-order queue on the shared context."""
    return cl.CommandQueue(context)
