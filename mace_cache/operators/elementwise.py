"""Addition and activations, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import activation_arguments, blocks, check_type

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["activate", "add"]


def add(runtime: Runtime, a: Tensor, b: Tensor, *, activation: str = "none") -> Tensor:
    """Add two tensors of one shape: TFLite's ADD without broadcasting.

    Args:
        runtime: where to compute.
        a: any shape.
        b: the same shape.
        activation: one of those that `activate` knows, but ``prelu``, applied to the sum.

    Returns:
        A tensor of that shape.

    Raises:
        ShapeError: the shapes or types differ, or the activation is another one.
    """
    if a.shape != b.shape:
        raise ShapeError("add", "two tensors of one shape", f"{a} and {b}")
    return _launch(runtime, (a, b), "add", activation)


def activate(
    runtime: Runtime, x: Tensor, activation: str, alpha: Tensor | float | None = None
) -> Tensor:
    """Apply an activation: ONNX's Relu, PRelu, Sigmoid, Tanh, LeakyRelu, Elu and HardSwish.

    ``relu6`` is TFLite's RELU6; ``hard_sigmoid`` is ONNX's HardSigmoid with alpha 1/6 and beta 0.5,
    the factor of HardSwish.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more; the last one is channels.
        activation: ``none``, ``relu``, ``relu6``, ``prelu``, ``sigmoid``, ``tanh``,
            ``leaky_relu``, ``elu``, ``hard_sigmoid`` or ``hard_swish``.
        alpha: for ``prelu`` the slopes of negative values, one a channel; for ``leaky_relu`` their
            slope, 0.01 if None; for ``elu`` how far below 0 it goes, 1 if None.

    Returns:
        A tensor of the shape of *x*.

    Raises:
        ShapeError: the activation is unknown, or *alpha* doesn't fit it.
    """
    return _launch(runtime, (x, None), "activate", activation, alpha)


def _launch(
    runtime: Runtime,
    tensors: tuple[Tensor, Tensor | None],
    operator: str,
    activation: str,
    alpha: Tensor | float | None = None,
) -> Tensor:
    left, right = tensors
    if not left.shape:
        raise ShapeError(operator, "tensors of one axis or more", left)
    channels = left.shape[-1]
    slopes, number, coefficient = activation_arguments(operator, activation, alpha, channels)
    check_type(operator, runtime, left, right, slopes)
    output = runtime.empty(left.shape)
    runtime.launch(
        ("elementwise", "add_activate"),
        left.size // channels * blocks(channels),
        (left, right, slopes, output),
        (channels, number),
        (coefficient,),
    )
    return output
