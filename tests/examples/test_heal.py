"""The example of the library alone, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mace_cache


def test_example_heals(examples: Path) -> None:
    """From source, from the storage, from source after the damage, from the storage again."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mace_cache.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(examples / "heal.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    starts = done.stdout.splitlines()
    assert [start.partition(" in ")[0].partition(" (")[0] for start in starts] == [
        "first start: 42, from source",
        "second start: 42, from storage",
        "one bit damaged: 42, from source",
        "healed: 42, from storage",
    ]
