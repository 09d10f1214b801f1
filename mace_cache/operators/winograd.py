"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3), which multiplies less than half as often.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice
from mace_cache.operators.checks import (
    activation_arguments,
    blocks,
    check_features,
    check_type,
    window,
)
from mace_cache.operators.product import launch_product

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["WinogradWeights", "winograd_convolution", "winograd_weights"]

_KERNEL = 3
_NUMBERS = 16  # that a patch or a filter is transformed to
_BLOCK = 4  # BLOCK in common.h


@dataclass(frozen=True)
class WinogradWeights:
    """What `winograd_weights` prepares.

    Attributes:
        transformed: float32, (16, channels, output channels), both filled up to multiples of 4.
        channels: the input's channels.
        filters: the output's channels.
    """

    transformed: Tensor
    channels: int
    filters: int


def winograd_weights(runtime: Runtime, weights: Tensor) -> WinogradWeights:
    """Transform the weights of a 3x3 convolution, once for all: Lavin and Gray, arXiv:1509.09308.

    Args:
        runtime: where to compute.
        weights: (output channels, 3, 3, channels).

    Returns:
        What `winograd_convolution` takes: 16 numbers of float32 for each 9 of the weights.

    Raises:
        ShapeError: the weights have another shape or type, or more than 2**30 numbers are made of
            them.
    """
    operator = "winograd_weights"
    check_type(operator, runtime, weights)
    if len(weights.shape) != 4 or weights.shape[1:3] != (_KERNEL, _KERNEL):  # noqa: PLR2004 (axes)
        raise ShapeError(operator, "weights (output channels, 3, 3, channels)", weights)
    filters, _, _, channels = weights.shape
    rows, columns = blocks(channels) * _BLOCK, blocks(filters) * _BLOCK
    transformed = runtime.empty((_NUMBERS, rows, columns), np.float32, operator=operator)
    runtime.launch(
        ("winograd", "transform_weights"),
        rows * columns,
        (weights, transformed),
        (channels, filters),
    )
    return WinogradWeights(transformed, channels, filters)


def winograd_convolution(
    runtime: Runtime,
    x: Tensor,
    weights: WinogradWeights,
    bias: Tensor | None = None,
    *,
    padding: str = "SAME",
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Convolve with prepared weights: TFLite's CONV_2D with a kernel of 3x3 and stride 1.

    Sums are rounded a little more than those of `convolution`: to about 1e-6 of the largest. The
    transforms add and subtract neighbours, so an infinite or NaN weight makes all of its output
    channel NaN, and an infinite pixel what sees it, where `convolution` gives infinity or numbers.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        weights: what `winograd_weights` made of (output channels, 3, 3, channels).
        bias: (output channels,).
        padding: ``SAME`` or ``VALID``.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output channel.

    Returns:
        (batch, height, width, output channels); 2 less in height and width for ``VALID``.

    Raises:
        ShapeError: arguments that don't fit together, or what is between the transforms has more
            than 2**30 elements.
    """
    operator = "winograd_convolution"
    check_type(operator, runtime, x, bias)
    batch, height, width, channels = check_features(operator, x)
    if not isinstance(weights, WinogradWeights):
        raise ShapeError(operator, "weights of winograd_weights", type(weights).__name__)
    filters = weights.filters
    if channels != weights.channels:
        raise ShapeError(operator, f"a tensor of {weights.channels} channels", x)
    choice(operator, "padding", padding, ("SAME", "VALID"))
    if padding == "VALID" and min(height, width) < _KERNEL:
        raise ShapeError(operator, "an input of 3x3 or more for VALID padding", x)
    if bias is not None and bias.shape != (filters,):
        raise ShapeError(operator, f"bias ({filters},)", bias)
    slopes, number, coefficient = activation_arguments(operator, activation, alpha, filters)
    check_type(operator, runtime, slopes)
    output_height, top = window(height, _KERNEL, 1, padding)
    output_width, left = window(width, _KERNEL, 1, padding)
    tiles_y, tiles_x = -(-output_height // 2), -(-output_width // 2)
    tiles = batch * tiles_y * tiles_x
    _, rows, columns = weights.transformed.shape
    patches = runtime.empty((_NUMBERS, tiles, rows), np.float32, operator=operator)
    products = runtime.empty((_NUMBERS, tiles, columns), np.float32, operator=operator)
    output = runtime.empty((batch, output_height, output_width, filters), operator=operator)
    runtime.launch(
        ("winograd", "transform_input"),
        tiles * blocks(channels),
        (x, patches),
        (height, width, channels, tiles_y, tiles_x, top, left),
    )
    launch_product(
        runtime,
        "winograd",
        (patches, weights.transformed, None, None, None, products),
        (_NUMBERS, tiles, columns, rows),
        a_steps=(rows, 1, tiles * rows),
        b_steps=(columns, 1, rows * columns),
    )
    runtime.launch(
        ("winograd", "transform_output"),
        tiles * blocks(filters),
        (products, bias, slopes, output),
        (output_height, output_width, filters, tiles_y, tiles_x, number),
        (coefficient,),
    )
    return output
