"""Parts of tensors and repetitions of them: slices, splits, crops, tiles and look-ups."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integer, integers, items
from mace_cache.operators.checks import check_axis, check_features, check_type
from mace_cache.operators.copying import Axis, contiguous, launch_copy, strided_copy
from mace_cache.operators.tensor import check_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["crop", "gather", "split", "strided_slice", "tile"]


def strided_slice(
    runtime: Runtime,
    x: Tensor,
    begin: Sequence[int | None],
    end: Sequence[int | None],
    *,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Take a slice of every axis, as Python's ``x[begin:end:stride]``: TFLite's STRIDED_SLICE.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        begin: where each axis's slice starts; negative ones count from its end, None is its start
            (its end if the stride is negative): TFLite's ``begin_mask``.
        end: before which element each slice stops, likewise; None stops after the axis's last
            element: TFLite's ``end_mask``.
        strides: the distance between the elements of each slice, not 0; 1 everywhere if None.

    Returns:
        The slice, of as many axes as *x* (`reshape` takes away those of one element).

    Raises:
        ShapeError: not one integer an axis, a stride of 0, or an empty slice; *x* is of another
            type than the runtime's.
    """
    operator = "strided_slice"
    check_type(operator, runtime, x)
    steps = [1] * len(x.shape) if strides is None else strides
    given = (begin, end, steps)
    expected = f"one begin, end and stride (not 0) for each axis of {x}"
    bounds = [items(operator, expected, numbers) for numbers in given]
    if not x.shape or {len(numbers) for numbers in bounds} != {len(x.shape)}:
        raise ShapeError(operator, expected, given)
    integers(operator, expected, [n for numbers in bounds for n in numbers if n is not None])
    if not all(bounds[2]):
        raise ShapeError(operator, expected, given)
    taken = [
        range(*slice(*bound).indices(length))
        for *bound, length in zip(*bounds, x.shape, strict=True)
    ]
    if not all(taken):
        raise ShapeError(operator, f"one element or more along each axis of {x}", given)
    return _take(operator, runtime, x, taken)


def crop(runtime: Runtime, x: Tensor, *, top: int, left: int, height: int, width: int) -> Tensor:
    """Cut a rectangle out of every image of a batch: TensorFlow's ``image.crop_to_bounding_box``.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        top: the rectangle's first row.
        left: its first column.
        height: how many rows it has.
        width: how many columns.

    Returns:
        (batch, *height*, *width*, channels).

    Raises:
        ShapeError: *x* has another number of axes, or is of another type than the runtime's; or the
            rectangle is empty or reaches beyond it.
    """
    check_type("crop", runtime, x)
    batch, rows, columns, channels = check_features("crop", x)
    expected = f"a rectangle inside {rows}x{columns}"
    top, left, height, width = integers("crop", expected, (top, left, height, width))
    taken = [range(batch), range(top, top + height), range(left, left + width), range(channels)]
    inside = top >= 0 and left >= 0 and top + height <= rows and left + width <= columns
    if not inside or min(height, width) < 1:
        given = f"{height}x{width} at ({top}, {left})"
        raise ShapeError("crop", expected, given)
    return _take("crop", runtime, x, taken)


def split(
    runtime: Runtime, x: Tensor, parts: int | Sequence[int], *, axis: int
) -> tuple[Tensor, ...]:
    """Split a tensor along an axis: TFLite's SPLIT and SPLIT_V, the opposite of `concatenate`.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        parts: how many parts of equal length there are, or each one's length.
        axis: the axis; negative ones count from the last.

    Returns:
        The parts, in their order.

    Raises:
        ShapeError: there is no such axis, or the parts don't make it up; *x* is of another type
            than the runtime's.
    """
    check_type("split", runtime, x)
    axis = check_axis("split", x, axis)
    length = x.shape[axis]
    expected = f"parts that make up axis {axis} of {x}"
    if np.iterable(parts):
        lengths = integers("split", expected, parts, least=1)
    else:
        count = integer("split", expected, parts, 1, length)
        lengths = (length // count,) * count
    if sum(lengths) != length:
        raise ShapeError("split", expected, parts)
    taken = [range(whole) for whole in x.shape]
    made, start = [], 0
    for part in lengths:
        taken[axis] = range(start, start + part)
        made.append(_take("split", runtime, x, taken))
        start += part
    return tuple(made)


def tile(runtime: Runtime, x: Tensor, multiples: Sequence[int]) -> Tensor:
    """Repeat a tensor along its axes: TFLite's TILE, ``numpy.tile``.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        multiples: how often it is repeated along each axis, 1 or more.

    Returns:
        The lengths of *x* times *multiples*.

    Raises:
        ShapeError: not one integer an axis, or one that is less than 1; *x* is of another type than
            the runtime's.
    """
    check_type("tile", runtime, x)
    expected = f"1 or more for each axis of {x}"
    multiples = integers("tile", expected, multiples, len(x.shape), least=1)
    if not x.shape:
        raise ShapeError("tile", expected, multiples)
    shape = [multiple * axis for multiple, axis in zip(multiples, x.shape, strict=True)]
    axes = []
    for multiple, axis in zip(multiples, contiguous(x.shape), strict=True):
        axes += [Axis(multiple, 0), axis]
    return strided_copy("tile", runtime, x, shape, axes)


def gather(runtime: Runtime, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Look up slices by their indices: TFLite's GATHER, ``numpy.take`` with ``mode="clip"``.

    Nothing outside *x* is ever read: an index below 0 means 0, one beyond the last means the last.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        indices: int32, any shape.
        axis: the axis that they are for; negative ones count from the last.

    Returns:
        The shape of *x*, with that of *indices* in the place of the axis.

    Raises:
        ShapeError: there is no such axis; *x* is of another type than the runtime's, or *indices*
            than int32.
    """
    check_type("gather", runtime, x)
    check_tensors("gather", indices)
    axis = check_axis("gather", x, axis)
    if indices.data_type != np.int32:
        raise ShapeError("gather", "indices of int32", indices)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    output = runtime.empty((*before, *indices.shape, *after), operator="gather")
    length, inner = x.shape[axis], math.prod(after)
    outer = [Axis(math.prod(before), length * inner), Axis(indices.size, inner)]
    launch_copy(runtime, (x, indices, output), outer, Axis(inner, 1), most=length - 1)
    return output


def _take(operator: str, runtime: Runtime, x: Tensor, taken: Sequence[range]) -> Tensor:
    """Copy the elements at those indices of each axis."""
    whole = contiguous(x.shape)
    base = sum(axis.stride * indices.start for axis, indices in zip(whole, taken, strict=True))
    axes = [
        Axis(len(indices), axis.stride * indices.step)
        for axis, indices in zip(whole, taken, strict=True)
    ]
    return strided_copy(operator, runtime, x, [len(indices) for indices in taken], axes, base=base)
