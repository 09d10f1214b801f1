"""Whether each driver works: tried in child processes, which may crash or hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache._mounts import nearest_existing
from mace_cache.cli.findings import Finding, note, ok, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NO_DEVICE", "examine_drivers", "examine_leftovers", "pocl_directory"]

NO_DEVICE = (
    "no OpenCL device was found: install its driver, or a driver for the CPU with "
    "pip install 'mace-cache[pocl]'"
)
_POCL = "Portable Computing Language"
_START = """
import sys
sys.path[:] = {path!r}
from mace_cache.cli.driver_probe import main
main({arguments!r})
"""
_SHOWN_OF_ITS_OUTPUT = 300  # characters
_NOT_THE_CACHE = (
    "the driver fails without mace-cache too: mend it, or take it out of OCL_ICD_VENDORS"
)
_DO_WITHOUT = "MACE_CACHE_DISABLE=1 does without the cache"


class _Tried(NamedTuple):
    messages: list[dict[str, Any]]
    how_it_ended: str  # empty where it did what it should

    @property
    def doing(self) -> str:
        """What it was doing last."""
        done = [message["doing"] for message in self.messages if "doing" in message]
        return str(done[-1]) if done else "starting"


def examine_drivers(seconds: float) -> Iterator[Finding]:
    """Try every device: build a tiny program, launch it, take its binary, load it, launch that.

    Args:
        seconds: how long a device may take.
    """
    listed = _run(["list"], seconds)
    devices = [message for message in listed.messages if "device" in message]
    if listed.how_it_ended:
        text = f"a driver {listed.how_it_ended} while {listed.doing}"
        yield problem("drivers", text, _NOT_THE_CACHE)
    elif not devices:
        yield problem("drivers", NO_DEVICE)
    if any(message["platform"] == _POCL for message in devices):
        yield from _examine_pocl_directory(pocl_directory())
    for message in devices:
        yield _examine(message["device"], message["place"], seconds)


def pocl_directory() -> str:
    """Give the directory that PoCL unpacks machine code into, to map it from there."""
    named = os.environ.get("POCL_CACHE_DIR")
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return named or os.path.join(above, "pocl", "kcache")


def examine_leftovers(crashes: int) -> Iterator[Finding]:
    """Tell what may crash a driver again, whatever becomes of the cache.

    Args:
        crashes: how many programs the cache has dropped since processes died of them.
    """
    path = pocl_directory()
    with suppress(OSError):  # it isn't there, so PoCL was hardly in use
        if crashes and os.listdir(path):
            yield note(
                "PoCL's cache",
                f"processes have died of programs ({crashes} in mace-cache stats), and PoCL may "
                f"still run what it unpacked of them into {path}",
                "empty that directory while no application runs, then mace-cache stats --zero",
            )


def _examine_pocl_directory(path: str) -> Iterator[Finding]:
    about, remedy = "PoCL's cache", "set POCL_CACHE_DIR to a directory that will do"
    existing = nearest_existing(path)
    if os.statvfs(existing).f_flag & os.ST_NOEXEC:
        text = f"{path} is mounted noexec: PoCL can't map the machine code that it unpacks there"
        yield problem(about, text, remedy)
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield problem(about, f"{path} can't be written: PoCL compiles nothing", remedy)
    else:
        yield ok(about, f"{path} can be written, and code be run from it")


def _examine(name: str, place: list[int], seconds: float) -> Finding:
    about, started = f"device {name}", time.monotonic()
    tried = _run(["try", *map(str, place)], seconds)
    failed = [message["failed"] for message in tried.messages if "failed" in message]
    remedy = _DO_WITHOUT if "binary" in tried.doing or "loaded" in tried.doing else _NOT_THE_CACHE
    if failed:
        return problem(about, f"it failed while {tried.doing}: {failed[0]}", remedy)
    if tried.how_it_ended:
        return problem(about, f"its driver {tried.how_it_ended} while {tried.doing}", remedy)
    took = time.monotonic() - started
    return ok(about, f"a program was built, launched, taken and loaded back in {took:.1f} s")


def _run(arguments: list[str], seconds: float) -> _Tried:
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 (our own code, and no shell)
            [sys.executable, "-c", _START.format(path=sys.path, arguments=arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # a driver may have started a compiler, to be ended as well
        )
        try:
            output, _ = process.communicate(timeout=seconds)
            how = _how_it_ended(process.returncode)
        except subprocess.TimeoutExpired:
            output, how = _stop(process), f"hung and was stopped after {seconds:g} s"
        except BaseException:  # Ctrl-C, which reaches no session but ours
            _stop(process)
            raise
        if how:
            errors.seek(0)
            said = " ".join(errors.read().decode("utf-8", "replace").split())
            how += f" (it had said: {said[-_SHOWN_OF_ITS_OUTPUT:]})" if said else ""
    return _Tried([json.loads(line) for line in output.splitlines()], how)


def _stop(process: subprocess.Popen[bytes]) -> bytes:
    """End a process with all that it has started, and give what it had answered."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}" if code else ""
    names = {number.value: number.name for number in signal.Signals}
    return f"crashed ({names.get(-code, f'signal {-code}')})"
