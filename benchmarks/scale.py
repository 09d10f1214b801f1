"""What a directory storage costs with 10, 1,000 and 100,000 entries, operation by operation.

Run as ``python benchmarks/scale.py [--json FILE]``. Prints medians and how much they grow from
1,000 to 100,000 entries, which should be at most 2. *Evict* is the cost of inserting into a storage
that is full until the whole of it has been swept once, a tenth of the limit, per evicted entry.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cache.container import encode
from mace_cache.program import CompiledProgram
from mace_cache.storage._layout import entry_name, shard_name
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mace_cache.storage.base import KVStorage

SIZES = (10, 1_000, 100_000)
REPEATS = 300
ROUNDS = 5
NAME = "benchmark-device"
AIM = 2.0


def make_program(number: int) -> CompiledProgram:
    """A program of about 1 KiB; keys spread evenly, as digests do."""
    key = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" + f"{number:048x}"
    return CompiledProgram(key=key, fingerprint="device name: benchmark\n", binary=bytes(700))


def seed(factory: DirectoryStorageFactory, entries: int) -> int:
    """Write entries straight into the layout.

    Returns:
        What they take, in bytes.
    """
    total = 0
    directory = factory.directory / NAME
    for shard in range(256):
        (directory / f"{shard:02x}").mkdir(parents=True, exist_ok=True)
    for path in (factory.directory, directory, *directory.iterdir()):
        path.chmod(0o700)
    for number in range(entries):
        program = make_program(number)
        data = encode([program])
        path = directory / shard_name(program.key) / entry_name(program.key)
        path.write_bytes(data)
        path.chmod(0o600)
        total += len(data)
    return total


def seconds(action: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def open_and_load(root: str, max_size: int) -> KVStorage:
    """What a process does before its first question."""
    storage = DirectoryStorageFactory(root, max_size).create_storage(NAME)
    storage.load()
    return storage


def measure(entries: int) -> dict[str, float]:
    """Measure every operation on a storage of that many entries.

    Returns:
        Medians by operation, in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="mace-cache-scale-") as root:
        size = seed(DirectoryStorageFactory(root), entries)
        storage = open_and_load(root, 0)
        chosen = random.Random(1)  # noqa: S311 (no secret)
        hits = [make_program(chosen.randrange(entries)) for _ in range(REPEATS)]
        missing = [make_program(entries + number) for number in range(REPEATS)]
        for program in hits:  # The disk's speed isn't the question.
            storage.find(program.key)
        storage.insert(hits[0].key, hits[0])  # Makes the ledger, which the seeding left out.
        return {
            "open": statistics.median(
                seconds(lambda: open_and_load(root, 0)) for _ in range(REPEATS)
            ),
            "miss": statistics.median(seconds(partial(storage.find, p.key)) for p in missing),
            "hit": statistics.median(seconds(partial(storage.find, p.key)) for p in hits),
            "insert": statistics.median(
                seconds(partial(storage.insert, p.key, p)) for p in missing
            ),
            "evict": measure_eviction(
                root, entries + REPEATS, size * (entries + REPEATS) // entries
            ),
        }


def measure_eviction(root: str, entries: int, size: int) -> float:
    """Fill a storage up and insert until it has swept.

    Returns:
        Seconds per evicted entry, the median of some rounds.
    """
    storage = open_and_load(root, size)
    new = entries
    costs = []
    for _ in range(ROUNDS):
        before, spent = storage.evicted, 0.0
        while storage.evicted == before:
            program = make_program(new)
            spent += seconds(partial(storage.insert, program.key, program))
            new += 1
        costs.append(spent / (storage.evicted - before))
    return statistics.median(costs[1:])  # The first round began with a storage that was full.


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and tell by the exit code whether the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    measured = {entries: measure(entries) for entries in SIZES}
    _, few, many = SIZES
    ratios = {name: measured[many][name] / measured[few][name] for name in measured[many]}
    print(f"{'operation':10}" + "".join(f"{entries:>12,}" for entries in SIZES) + f"{'ratio':>9}")
    for name, ratio in ratios.items():
        times = "".join(f"{measured[entries][name] * 1e6:9.1f} us" for entries in SIZES)
        print(f"{name:10}{times}{ratio:9.2f}")
    print(f"ratio: from {few:,} to {many:,} entries; aim: at most {AIM:g}")
    if options.json:
        report = {"seconds": measured, "ratios": ratios, "aim": AIM, "cpus": os.cpu_count()}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(max(ratios.values()) > AIM)


if __name__ == "__main__":
    sys.exit(main())
