"""The operators in plain numpy, written from TensorFlow's definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]

ACTIVATIONS = (
    "none",
    "relu",
    "relu6",
    "prelu",
    "sigmoid",
    "tanh",
    "leaky_relu",
    "elu",
    "hard_sigmoid",
    "hard_swish",
)


def noise(seed: int, *shape: int) -> Array:
    """Give normally distributed numbers of that shape."""
    return np.random.default_rng(seed).normal(size=shape)


def windows(x: Array, height: int, width: int, stride: int, fill: float = 0.0) -> Array:
    """Give the windows of ``SAME`` padding: (batch, rows, columns, channels, height, width)."""
    padding = [(0, 0)]
    for length, size in ((x.shape[1], height), (x.shape[2], width)):
        outputs = int(np.ceil(length / stride))
        total = max((outputs - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(x, [*padding, (0, 0)], constant_values=fill)
    return sliding_windows(padded, height, width, stride)


def sliding_windows(x: Array, height: int, width: int, stride: int) -> Array:
    """Give the windows of ``VALID`` padding: (batch, rows, columns, channels, height, width)."""
    return sliding_window_view(x, (height, width), axis=(1, 2))[:, ::stride, ::stride]


def convolution(x: Array, weights: Array, stride: int) -> Array:
    """CONV_2D with weights (output channels, height, width, channels)."""
    height, width = weights.shape[1:3]
    seen = windows(x, height, width, stride)
    return np.asarray(np.einsum("nyxchw,ohwc->nyxo", seen, weights))


def convolution_inside(x: Array, weights: Array, options: dict[str, Any], groups: int = 1) -> Array:
    """Convolve as the definition says it: windows see nothing outside, not even zeros."""
    parts = []
    for part, filters in zip(np.split(x, groups, axis=3), np.split(weights, groups), strict=True):
        seen = placed_windows(part, weights.shape[1:3], options, 1.0)[:, :, :, None]
        inside = placed_windows(np.ones_like(part), weights.shape[1:3], options)[:, :, :, None] > 0
        products = seen * filters.transpose(0, 3, 1, 2)
        parts.append(np.where(inside, products, 0).sum(axis=(-1, -2, -3)))
    return np.concatenate(parts, axis=3)


def depthwise_convolution(x: Array, weights: Array, stride: int) -> Array:
    """DEPTHWISE_CONV_2D with weights (1, height, width, channels * multiplier)."""
    height, width = weights.shape[1:3]
    repeated = np.repeat(x, weights.shape[3] // x.shape[3], axis=3)
    seen = windows(repeated, height, width, stride)
    return np.asarray(np.einsum("nyxchw,hwc->nyxc", seen, weights[0]))


def activate(x: Array, activation: str, alpha: Array | None = None) -> Array:
    """Apply one of the activations."""
    if activation == "prelu":
        return np.where(x < 0, x * alpha, x)
    functions: dict[str, Callable[[Array], Array]] = {
        "none": lambda value: value,
        "relu": lambda value: np.maximum(value, 0),
        "relu6": lambda value: np.clip(value, 0, 6),
        "sigmoid": lambda value: 1 / (1 + np.exp(-value)),
        "tanh": np.tanh,
        "leaky_relu": lambda value: np.where(value < 0, 0.01 * value, value),
        "elu": lambda value: np.where(value < 0, np.expm1(np.minimum(value, 0)), value),
        "hard_sigmoid": lambda value: np.clip(value / 6 + 0.5, 0, 1),
        "hard_swish": lambda value: value * np.clip(value / 6 + 0.5, 0, 1),
    }
    return functions[activation](x)


def resize(image: Array, size: tuple[int, int], rectangle: tuple[float, ...]) -> Array:
    """Sample a rectangle (top, left, height, width) of an image, black outside, pixel by pixel."""
    top, left, height, width = rectangle
    result = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            y = top + (row + 0.5) * height / size[0]
            x = left + (column + 0.5) * width / size[1]
            if 0 <= y <= image.shape[0] and 0 <= x <= image.shape[1]:
                result[row, column] = _sample(image, y - 0.5, x - 0.5)
    return result


def _sample(image: Array, y: float, x: float) -> Array:
    total = np.zeros(3)
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            inside = image[np.clip(row, 0, len(image) - 1), np.clip(column, 0, image.shape[1] - 1)]
            total += weight * inside
    return total


Pads = tuple[tuple[int, int], tuple[int, int]]


def pads(lengths: tuple[int, ...], spans: list[int], strides: tuple[int, int], how: str) -> Pads:
    """Give the padding that TensorFlow calls ``SAME`` or ``VALID``."""
    sides = []
    for length, span, stride in zip(lengths, spans, strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + span - length, 0)
        sides.append((total // 2, total - total // 2) if how == "SAME" else (0, 0))
    return sides[0], sides[1]


def placed_windows(
    x: Array, size: tuple[int, int], options: dict[str, Any], fill: float = 0.0
) -> Array:
    """Give the windows of any padding: (batch, rows, columns, channels, height, width)."""
    strides, dilations, padding = options["stride"], options["dilation"], options["padding"]
    spans = [(s - 1) * d + 1 for s, d in zip(size, dilations, strict=True)]
    sides = pads(x.shape[1:3], spans, strides, padding) if isinstance(padding, str) else padding
    padded = np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=fill)
    seen = sliding_window_view(padded, tuple(spans), axis=(1, 2))
    return seen[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]


def transposed_convolution(
    x: Array, weights: Array, strides: tuple[int, int], dilations: tuple[int, int], groups: int
) -> Array:
    """Add every pixel's filters where they belong, with nothing cut off."""
    batch, height, width, _ = x.shape
    filters, kernel_height, kernel_width, _ = weights.shape
    spans = [(s - 1) * d + 1 for s, d in zip((kernel_height, kernel_width), dilations, strict=True)]
    rows, columns = (height - 1) * strides[0] + spans[0], (width - 1) * strides[1] + spans[1]
    output = np.zeros((batch, rows, columns, filters))
    parts = np.split(x, groups, axis=3), np.split(weights, groups)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            added = [a @ b[:, ky, kx].T for a, b in zip(*parts, strict=True)]
            top, left = ky * dilations[0], kx * dilations[1]
            bottom, right = top + (height - 1) * strides[0] + 1, left + (width - 1) * strides[1] + 1
            output[:, top : bottom : strides[0], left : right : strides[1]] += np.concatenate(
                added, axis=3
            )
    return output
