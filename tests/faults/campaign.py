"""All tries of the campaign, made on all processors at once."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.entry_bytes import byte_faults, swap_faults
from tests.faults.faults import Fault, Outcome, try_fault
from tests.faults.places import place_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.world import World

__all__ = ["all_faults", "run_all"]


def all_faults(world: World) -> Iterator[Fault]:
    """Give every fault of the campaign."""
    yield from byte_faults(world, "proven", "directory")
    yield from byte_faults(world, "written", "directory", each=3)
    yield from byte_faults(world, "proven", "file")
    yield from swap_faults("proven")
    yield from swap_faults("written")
    yield from place_faults()


def run_all(world: World, faults: Iterator[Fault]) -> list[Outcome]:
    """Try them all; what fails is told at once."""
    outcomes = []
    begun = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for outcome in threads.map(partial(try_fault, world), faults):
            outcomes.append(outcome)
            if outcome.problem:
                fault = outcome.fault
                sys.stderr.write(f"FAILED {fault.group}: {fault.name}: {outcome.problem}\n")
    seconds = time.monotonic() - begun
    sys.stderr.write(f"{len(outcomes)} tries in {seconds:.0f} s\n")
    return outcomes
