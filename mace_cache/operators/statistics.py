"""What reductions are made of: layouts, and launches that reduce a tensor by one.

Statistics are results in float32 and in whole runs, for kernels that go through the tensor again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integers
from mace_cache.operators.arithmetic import WIDE
from mace_cache.operators.copying import on_cpu
from mace_cache.operators.tensor import LOCAL_SIZE, MOST_WORK_ITEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["Layout", "group_axes", "reduce_statistics", "reduce_tensor"]

_REDUCTIONS = (  # as in reduction.cl
    *("sum", "sum_of_sizes", "sum_of_squares", "sum_of_exponentials"),
    *("product", "minimum", "maximum"),
)
_SUMS = 4  # the first ones, whose parts are summed up
_FINISHES = ("quotient", "inverse_deviation", "inverse_root", "inverse", "logarithm")
_GROUPS = MOST_WORK_ITEMS // LOCAL_SIZE
_SHARES = 8  # of the work, which a CPU's threads take one after the other
_MOST_RUNS = 2**30 // WIDE  # as a tensor has 2**30 elements at most
_ABREAST = 8  # neighbours in a row that are worth going on to the next row
_LEAST_RUNS = 1024  # that are worth a share
_ROWS = 16  # how many a work-item should have at least, if there is enough work for all without


@dataclass(frozen=True)
class Layout:
    """A tensor as its kernels see it: three axes, the middle one of which is reduced.

    Attributes:
        outer: the product of the axes before.
        length: the product of the axes that are reduced.
        inner: the product of the axes behind.
    """

    outer: int
    length: int
    inner: int

    @property
    def runs(self) -> int:
        """How many runs of results there are for each of outer."""
        return -(-self.inner // WIDE)

    @property
    def rows(self) -> int:
        """How many rows there are to reduce; they are runs along the length if inner is 1."""
        return -(-self.length // WIDE) if self.inner == 1 else self.length


def group_axes(
    operator: str, x: Tensor, axes: Sequence[int] | None
) -> tuple[list[int], list[Layout]]:
    """Give axes in their order, and a layout for each group of neighbours, the last group first.

    Each layout is of what is left when the groups before it are reduced.

    Raises:
        ShapeError: there is no such axis, or one is given twice.
    """
    count = len(x.shape)
    given = range(count) if axes is None else integers(operator, f"axes of {x}, each once", axes)
    known = sorted({axis % count for axis in given if -count <= axis < count})
    if len(known) != len(given):
        raise ShapeError(operator, f"axes of {x}, each once", tuple(given))
    groups = groupby(known, key=lambda axis: axis - known.index(axis))
    layouts, inner = [], 1
    end = count
    for group in reversed([list(group) for _, group in groups]):
        start, behind = group[0], group[-1] + 1
        inner *= math.prod(x.shape[behind:end])
        length = math.prod(x.shape[start:behind])
        layouts.append(Layout(math.prod(x.shape[:start]), length, inner))
        end = start
    return known, layouts


def reduce_statistics(
    runtime: Runtime,
    operator: str,
    x: Tensor,
    layout: Layout,
    reduction: str,
    *,
    centre: Tensor | None = None,
    finish: str = "quotient",
    divisor: float = 1.0,
    epsilon: float = 0.0,
) -> Tensor:
    """Reduce to float32 in whole runs, which other kernels take as their statistics.

    Args:
        runtime: where to compute.
        operator: what errors name.
        x: as many elements as the layout has.
        layout: how to see it.
        reduction: ``sum``, ``sum_of_sizes``, ``sum_of_squares``, ``sum_of_exponentials``,
            ``product``, ``minimum`` or ``maximum``.
        centre: statistics of the same layout, taken from every element before; 0 if None.
        finish: what is done to a result: ``quotient`` (divided), ``inverse_deviation`` (divided,
            *epsilon* added, then the inverse of the root), ``inverse_root``, ``inverse`` (either
            of *epsilon* at least before the inverse) or ``logarithm``.
        divisor: what the result is divided by.
        epsilon: what the finish takes.

    Returns:
        A float32 tensor of 8 numbers a run, all the same if the layout's inner is 1.

    Raises:
        ShapeError: there are more than 2**27 runs.
    """
    runs = layout.outer * layout.runs
    if runs > _MOST_RUNS:
        raise ShapeError(operator, f"at most {_MOST_RUNS} runs of {WIDE} statistics", x)
    made = runtime.empty((runs * WIDE,), np.float32)
    numbers = 1, _REDUCTIONS.index(reduction), _FINISHES.index(finish)
    _launch(runtime, layout, (x, None, centre, None, made, None), numbers, (divisor, epsilon))
    return made


def reduce_tensor(
    runtime: Runtime,
    operator: str,
    x: Tensor,
    layouts: Sequence[Layout],
    reduction: str,
    *,
    divisor: float = 1.0,
) -> Tensor:
    """Reduce to a tensor of the runtime's data type, with float32 up to the result.

    Args:
        runtime: where to compute.
        operator: what errors name.
        x: as many elements as the first layout has.
        layouts: how to see it, and what is left of it then, one for each reduction.
        reduction: as `reduce_statistics` takes it.
        divisor: what the result is divided by.

    Returns:
        A tensor (outer * inner,) of the last layout.

    Raises:
        ShapeError: there is more than one layout, and more than 2**27 runs of 8 results in between.
    """
    final = layouts[-1]
    output = runtime.empty((final.outer * final.inner,), operator=operator)
    numbers = _REDUCTIONS.index(reduction), _FINISHES.index("quotient")
    inner = layouts[0].inner  # whose runs stay as they are until the end
    source: tuple[Tensor | None, ...] = x, None, None
    for layout in layouts:
        seen = Layout(layout.outer * layout.inner // inner, layout.length, inner)
        side = layout.inner // inner * seen.runs
        if layout is final:
            results: tuple[Tensor | None, ...] = output, None, None
        else:
            totals = runtime.empty((seen.outer * seen.runs * WIDE,), np.float32, operator=operator)
            results = None, None, totals
        _launch(runtime, seen, (*source, *results), (side, *numbers), (divisor, 0.0))
        source = None, results[-1], None
    return output


def _launch(
    runtime: Runtime,
    layout: Layout,
    tensors: tuple[Tensor | None, ...],
    numbers: tuple[int, int, int],
    values: tuple[float, float],
) -> None:
    """Reduce, many rows in sections first, whose results are reduced as parts then.

    Args:
        runtime: where to compute.
        layout: how to see the tensor.
        tensors: the tensor or its parts, the centre; the output, the statistics, or totals that are
            parts of others, and have no finish yet.
        numbers: how many results' parts lie side by side; the reduction and the finish.
        values: the divisor, and what the finish takes.
    """
    sources, results = tensors[:3], tensors[3:]
    parts = sources[1]
    count = layout.outer * layout.runs
    rows = layout.rows if parts is None else parts.size // WIDE // count
    flat = layout.inner == 1
    if on_cpu(runtime):
        across, section, sections = _divide_in_order(count, rows, flat=flat)
    else:
        across, section, sections = _divide(count, rows, flat=flat)
    made = runtime.empty((count * sections * WIDE,), np.float32) if sections > 1 else None
    targets = results if made is None else (None, None, made)
    units = -(-count // (LOCAL_SIZE // across)) * sections
    runtime.launch_groups(
        ("reduction", "reduce"),
        ((min(units, _GROUPS) * LOCAL_SIZE,), (LOCAL_SIZE,)),
        (*sources, *targets),
        (
            *(units, count, layout.runs, layout.length, layout.inner),
            *(rows, section, sections, across, *numbers),
        ),
        values,
    )
    if made is not None:
        _, reduction, finish = numbers
        again = 0 if reduction < _SUMS else reduction
        _launch(runtime, layout, (None, made, None, *results), (1, again, finish), values)


def _divide(count: int, rows: int, *, flat: bool) -> tuple[int, int, int]:
    """Share rows among work-items and work-groups.

    Returns:
        How many work-items share the rows of one result (a power of 2); how many rows a section
        has, and how many sections there are.
    """
    across = 1
    wanted = max(rows // 16 if flat else 1, LOCAL_SIZE // count)
    while across < LOCAL_SIZE and 2 * across <= min(wanted, rows):
        across *= 2
    groups = -(-count * across // LOCAL_SIZE)
    sections = max(1, min(_GROUPS // 2 // groups, rows // (across * _ROWS)))
    section = -(-rows // sections)
    return across, section, -(-rows // section)


def _divide_in_order(count: int, rows: int, *, flat: bool) -> tuple[int, int, int]:
    """Share rows among work-groups, each of which goes through memory in its order.

    Results that lie side by side stay together, and lengths are cut only if there are few of them:
    their sections need another launch.

    Returns:
        As `_divide`.
    """
    wanted = max(count // _SHARES, 1 if flat else min(count, _ABREAST))
    abreast = 1
    while 2 * abreast <= min(wanted, LOCAL_SIZE):
        abreast *= 2
    tiles = -(-count // abreast)
    most = rows * abreast // _LEAST_RUNS
    sections = max(1, min(most, -(-_SHARES // tiles))) if 2 * tiles < _SHARES else 1
    section = -(-rows // sections)
    return LOCAL_SIZE // abreast, section, -(-rows // section)
