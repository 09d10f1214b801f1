"""Patches of images: what windows over them see, as channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice, items
from mace_cache.operators.checks import check_features, check_type, window
from mace_cache.operators.copying import Axis, contiguous, strided_copy
from mace_cache.operators.padding import pad_for
from mace_cache.operators.windows import Windows, check_windows, pair

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["extract_image_patches"]

Pair = tuple[int, int]


def extract_image_patches(
    runtime: Runtime,
    x: Tensor,
    *,
    sizes: Pair,
    strides: Pair = (1, 1),
    rates: Pair = (1, 1),
    padding: str = "VALID",
) -> Tensor:
    """Put the pixels of each window into the channels of one: ``tf.image.extract_patches``.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        sizes: the window's height and width in pixels that it takes.
        strides: the distance between windows down and across.
        rates: the distance between the pixels that a window takes, down and across.
        padding: ``SAME`` (windows may reach over the edge, where zeros are) or ``VALID``.

    Returns:
        (batch, windows down, windows across, window height * window width * channels).

    Raises:
        ShapeError: *x* has another number of axes or another type than the runtime's, a number is
            less than 1 or too large, the padding is another one, there is no room for a window, or
            the padded *x* or the result has more than 2**30 elements.
    """
    operator = "extract_image_patches"
    check_type(operator, runtime, x)
    batch, height, width, channels = check_features(operator, x)
    given = {"sizes": sizes, "strides": strides, "rates": rates}
    pairs = (items(operator, f"{n} of 1 or more, two", two, 2) for n, two in given.items())
    sizes, strides, rates = windows = Windows(*map(pair, [operator] * 3, given, pairs))
    choice(operator, "padding", padding, ("SAME", "VALID"))
    reach = check_windows(operator, windows).spans
    if padding == "VALID" and (reach[0] > height or reach[1] > width):
        raise ShapeError(operator, f"an input of {reach[0]}x{reach[1]} or more for VALID", x)
    rows, top = window(height, reach[0], strides[0], padding)
    columns, left = window(width, reach[1], strides[1], padding)
    bottom = max((rows - 1) * strides[0] + reach[0] - height - top, 0)
    right = max((columns - 1) * strides[1] + reach[1] - width - left, 0)
    if top or bottom or left or right:
        x = pad_for(operator, runtime, x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    image, row, column, channel = contiguous(x.shape)
    axes = [
        image,
        Axis(rows, row.stride * strides[0]),
        Axis(columns, column.stride * strides[1]),
        Axis(sizes[0], row.stride * rates[0]),
        Axis(sizes[1], column.stride * rates[1]),
        channel,
    ]
    shape = (batch, rows, columns, sizes[0] * sizes[1] * channels)
    return strided_copy(operator, runtime, x, shape, axes)
