"""The chart of ``startup.py``: time to the first result by driver, a bar for each way to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from _common import shown_seconds
from _startup_aims import TITLES, WAYS, median, title_of
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from _startup_aims import Driver
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLOURS = {
    "source": "#8d99ae",
    "cold": "#c3cad6",
    "pyopencl": "#e9a23b",
    "early": "#f3cf8b",
    "mace_cache": "#0b7a75",
    "floor": "#8fc9b9",
}
_GROUP = 0.84  # the width of a driver's bars, of the distance between drivers
_LABEL_ROOM = 0.28  # the height of a bar's label, of the highest bar's
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "startup",  # the same figures draw the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    "text.color": "#1f2933",
    "axes.labelcolor": "#1f2933",
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": "#1f2933",
    "ytick.color": "#52606d",
}


def draw(drivers: Sequence[Driver], path: Path) -> None:
    """Draw the chart as an SVG.

    Args:
        drivers: what was measured.
        path: the file.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 6.8), facecolor="white", layout="constrained")
        figure.suptitle(
            "Time to the first result, in a new process, the driver's own cache empty",
            fontsize=12,
            fontweight="bold",
        )
        for axes, workload in zip(figure.subplots(len(TITLES), 1), TITLES, strict=True):
            _draw_panel(axes, drivers, workload)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_panel(axes: Axes, drivers: Sequence[Driver], workload: str) -> None:
    width = _GROUP / len(WAYS)
    measured: list[float] = []
    for number, (way, label) in enumerate(WAYS.items()):
        offset = (number - (len(WAYS) - 1) / 2) * width
        seconds = [median(driver, workload, way, "empty", "first") for driver in drivers]
        places = [place + offset for place, found in enumerate(seconds) if found is not None]
        heights = [found for found in seconds if found is not None]
        measured += heights
        axes.bar(places, heights, width * 0.92, color=_COLOURS[way], label=label, zorder=2)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(
                shown_seconds(height),
                (place, height),
                (0, 4),
                textcoords="offset points",
                ha="center",
                rotation="vertical",
                fontsize=8,
                fontweight="bold" if way == "mace_cache" else "normal",
            )
    axes.set_yscale("log")
    if measured:
        axes.set_ylim(_limits(measured))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shown_tick(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e4e7eb", zorder=0)
    axes.set_xticks(range(len(drivers)), [title_of(driver) for driver in drivers])
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(TITLES[workload], loc="left", fontsize=10)


def _limits(heights: list[float]) -> tuple[float, float]:
    """From a power of ten below all bars to room for the labels above them."""
    low = 10 ** math.floor(math.log10(min(heights)))
    high = max(heights)
    return low, high * (high / low) ** _LABEL_ROOM


def _shown_tick(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"
