"""All tries of the campaign, made on all processors at once."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.calls import failing_calls
from tests.faults.crowd import kill_many
from tests.faults.disks import descriptor_faults, disk_faults
from tests.faults.endings import ending_faults
from tests.faults.entry_bytes import byte_faults, swap_faults
from tests.faults.faults import Fault, Outcome, try_fault
from tests.faults.places import place_faults
from tests.faults.surroundings import (
    clock_faults,
    locale_faults,
    path_faults,
    removal_faults,
    user_faults,
)
from tests.faults.tracing import system_call_kills

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.faults.world import World

__all__ = ["all_faults", "run_all", "run_crowds"]

_OTHER_DRIVERS = ("pocl-3.1", "rusticl", "oclgrind")
_KILLS = ((250, 4), (250, 8))  # how many, and how many processes at once
_OTHER_ERRORS = ("ENOSPC", "EDQUOT", "EACCES", "EROFS", "EMFILE", "ENOENT", "ESTALE", "ENOSYS")


def all_faults(world: World) -> Iterator[Fault]:
    """Give every fault of the campaign but the crowds."""
    yield from byte_faults(world, "proven", "directory")
    yield from byte_faults(world, "written", "directory", each=3)
    yield from byte_faults(world, "proven", "file", each=3)
    yield from swap_faults("proven")
    yield from swap_faults("written")
    yield from place_faults()
    yield from failing_calls(world, ("EIO",))
    for first, name in enumerate(_OTHER_ERRORS):
        yield from failing_calls(world, (name,), each=11, first=1 + first)
    yield from system_call_kills(world, "empty")
    yield from system_call_kills(world, "written")
    yield from disk_faults()
    yield from descriptor_faults(world)
    yield from removal_faults()
    yield from clock_faults()
    yield from user_faults()
    yield from locale_faults(world)
    yield from path_faults()
    yield from ending_faults(times=1)
    for driver in _OTHER_DRIVERS:
        yield from byte_faults(world, "proven", "directory", driver, each=12)
        yield from swap_faults("proven", driver)
        yield from failing_calls(world, ("EIO",), driver, each=20)


def run_all(world: World, faults: Iterable[Fault]) -> list[Outcome]:
    """Try them all; what fails is told at once."""
    begun = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        outcomes = [_told(outcome) for outcome in threads.map(partial(try_fault, world), faults)]
    sys.stderr.write(f"{len(outcomes)} tries in {time.monotonic() - begun:.0f} s\n")
    return outcomes


def run_crowds(world: World) -> list[Outcome]:
    """Kill crowds of processes."""
    return [_told(kill_many(world, times, processes)) for times, processes in _KILLS]


def _told(outcome: Outcome) -> Outcome:
    if outcome.problem:
        fault = outcome.fault
        sys.stderr.write(f"FAILED {fault.group}: {fault.name}: {outcome.problem}\n")
        sys.stderr.flush()
    return outcome
