"""Convolutions with bias and activation, as TFLite's CONV_2D and DEPTHWISE_CONV_2D define them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import blocks, check_features
from mace_cache.operators.windows import (
    check_depthwise_filters,
    check_filters,
    count_tiles,
    end_arguments,
    make_windows,
    place_windows,
)

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor
    from mace_cache.operators.windows import Padding

__all__ = ["convolution", "depthwise_convolution", "pointwise_convolution"]

_TILES = 8  # TILES in convolution.cl


def convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve: TFLite's CONV_2D, and ONNX's Conv of two dimensions with another layout.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (output channels, kernel height, kernel width, channels / groups).
        bias: (output channels,).
        stride: the distance between windows, one number or (along height, along width).
        dilation: the distance between the pixels of a window, likewise.
        padding: ``SAME`` or ``VALID`` as TensorFlow defines them, or how many zeros there are
            around the input: ((top, bottom), (left, right)).
        groups: how many groups the channels of input and output fall into; what is made of the
            first group of the input is the first group of the output.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, output height, output width, output channels), where for ``SAME`` the output's
        height is ceil(height / stride).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    return _convolve(
        ("convolution", runtime),
        (x, weights, bias),
        groups,
        (activation, alpha),
        stride=stride,
        dilation=dilation,
        padding=padding,
    )


def depthwise_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve each channel by itself: TFLite's DEPTHWISE_CONV_2D.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (1, kernel height, kernel width, channels * multiplier); output channel c is made
            of input channel c // multiplier.
        bias: (channels * multiplier,).
        stride: the distance between windows, one number or (along height, along width).
        dilation: the distance between the pixels of a window, likewise.
        padding: ``SAME``, ``VALID`` or ((top, bottom), (left, right)), as `convolution` takes it.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, output height, output width, channels * multiplier).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "depthwise_convolution"
    batch, height, width, channels = check_features(operator, x)
    check_depthwise_filters(operator, weights, channels)
    _, *size, filters = weights.shape
    slopes, number, coefficient = end_arguments(
        operator, runtime, (x, weights, bias), filters, (activation, alpha)
    )
    windows = make_windows(operator, size, stride, dilation)
    (rows, columns), before = place_windows(operator, x, windows, padding)
    output = runtime.empty((batch, rows, columns, filters))
    runtime.launch(
        ("convolution", "depthwise_convolution"),
        count_tiles(batch, rows, columns) * blocks(filters),
        (x, weights, bias, slopes, output),
        (
            *(height, width, channels, rows, columns, filters),
            *(*windows.size, *windows.strides, *windows.dilations, *before, number),
        ),
        (coefficient,),
    )
    return output


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
    if weights.shape[1:] != (1, 1, channels):
        raise ShapeError(operator, f"weights (output channels, 1, 1, {channels})", weights)
    return _convolve((operator, runtime), (x, weights, bias), 1, (activation, alpha))


def _convolve(
    where: tuple[str, Runtime],
    tensors: tuple[Tensor, Tensor, Tensor | None],
    groups: int,
    activation: tuple[str, Tensor | float | None],
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> Tensor:
    """Do it, for the operator of that name."""
    (operator, runtime), (x, weights, bias) = where, tensors
    batch, height, width, channels = check_features(operator, x)
    check_filters(operator, weights, channels, groups)
    filters, *size, _ = weights.shape
    slopes, number, coefficient = end_arguments(operator, runtime, tensors, filters, activation)
    windows = make_windows(operator, size, stride, dilation)
    (rows, columns), before = place_windows(operator, x, windows, padding)
    output = runtime.empty((batch, rows, columns, filters))
    if windows.size == windows.strides == (1, 1) and (rows, columns) == (height, width):
        # Any pixels will do as a tile: there is one column of them.
        batch, height, width = 1, batch * height * width, 1
        rows, columns = height, width
    elif height == rows == size[0] == 1:  # tiles are higher than wide: the row becomes a column
        height, width, rows, columns = width, height, columns, rows
        windows, before = windows.turned(), before[::-1]
    tiles = count_tiles(batch, rows, columns)
    runtime.launch(
        ("convolution", "convolution"),
        math.ceil(tiles / _TILES) * _TILES * groups * blocks(filters // groups),
        (x, weights, bias, slopes, output),
        (
            *(tiles, height, width, channels, rows, columns, filters),
            *(*windows.size, *windows.strides, *windows.dilations, *before, groups, number),
        ),
        (coefficient,),
    )
    return output
