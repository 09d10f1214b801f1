"""Addition and activations, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import items
from mace_cache.operators.arithmetic import WIDE, combine
from mace_cache.operators.checks import activation_arguments, check_type
from mace_cache.operators.copying import shares
from mace_cache.operators.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.arithmetic import Operand
    from mace_cache.operators.tensor import Runtime

__all__ = ["activate", "add", "add_n"]

_TOGETHER = 4  # tensors that one launch adds, as in elementwise.cl


def add(runtime: Runtime, a: Operand, b: Operand, *, activation: str = "none") -> Tensor:
    """Add: TFLite's ADD. Two tensors of one shape need no broadcasting, and one launch.

    Args:
        runtime: where to compute.
        a: a tensor of any shape, or a number.
        b: a tensor whose shape can be broadcast with that of *a* by numpy's rules, or a number;
            one of the two is a tensor.
        activation: one of those that `activate` knows, but ``prelu``, applied to the sum.

    Returns:
        A tensor of the shape that both are broadcast to.

    Raises:
        ShapeError: as `mace_cache.operators.arithmetic.combine`; or the activation is another one.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
        return _launch(runtime, (a, b), "add", activation)
    total = combine(runtime, "add", a, b)
    return total if activation == "none" else _launch(runtime, (total, None), "add", activation)


def add_n(runtime: Runtime, tensors: Sequence[Tensor]) -> Tensor:
    """Add several tensors of one shape, one after the other: TFLite's ADD_N, ONNX's Sum.

    Args:
        runtime: where to compute.
        tensors: one or more, of one shape.

    Returns:
        A tensor of that shape, a new one. Sums on the way are float32.

    Raises:
        ShapeError: no tensors, or shapes or types that differ.
    """
    tensors = items("add_n", "one or more tensors of one shape", tensors)
    check_type("add_n", runtime, *tensors)
    if not tensors or any(tensor.shape != tensors[0].shape for tensor in tensors):
        given = [tensor.shape for tensor in tensors]
        raise ShapeError("add_n", "one or more tensors of one shape", given)
    shape, size = tensors[0].shape, tensors[0].size
    run, _, work_items = shares(runtime, 1, size, run=WIDE)
    output = runtime.empty(shape, operator="add_n")
    before = None
    for start in range(0, len(tensors), _TOGETHER):
        added = [*tensors[start : start + _TOGETHER], *[None] * _TOGETHER][:_TOGETHER]
        is_last = start + _TOGETHER >= len(tensors)
        sums = None if is_last else runtime.empty(shape, np.float32)
        runtime.launch(
            ("elementwise", "add_several"),
            work_items,
            (*added, before, output if is_last else None, sums),
            (run, size),
        )
        before = sums
    return output


def activate(
    runtime: Runtime, x: Tensor, activation: str, alpha: Tensor | float | None = None
) -> Tensor:
    """Apply an activation: ONNX's Relu, PRelu, Sigmoid, Tanh, LeakyRelu, Elu and HardSwish.

    ``relu6`` is TFLite's RELU6; ``hard_sigmoid`` is ONNX's HardSigmoid with alpha 1/6 and beta 0.5,
    the factor of HardSwish.

    Args:
        runtime: where to compute.
        x: any shape; the last axis is channels.
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
    check_type(operator, runtime, left, right)
    if activation == "prelu" and not left.shape:
        raise ShapeError(operator, "tensors of one axis or more for prelu", left)
    length = left.shape[-1] if activation == "prelu" else left.size
    slopes, number, coefficient = activation_arguments(operator, activation, alpha, length)
    check_type(operator, runtime, slopes)
    output = runtime.empty(left.shape, operator=operator)
    rows = left.size // length
    run, chunk, work_items = shares(runtime, rows, length, run=WIDE)
    runtime.launch(
        ("elementwise", "add_activate"),
        work_items,
        (left, right, slopes, output),
        (run, chunk, rows, length, number),
        (coefficient,),
    )
    return output
