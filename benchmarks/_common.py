"""What the benchmarks share: fresh interpreters, what they ran on, and tables in READMEs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "caching_environment",
    "clean_environment",
    "describe_machine",
    "replace_marked",
    "run_python",
    "shown_seconds",
]

# What a run before, or the user's own settings, would lend to a measurement.
_UNSET = ("MACE_CACHE_", "PYOPENCL_", "PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME")
# How the drivers' own caches are told to be off, small or elsewhere.
_DRIVER_CACHES = (
    "AMD_COMGR_CACHE",
    "CLVK_CACHE_DIR",
    "CUDA_CACHE_",
    "MESA_GLSL_CACHE_",
    "MESA_SHADER_CACHE_",
    "NEO_CACHE_",
    "POCL_CACHE_DIR",
    "POCL_KERNEL_CACHE",
)


def clean_environment(directory: Path, bytecode: Path) -> dict[str, str]:
    """Give an environment in which no driver finds anything that it has cached.

    Args:
        directory: where the drivers keep their caches instead; a new one means empty caches.
        bytecode: where Python keeps its own, which should be warm.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return {
        **_environment_without(_UNSET),
        "CUDA_CACHE_DISABLE": "1",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "NEO_CACHE_PERSISTENT": "0",
        "POCL_CACHE_DIR": str(directory),
        "PYTHONPYCACHEPREFIX": str(bytecode),
        "XDG_CACHE_HOME": str(directory),
    }


def caching_environment(directory: Path, kept: Path) -> dict[str, str]:
    """Give an environment in which the drivers' own caches are on, in a directory of their own.

    Args:
        directory: where the drivers keep their caches; a new one means empty caches.
        kept: where Python keeps its bytecode and pyopencl its Python code, which should be warm.
    """
    directory.mkdir(parents=True, exist_ok=True)
    own = str(directory)
    return {
        **_environment_without(_UNSET + _DRIVER_CACHES),
        "AMD_COMGR_CACHE_DIR": own,
        "CLVK_CACHE_DIR": own,
        "CUDA_CACHE_PATH": own,
        "MESA_SHADER_CACHE_DIR": own,
        "NEO_CACHE_DIR": own,
        "NEO_CACHE_PERSISTENT": "1",
        "POCL_CACHE_DIR": own,
        "PYTHONPYCACHEPREFIX": str(kept),
        "XDG_CACHE_HOME": str(kept),
    }


def _environment_without(prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


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


def replace_marked(path: Path, name: str, text: str) -> None:
    """Put a text between ``<!-- NAME -->`` and ``<!-- end -->`` in a file.

    Args:
        path: the file.
        name: what the mark says.
        text: whole lines.

    Raises:
        ValueError: the file has no such mark.
    """
    mark, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, found, rest = path.read_text().partition(mark)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} has no mark {name!r} with an end")
    path.write_text(before + mark + text + end + after)


def shown_seconds(seconds: float) -> str:
    """Write a time for people, in seconds or milliseconds."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.{0 if seconds >= 0.01 else 1}f} ms"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
