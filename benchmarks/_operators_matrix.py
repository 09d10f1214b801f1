"""What `operators.py` measures of products of matrices and what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from _operators import Array, Case

from mace_cache import operators
from mace_cache.operators import matrix, winograd

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor

__all__ = ["CASES"]


def noise(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Give what makes arrays of those shapes."""

    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)

    return prepare


def convolve(x: Array, weights: Array) -> Array:
    """Convolve with ``SAME`` padding: one product of the windows with the filters."""
    filters, height, width, channels = weights.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
    result = rows @ weights.reshape(filters, -1).T
    return np.asarray(result.reshape(*x.shape[:3], filters))


def winograd_unprepared(runtime: Runtime, x: Tensor, weights: Tensor) -> Tensor:
    """Prepare the weights too, which an application does once."""
    prepared = winograd.winograd_weights(runtime, weights)
    return winograd.winograd_convolution(runtime, x, prepared)


CASES = [
    Case(
        "matrix_product, 512x512",
        noise((512, 512), (512, 512)),
        matrix.matrix_product,
        lambda a, b: np.asarray(a @ b),
    ),
    Case(
        "matrix_product, 12 of 128x64 by 64x128, transposed",
        noise((12, 128, 64), (12, 128, 64)),
        lambda runtime, a, b: matrix.matrix_product(runtime, a, b, transpose_b=True),
        lambda a, b: np.asarray(a @ b.swapaxes(1, 2)),
    ),
    Case(
        "fully_connected, 64 rows, 1024 to 1024",
        noise((64, 1024), (1024, 1024), (1024,)),
        lambda runtime, *tensors: matrix.fully_connected(runtime, *tensors, activation="relu"),
        lambda x, weights, bias: np.maximum(x @ weights.T + bias, 0),
    ),
    Case(
        "fully_connected, 1 row, 1280 to 1000",
        noise((1, 1280), (1000, 1280), (1000,)),
        matrix.fully_connected,
        lambda x, weights, bias: np.asarray(x @ weights.T + bias),
    ),
    Case(
        "pointwise_convolution, 56x56x64 to 128",
        noise((1, 56, 56, 64), (128, 1, 1, 64), (128,)),
        lambda runtime, *tensors: operators.pointwise_convolution(
            runtime, *tensors, activation="relu6"
        ),
        lambda x, weights, bias: np.clip(x @ weights[:, 0, 0].T + bias, 0, 6),
    ),
    Case(
        "convolution, 3x3, 56x56x64 to 64",
        noise((1, 56, 56, 64), (64, 3, 3, 64)),
        operators.convolution,
        convolve,
    ),
    Case(
        "winograd_convolution, 56x56x64 to 64",
        noise((1, 56, 56, 64), (64, 3, 3, 64)),
        winograd_unprepared,
        convolve,
    ),
]
