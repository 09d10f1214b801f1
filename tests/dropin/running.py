"""Programs that know nothing of the cache, in processes of their own: starts and ends them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.helpers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["assert_same", "environment", "finish", "start"]

OCLGRIND = "/usr/lib/oclgrind/liboclgrind-rt-icd.so"
_LINE = re.compile(r"^mace-cache: (\w+) [\d.]+ ms (\S+): ", re.MULTILINE)


def environment(tmp_path: Path, own: str, **changes: str) -> dict[str, str]:
    """What a program starts with: an empty cache of the driver's own, and a line for each build."""
    (tmp_path / own).mkdir()
    vendors = tmp_path / own / "vendors"
    vendors.mkdir()
    (vendors / "oclgrind.icd").write_text(f"{OCLGRIND}\n")
    return {
        **os.environ,
        "OCL_ICD_VENDORS": str(vendors),  # PyPI's PoCL is there in any case
        "MACE_CACHE_TRACE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "POCL_CACHE_DIR": str(tmp_path / own),
        "LOOPY_NO_CACHE": "1",
        **changes,
    }


def start(
    *program: Path | str, environment: dict[str, str], hooked: bool = True
) -> subprocess.Popen[str]:
    """Start a program with its arguments, with or without the cache."""
    run = ["-m", "mace_cache", "run"] if hooked else []
    return subprocess.Popen(
        [sys.executable, *run, *map(str, program)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Counter[str]:
    """Wait for a program's end: how often each outcome was told."""
    _output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return Counter(outcome for outcome, _key in _LINE.findall(errors))


def assert_same(results: Path, expected: Path) -> None:
    """Every array of one file is in the other, to the last bit."""
    ours: Any = np.load(results)
    theirs: Any = np.load(expected)
    assert ours.files == theirs.files
    for name in theirs.files:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
