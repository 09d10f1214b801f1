"""Arithmetic on two operands, element by element, broadcast as numpy does."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice, number
from mace_cache.operators.checks import check_type
from mace_cache.operators.copying import shares
from mace_cache.operators.tensor import Tensor

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime

__all__ = [
    "SPAN",
    "WIDE",
    "Operand",
    "combine",
    "divide",
    "equal",
    "floor_divide",
    "maximum",
    "minimum",
    "multiply",
    "power",
    "squared_difference",
    "subtract",
]

Operand: TypeAlias = Tensor | float

WIDE = 8
"""How many elements lie together that kernels work on at a time: WIDE in wide.h."""

SPAN = 32
"""How many elements of a row a work-item takes: SPAN in wide.h."""

_OPERATIONS = (  # as in arithmetic.cl
    "add",
    "subtract",
    "multiply",
    "divide",
    "minimum",
    "maximum",
    "squared_difference",
    "power",
    "equal",
    "floor_divide",
)
_MOST_AXES = 6


def combine(runtime: Runtime, operation: str, a: Operand, b: Operand) -> Tensor:
    """Combine two operands, element by element: TFLite's and ONNX's arithmetic with broadcasting.

    Args:
        runtime: where to compute.
        operation: ``add``, or the name of one of this module's functions.
        a: a tensor of any shape, or a number.
        b: a tensor whose shape can be broadcast with that of *a* by numpy's rules, or a number;
            one of the two is a tensor.

    Returns:
        A tensor of the shape that both are broadcast to.

    Raises:
        ShapeError: there is no such operation; neither operand is a tensor, one is of another type
            than the runtime's, or neither a tensor nor a number; the shapes can't be broadcast, or
            have more than 6 axes left when those that can be taken together are.
    """
    choice("combine", "an operation", operation, _OPERATIONS)
    tensors = [operand for operand in (a, b) if isinstance(operand, Tensor)]
    check_type(operation, runtime, *tensors)
    numbers = [
        number(operation, "tensors or numbers", operand)
        for operand in (a, b)
        if not isinstance(operand, Tensor)
    ]
    if not tensors:
        raise ShapeError(operation, "one tensor or two", f"{a} and {b}")
    left, right = tensors[0], tensors[-1]
    shape = _broadcast(left.shape, right.shape)
    if shape is None:
        raise ShapeError(operation, "shapes that can be broadcast", f"{a} and {b}")
    axes = _merge_axes(shape, left.shape, right.shape)
    if len(axes) > _MOST_AXES:
        raise ShapeError(operation, f"{_MOST_AXES} axes to broadcast at most", f"{a} and {b}")
    output = runtime.empty(shape, operator=operation)
    operands = [operand if isinstance(operand, Tensor) else None for operand in (a, b)]
    _launch(runtime, (*operands, output), _OPERATIONS.index(operation), axes, *numbers)
    return output


def subtract(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give a - b: TFLite's SUB. Arguments, result and errors are those of `combine`."""
    return combine(runtime, "subtract", a, b)


def multiply(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give a * b: TFLite's MUL. Arguments, result and errors are those of `combine`."""
    return combine(runtime, "multiply", a, b)


def divide(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give a / b: TFLite's DIV. Arguments, result and errors are those of `combine`."""
    return combine(runtime, "divide", a, b)


def minimum(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give the smaller one, or NaN if one is NaN: ``numpy.minimum``, TFLite's MINIMUM.

    Arguments, result and errors are those of `combine`.
    """
    return combine(runtime, "minimum", a, b)


def maximum(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give the larger one, or NaN if one is NaN: ``numpy.maximum``, TFLite's MAXIMUM.

    Arguments, result and errors are those of `combine`.
    """
    return combine(runtime, "maximum", a, b)


def squared_difference(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give (a - b) * (a - b): TFLite's SQUARED_DIFFERENCE.

    Arguments, result and errors are those of `combine`.
    """
    return combine(runtime, "squared_difference", a, b)


def power(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give a to the power of b, at zeros, infinities and NaN as C's ``pow``: TFLite's POW.

    The relative error is at most 2e-7; powers that float32 holds exactly are exact. Arguments,
    result and errors are those of `combine`.
    """
    return combine(runtime, "power", a, b)


def equal(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give 1 where a == b, and 0 elsewhere: TFLite's EQUAL, but in the runtime's data type.

    Arguments, result and errors are those of `combine`.
    """
    return combine(runtime, "equal", a, b)


def floor_divide(runtime: Runtime, a: Operand, b: Operand) -> Tensor:
    """Give the largest whole number up to a / b: ``numpy.floor_divide``, TFLite's FLOOR_DIV.

    It is exact up to 2**24, where TFLite rounds the quotient first (1 / 0.1 is 9 here, as
    0.1 in float32 is more than a tenth); from there on it is a / b, rounded. Arguments, result and
    errors are those of `combine`. Division by 0 gives an infinity, or NaN; an infinity divided by
    anything else gives NaN, and by an infinity -0.0 or 0.0, or -1 where the signs differ.
    """
    return combine(runtime, "floor_divide", a, b)


def _launch(
    runtime: Runtime,
    tensors: tuple[Tensor | None, ...],
    number: int,
    axes: tuple[tuple[int, int, int], ...],
    scalar: float = 0.0,
) -> None:
    (length, *steps), *outer = axes
    steps = [0 if operand is None else step for operand, step in zip(tensors, steps, strict=False)]
    between = [*outer[:-1], *[(1, 0, 0)] * _MOST_AXES][: _MOST_AXES - 2]
    _, *outermost = outer[-1] if outer else (1, 0, 0)
    rows = math.prod(length for length, _, _ in outer)
    run, chunk, work_items = shares(runtime, rows, length, run=WIDE)
    runtime.launch(
        ("arithmetic", "combine"),
        work_items,
        tensors,
        (
            *(run, chunk, rows, number, len(outer)),
            *(length, *steps),
            *(value for axis in between for value in axis),
            *outermost,
        ),
        (scalar,),
    )


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...] | None:
    """Give the common shape by numpy's rules, or None."""
    axes = max(len(left), len(right))
    pairs = list(zip(_padded(left, axes), _padded(right, axes), strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def _padded(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (1,) * (axes - len(shape)) + shape


@lru_cache(maxsize=256)
def _merge_axes(
    shape: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[tuple[int, int, int], ...]:
    """Give length, left and right stride of as few axes as will do, from the last one outwards."""
    merged: list[tuple[int, int, int]] = []
    strides = [_strides(_padded(operand, len(shape))) for operand in (left, right)]
    for axis in reversed(list(zip(shape, *strides, strict=True))):
        inner = merged[-1] if merged else None
        if axis[0] == 1:
            continue
        if inner and all(axis[i] == inner[i] * inner[0] for i in (1, 2)):
            merged[-1] = axis[0] * inner[0], inner[1], inner[2]
        else:
            merged.append(axis)
    return tuple(merged) or ((1, 0, 0),)


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Give the distance between neighbours along each axis, 0 along those of length 1."""
    return [0 if n == 1 else math.prod(shape[i + 1 :]) for i, n in enumerate(shape)]
