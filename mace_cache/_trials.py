"""Trials of local sizes: a launch is timed with each of them, and the best one chosen."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pyopencl as cl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Trials", "try_sizes"]

_ROUNDS = 5
_SHORTEST_SAMPLE = 0.002  # seconds: of short launches several are timed together
_MOST_TOGETHER = 100
_WORTH_IT = 0.95  # of the usual time: less is noise, and not worth another compilation
_CREDIBLE = 0.01  # of the time by the clock


class Trials(NamedTuple):
    """What came of trying local sizes for a launch.

    Attributes:
        before: the median time of a launch with the usual size, in seconds.
        local_size: the best size.
        seconds: the median time of a launch with that.
    """

    before: float
    local_size: int
    seconds: float


def try_sizes(
    queue: cl.CommandQueue, launch: Callable[[int], cl.Event], sizes: Sequence[int], usual: int
) -> Trials:
    """Time a launch with each local size, by turns, and choose the best.

    Time is told by the queue's events where it profiles, else by the clock. The usual size stays
    unless another takes at least a twentieth less, and again when only the two are compared.

    Args:
        queue: the queue that is launched on.
        launch: launches with a local size.
        sizes: the sizes. Any but *usual* that the driver refuses is left out.
        usual: one of them.

    Raises:
        pyopencl.Error: the driver refuses a launch with the usual size.
    """
    queue.finish()
    usable = [size for size in sizes if _warm_up(queue, launch, size, usual)]
    started = time.perf_counter()
    launch(usual)
    queue.finish()
    once = time.perf_counter() - started
    count = min(_MOST_TOGETHER, max(1, round(_SHORTEST_SAMPLE / max(once, 1e-9))))
    seconds = _medians(queue, launch, usable, count)
    best = min(seconds, key=seconds.__getitem__)
    if best != usual:  # the least of many figures may be so by chance
        seconds = _medians(queue, launch, (usual, best), count)
    if seconds[best] > _WORTH_IT * seconds[usual]:
        best = usual
    return Trials(seconds[usual], best, seconds[best])


def _warm_up(
    queue: cl.CommandQueue, launch: Callable[[int], cl.Event], size: int, usual: int
) -> bool:
    try:
        launch(size)
        queue.finish()
    except cl.Error:
        if size == usual:
            raise
        return False
    return True


def _medians(
    queue: cl.CommandQueue, launch: Callable[[int], cl.Event], sizes: Sequence[int], count: int
) -> dict[int, float]:
    samples: dict[int, list[float]] = {size: [] for size in sizes}
    for _round in range(_ROUNDS):
        for size, times in samples.items():
            times.append(_time(queue, launch, size, count))
    return {size: median(times) for size, times in samples.items()}


def _time(
    queue: cl.CommandQueue, launch: Callable[[int], cl.Event], size: int, count: int
) -> float:
    """Give the seconds that one launch takes, of *count* that are enqueued at once."""
    started = time.perf_counter()
    events = [launch(size) for _ in range(count)]
    queue.finish()
    seconds = time.perf_counter() - started
    told = _told_by(events, queue)
    return (told if told > _CREDIBLE * seconds else seconds) / count


def _told_by(events: Sequence[cl.Event], queue: cl.CommandQueue) -> float:
    """Give the seconds that events tell, which can be anything; 0 where they tell none."""
    if not queue.properties & cl.command_queue_properties.PROFILING_ENABLE:
        return 0.0
    try:
        return sum(event.profile.end - event.profile.start for event in events) * 1e-9
    except cl.Error:
        return 0.0
