"""What operators ask of their arguments before they launch, and the geometry of their windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["activation_number", "blocks", "check_features", "check_type", "window"]

_ACTIVATIONS = {"none": 0, "relu": 1, "relu6": 2, "prelu": 3, "sigmoid": 4}  # as in common.h
_BLOCK = 4  # BLOCK in common.h
_FEATURE_AXES = 4


def check_type(operator: str, runtime: Runtime, *tensors: Tensor | None) -> None:
    """Raise ShapeError unless every tensor has the runtime's data type."""
    for tensor in tensors:
        if tensor is not None and tensor.data_type != runtime.data_type:
            raise ShapeError(operator, f"tensors of {runtime.data_type}", tensor)


def check_features(operator: str, x: Tensor) -> tuple[int, int, int, int]:
    """Give (batch, height, width, channels), or raise ShapeError for another number of axes."""
    if len(x.shape) != _FEATURE_AXES:
        raise ShapeError(operator, "a tensor (batch, height, width, channels)", x)
    batch, height, width, channels = x.shape
    return batch, height, width, channels


def activation_number(operator: str, activation: str, alpha: Tensor | None, channels: int) -> int:
    """Give an activation as kernels take it.

    Raises:
        ShapeError: the activation is unknown, or *alpha* isn't one slope a channel for ``prelu``
            and absent for any other.
    """
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ShapeError(operator, f"an activation of {known}", repr(activation))
    if activation == "prelu":
        if alpha is None or alpha.size != channels or alpha.shape[-1:] != (channels,):
            raise ShapeError(operator, f"alpha of {channels} channels for prelu", alpha)
    elif alpha is not None:
        raise ShapeError(operator, f"no alpha with activation {activation}", alpha)
    return _ACTIVATIONS[activation]


def blocks(channels: int) -> int:
    """Give the number of blocks of channels that a kernel works on one at a time."""
    return -(-channels // _BLOCK)


def window(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """Place windows along one axis, as TensorFlow's ``SAME`` and ``VALID`` padding define it.

    Args:
        length: the axis's length.
        size: the window's length.
        stride: the distance between windows.
        padding: ``SAME`` or ``VALID``.

    Returns:
        The number of windows, and how far before the axis the first one starts.
    """
    if padding == "VALID":
        return (length - size) // stride + 1, 0
    count = -(-length // stride)
    return count, max((count - 1) * stride + size - length, 0) // 2
