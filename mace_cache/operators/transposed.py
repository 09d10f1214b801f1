"""Transposed convolutions with bias and activation, as TFLite's TRANSPOSE_CONV defines them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import blocks, check_features, check_type
from mace_cache.operators.windows import (
    check_depthwise_filters,
    check_filters,
    check_padding,
    count_tiles,
    end_arguments,
    make_windows,
    pair,
)

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor
    from mace_cache.operators.windows import Padding, Windows

__all__ = ["transposed_convolution", "transposed_depthwise_convolution"]


def transposed_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    output_size: tuple[int, int] | None = None,
    groups: int = 1,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Undo a convolution's geometry: TFLite's TRANSPOSE_CONV, ONNX's ConvTranspose.

    Each pixel of the input adds the filters, times its values, to the output: *stride* apart.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (output channels, kernel height, kernel width, channels / groups), as TFLite has
            them.
        bias: (output channels,).
        stride: the distance in the output between pixels of the input, one number or (along height,
            along width).
        dilation: the distance in the output between the numbers of a filter, likewise.
        padding: that of the convolution from the output to the input: ``SAME``, ``VALID``, or what
            is cut off the output: ((top, bottom), (left, right)), which are ONNX's pads.
        output_size: the output's height and width: of those that the convolution makes the input
            from, which for ``VALID`` and explicit padding differ by less than the stride. None is
            height * stride for ``SAME``, else the least: ONNX's ``output_padding`` is what
            *output_size* has more.
        groups: how many groups the channels of input and output fall into.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, output height, output width, output channels).

    Raises:
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels.
    """
    operator = "transposed_convolution"
    check_type(operator, runtime, x, weights, bias)
    channels = check_features(operator, x)[3]
    groups = check_filters(operator, weights, channels, groups)
    filters, *size, _ = weights.shape
    slopes, number, coefficient = end_arguments(
        operator, runtime, (x, weights, bias), filters, (activation, alpha)
    )
    windows = make_windows(operator, size, stride, dilation)
    (height, width), before = _place(operator, x, windows, padding, output_size)
    output = runtime.empty((x.shape[0], height, width, filters), operator=operator)
    tiles, integers = _geometry(x, output, windows, before)
    runtime.launch(
        ("transposed_convolution", operator),
        tiles * groups * blocks(filters // groups),
        (x, weights, bias, slopes, output),
        (*integers, groups, number),
        (coefficient,),
    )
    return output


def transposed_depthwise_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    output_size: tuple[int, int] | None = None,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Undo a depthwise convolution's geometry: ONNX's ConvTranspose with a group a channel.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: (1, kernel height, kernel width, channels * multiplier); output channel c is made
            of input channel c // multiplier.
        bias: (channels * multiplier,).
        stride: as `transposed_convolution` takes it.
        dilation: likewise.
        padding: likewise.
        output_size: likewise.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, output height, output width, channels * multiplier).

    Raises:
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels.
    """
    operator = "transposed_depthwise_convolution"
    check_type(operator, runtime, x, weights, bias)
    channels = check_features(operator, x)[3]
    check_depthwise_filters(operator, weights, channels)
    _, *size, filters = weights.shape
    slopes, number, coefficient = end_arguments(
        operator, runtime, (x, weights, bias), filters, (activation, alpha)
    )
    windows = make_windows(operator, size, stride, dilation)
    (height, width), before = _place(operator, x, windows, padding, output_size)
    output = runtime.empty((x.shape[0], height, width, filters), operator=operator)
    tiles, integers = _geometry(x, output, windows, before)
    runtime.launch(
        ("transposed_convolution", operator),
        tiles * blocks(filters),
        (x, weights, bias, slopes, output),
        (*integers, number),
        (coefficient,),
    )
    return output


def _place(
    operator: str,
    x: Tensor,
    windows: Windows,
    padding: Padding,
    output_size: tuple[int, int] | None,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the output's height and width, and what is cut off above and to the left."""
    sides = check_padding(operator, padding)
    wanted = (None, None) if output_size is None else pair(operator, "output_size", output_size)
    axes = zip(x.shape[1:3], zip(*windows, strict=True), sides, wanted, strict=True)
    placed = [_place_axis(*axis) for axis in axes]
    if None in placed:
        given = f"padding {padding!r} and output_size {output_size} for {x}"
        raise ShapeError(operator, "an output that a convolution makes the input from", given)
    (height, top), (width, left) = (axis for axis in placed if axis)
    return (height, width), (top, left)


def _place_axis(
    length: int, window: tuple[int, int, int], padding: str | tuple[int, int], wanted: int | None
) -> tuple[int, int] | None:
    """Give an axis's length in the output and what is cut off before, or None if it can't be."""
    size, stride, dilation = window
    whole = (length - 1) * stride + (size - 1) * dilation + 1
    if padding == "SAME":
        output = length * stride if wanted is None else wanted
        fits = -(-output // stride) == length
        return (output, max(whole - output, 0) // 2) if fits else None
    before, after = (0, 0) if isinstance(padding, str) else padding
    least = whole - before - after
    output = least if wanted is None else wanted
    fits = output >= 1 and 0 <= output - least < stride
    return (output, before) if fits else None


def _geometry(
    x: Tensor, output: Tensor, windows: Windows, before: tuple[int, int]
) -> tuple[int, tuple[int, ...]]:
    """Give the number of tiles, and the integers that both kernels take first."""
    batch, height, width, filters = output.shape
    (stride, _), dilations = windows.strides, windows.dilations
    # Where the stride is longer than the output, there is a tile for each row.
    rows = min(stride * count_tiles(1, -(-height // stride), 1), height)
    tiles = batch * rows * width
    # A step beyond the last tap is none: as long as the filter it is short enough for an int.
    steps = (
        min(size, s // math.gcd(s, d))
        for size, s, d in zip(windows.size, windows.strides, dilations, strict=True)
    )
    shapes = (*x.shape[1:], height, width, filters)
    return tiles, (rows, *shapes, *windows.size, *windows.strides, *dilations, *steps, *before)
