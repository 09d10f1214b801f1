"""Bias and batch normalisation: arithmetic by channel, with numbers that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arithmetic import WIDE
from mace_cache.operators.checks import activation_arguments, check_type
from mace_cache.operators.copying import shares

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["batch_norm", "bias_add", "normalise_channels"]


def bias_add(
    runtime: Runtime,
    x: Tensor,
    bias: Tensor,
    *,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Add one number a channel: TensorFlow's BiasAdd.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more; the last one is channels.
        bias: (channels,).
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    given = (None, None, None, bias)
    return normalise_channels(runtime, "bias_add", x, given, activation=activation, alpha=alpha)


def batch_norm(
    runtime: Runtime,
    x: Tensor,
    scale: Tensor,
    offset: Tensor,
    *,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    epsilon: float = 1e-5,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Give (x - mean) / sqrt(variance + epsilon) * scale + offset: ONNX's BatchNormalization.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more; the last one is channels.
        scale: (channels,).
        offset: (channels,).
        mean: (channels,), or None where it is folded into the offset.
        variance: (channels,), or None where it is folded into the scale.
        epsilon: added to the variance.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    given = (mean, variance, scale, offset)
    return normalise_channels(
        runtime, "batch_norm", x, given, activation=activation, alpha=alpha, epsilon=epsilon
    )


def normalise_channels(
    runtime: Runtime,
    operator: str,
    x: Tensor,
    given: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    *,
    activation: str,
    alpha: Tensor | float | None,
    statistics: tuple[Tensor | None, Tensor | None] = (None, None),
    shared: int = 1,
    epsilon: float = 0.0,
) -> Tensor:
    """Normalise by statistics, and what is given for each channel.

    Args:
        runtime: where to compute.
        operator: what errors name.
        x: any shape of one axis or more; the last one is channels.
        given: mean, variance, scale and offset, each (channels,) or None.
        statistics: mean and inverse deviation, as `reduce_statistics` makes them, or None.
        shared: how many pixels have the same statistics.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it.
        epsilon: added to the variance.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    check_type(operator, runtime, x, *given)
    if not x.shape:
        raise ShapeError(operator, "a tensor of one axis or more", x)
    channels = x.shape[-1]
    for parameter in given:
        if parameter is not None and parameter.shape != (channels,):
            raise ShapeError(operator, f"parameters of {channels} channels", parameter)
    slopes, number, coefficient = activation_arguments(operator, activation, alpha, channels)
    check_type(operator, runtime, slopes)
    output = runtime.empty(x.shape, operator=operator)
    rows = x.size // channels
    run, chunk, work_items = shares(runtime, rows, channels, run=WIDE)
    runtime.launch(
        ("normalisation", "normalise"),
        work_items,
        (x, *statistics, *given, slopes, output),
        (run, chunk, rows, channels, shared, 0, number),
        (coefficient, epsilon),
    )
    return output
