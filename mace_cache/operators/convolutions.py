"""Convolutions with bias and activation, as TFLite's CONV_2D and DEPTHWISE_CONV_2D define them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import (
    activation_arguments,
    blocks,
    check_features,
    check_type,
    window,
)

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["convolution", "depthwise_convolution", "pointwise_convolution"]

_FILTER_AXES = 4


def convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve with ``SAME`` padding: TFLite's CONV_2D without dilation.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (output channels, kernel height, kernel width, channels).
        bias: (output channels,).
        stride: along both axes, 1 or 2.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, ceil(height / stride), ceil(width / stride), output channels).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "convolution"
    channels = check_features(operator, x)[3]
    shape = weights.shape
    if len(shape) != _FILTER_AXES or shape[3] != channels:
        expected = f"weights (output channels, kernel height, kernel width, {channels})"
        raise ShapeError(operator, expected, weights)
    return _convolve(
        runtime,
        (x, weights, bias, alpha),
        operator=operator,
        kernel="convolution",
        channels=shape[0],
        stride=stride,
        activation=activation,
    )


def depthwise_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve each channel by itself, with ``SAME`` padding: TFLite's DEPTHWISE_CONV_2D.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (1, kernel height, kernel width, channels * multiplier); output channel c is made
            of input channel c // multiplier.
        bias: (channels * multiplier,).
        stride: along both axes, 1 or 2.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, ceil(height / stride), ceil(width / stride), channels * multiplier).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "depthwise_convolution"
    channels = check_features(operator, x)[3]
    shape = weights.shape
    if len(shape) != _FILTER_AXES or shape[0] != 1 or shape[3] % channels:
        expected = f"weights (1, kernel height, kernel width, a multiple of {channels})"
        raise ShapeError(operator, expected, weights)
    return _convolve(
        runtime,
        (x, weights, bias, alpha),
        operator=operator,
        kernel="depthwise_convolution",
        channels=shape[3],
        stride=stride,
        activation=activation,
    )


def pointwise_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve with a kernel of 1x1: `convolution` with weights (output channels, 1, 1, channels).

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (output channels, 1, 1, channels).
        bias: (output channels,).
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, height, width, output channels).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "pointwise_convolution"
    channels = check_features(operator, x)[3]
    filters = weights.shape[0]
    if weights.shape != (filters, 1, 1, channels):
        raise ShapeError(operator, f"weights (output channels, 1, 1, {channels})", weights)
    return _convolve(
        runtime,
        (x, weights, bias, alpha),
        operator=operator,
        kernel="convolution",
        channels=filters,
        stride=1,
        activation=activation,
    )


def _convolve(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | float | None],
    *,
    operator: str,
    kernel: str,
    channels: int,
    stride: int,
    activation: str,
) -> Tensor:
    """Check what all convolutions share, and launch; *channels* are the output's."""
    x, weights, bias, alpha = tensors
    if stride not in (1, 2):
        raise ShapeError(operator, "stride 1 or 2", stride)
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(operator, f"bias ({channels},)", bias)
    slopes, number, coefficient = activation_arguments(operator, activation, alpha, channels)
    check_type(operator, runtime, x, weights, bias, slopes)
    batch, height, width, input_channels = x.shape
    kernel_height, kernel_width = weights.shape[1:3]
    output_height, top = window(height, kernel_height, stride, "SAME")
    output_width, left = window(width, kernel_width, stride, "SAME")
    output = runtime.empty((batch, output_height, output_width, channels))
    shapes = (height, width, input_channels, output_height, output_width, channels)
    runtime.launch(
        ("convolution", kernel),
        batch * output_height * output_width * blocks(channels),
        (x, weights, bias, slopes, output),
        (*shapes, kernel_height, kernel_width, stride, top, left, number),
        (coefficient,),
    )
    return output
