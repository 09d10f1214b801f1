"""From an image to a tensor: resize and normalise in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import items, number
from mace_cache.operators.checks import check_size
from mace_cache.operators.tensor import check_tensors

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["resize_normalise"]

_IMAGE_AXES = 3
_COLOURS = 3


def resize_normalise(
    runtime: Runtime,
    image: Tensor,
    size: tuple[int, int],
    *,
    scale: float,
    offset: float,
    rectangle: tuple[float, float, float, float] | None = None,
) -> Tensor:
    """Resize an image as TFLite's RESIZE_BILINEAR, and normalise: value * *scale* + *offset*.

    Pixel centres are at half coordinates, as in TFLite's RESIZE_BILINEAR with
    ``half_pixel_centers``; nothing is smoothed where an image shrinks.

    Args:
        runtime: where to compute.
        image: uint8, (height, width, 3).
        size: the result's height and width in pixels.
        scale: what values from 0 to 255 are multiplied by.
        offset: what is added after that.
        rectangle: the part of the image that the result shows, as (top, left, height, width) in
            pixels of the image, or None for all of it. It may reach beyond the image (a letterbox):
            what lies there is black, which is *offset* in the result.

    Returns:
        (1, height, width, 3) of the runtime's data type.

    Raises:
        ShapeError: the image has another type or shape, or a size isn't positive and finite.
    """
    operator = "resize_normalise"
    check_tensors(operator, image)
    if image.data_type != np.uint8 or len(image.shape) != _IMAGE_AXES or image.shape[2] != _COLOURS:
        raise ShapeError(operator, "an image of uint8 (height, width, 3)", image)
    height, width = image.shape[:2]
    output_height, output_width = check_size(operator, size)
    top, left, part_height, part_width = _check_rectangle(operator, rectangle, height, width)
    output = runtime.empty((1, output_height, output_width, _COLOURS), operator=operator)
    steps = part_height / output_height, part_width / output_width
    runtime.launch(
        ("image", "resize_normalise"),
        output_height * output_width,
        (image, output),
        (height, width, output_width),
        (top, left, *steps, *(number(operator, "scale and offset", n) for n in (scale, offset))),
    )
    return output


def _check_rectangle(
    operator: str, rectangle: object, height: int, width: int
) -> tuple[float, float, float, float]:
    """Give the part of the image that is asked for, or raise ShapeError if it isn't one."""
    if rectangle is None:
        return 0.0, 0.0, float(height), float(width)
    expected = "a rectangle (top, left, height, width) of finite numbers that isn't empty"
    given = items(operator, expected, rectangle, 4)
    top, left, part_height, part_width = (number(operator, expected, side) for side in given)
    if not (part_height > 0 and part_width > 0 and np.isfinite([top, left, *given[2:]]).all()):
        raise ShapeError(operator, expected, rectangle)
    return top, left, part_height, part_width
