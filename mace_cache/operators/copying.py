"""Copies by strides: what slices, permutations, blocks, tiles and look-ups have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyopencl as cl

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import check_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "OUTER_AXES",
    "Axis",
    "contiguous",
    "filled_up",
    "launch_copy",
    "on_cpu",
    "shares",
    "strided_copy",
]

OUTER_AXES = 7
"""How many axes kernels have beside the last one, as in layout.cl."""

_CPU_RUN = 1024  # elements that one work-item makes: its start costs as much as some tens
_CPU_ALIGNED = 16  # what runs are multiples of
_RUN = 4  # neighbouring work-items share a memory transaction
_TURN_AXES = 4  # as in layout.cl
_BLOCK = 4  # as in layout.cl
_TILE = 8  # as in layout.cl: the side of a tile in blocks


@dataclass(frozen=True)
class Axis:
    """One axis of what a copy makes.

    Attributes:
        length: how many elements it has.
        stride: how far apart its elements are in the input; 0 repeats one, less counts backwards.
    """

    length: int
    stride: int


def contiguous(shape: Sequence[int]) -> list[Axis]:
    """Give the axes of an array of that shape in C order."""
    return [Axis(length, math.prod(shape[axis + 1 :])) for axis, length in enumerate(shape)]


def strided_copy(
    operator: str,
    runtime: Runtime,
    x: Tensor,
    shape: Sequence[int],
    axes: Sequence[Axis],
    *,
    base: int = 0,
) -> Tensor:
    """Make a tensor of elements that lie at regular distances in another one.

    Args:
        operator: who asks, for errors.
        runtime: where to compute.
        x: of the runtime's data type, any shape.
        shape: that of the result.
        axes: its axes, or axes that split them, the last one innermost.
        base: where in the input its first element is.

    Returns:
        A tensor of that shape.

    Raises:
        ShapeError: the type is another one, or there are more than eight axes of which no two can
            be gone through as one.
    """
    check_type(operator, runtime, x)
    output = runtime.empty(shape, operator=operator)
    merged = _merge(axes)
    *outer, last = merged
    if len(outer) > OUTER_AXES:
        raise ShapeError(operator, f"{OUTER_AXES + 1} axes or fewer", x)
    if not outer and last.stride == 1:
        item = x.data_type.itemsize
        size = last.length * item
        cl.enqueue_copy(
            runtime.queue, output.buffer, x.buffer, src_offset=base * item, byte_count=size
        )
        return output
    turned = _turned_axis(merged)
    if base == 0 and turned is not None:
        _turn(runtime, x, output, merged, turned)
        return output
    launch_copy(runtime, (x, None, output), outer, last, base=base)
    return output


def launch_copy(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor | None, Tensor],
    outer: Sequence[Axis],
    last: Axis,
    *,
    base: int = 0,
    most: int = 0,
) -> None:
    """Enqueue ``strided_copy``; *most* is the last index of the axis that indices are for."""
    rows = math.prod(axis.length for axis in outer)
    run, chunk, work_items = shares(runtime, rows, last.length)
    nearest_first = outer[::-1] or [Axis(1, 0)]
    runtime.launch(
        ("layout", "strided_copy"),
        work_items,
        tensors,
        (
            *(run, chunk, rows, last.length, last.stride, base, most, len(nearest_first)),
            *filled_up([axis.length for axis in nearest_first], 1),
            *filled_up([axis.stride for axis in nearest_first], 0),
        ),
    )


def shares(runtime: Runtime, rows: int, length: int, *, run: int = _RUN) -> tuple[int, int, int]:
    """Share rows out to work-items.

    Args:
        runtime: where they run.
        rows: how many rows there are.
        length: the elements of each.
        run: the elements of a run, except on a CPU.

    Returns:
        The elements of a run, the rows of a chunk, and how many work-items there are if each has
        one run of each row of a chunk.
    """
    if on_cpu(runtime):
        parts = max(1, round(length / _CPU_RUN))
        run = -(-length // (parts * _CPU_ALIGNED)) * _CPU_ALIGNED
    chunk = max(1, _CPU_RUN // length) if on_cpu(runtime) else 1
    return run, chunk, -(-rows // chunk) * -(-length // run)


def on_cpu(runtime: Runtime) -> bool:
    """Tell whether a work-item is best given much to do in a row."""
    return bool(runtime.queue.device.type & cl.device_type.CPU)


def filled_up(numbers: Sequence[int], rest: int) -> list[int]:
    """Give one number for each outer axis that a kernel takes."""
    return [*numbers, *[rest] * (OUTER_AXES - len(numbers))]


def _merge(axes: Sequence[Axis]) -> list[Axis]:
    """Leave out axes of one element, and go through two as one where that makes no difference."""
    merged: list[Axis] = []
    for axis in axes:
        if axis.length == 1:
            continue
        if merged and merged[-1].stride == axis.stride * axis.length:
            merged[-1] = Axis(merged[-1].length * axis.length, axis.stride)
        else:
            merged.append(axis)
    return merged or [Axis(1, 1)]


def _turned_axis(axes: list[Axis]) -> int | None:
    """Tell which axis is the input's last one, if the copy is a permutation that tiles speed up."""
    by_stride = sorted(axes, key=lambda axis: axis.stride)
    lengths = 1
    for axis in by_stride:
        if axis.stride != lengths:
            return None
        lengths *= axis.length
    turned = axes.index(by_stride[0])
    sides = axes[turned].length, axes[-1].length
    if turned == len(axes) - 1 or min(sides) < _BLOCK or len(axes) > _TURN_AXES + 2:
        return None
    return turned


def _turn(runtime: Runtime, x: Tensor, output: Tensor, axes: list[Axis], turned: int) -> None:
    to_strides = [axis.stride for axis in contiguous([axis.length for axis in axes])]
    others = [i for i in range(len(axes) - 1) if i != turned]
    empty = [0] * (_TURN_AXES - len(others))
    rows, columns = axes[turned].length, axes[-1].length
    edge = _BLOCK * _TILE
    tiles = math.prod([-(-rows // edge), -(-columns // edge), *(axes[i].length for i in others)])
    side = _TILE if on_cpu(runtime) else 1
    runtime.launch(
        ("layout", "turn"),
        tiles * (_TILE // side) ** 2,
        (x, output),
        (
            *(side, rows, columns, axes[-1].stride, to_strides[turned], len(others)),
            *(*(axes[i].length for i in others), *empty),
            *(*(axes[i].stride for i in others), *empty),
            *(*(to_strides[i] for i in others), *empty),
        ),
    )
