"""What the benchmarks share: fresh interpreters in a clean environment, and what they ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["clean_environment", "describe_machine", "run_python"]

# What a run before, or the user's own settings, would lend to a measurement.
_UNSET = ("MACE_CACHE_", "PYOPENCL_", "PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME")


def clean_environment(directory: Path, bytecode: Path) -> dict[str, str]:
    """Give an environment in which no driver finds anything that it has cached.

    Args:
        directory: where the drivers keep their caches instead; a new one means empty caches.
        bytecode: where Python keeps its own, which should be warm.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    directory.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "CUDA_CACHE_DISABLE": "1",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "NEO_CACHE_PERSISTENT": "0",
        "POCL_CACHE_DIR": str(directory),
        "PYTHONPYCACHEPREFIX": str(bytecode),
        "XDG_CACHE_HOME": str(directory),
    }


def run_python(arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Run a fresh interpreter.

    Returns:
        What it printed.

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def describe_machine() -> dict[str, str | int]:
    """Say what the figures are from."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count() or 0,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
