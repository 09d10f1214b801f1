"""Every driver that can be had on Debian: cold, warm in a new process, and updated underneath.

A driver that is missing fails here. The file's name keeps it out of a plain ``pytest``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mace_cache.fingerprint import storage_name
from mace_cache.storage.directory import DirectoryStorageFactory

START = Path(__file__).with_name("start.py")
ADOPTED = Path(__file__).with_name("adopted.py")
SHORT_EXIT = Path(__file__).with_name("short_exit.py")
OCLGRIND = "/usr/lib/oclgrind/liboclgrind-rt-icd.so"


class Driver(NamedTuple):
    """A driver, and how it is chosen."""

    platform: str
    library: str
    environment: dict[str, str]


DRIVERS = {
    "pocl-3.0": Driver("PoCL 3.0", "", {}),  # PyPI's, which pyopencl's own loader brings in
    "pocl-3.1": Driver("PoCL 3.1", "libpocl.so.2.10.0", {}),
    "oclgrind": Driver("Oclgrind", OCLGRIND, {}),
    "rusticl": Driver("rusticl", "libRusticlOpenCL.so.1", {"RUSTICL_ENABLE": "llvmpipe"}),
}

# What each dies of, made of a good binary; Oclgrind refuses all that was tried.
DEADLY: dict[str, Callable[[bytes], bytes]] = {
    "pocl-3.0": lambda binary: binary[: len(binary) // 2],
    "pocl-3.1": lambda binary: binary[: len(binary) // 2],
    "rusticl": lambda _binary: b"this is no binary of any driver " * 200,
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[[str, Path], dict[str, Any]]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Start the application once on a driver, whose own caches are empty."""

    def run_once(name: str, cache: Path, script: Path = START) -> subprocess.CompletedProcess[str]:
        driver = DRIVERS[name]
        own = tmp_path_factory.mktemp(name)
        vendors = own / "vendors"
        vendors.mkdir()
        if driver.library:
            (vendors / "driver.icd").write_text(driver.library + "\n")
        environment = {
            **os.environ,
            **driver.environment,
            "OCL_ICD_VENDORS": str(vendors),
            "POCL_CACHE_DIR": str(own),
            "MESA_SHADER_CACHE_DISABLE": "1",
        }
        return subprocess.run(
            [sys.executable, "-W", "error", str(script), driver.platform, str(cache)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    return run_once


@pytest.fixture
def start(run: Run) -> Start:
    """As `run`, for a start that ends well: what the application saw."""

    def start_once(name: str, cache: Path) -> dict[str, Any]:
        done = run(name, cache)
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert seen["right"], f"{name}: wrong results"
        return seen

    return start_once


@pytest.mark.parametrize("name", DRIVERS)
def test_cold_then_warm_in_a_new_process(name: str, start: Start, tmp_path: Path) -> None:
    """The first start builds from source, the second loads all: both with right results."""
    assert start(name, tmp_path / "cache")["origins"] == ["source", "source"]
    assert start(name, tmp_path / "cache")["origins"] == ["storage", "storage"]


@pytest.mark.parametrize("name", DEADLY)
def test_what_kills_a_process_does_so_once(
    name: str, run: Run, start: Start, tmp_path: Path
) -> None:
    """A well-formed entry that the driver dies of: the next start heals it, the one after hits."""
    cache = tmp_path / "cache"
    seen = start(name, cache)
    storage = DirectoryStorageFactory(cache).create_storage(storage_name(seen["fingerprint"]))
    program = storage.find(seen["keys"][1])
    assert program is not None
    storage.insert(program.key, replace(program, binary=DEADLY[name](bytes(program.binary))))

    assert run(name, cache).returncode in {-signal.SIGSEGV, -signal.SIGABRT}
    healed = start(name, cache)

    assert healed["origins"] == ["storage", "source"]
    assert "died while loading it" in healed["reasons"][1]
    assert start(name, cache)["origins"] == ["storage", "storage"]


@pytest.mark.parametrize(("old", "new"), [("pocl-3.0", "pocl-3.1"), ("pocl-3.1", "pocl-3.0")])
def test_an_update_misses_and_leaves_the_old_programs(
    old: str, new: str, start: Start, tmp_path: Path
) -> None:
    """A driver update is another fingerprint: its programs lie beside the old driver's."""
    cache = tmp_path / "cache"
    start(old, cache)
    assert start(new, cache)["origins"] == ["source", "source"]
    assert start(new, cache)["origins"] == ["storage", "storage"]
    assert start(old, cache)["origins"] == ["storage", "storage"]


@pytest.mark.parametrize(("old", "new"), [("pocl-3.0", "pocl-3.1"), ("pocl-3.1", "pocl-3.0")])
def test_an_update_that_no_fingerprint_shows_heals(
    old: str, new: str, start: Start, tmp_path: Path
) -> None:
    """Even offered the old driver's binaries as its own, a driver ends with right results.

    It rejects the first; the storage is cleared, so that the second is not even offered.
    """
    cache = tmp_path / "cache"
    seen = start(old, cache)
    updated = start(new, tmp_path / "elsewhere")["fingerprint"]
    factory = DirectoryStorageFactory(cache)
    old_storage = factory.create_storage(storage_name(seen["fingerprint"]))
    new_storage = factory.create_storage(storage_name(updated))
    for key in seen["keys"]:
        program = old_storage.find(key)
        assert program is not None
        new_storage.insert(key, replace(program, fingerprint=updated))

    healed = start(new, cache)

    assert healed["origins"] == ["source", "source"]
    assert "INVALID_BINARY" in healed["reasons"][0]
    assert start(new, cache)["origins"] == ["storage", "storage"]
    assert start(old, cache)["origins"] == ["storage", "storage"]


@pytest.mark.parametrize("name", DRIVERS)
def test_an_exit_that_cuts_a_harvest_short(name: str, run: Run, tmp_path: Path) -> None:
    """The driver is in the middle of it, and the process ends in order nevertheless."""
    for number in range(3):
        done = run(name, tmp_path / f"cache {number}", SHORT_EXIT)
        assert (done.returncode, done.stdout) == (0, "ended\n"), f"{name}: {done.stderr[-3000:]}"


@pytest.mark.parametrize("name", DRIVERS)
def test_what_unmodified_programs_do(name: str, run: Run, tmp_path: Path) -> None:
    """A wrapper of a loaded program is built with its own options, and a program of no source."""
    seen = []
    for _ in range(2):
        done = run(name, tmp_path / "cache", ADOPTED)
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
        seen.append(json.loads(done.stdout.splitlines()[-1]))
    assert [one["origin"] for one in seen] == ["source", "storage"]
    assert seen[0]["told"] == seen[1]["told"]
    assert seen[0]["filled"] == [4, 4, 6]  # as without the cache: there is only one program
    assert seen[1]["filled"] == [4, 3, 6]
