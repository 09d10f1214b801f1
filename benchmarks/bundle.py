"""How soon a large bundle is open, a program of it found, and installed packages looked through.

Run as ``python benchmarks/bundle.py [--json FILE]``. The bundle lies in the directory for temporary
files (TMPDIR), for a device that isn't there, with and without a signature. Each round opens it
anew; cold ones after the kernel was asked to forget the file. Packages are looked through in
processes of their own: once pyopencl is imported, and once more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from _common import describe_machine, shown_seconds

from mace_cache._signing_keys import PRIVATE, TrustedKeys, make_key
from mace_cache.config import Settings
from mace_cache.container import encode
from mace_cache.program import CompiledProgram
from mace_cache.signing import sign
from mace_cache.storage.precompiled import Precompiled

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 1 << 30
PROGRAMS = 10_000
ROUNDS = 21
AIM = 10e-3  # seconds
LOOK = """
import mace_cache, pyopencl, time
started = time.perf_counter()
from mace_cache.storage._installed import installed_bundles
installed_bundles()
first = time.perf_counter()
installed_bundles()
print(first - started, time.perf_counter() - first)
"""
FINGERPRINT = "platform name: A platform\ndevice name: A device\n"


def make_bundle(size: int, count: int) -> bytes:
    """Make a bundle of at least so many bytes."""
    binary = os.urandom(size // count)
    return encode(
        [
            CompiledProgram(
                key=_key(number),
                fingerprint=FINGERPRINT,
                binary=binary,
                kernel_names=("one", "two", "three"),
                options="-DTILE=16 -cl-fast-relaxed-math",
                components=(("source", _key(number)), ("options", "-DTILE=16")),
            )
            for number in range(count)
        ]
    )


def measure(path: Path, settings: Settings, count: int, rounds: int) -> dict[str, float]:
    """Time opening and finding.

    Args:
        path: the bundle.
        settings: with the keys that are trusted, if any.
        count: how many programs it has.
        rounds: how often each is timed.

    Returns:
        Medians in seconds.
    """
    times: dict[str, list[float]] = {}
    for number in range(rounds):
        for state in ("cold", "hot"):
            if state == "cold":
                _forget(path)
            started = time.perf_counter()
            (storage,) = Precompiled(settings, [path])
            opened = time.perf_counter()
            program = storage.find_for(FINGERPRINT, _key(number * 7919 % count))
            found = time.perf_counter()
            assert program is not None  # noqa: S101 (what was asked for is there)
            times.setdefault(f"open, {state}", []).append(opened - started)
            times.setdefault(f"find, {state}", []).append(found - opened)
            del program, storage  # what is mapped isn't forgotten
    return {name: statistics.median(taken) for name, taken in times.items()}


def look(rounds: int) -> dict[str, float]:
    """Time the search for bundles in installed packages; medians in seconds."""
    command = [sys.executable, "-c", LOOK]
    said = [subprocess.check_output(command).split() for _ in range(rounds)]
    first, then = ([float(words[at]) for words in said] for at in (0, 1))
    return {"look, first": statistics.median(first), "look, then": statistics.median(then)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and tell by the exit code whether the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--size", type=int, default=SIZE, help="bytes (%(default)s)")
    parser.add_argument("--programs", type=int, default=PROGRAMS, help="how many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="openings (%(default)s)")
    options = parser.parse_args(arguments)
    key = make_key(PRIVATE)
    seconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="mace-cache-bundle-") as directory:
        path, data = Path(directory, "bundle.mclp"), make_bundle(options.size, options.programs)
        for name, settings in (
            ("unsigned", Settings(None)),
            ("signed", Settings(None, trusted_keys=TrustedKeys((key.public(),)))),
        ):
            data = data if name == "unsigned" else sign(data, key)
            path.write_bytes(data)
            os.sync()  # pages that aren't written yet can't be forgotten
            seconds[name] = measure(path, settings, options.programs, options.rounds)
    installed, looked = len(list(metadata.distributions())), look(options.rounds)
    machine = describe_machine()
    print("; ".join(f"{name}: {value}" for name, value in machine.items()))
    print(f"{len(data):,} bytes, {options.programs:,} programs, {options.rounds} rounds")
    for name, taken in seconds.items():
        for what, value in taken.items():
            verdict = "" if what.startswith("find") else "holds" if value <= AIM else "MISSED"
            print(f"{name:10}{what:12}{shown_seconds(value):>10}  {verdict}")
    for what, value in looked.items():
        print(f"{installed:<4}packages{what:>14}{shown_seconds(value):>8}")
    print(f"aim: open in {shown_seconds(AIM)}")
    if options.json:
        report = {"machine": machine, "bytes": len(data), "programs": options.programs}
        report |= {"seconds": seconds, "aim": AIM, "installed": installed, "looking": looked}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(
        any(
            taken[f"open, {state}"] > AIM for taken in seconds.values() for state in ("cold", "hot")
        )
    )


def _key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def _forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
