"""Trials of local sizes: a launch is timed with each of them, and the best one chosen."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pyopencl as cl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Trials", "try_sizes"]

_ROUNDS = 7
_ROUNDS_OF_TWO = 9
_MOST_LOST = 1  # of those: what is better by chance loses more
_LEAST_SAMPLE = 0.002  # seconds: of short launches several are timed together
_MOST_TOGETHER = 1000
_WORTH_IT = 0.95  # of the usual time: less is noise, and not worth another compilation
_AS_GOOD = 1.05  # times the best: which of these is the best is chance
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

    Time is told by the queue's events where it profiles, else by the clock, over so many launches
    that they take long enough. What is compared are times of the same round. Of sizes that are
    about as good the one nearest to the usual is chosen; and the usual one stays unless that takes
    at least a twentieth less, again when only the two are compared, and less in all rounds but one.

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
    count = _count_together(queue, launch, usual)
    samples = _sample(queue, launch, usable, count, _ROUNDS)
    gains = {size: median(_ratios(times, samples[usual])) for size, times in samples.items()}
    enough = min(_WORTH_IT, _AS_GOOD * min(gains.values()))
    as_good = [size for size, gain in gains.items() if gain <= enough]
    best = min(as_good, key=lambda size: abs(math.log(size / usual)), default=usual)
    if best != usual:  # the least of many figures may be so by chance
        samples = _sample(queue, launch, (usual, best), count, _ROUNDS_OF_TWO)
        ratios = _ratios(samples[best], samples[usual])
        if median(ratios) > _WORTH_IT or sum(ratio >= 1 for ratio in ratios) > _MOST_LOST:
            best = usual
    return Trials(median(samples[usual]), best, median(samples[best]))


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


def _count_together(queue: cl.CommandQueue, launch: Callable[[int], cl.Event], size: int) -> int:
    """Give how many launches take long enough to be timed."""
    count = 1
    while count < _MOST_TOGETHER:
        together = _time(queue, launch, size, count) * count
        if together >= _LEAST_SAMPLE:
            break
        wanted = count * _LEAST_SAMPLE / max(together, 1e-9)
        count = min(_MOST_TOGETHER, max(2 * count, math.ceil(wanted)))
    return count


def _sample(
    queue: cl.CommandQueue,
    launch: Callable[[int], cl.Event],
    sizes: Sequence[int],
    count: int,
    rounds: int,
) -> dict[int, list[float]]:
    """Give the times of each size, one a round; every other round goes the other way."""
    samples: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes if number % 2 else reversed(sizes):
            samples[size].append(_time(queue, launch, size, count))
    return samples


def _ratios(times: Sequence[float], usual: Sequence[float]) -> list[float]:
    """Give the times as parts of the usual ones, which are no zeros where the clock tells them."""
    return [one / max(other, 1e-12) for one, other in zip(times, usual, strict=True)]


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
