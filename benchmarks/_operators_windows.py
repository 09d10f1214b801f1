"""Convolutions and pooling beside numpy: im2col and a matrix product, or sums of shifted slices."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from _operators import Case
from numpy.lib.stride_tricks import sliding_window_view

from mace_cache import operators

if TYPE_CHECKING:
    from _operators import Array

    from mace_cache.operators import Runtime, Tensor

__all__ = ["CASES"]


def _arrays(*shapes: tuple[int, ...]) -> Any:
    """Give what makes arrays of these shapes."""
    return lambda rng: tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def _run(operator: Any, options: dict[str, Any], runtime: Runtime, *tensors: Tensor) -> Tensor:
    made: Tensor = operator(runtime, *tensors, **options)
    return made


def _pad(x: Array, size: tuple[int, int], stride: int, dilation: int, fill: float = 0.0) -> Array:
    """Pad as TensorFlow's ``SAME``."""
    sides = []
    for length, span in zip(x.shape[1:3], ((s - 1) * dilation + 1 for s in size), strict=True):
        total = max((-(-length // stride) - 1) * stride + span - length, 0)
        sides.append((total // 2, total - total // 2))
    return np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=fill)


def _taps(x: Array, size: tuple[int, int], stride: int, dilation: int = 1) -> list[list[Array]]:
    """Give, for each pixel of the windows, what all windows see there."""
    rows = (x.shape[1] - (size[0] - 1) * dilation - 1) // stride * stride + 1
    columns = (x.shape[2] - (size[1] - 1) * dilation - 1) // stride * stride + 1
    return [
        [
            x[:, dy : dy + rows : stride, dx : dx + columns : stride]
            for dx in range(0, size[1] * dilation, dilation)
        ]
        for dy in range(0, size[0] * dilation, dilation)
    ]


def _convolution(
    x: Array, weights: Array, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Array:
    filters, *size, channels = weights.shape
    if size == [1, 1]:
        return np.asarray(x @ weights[:, 0, 0].T)
    spans = [(s - 1) * dilation + 1 for s in size]
    seen = sliding_window_view(_pad(x, (size[0], size[1]), stride, dilation), spans, axis=(1, 2))
    seen = seen[:, ::stride, ::stride, :, ::dilation, ::dilation].transpose(0, 1, 2, 4, 5, 3)
    parts = []
    for group, part in enumerate(np.split(weights, groups)):
        columns = seen[..., group * channels : (group + 1) * channels]
        matrix = part.reshape(filters // groups, -1).T
        parts.append(columns.reshape(-1, len(matrix)) @ matrix)
    return np.concatenate(parts, axis=1).reshape(*seen.shape[:3], filters)


def _depthwise(x: Array, weights: Array, stride: int = 1, dilation: int = 1) -> Array:
    size = weights.shape[1], weights.shape[2]
    taps = _taps(_pad(x, size, stride, dilation), size, stride, dilation)
    total = np.zeros(taps[0][0].shape, x.dtype)
    for ky, row in enumerate(taps):
        for kx, seen in enumerate(row):
            total += seen * weights[0, ky, kx]
    return total


def _transposed(x: Array, weights: Array, stride: int = 2) -> Array:
    """Give it for padding ``VALID``."""
    filters, kernel_height, kernel_width, _ = weights.shape
    batch, height, width, _ = x.shape
    rows, columns = (height - 1) * stride + kernel_height, (width - 1) * stride + kernel_width
    products = (x @ weights.reshape(-1, x.shape[3]).T).reshape(
        batch, height, width, filters, kernel_height, kernel_width
    )
    output = np.zeros((batch, rows, columns, filters), x.dtype)
    for row, line in enumerate(_taps(output, (kernel_height, kernel_width), stride)):
        for column, part in enumerate(line):
            np.add(part, products[..., row, column], out=part)
    return output


def _transposed_depthwise(x: Array, weights: Array, stride: int = 2) -> Array:
    """Give it for padding ``VALID``."""
    _, kernel_height, kernel_width, channels = weights.shape
    batch, height, width, _ = x.shape
    rows, columns = (height - 1) * stride + kernel_height, (width - 1) * stride + kernel_width
    output = np.zeros((batch, rows, columns, channels), x.dtype)
    for row, line in enumerate(_taps(output, (kernel_height, kernel_width), stride)):
        for column, part in enumerate(line):
            np.add(part, x * weights[0, row, column], out=part)
    return output


def _pool(combine: np.ufunc, fill: float, x: Array, size: int, stride: int) -> Array:
    """Give the windows' maximum or sum for padding ``SAME``."""
    taps = _taps(_pad(x, (size, size), stride, 1, fill), (size, size), stride)
    total = np.full(taps[0][0].shape, fill, x.dtype)
    for row in taps:
        for seen in row:
            combine(total, seen, out=total)
    return total


def _average(x: Array, size: int, stride: int) -> Array:
    counted = _pool(np.add, 0.0, np.ones((1, *x.shape[1:3], 1), x.dtype), size, stride)
    return np.asarray(_pool(np.add, 0.0, x, size, stride) / counted)


def _case(name: str, operator: Any, plain: Any, *shapes: tuple[int, ...], **options: Any) -> Case:
    shared = {key: value for key, value in options.items() if key != "padding"}
    run, alone = partial(_run, operator, options), partial(plain, **shared)
    return Case(f"{operator.__name__}, {name}", _arrays(*shapes), run, alone)


_CONVOLVE, _EACH = operators.convolution, operators.depthwise_convolution
_BACK, _EACH_BACK = operators.transposed_convolution, operators.transposed_depthwise_convolution

CASES = [
    _case("3x3, 56x56x64", _CONVOLVE, _convolution, (2, 56, 56, 64), (64, 3, 3, 64)),
    _case("3x3, 28x28x128", _CONVOLVE, _convolution, (4, 28, 28, 128), (128, 3, 3, 128)),
    _case("3x3, 7x7x512", _CONVOLVE, _convolution, (1, 7, 7, 512), (512, 3, 3, 512)),
    _case("1x1, 56x56x64", _CONVOLVE, _convolution, (2, 56, 56, 64), (128, 1, 1, 64)),
    _case(
        "3x3, stride 2, 224x224x3",
        _CONVOLVE,
        _convolution,
        *((2, 224, 224, 3), (32, 3, 3, 3)),
        stride=2,
    ),
    _case(
        "3x3, stride 2, 56x56x64",
        _CONVOLVE,
        _convolution,
        *((2, 56, 56, 64), (128, 3, 3, 64)),
        stride=2,
    ),
    _case(
        "3x3, dilation 2, 56x56x64",
        _CONVOLVE,
        _convolution,
        *((2, 56, 56, 64), (64, 3, 3, 64)),
        dilation=2,
    ),
    _case(
        "3x3, 8 groups, 56x56x128",
        _CONVOLVE,
        _convolution,
        *((1, 56, 56, 128), (128, 3, 3, 16)),
        groups=8,
    ),
    _case("3x3, 112x112x32", _EACH, _depthwise, (1, 112, 112, 32), (1, 3, 3, 32)),
    _case("5x5, 56x56x120", _EACH, _depthwise, (1, 56, 56, 120), (1, 5, 5, 120)),
    _case(
        "3x3, stride 2, 112x112x64",
        _EACH,
        _depthwise,
        *((1, 112, 112, 64), (1, 3, 3, 64)),
        stride=2,
    ),
    _case(
        "4x4, stride 2, 28x28x128",
        _BACK,
        _transposed,
        *((4, 28, 28, 128), (64, 4, 4, 128)),
        stride=2,
        padding="VALID",
    ),
    _case(
        "4x4, stride 2, 56x56x64",
        _EACH_BACK,
        _transposed_depthwise,
        *((2, 56, 56, 64), (1, 4, 4, 64)),
        stride=2,
        padding="VALID",
    ),
    _case(
        "2x2, 112x112x64",
        operators.max_pool,
        partial(_pool, np.maximum, -np.inf),
        (1, 112, 112, 64),
        size=2,
        stride=2,
    ),
    _case(
        "3x3, stride 2, 112x112x64",
        operators.max_pool,
        partial(_pool, np.maximum, -np.inf),
        (1, 112, 112, 64),
        size=3,
        stride=2,
    ),
    _case("3x3, 56x56x96", operators.average_pool, _average, (1, 56, 56, 96), size=3, stride=1),
    _case(
        "112x112x32",
        operators.global_average_pool,
        partial(np.mean, axis=(1, 2), keepdims=True),
        (2, 112, 112, 32),
    ),
    _case(
        "7x7x1280",
        operators.global_max_pool,
        partial(np.max, axis=(1, 2), keepdims=True),
        (8, 7, 7, 1280),
    ),
]
