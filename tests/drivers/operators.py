"""The operators' tests on the other drivers that Debian has: those that are marked as the sample.

A driver that is missing fails here. The file's name keeps it out of a plain ``pytest``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.matrix import DRIVERS

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in DRIVERS if name != "pocl-3.0"])
def test_the_sample_gives_the_same_on_every_driver(name: str, tmp_path: Path) -> None:
    """Each operator module's sample passes, as float32 and as float16, and compiles silently."""
    driver = DRIVERS[name]
    (tmp_path / "driver.icd").write_text(driver.library + "\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/operators", "-m", "sample"],
        cwd=ROOT,
        env={
            **os.environ,
            **driver.environment,
            "TESTS_VENDORS": str(tmp_path),
            "TESTS_PLATFORM": driver.platform,
            "MESA_SHADER_CACHE_DIR": str(tmp_path),  # without one rusticl takes minutes
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
