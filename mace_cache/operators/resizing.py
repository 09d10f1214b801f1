"""Resizing of images in tensors: nearest, bilinear and bicubic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice, number
from mace_cache.operators.checks import blocks, check_features, check_size, check_type
from mace_cache.operators.copying import on_cpu

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["resize"]

_METHODS = {"nearest": 0, "bilinear": 1, "bicubic": 2}  # as in resize.cl
_CPU_RUN = 256  # blocks of channels that one work-item makes: all of a row look the same way down


def resize(
    runtime: Runtime,
    x: Tensor,
    size: tuple[int, int],
    *,
    method: str = "bilinear",
    align_corners: bool = False,
    half_pixel_centers: bool = False,
    coefficient: float = -0.75,
    exclude_outside: bool = False,
) -> Tensor:
    """Resize every image of a batch: TFLite's and ONNX's resizing; shrinking doesn't smooth.

    ``nearest`` is TFLite's RESIZE_NEAREST_NEIGHBOR and ``bilinear`` its RESIZE_BILINEAR.
    ``bicubic`` is ONNX's Resize of mode ``cubic``, and the ``ResizeBicubic`` of TensorFlow: with
    its *half_pixel_centers* that has the coefficient -0.5 and excludes what is outside, without
    them it has -0.75 and doesn't (TensorFlow rounds places to 1/1024 pixel, which isn't done here).

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        size: the result's height and width in pixels.
        method: ``nearest``, ``bilinear`` or ``bicubic``.
        align_corners: the corner pixels' centres stay where they are; ONNX's ``align_corners``.
        half_pixel_centers: centres are at half coordinates; ONNX's ``half_pixel``. With neither,
            pixel 0 stays where it is: ONNX's ``asymmetric``.
        coefficient: of ``bicubic``: the steepness of Keys's kernel, ONNX's ``cubic_coeff_a``.
        exclude_outside: of ``bicubic``: pixels outside the image have no weight, rather than that
            those at its edge are repeated; ONNX's ``exclude_outside``.

    Returns:
        (batch, *size*, channels).

    Raises:
        ShapeError: *x* has another number of axes or type, the size isn't two integers above 0, the
            method another one, or both kinds of centres are asked for.
    """
    operator = "resize"
    batch, height, width, channels = check_features(operator, x)
    check_type(operator, runtime, x)
    choice(operator, "a method", method, _METHODS)
    size = check_size(operator, size)
    coefficient = number(operator, "a number as coefficient", coefficient)
    if align_corners and half_pixel_centers:
        raise ShapeError(operator, "align_corners or half_pixel_centers", "both")
    output = runtime.empty((batch, *size, channels), operator=operator)
    scales = [
        _scale(length, wanted, align_corners)
        for length, wanted in zip((height, width), size, strict=True)
    ]
    run = _CPU_RUN if on_cpu(runtime) else 1
    runtime.launch(
        ("resize", "resize"),
        batch * size[0] * -(-size[1] * blocks(channels) // run),
        (x, output),
        (
            *(run, height, width, channels, *size, _METHODS[method]),
            *map(bool, (half_pixel_centers, align_corners, exclude_outside)),
        ),
        (*scales, coefficient),
    )
    return output


def _scale(length: int, wanted: int, align_corners: bool) -> float:
    """Give how many input pixels there are to an output pixel, rounded as TFLite does."""
    if align_corners and wanted > 1:
        return float(np.float32(length - 1) / np.float32(wanted - 1))
    return float(np.float32(length) / np.float32(wanted))
