"""Addition and activations, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import activation_number, blocks, check_type

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["activate", "add"]


def add(runtime: Runtime, a: Tensor, b: Tensor, *, activation: str = "none") -> Tensor:
    """Add two tensors of one shape: TFLite's ADD without broadcasting.

    Args:
        runtime: where to compute.
        a: any shape.
        b: the same shape.
        activation: ``none``, ``relu``, ``relu6`` or ``sigmoid``, applied to the sum.

    Returns:
        A tensor of that shape.

    Raises:
        ShapeError: the shapes or types differ, or the activation is another one.
    """
    if a.shape != b.shape:
        raise ShapeError("add", "two tensors of one shape", f"{a} and {b}")
    return _launch(runtime, (a, b, None), "add", activation)


def activate(runtime: Runtime, x: Tensor, activation: str, alpha: Tensor | None = None) -> Tensor:
    """Apply an activation: TFLite's RELU, RELU6, PRELU and LOGISTIC.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more; the last one is channels.
        activation: ``none``, ``relu``, ``relu6``, ``prelu`` or ``sigmoid``.
        alpha: the slopes of ``prelu`` for negative values, one a channel.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: the activation is unknown, or *alpha* doesn't fit it.
    """
    return _launch(runtime, (x, None, alpha), "activate", activation)


def _launch(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor | None, Tensor | None],
    operator: str,
    activation: str,
) -> Tensor:
    check_type(operator, runtime, *tensors)
    left, right, alpha = tensors
    if not left.shape:
        raise ShapeError(operator, "tensors of one axis or more", left)
    channels = left.shape[-1]
    number = activation_number(operator, activation, alpha, channels)
    output = runtime.empty(left.shape)
    runtime.launch(
        ("elementwise", "add_activate"),
        left.size // channels * blocks(channels),
        (left, right, alpha, output),
        (channels, number),
    )
    return output
