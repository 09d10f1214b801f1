"""Pooling, as TFLite's MAX_POOL_2D defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import blocks, check_features, check_type, window

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["max_pool"]


def max_pool(
    runtime: Runtime, x: Tensor, *, size: int = 2, stride: int = 2, padding: str = "SAME"
) -> Tensor:
    """Take the largest value under each window: TFLite's MAX_POOL_2D.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        size: the window's height and width.
        stride: the distance between windows along both axes.
        padding: ``SAME`` (windows may reach over the edge) or ``VALID`` (they may not).

    Returns:
        (batch, output height, output width, channels), the output's height and width as TensorFlow
        defines them for that padding.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "max_pool"
    batch, height, width, channels = check_features(operator, x)
    check_type(operator, runtime, x)
    if size < 1 or stride < 1:
        raise ShapeError(operator, "a size and a stride of 1 or more", f"{size} and {stride}")
    if padding not in ("SAME", "VALID"):
        raise ShapeError(operator, "padding SAME or VALID", repr(padding))
    if padding == "VALID" and size > min(height, width):
        raise ShapeError(operator, f"an input of {size}x{size} or more for VALID padding", x)
    output_height, top = window(height, size, stride, padding)
    output_width, left = window(width, size, stride, padding)
    output = runtime.empty((batch, output_height, output_width, channels))
    runtime.launch(
        ("pooling", "max_pool"),
        batch * output_height * output_width * blocks(channels),
        (x, output),
        (height, width, channels, output_height, output_width, size, stride, top, left),
    )
    return output
