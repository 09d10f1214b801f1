"""Many processes on one cache, killed at random moments: building, launching, flushing, clearing.

Each is forked off a nursery of its own, works until it is killed, and another takes its place.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.faults.faults import After, Fault, Outcome
from tests.faults.nursery import INTERPRETER, REPOSITORY, Nursery

if TYPE_CHECKING:
    from tests.faults.world import Scene, World

__all__ = ["kill_many"]

_TAGS = ["one", "two", "three", "four", "five"]
_LONGEST_LIFE = 0.25  # seconds
_GLANCE = 0.001  # seconds
_TWO_HOURS = 7200.0
_GROUP = "SIGKILL at a random moment, {} processes on one cache"


def kill_many(world: World, times: int, processes: int) -> Outcome:
    """Kill that many processes, so many of which work at once.

    Returns:
        What came of it: after the kills `mace-cache verify` finds nothing corrupt, garbage is
        collected, and the next processes are right and then hit.
    """
    with world.scene("empty") as scene:
        ends = _kill(world, scene, times, processes)
        problems = [f"{count} ended with {end}" for end, count in ends.items() if end]
        for temporary in scene.cache.glob("v1/*/??/.tmp-*"):
            long_ago = time.time() - _TWO_HOURS
            os.utime(temporary, (long_ago, long_ago))
        for command in (["verify"], ["gc"]):
            done = _command(world, scene, *command)
            if done.returncode:
                problems.append(f"mace-cache {command[0]}: {done.stdout}{done.stderr}")
        problems += [f"left: {path}" for path in scene.cache.glob("v1/*/??/.tmp-*")]
        ended = [scene.run(tags=_TAGS) for _ in range(3)]
        problems += [one.fault for one in ended if one.fault]
        missed = [program for program in ended[-1].seen["programs"] if not _is_settled(program)]
        problems += [f"then no hit: {program}" for program in missed]
    fault = Fault(_GROUP.format(processes), f"{times} kills", after=After.HEALED, killed=True)
    return Outcome(
        fault,
        right=not problems,
        hit=ended[-1].hit,
        warned=sum(bool(one.warnings) for one in ended),
        problem="; ".join(problems),
    )


def _is_settled(program: dict[str, Any]) -> bool:
    """Whether it was found, or a process was killed while it loaded it for the first time."""
    return program["origin"] == "storage" or "it isn't loaded again" in program["why"]


def _kill(world: World, scene: Scene, times: int, processes: int) -> Counter[str]:
    """Kill processes; count how those ended that weren't killed."""
    ends: Counter[str] = Counter()
    chosen = random.Random(11)  # noqa: S311 (no secret)
    environment = world.environment(scene.driver)
    nurseries = []
    for number in range(processes):
        directory = scene.root / f"nursery-{number}"
        directory.mkdir()
        nurseries.append(Nursery(directory, environment))
    orders = scene.ordered(tags=_TAGS, for_ever=True)
    orders["cache"] = {**scene.orders["cache"], "harvest": "eager"}
    working: dict[Nursery, float] = {}
    left = times
    try:
        while left or working:
            for nursery in nurseries:
                now = time.monotonic()
                if left and nursery not in working:
                    nursery.start(orders)
                    working[nursery] = now + chosen.uniform(0.0, _LONGEST_LIFE)
                    left -= 1
                elif now >= working.get(nursery, math.inf):
                    nursery.kill()
                    ended = nursery.wait()
                    ends["" if ended.status == -signal.SIGKILL else ended.fault or "no kill"] += 1
                    del working[nursery]
            time.sleep(_GLANCE)
    finally:
        for nursery in nurseries:
            if nursery in working:
                nursery.kill()
            nursery.close()
    return ends


def _command(world: World, scene: Scene, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INTERPRETER, "mace_cache", *arguments],
        cwd=REPOSITORY,
        env={
            **os.environ,
            **world.environment(scene.driver),
            "MACE_CACHE_DIR": str(scene.cache),
        },
        capture_output=True,
        text=True,
        check=False,
    )
