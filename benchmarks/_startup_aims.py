"""What ``startup.py`` compares, what is aimed at, and which aims a driver misses."""

from __future__ import annotations

import re
import statistics
from typing import Any, NamedTuple

__all__ = [
    "TITLES",
    "WAYS",
    "Driver",
    "Ratio",
    "label_of",
    "median",
    "misses",
    "ratios",
    "title_of",
]

WAYS = {
    "source": "from source",
    "cold": "mace-cache, first run",
    "pyopencl": "pyopencl's cache",
    "early": "early binary",
    "mace_cache": "mace-cache",
    "floor": "floor",
}
TITLES = {"library": "four programs", "detection": "the face detection"}

Driver = dict[str, Any]


class Ratio(NamedTuple):
    """One way's time as a part of another's, with the driver's own cache empty.

    Attributes:
        figure: ``first``, the time to the first result, or ``builds``, the build calls alone.
        aim: the largest that is aimed at, or None.
        value: what was measured.
    """

    figure: str
    aim: float | None
    value: float

    @property
    def missed(self) -> bool:
        """Whether it is larger than the aim; one of 1 or more as it is printed, in hundredths."""
        if self.aim is None:
            return False
        return (round(self.value, 2) if self.aim >= 1 else self.value) > self.aim


_COMPARED = (
    ("mace_cache", "source"),
    ("mace_cache", "early"),
    ("mace_cache", "floor"),
    ("mace_cache", "pyopencl"),
    ("cold", "source"),
)
_COLD = 1.05
# By driver family, of what a warm start is a part: in which figure, and what is aimed at.
_AIMS: dict[str, dict[str, tuple[str, float]]] = {
    "pocl": {"source": ("first", 1 / 50), "early": ("first", 1 / 20), "floor": ("first", 1.15)},
    "nvidia": {
        "source": ("builds", 1 / 100),
        "early": ("builds", 1 / 50),
        "floor": ("first", 1.15),
    },
}
_ELSEWHERE = {"pyopencl": ("first", 1.0)}


def ratios(driver: Driver, workload: str) -> dict[tuple[str, str], Ratio | None]:
    """Give what the aims speak of, by the way and what it is compared with.

    A ratio is None where it wasn't measured.
    """
    return {pair: _ratio(driver, workload, *pair) for pair in _COMPARED}


def _ratio(driver: Driver, workload: str, way: str, against: str) -> Ratio | None:
    figure, aim = _aim(driver["family"], way, against)
    ours = median(driver, workload, way, "empty", figure)
    theirs = median(driver, workload, against, "empty", figure)
    return Ratio(figure, aim, ours / theirs) if ours and theirs else None


def _aim(family: str, way: str, against: str) -> tuple[str, float | None]:
    if way == "cold":
        return "first", _COLD
    return _AIMS.get(family, _ELSEWHERE).get(against, ("first", None))


def misses(driver: Driver) -> list[tuple[str, str, str]]:
    """Give the aims that a driver misses: workload, way, and what it is compared with."""
    return [
        (workload, *pair)
        for workload in TITLES
        for pair, ratio in ratios(driver, workload).items()
        if ratio is not None and ratio.missed
    ]


def median(driver: Driver, workload: str, way: str, state: str, figure: str) -> float | None:
    """Give the median of a driver's starts, or None where there were none.

    Args:
        driver: what was measured.
        workload: ``library`` or ``detection``.
        way: one of `WAYS`.
        state: of the driver's own cache: ``empty`` or ``hot``.
        figure: ``first`` or ``builds``, in seconds.
    """
    seconds = driver["workloads"][workload].get("seconds", {})
    found: list[float] = seconds.get(way, {}).get(state, {}).get(figure, [])
    return statistics.median(found) if found else None


def title_of(driver: Driver) -> str:
    """Name a driver shortly; of NVIDIA's the GPU says more than the version."""
    if driver["family"] == "nvidia":
        return " ".join(driver["device"].split()[:2])
    found = re.search(r"(?:PoCL|Oclgrind) [\d.]+", driver["version"])
    return found[0] if found else f"{driver['platform']} {driver['driver']}"


def label_of(way: str, against: str) -> str:
    """Name a ratio."""
    return f"{WAYS[way]} / {WAYS[against]}"
