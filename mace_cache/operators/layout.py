"""Reshape, padding and concatenation: copies between buffers, which need no kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyopencl as cl

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integer, integers, items
from mace_cache.operators.checks import check_type
from mace_cache.operators.tensor import Tensor, check_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime

__all__ = ["concatenate", "pad_channels", "reshape"]


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Give the same elements another shape, without a copy: ``numpy.reshape``.

    Args:
        x: any shape.
        shape: as many elements; one axis may be -1 and takes what is left.

    Returns:
        A tensor on the buffer of *x*.

    Raises:
        ShapeError: the numbers of elements differ, or an axis isn't an integer.
    """
    check_tensors("reshape", x)
    expected = f"a shape of {x.size} elements for {x}"
    shape = integers("reshape", expected, shape)
    known = math.prod(axis for axis in shape if axis != -1)
    unknown = [axis for axis in shape if axis == -1]
    left = x.size // known if unknown and known > 0 else 1
    wanted = tuple(left if axis == -1 else axis for axis in shape)
    if len(unknown) > 1 or known <= 0 or min(wanted, default=1) < 1 or math.prod(wanted) != x.size:
        raise ShapeError("reshape", expected, shape)
    return Tensor(x.buffer, wanted, x.data_type)


def pad_channels(runtime: Runtime, x: Tensor, before: int, after: int) -> Tensor:
    """Put zeros before and after the last axis: TFLite's PAD on the axis of channels.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        before: how many zeros before, 0 or more.
        after: how many zeros after, 0 or more.

    Returns:
        The shape of *x*, with *before* + *after* more channels.

    Raises:
        ShapeError: not two integers of 0 or more, or *x* is of another type than the runtime's.
    """
    check_type("pad_channels", runtime, x)
    expected = "0 or more zeros on each side of the last axis"
    before, after = integers("pad_channels", expected, (before, after), least=0)
    if not x.shape:
        raise ShapeError("pad_channels", expected, f"{before} and {after} for {x}")
    channels = x.shape[-1]
    output = runtime.empty((*x.shape[:-1], before + channels + after), operator="pad_channels")
    zero = np.zeros(1, runtime.data_type)
    cl.enqueue_fill_buffer(runtime.queue, output.buffer, zero, 0, output.size * zero.itemsize)
    _copy_rows(runtime, x, output, channels, before)
    return output


def concatenate(runtime: Runtime, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Join tensors along an axis: ``numpy.concatenate``, TFLite's CONCATENATION.

    Args:
        runtime: where to compute.
        tensors: one or more, of shapes that differ along *axis* at most.
        axis: the axis; negative ones count from the last.

    Returns:
        Their common shape, with the sum of their lengths along *axis*.

    Raises:
        ShapeError: no tensors, no such axis, or shapes that differ elsewhere; one is of another
            type than the runtime's.
    """
    operator = "concatenate"
    tensors = items(operator, "one or more tensors", tensors)
    check_type(operator, runtime, *tensors)
    axis = integer(operator, "an axis", axis)
    axes = len(tensors[0].shape) if tensors else 0
    if not -axes <= axis < axes:
        given = [tensor.shape for tensor in tensors]
        raise ShapeError(operator, f"one or more tensors with an axis {axis}", given)
    axis %= axes
    outer, inner = tensors[0].shape[:axis], tensors[0].shape[axis + 1 :]
    if any((t.shape[:axis], t.shape[axis + 1 :]) != (outer, inner) for t in tensors):
        given = [tensor.shape for tensor in tensors]
        raise ShapeError(operator, f"shapes that differ only along axis {axis}", given)
    length = sum(tensor.shape[axis] for tensor in tensors)
    output = runtime.empty((*outer, length, *inner), operator=operator)
    offset = 0
    for tensor in tensors:
        length = tensor.shape[axis] * math.prod(inner)
        _copy_rows(runtime, tensor, output, length, offset)
        offset += length
    return output


def _copy_rows(runtime: Runtime, source: Tensor, output: Tensor, length: int, offset: int) -> None:
    """Copy rows of *length* elements to *offset* of as many longer rows of the output."""
    rows = source.size // length
    item = runtime.data_type.itemsize
    cl.enqueue_copy(
        runtime.queue,
        output.buffer,
        source.buffer,
        src_origin=(0, 0, 0),
        dst_origin=(offset * item, 0, 0),
        region=(length * item, rows, 1),
        src_pitches=(length * item,),
        dst_pitches=(output.size // rows * item,),
    )
