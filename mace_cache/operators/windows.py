"""Windows over the height and width of tensors: how they are asked for, and where they lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integer, integers, items
from mace_cache.operators.checks import activation_arguments, check_type, window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "Padding",
    "Windows",
    "check_depthwise_filters",
    "check_filters",
    "check_padding",
    "check_sides",
    "check_windows",
    "count_tiles",
    "end_arguments",
    "make_windows",
    "pair",
    "place_windows",
]

Padding: TypeAlias = "str | tuple[tuple[int, int], tuple[int, int]]"
"""``SAME`` or ``VALID`` as TensorFlow defines them, or ((top, bottom), (left, right))."""

_AXES = 2  # height and width
_FILTER_AXES = 4
_ROWS = 3  # ROWS in windows.h
_MOST_REACH = 2**27  # of windows, strides and padding each: kernels add them up in an int
_MOST_PIXELS = 2**30  # of a window: kernels count them in an int


class Windows(NamedTuple):
    """Windows, along height and along width."""

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]

    @property
    def spans(self) -> tuple[int, int]:
        """How far one reaches, from its first pixel to its last."""
        (height, width), (down, across) = self.size, self.dilations
        return (height - 1) * down + 1, (width - 1) * across + 1

    def turned(self) -> Windows:
        """Give them with height and width exchanged."""
        return Windows(self.size[::-1], self.strides[::-1], self.dilations[::-1])


def make_windows(
    operator: str,
    size: int | Sequence[int],
    stride: int | tuple[int, int],
    dilation: int | tuple[int, int],
) -> Windows:
    """Give windows of that size, that distance, and that distance between what they see.

    Raises:
        ShapeError: one of them isn't one or two integers above 0, or windows would be too large for
            kernels to find their way in them.
    """
    return check_windows(
        operator,
        Windows(
            pair(operator, "size", size),
            pair(operator, "stride", stride),
            pair(operator, "dilation", dilation),
        ),
    )


def check_windows(operator: str, windows: Windows) -> Windows:
    """Give windows, or raise ShapeError if they reach too far or have too many pixels."""
    height, width = windows.spans
    if max(height, width) > _MOST_REACH:
        expected = f"windows that reach over 1 to {_MOST_REACH} pixels with their dilation"
        raise ShapeError(operator, expected, f"{height}x{width}")
    if math.prod(windows.size) > _MOST_PIXELS:
        raise ShapeError(operator, f"windows of 1 to {_MOST_PIXELS} pixels", f"{height}x{width}")
    return windows


def pair(operator: str, name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Give the numbers for height and for width that an option stands for.

    Raises:
        ShapeError: it isn't one integer above 0, nor two, or one is too large for kernels.
    """
    expected = f"{name} of 1 or more, one for both axes or two"
    if np.iterable(value):
        down, across = integers(operator, expected, value, _AXES, least=1)
    else:
        down = across = integer(operator, expected, value, least=1)
    if max(down, across) > _MOST_REACH:
        raise ShapeError(operator, f"{name} of 1 to {_MOST_REACH}", value)
    return down, across


def check_padding(operator: str, padding: Padding) -> tuple[str | tuple[int, int], ...]:
    """Give the padding of height and of width, each ``SAME``, ``VALID`` or how much on both sides.

    Raises:
        ShapeError: it is something else.
    """
    expected = "padding SAME, VALID or ((top, bottom), (left, right)) of 0 or more"
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return padding, padding
    sides = check_sides(operator, expected, padding)
    if max(map(max, sides)) > _MOST_REACH:
        raise ShapeError(operator, f"padding of 0 to {_MOST_REACH}", padding)
    return sides


def check_sides(operator: str, expected: str, sides: object) -> tuple[tuple[int, int], ...]:
    """Give what is added or cut off on each side: ((top, bottom), (left, right)).

    Raises:
        ShapeError: it isn't that, or a number is negative.
    """
    try:
        (top, bottom), (left, right) = (
            integers(operator, expected, side, 2, least=0)
            for side in items(operator, expected, sides, _AXES)
        )
    except ShapeError:
        raise ShapeError(operator, expected, repr(sides)) from None
    return (top, bottom), (left, right)


def place_windows(
    operator: str, x: Tensor, windows: Windows, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Place windows over a tensor (batch, height, width, channels).

    Returns:
        The output's height and width, and how far above and left of the input windows start.

    Raises:
        ShapeError: the padding isn't one, or the input is too small for a window.
    """
    sides = check_padding(operator, padding)
    axes = zip(x.shape[1:3], windows.size, windows.strides, sides, windows.dilations, strict=True)
    (height, top), (width, left) = (window(*axis) for axis in axes)
    if height < 1 or width < 1:
        expected = (
            f"an input of {windows.spans[0]}x{windows.spans[1]} or more for padding {padding!r}"
        )
        raise ShapeError(operator, expected, x)
    return (height, width), (top, left)


def count_tiles(batch: int, height: int, width: int) -> int:
    """Give the number of tiles that outputs of that height and width fall into."""
    return batch * math.ceil(height / _ROWS) * width


def check_filters(operator: str, weights: Tensor, channels: int, groups: int) -> int:
    """Give the number of groups, or raise ShapeError unless weights are filters of *channels*."""
    expected = f"a number of groups that divides {channels} channels"
    groups = integer(operator, expected, groups, least=1)
    if channels % groups:
        raise ShapeError(operator, expected, groups)
    shape = weights.shape
    if len(shape) != _FILTER_AXES or shape[3] * groups != channels or shape[0] % groups:
        times = f" (a multiple of {groups})" if groups > 1 else ""
        last = channels // groups
        expected = f"weights (output channels{times}, kernel height, kernel width, {last})"
        raise ShapeError(operator, expected, weights)
    return groups


def check_depthwise_filters(operator: str, weights: Tensor, channels: int) -> None:
    """Raise ShapeError unless they are filters for each of *channels*."""
    shape = weights.shape
    if len(shape) != _FILTER_AXES or shape[0] != 1 or shape[3] % channels:
        expected = f"weights (1, kernel height, kernel width, a multiple of {channels})"
        raise ShapeError(operator, expected, weights)


def end_arguments(
    operator: str,
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    channels: int,
    activation: tuple[str, Tensor | float | None],
) -> tuple[Tensor | None, int, float]:
    """Check what a convolution ends with, and give its activation as kernels take it.

    Args:
        operator: whose name errors have.
        runtime: whose type the tensors have.
        tensors: the input, the weights and the bias.
        channels: how many the output has.
        activation: its name, and what it takes.

    Returns:
        The slopes, the activation's number and its coefficient.

    Raises:
        ShapeError: the bias, the activation or a type doesn't fit.
    """
    bias = tensors[2]
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(operator, f"bias ({channels},)", bias)
    slopes, number, coefficient = activation_arguments(operator, *activation, channels)
    check_type(operator, runtime, *tensors, slopes)
    return slopes, number, coefficient
