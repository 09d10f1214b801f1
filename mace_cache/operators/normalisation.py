"""Normalisation by statistics of the tensor itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integer
from mace_cache.operators.arithmetic import WIDE
from mace_cache.operators.checks import check_type
from mace_cache.operators.copying import shares
from mace_cache.operators.scaling import normalise_channels
from mace_cache.operators.statistics import group_axes, reduce_statistics
from mace_cache.operators.tensor import check_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.statistics import Layout
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "instance_norm",
    "layer_norm",
    "lp_norm",
    "mean_variance_norm",
]

_FEWEST_FEATURE_AXES = 3


def instance_norm(
    runtime: Runtime,
    x: Tensor,
    scale: Tensor,
    offset: Tensor,
    *,
    epsilon: float = 1e-5,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Normalise each channel of each image by its own statistics: ONNX's InstanceNormalization.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels), or another number of axes between.
        scale: (channels,), multiplied with what is normalised.
        offset: (channels,), added to that.
        epsilon: added to the variance.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "instance_norm"
    check_tensors(operator, x)
    if len(x.shape) < _FEWEST_FEATURE_AXES:
        raise ShapeError(operator, "a tensor (batch, ..., channels) of 3 axes or more", x)
    _, (layout,) = group_axes(operator, x, range(1, len(x.shape) - 1))
    statistics = _moments(runtime, operator, x, layout, epsilon)
    given = (None, None, scale, offset)
    return normalise_channels(
        runtime,
        operator,
        x,
        given,
        activation=activation,
        alpha=alpha,
        statistics=statistics,
        shared=layout.length,
    )


def layer_norm(
    runtime: Runtime,
    x: Tensor,
    scale: Tensor | None = None,
    offset: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes: ONNX's LayerNormalization.

    Statistics take 64 bytes for each group that is normalised; there are up to 2**27 of these.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        scale: the shape of *x* from *axis* on, multiplied with what is normalised.
        offset: the same shape, added to that.
        axis: the first of the axes; negative ones count from the last.
        epsilon: added to the variance.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "layer_norm"
    check_tensors(operator, x)
    check_type(operator, runtime, scale, offset)
    (first,), _ = group_axes(operator, x, [axis])
    _, (layout,) = group_axes(operator, x, range(first, len(x.shape)))
    for parameter in (scale, offset):
        if parameter is not None and parameter.shape != x.shape[first:]:
            raise ShapeError(operator, f"scale and offset {x.shape[first:]}", parameter)
    statistics = _moments(runtime, operator, x, layout, epsilon)
    return _apply(runtime, x, layout, statistics, (None, None, scale, offset))


def mean_variance_norm(
    runtime: Runtime,
    x: Tensor,
    axes: Sequence[int],
    *,
    divide: bool = True,
    epsilon: float = 1e-9,
) -> Tensor:
    """Give (x - mean) / sqrt(variance + epsilon): ONNX's MeanVarianceNormalization, MACE's MVNorm.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        axes: those that a mean and a variance are taken over; neighbours; negative ones count from
            the last. Of features, (1, 2) are those of each channel, (1, 2, 3) all of an image.
        divide: whether to divide by the deviation, or to subtract the mean alone.
        epsilon: added to the variance.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: the axes aren't neighbours, or *x* doesn't have them, or is of another type than
            the runtime's.
    """
    operator = "mean_variance_norm"
    check_tensors(operator, x)
    layout = _one_group(operator, x, axes)
    centre, factor = _moments(runtime, operator, x, layout, epsilon, divide=divide)
    return _apply(runtime, x, layout, (centre, factor))


def lp_norm(
    runtime: Runtime, x: Tensor, *, axis: int = -1, p: int = 2, epsilon: float = 1e-12
) -> Tensor:
    """Divide by the norm along an axis: ONNX's LpNormalization, TFLite's L2_NORMALIZATION.

    Norms along the last axis take 32 bytes each; there are up to 2**27 of them.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        axis: the axis; negative ones count from the last.
        p: 1 for the sum of sizes, 2 for the root of the sum of squares.
        epsilon: what the norm is at least, so that zeros stay zeros; TFLite has 1e-6.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: there is no such axis or norm, or *x* is of another type than the runtime's.
    """
    operator = "lp_norm"
    check_type(operator, runtime, x)
    layout = _one_group(operator, x, [axis])
    norms = {1: ("sum_of_sizes", "inverse"), 2: ("sum_of_squares", "inverse_root")}
    reduction, finish = norms[integer(operator, "p of 1 or 2", p, 1, 2)]
    factor = reduce_statistics(
        runtime, operator, x, layout, reduction, finish=finish, epsilon=epsilon
    )
    return _apply(runtime, x, layout, (None, factor))


def _one_group(operator: str, x: Tensor, axes: Sequence[int]) -> Layout:
    _, layouts = group_axes(operator, x, axes)
    if len(layouts) != 1:
        raise ShapeError(operator, "one axis or more, side by side", tuple(axes))
    return layouts[0]


def _moments(
    runtime: Runtime,
    operator: str,
    x: Tensor,
    layout: Layout,
    epsilon: float,
    *,
    divide: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Give the mean and, to divide by the deviation, the inverse of that."""
    check_type(operator, runtime, x)
    count = float(layout.length)
    centre = reduce_statistics(runtime, operator, x, layout, "sum", divisor=count)
    if not divide:
        return centre, None
    factor = reduce_statistics(
        runtime,
        operator,
        x,
        layout,
        "sum_of_squares",
        centre=centre,
        finish="inverse_deviation",
        divisor=count,
        epsilon=epsilon,
    )
    return centre, factor


def _apply(
    runtime: Runtime,
    x: Tensor,
    layout: Layout,
    statistics: tuple[Tensor | None, Tensor | None],
    given: tuple[Tensor | None, ...] = (None, None, None, None),
) -> Tensor:
    """Launch with statistics of a layout; what is given goes along its length."""
    output = runtime.empty(x.shape)
    flat = layout.inner == 1
    width = layout.length if flat else layout.inner
    rows = x.size // width
    run, chunk, work_items = shares(runtime, rows, width, run=WIDE)
    runtime.launch(
        ("normalisation", "normalise"),
        work_items,
        (x, *statistics, *given, None, output),
        (run, chunk, rows, width, layout.length, flat, 0),
        (0.0, 0.0),
    )
    return output
