"""Pooling, as TFLite's MAX_POOL_2D and AVERAGE_POOL_2D and ONNX's operators define it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.operators.checks import check_features, check_type
from mace_cache.operators.tensor import LOCAL_SIZE
from mace_cache.operators.windows import count_tiles, make_windows, place_windows

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor
    from mace_cache.operators.windows import Padding, Windows

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool"]

_MAXIMUM, _AVERAGE, _AVERAGE_OF_ALL = range(3)  # as in pooling.h
_SIDE = 8  # SIDE in global_pooling.cl
_LANES = 8  # LANES in windows.h
_FEW_PIXELS = 64  # too few to share among work-items


def max_pool(
    runtime: Runtime,
    x: Tensor,
    *,
    size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] = 2,
    dilation: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> Tensor:
    """Take the largest value under each window: TFLite's MAX_POOL_2D, ONNX's MaxPool.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        size: the window's height and width, one number or two.
        stride: the distance between windows, one number or (along height, along width).
        dilation: the distance between the pixels of a window, likewise.
        padding: how far windows reach over the edge, where there is nothing to take: ``SAME`` or
            ``VALID`` as TensorFlow defines them, or ((top, bottom), (left, right)).

    Returns:
        (batch, output height, output width, channels). A window that sees NaN gives NaN, as with
        ``numpy.max``; one that sees no pixel at all gives minus infinity.

    Raises:
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels, or windows that see more than 2**30.
    """
    windows = make_windows("max_pool", size, stride, dilation)
    return _pool("max_pool", runtime, x, (windows, padding), _MAXIMUM)


def average_pool(
    runtime: Runtime,
    x: Tensor,
    *,
    size: int | tuple[int, int] = 2,
    stride: int | tuple[int, int] = 2,
    padding: Padding = "SAME",
    count_padding: bool = False,
) -> Tensor:
    """Take the mean under each window: TFLite's AVERAGE_POOL_2D, ONNX's AveragePool.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        size: the window's height and width, one number or two.
        stride: the distance between windows, one number or (along height, along width).
        padding: how far windows reach over the edge, as `max_pool` takes it.
        count_padding: whether what a window sees beyond the edge counts as zeros (ONNX's
            ``count_include_pad``), or not at all, as in TFLite.

    Returns:
        (batch, output height, output width, channels). A window that sees no pixel at all gives 0.

    Raises:
        ShapeError: arguments that don't fit together; or windows (with their dilation), strides or
            paddings of more than 2**27 pixels, or windows that see more than 2**30.
    """
    pooling = _AVERAGE_OF_ALL if count_padding else _AVERAGE
    windows = make_windows("average_pool", size, stride, 1)
    return _pool("average_pool", runtime, x, (windows, padding), pooling)


def global_average_pool(runtime: Runtime, x: Tensor) -> Tensor:
    """Take the mean of each channel: ONNX's GlobalAveragePool, TFLite's MEAN over both axes.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).

    Returns:
        (batch, 1, 1, channels).

    Raises:
        ShapeError: another number of axes or type.
    """
    return _pool_all("global_average_pool", runtime, x, _AVERAGE)


def global_max_pool(runtime: Runtime, x: Tensor) -> Tensor:
    """Take the largest value of each channel: ONNX's GlobalMaxPool.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).

    Returns:
        (batch, 1, 1, channels), NaN where one of a channel's values is.

    Raises:
        ShapeError: another number of axes or type.
    """
    return _pool_all("global_max_pool", runtime, x, _MAXIMUM)


def _pool(
    operator: str, runtime: Runtime, x: Tensor, placed: tuple[Windows, Padding], pooling: int
) -> Tensor:
    """Do it with windows and their padding."""
    batch, height, width, channels = check_features(operator, x)
    check_type(operator, runtime, x)
    windows, padding = placed
    (rows, columns), before = place_windows(operator, x, windows, padding)
    output = runtime.empty((batch, rows, columns, channels), operator=operator)
    runtime.launch(
        ("pooling", "pool"),
        count_tiles(batch, rows, columns) * -(-channels // _LANES),
        (x, output),
        (
            *(height, width, channels, rows, columns),
            *(*windows.size, *windows.strides, *windows.dilations, *before, pooling),
        ),
    )
    return output


def _pool_all(operator: str, runtime: Runtime, x: Tensor, pooling: int) -> Tensor:
    """Do it with one window over all."""
    batch, height, width, channels = check_features(operator, x)
    if height * width <= _FEW_PIXELS:
        windows = make_windows(operator, (height, width), 1, 1)
        return _pool(operator, runtime, x, (windows, "VALID"), pooling)
    check_type(operator, runtime, x)
    output = runtime.empty((batch, 1, 1, channels), operator=operator)
    runtime.launch(
        ("global_pooling", "global_pool"),
        batch * -(-channels // (_SIDE * _LANES)) * LOCAL_SIZE,
        (x, output),
        (height * width, channels, pooling),
    )
    return output
