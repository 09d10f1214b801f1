"""Reductions over axes, and softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mace_cache.operators.arithmetic import SPAN
from mace_cache.operators.checks import check_type
from mace_cache.operators.copying import on_cpu, shares
from mace_cache.operators.layout import reshape
from mace_cache.operators.statistics import Layout, group_axes, reduce_statistics, reduce_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "log_softmax",
    "reduce_maximum",
    "reduce_mean",
    "reduce_minimum",
    "reduce_product",
    "reduce_sum",
    "softmax",
]


def reduce_sum(
    runtime: Runtime, x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False
) -> Tensor:
    """Add the elements along axes: TFLite's SUM, ``numpy.sum``.

    Args:
        runtime: where to compute.
        x: any shape.
        axes: the axes; negative ones count from the last; all of them if None. Axes that aren't
            neighbours are reduced in turns, with float32 in between.
        keep_dims: whether the axes stay, with length 1.

    Returns:
        The shape of *x* without those axes.

    Raises:
        ShapeError: there is no such axis, or one is given twice; *x* is of another type than the
            runtime's.
    """
    return _reduce(runtime, "sum", x, axes, keep_dims=keep_dims)


def reduce_mean(
    runtime: Runtime, x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False
) -> Tensor:
    """Give the mean along axes: TFLite's MEAN. Arguments and errors are those of `reduce_sum`."""
    return _reduce(runtime, "mean", x, axes, keep_dims=keep_dims)


def reduce_product(
    runtime: Runtime, x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False
) -> Tensor:
    """Multiply along axes: TFLite's REDUCE_PROD. Arguments and errors as of `reduce_sum`."""
    return _reduce(runtime, "product", x, axes, keep_dims=keep_dims)


def reduce_minimum(
    runtime: Runtime, x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False
) -> Tensor:
    """Give the smallest along axes, or NaN if one is: TFLite's REDUCE_MIN, ``numpy.min``.

    Arguments and errors are those of `reduce_sum`.
    """
    return _reduce(runtime, "minimum", x, axes, keep_dims=keep_dims)


def reduce_maximum(
    runtime: Runtime, x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False
) -> Tensor:
    """Give the largest along axes, or NaN if one is: TFLite's REDUCE_MAX, ``numpy.max``.

    Arguments and errors are those of `reduce_sum`.
    """
    return _reduce(runtime, "maximum", x, axes, keep_dims=keep_dims)


def softmax(runtime: Runtime, x: Tensor, *, axis: int = -1) -> Tensor:
    """Give exp(x) over its sum along an axis: ONNX's Softmax, TFLite's SOFTMAX with beta 1.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        axis: the axis; negative ones count from the last.

    Returns:
        A tensor of the shape of *x*, whose sums along the axis are 1.

    Raises:
        ShapeError: there is no such axis, or *x* is of another type than the runtime's.
    """
    return _softmax(runtime, "softmax", x, axis, finish="inverse")


def log_softmax(runtime: Runtime, x: Tensor, *, axis: int = -1) -> Tensor:
    """Give the logarithm of `softmax`, exact where that is 0: ONNX's LogSoftmax.

    Arguments, result and errors are those of `softmax`.
    """
    return _softmax(runtime, "log_softmax", x, axis, finish="logarithm")


def _reduce(
    runtime: Runtime,
    reduction: str,
    x: Tensor,
    axes: Sequence[int] | None,
    *,
    keep_dims: bool,
) -> Tensor:
    operator = f"reduce_{reduction}"
    check_type(operator, runtime, x)
    known, layouts = group_axes(operator, x, axes)
    kind = "sum" if reduction == "mean" else reduction
    layouts = layouts or [Layout(1, 1, x.size)]
    divisor = math.prod(layout.length for layout in layouts) if reduction == "mean" else 1
    made = reduce_tensor(runtime, operator, x, layouts, kind, divisor=divisor)
    kept = [1 if axis in known else length for axis, length in enumerate(x.shape)]
    left = [length for axis, length in enumerate(x.shape) if axis not in known]
    return reshape(made, kept if keep_dims else left)


def _softmax(runtime: Runtime, operator: str, x: Tensor, axis: int, *, finish: str) -> Tensor:
    check_type(operator, runtime, x)
    _, (layout,) = group_axes(operator, x, [axis])
    flat = layout.inner == 1
    width = layout.length if flat else layout.inner
    rows = x.size // width
    span, chunk, work_items = shares(runtime, rows, width, run=SPAN)
    if flat and on_cpu(runtime):
        span, work_items = width, -(-rows // chunk)
        maxima = factors = None
    else:
        maxima = reduce_statistics(runtime, operator, x, layout, "maximum")
        factors = reduce_statistics(
            runtime, operator, x, layout, "sum_of_exponentials", centre=maxima, finish=finish
        )
    output = runtime.empty(x.shape, operator=operator)
    runtime.launch(
        ("reduction", "softmax"),
        work_items,
        (x, maxima, factors, output),
        (rows, chunk, width, span, layout.length, flat, finish == "logarithm"),
    )
    return output
