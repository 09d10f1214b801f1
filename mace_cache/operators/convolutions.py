"""Convolutions with bias and activation, as TFLite's CONV_2D and DEPTHWISE_CONV_2D define them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import blocks, check_features, check_type
from mace_cache.operators.product import WindowRows, launch_product
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
    from mace_cache.operators.windows import Padding, Windows

__all__ = ["convolution", "depthwise_convolution", "pointwise_convolution"]

_TILES = 8  # TILES in convolution.cl
_LARGE = 10**7  # products of numbers: below, a program more costs a start more than it gains


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

    Small convolutions and those in groups are made window by window; large ones as a product of
    matrices, whose rows are the windows. For 3x3 of many channels see `winograd_convolution`.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (output channels, kernel height, kernel width, channels / groups).
        bias: (output channels,).
        stride: the distance between windows, one number or (along height, along width).
        dilation: the distance between the pixels of a window, likewise.
        padding: ``SAME`` or ``VALID`` as TensorFlow defines them, or how far windows reach over
            the input's edge: ((top, bottom), (left, right)).
        groups: how many groups the channels of input and output fall into; what is made of the
            first group of the input is the first group of the output.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, output height, output width, output channels), where for ``SAME`` the output's
        height is ceil(height / stride). A weight that lies outside the input has no part in
        the sum, even if it is infinite or NaN.

    Raises:
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels.
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
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels.
    """
    operator = "depthwise_convolution"
    check_type(operator, runtime, x, weights, bias)
    batch, height, width, channels = check_features(operator, x)
    check_depthwise_filters(operator, weights, channels)
    _, *size, filters = weights.shape
    slopes, number, coefficient = end_arguments(
        operator, runtime, (x, weights, bias), filters, (activation, alpha)
    )
    windows = make_windows(operator, size, stride, dilation)
    (rows, columns), before = place_windows(operator, x, windows, padding)
    output = runtime.empty((batch, rows, columns, filters), operator=operator)
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
    """Convolve with a kernel of 1x1, which is a product of matrices: TFLite's CONV_2D of that size.

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
    check_type(operator, runtime, x, weights, bias)
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
    check_type(operator, runtime, x, weights, bias)
    batch, _, _, channels = check_features(operator, x)
    groups = check_filters(operator, weights, channels, groups)
    filters, *size, _ = weights.shape
    end = end_arguments(operator, runtime, tensors, filters, activation)
    windows = make_windows(operator, size, stride, dilation)
    (rows, columns), before = place_windows(operator, x, windows, padding)
    output = runtime.empty((batch, rows, columns, filters), operator=operator)
    large = groups == 1 and output.size * math.prod(weights.shape[1:]) >= _LARGE
    if large or operator == "pointwise_convolution":
        _launch_product(runtime, (x, weights, bias, output), windows, before, end)
    else:
        _launch_tiles(runtime, (x, weights, bias, output), windows, before, end, groups=groups)
    return output


def _launch_product(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor],
    windows: Windows,
    before: tuple[int, int],
    end: tuple[Tensor | None, int, float],
) -> None:
    """Multiply the windows, a row of a matrix each, by the filters, a column each."""
    (x, weights, bias, output), (slopes, number, coefficient) = tensors, end
    _, height, width, channels = x.shape
    batch, rows, columns, filters = output.shape
    taps = math.prod(windows.size)
    launch_product(
        runtime,
        "matrix_product",
        (x, weights, bias, slopes, None, output),
        (1, batch * rows * columns, filters, channels),
        a_steps=(channels, 1, 0),
        b_steps=(1, taps * channels, 0),
        windows=WindowRows(
            *(height, width, rows, columns, windows.size[1], taps),
            *(*windows.strides, *windows.dilations, *before),
        ),
        epilogue=(number, coefficient),
    )


def _launch_tiles(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor],
    windows: Windows,
    before: tuple[int, int],
    end: tuple[Tensor | None, int, float],
    *,
    groups: int,
) -> None:
    """Let each work-item make a few pixels of a few channels."""
    (x, weights, bias, output), (slopes, number, coefficient) = tensors, end
    batch, height, width, channels = x.shape
    _, rows, columns, filters = output.shape
    if windows.size == windows.strides == (1, 1) and (rows, columns) == (height, width):
        # Any pixels will do as a tile: there is one column of them.
        batch, height, width = 1, batch * height * width, 1
        rows, columns = height, width
    elif height == rows == windows.size[0] == 1:  # tiles are higher than wide: the row is turned
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
