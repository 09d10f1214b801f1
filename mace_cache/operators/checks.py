"""What operators ask of their arguments before they launch, and the geometry of their windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice, integer, integers, number
from mace_cache.operators.tensor import Tensor, check_tensors

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime

__all__ = [
    "activation_arguments",
    "blocks",
    "check_axis",
    "check_features",
    "check_size",
    "check_type",
    "window",
]

_ACTIVATIONS = {  # as in common.h
    "none": 0,
    "relu": 1,
    "relu6": 2,
    "prelu": 3,
    "sigmoid": 4,
    "tanh": 5,
    "leaky_relu": 6,
    "elu": 7,
    "hard_sigmoid": 8,
    "hard_swish": 9,
}
_COEFFICIENTS = {"leaky_relu": 0.01, "elu": 1.0}  # ONNX's defaults
_BLOCK = 4  # BLOCK in common.h
_FEATURE_AXES = 4


def check_type(operator: str, runtime: Runtime, *tensors: Tensor | None) -> None:
    """Raise ShapeError unless all are tensors of the runtime's data type, or None."""
    check_tensors(operator, *tensors)
    wanted = runtime.data_type
    for tensor in tensors:
        if tensor is not None and tensor.data_type != wanted:
            raise ShapeError(operator, f"tensors of {runtime.data_type}", tensor)


def check_size(operator: str, size: object) -> tuple[int, int]:
    """Give an image's height and width, or raise ShapeError unless they are integers above 0."""
    height, width = integers(operator, "a size (height, width) that isn't empty", size, 2, least=1)
    return height, width


def check_features(operator: str, x: Tensor) -> tuple[int, int, int, int]:
    """Give (batch, height, width, channels), or raise ShapeError for another number of axes."""
    check_tensors(operator, x)
    if len(x.shape) != _FEATURE_AXES:
        raise ShapeError(operator, "a tensor (batch, height, width, channels)", x)
    batch, height, width, channels = x.shape
    return batch, height, width, channels


def activation_arguments(
    operator: str, activation: str, alpha: Tensor | float | None, channels: int
) -> tuple[Tensor | None, int, float]:
    """Give an activation as kernels take it: slopes, the activation's number, its coefficient.

    Raises:
        ShapeError: the activation is unknown, or *alpha* isn't one slope a channel for ``prelu``, a
            number or None for ``leaky_relu`` and ``elu``, and None for any other.
    """
    kind = _ACTIVATIONS[choice(operator, "an activation", activation, _ACTIVATIONS)]
    if activation == "prelu":
        if not isinstance(alpha, Tensor) or alpha.size != channels or alpha.shape[-1] != channels:
            raise ShapeError(operator, f"alpha of {channels} channels for prelu", alpha)
        return alpha, kind, 0.0
    if activation in _COEFFICIENTS:
        given = _COEFFICIENTS[activation] if alpha is None else alpha
        return None, kind, number(operator, f"a number as alpha for {activation}", given)
    if alpha is not None:
        raise ShapeError(operator, f"no alpha with activation {activation}", alpha)
    return None, kind, 0.0


def blocks(channels: int) -> int:
    """Give the number of blocks of channels that a kernel works on one at a time."""
    return -(-channels // _BLOCK)


def window(
    length: int, size: int, stride: int, padding: str | tuple[int, int], dilation: int = 1
) -> tuple[int, int]:
    """Place windows along one axis, as TensorFlow's ``SAME`` and ``VALID`` padding define it.

    Args:
        length: the axis's length.
        size: the window's length.
        stride: the distance between windows.
        padding: ``SAME``, ``VALID``, or how far windows reach over the axis before and after it.
        dilation: the distance between what a window sees.

    Returns:
        The number of windows, and how far before the axis the first one starts.
    """
    span = (size - 1) * dilation + 1
    if padding == "SAME":
        count = -(-length // stride)
        return count, max((count - 1) * stride + span - length, 0) // 2
    before, after = (0, 0) if isinstance(padding, str) else padding
    return (length + before + after - span) // stride + 1, before


def check_axis(operator: str, x: Tensor, axis: int) -> int:
    """Give an axis counted from the first one, or raise ShapeError if *x* doesn't have it."""
    check_tensors(operator, x)
    axes = len(x.shape)
    known = integer(operator, f"an axis of {x}", axis)
    if not -axes <= known < axes:
        raise ShapeError(operator, f"a tensor with an axis {axis}", x)
    return known % axes
