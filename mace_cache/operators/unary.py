"""Functions of one tensor, element by element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mace_cache.operators.arguments import choice, number
from mace_cache.operators.arithmetic import WIDE
from mace_cache.operators.checks import check_type
from mace_cache.operators.copying import shares

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "absolute",
    "clip",
    "erf",
    "exp",
    "log",
    "negate",
    "reciprocal",
    "rsqrt",
    "sign",
    "sqrt",
    "square",
    "transform",
]

_FUNCTIONS = (  # as in arithmetic.cl
    "negate",
    "absolute",
    "sign",
    "clip",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "exp",
    "log",
    "erf",
)


def transform(
    runtime: Runtime, function: str, x: Tensor, low: float = -math.inf, high: float = math.inf
) -> Tensor:
    """Apply a function to every element: TFLite's and ONNX's operators of those names.

    Args:
        runtime: where to compute.
        function: the name of one of this module's functions.
        x: any shape.
        low: the lower bound of ``clip``, which no other function reads.
        high: its upper bound.

    Returns:
        A tensor of the shape of *x*. Where the function isn't defined, it is NaN.

    Raises:
        ShapeError: *x* is of another type than the runtime's, there is no such function, or a bound
            isn't a number.
    """
    choice("transform", "a function", function, _FUNCTIONS)
    check_type(function, runtime, x)
    bounds = [number(function, "numbers as bounds", bound) for bound in (low, high)]
    output = runtime.empty(x.shape, operator=function)
    run, _, work_items = shares(runtime, 1, x.size, run=WIDE)
    runtime.launch(
        ("arithmetic", "transform"),
        work_items,
        (x, output),
        (run, x.size, _FUNCTIONS.index(function)),
        bounds,
    )
    return output


def negate(runtime: Runtime, x: Tensor) -> Tensor:
    """Give -x: TFLite's NEG. Arguments, result and errors are those of `transform`."""
    return transform(runtime, "negate", x)


def absolute(runtime: Runtime, x: Tensor) -> Tensor:
    """Give x without its sign: TFLite's ABS. Arguments, result and errors as of `transform`."""
    return transform(runtime, "absolute", x)


def sign(runtime: Runtime, x: Tensor) -> Tensor:
    """Give -1, 0 or 1: TFLite's SIGN. Arguments, result and errors are those of `transform`."""
    return transform(runtime, "sign", x)


def clip(runtime: Runtime, x: Tensor, *, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Bring what is out of bounds to the nearer bound: ONNX's Clip, ``numpy.clip``.

    Args:
        runtime: where to compute.
        x: any shape.
        low: the lower bound.
        high: the upper bound, which wins where it is below the lower one.

    Returns:
        A tensor of the shape of *x*; NaN stays NaN.

    Raises:
        ShapeError: *x* is of another type than the runtime's, or a bound isn't a number.
    """
    return transform(runtime, "clip", x, low, high)


def square(runtime: Runtime, x: Tensor) -> Tensor:
    """Give x * x: TFLite's SQUARE. Arguments, result and errors are those of `transform`."""
    return transform(runtime, "square", x)


def sqrt(runtime: Runtime, x: Tensor) -> Tensor:
    """Give the square root: TFLite's SQRT. Arguments, result and errors as of `transform`."""
    return transform(runtime, "sqrt", x)


def rsqrt(runtime: Runtime, x: Tensor) -> Tensor:
    """Give 1 / sqrt(x): TFLite's RSQRT. Arguments, result and errors are those of `transform`."""
    return transform(runtime, "rsqrt", x)


def reciprocal(runtime: Runtime, x: Tensor) -> Tensor:
    """Give 1 / x: ONNX's Reciprocal. Arguments, result and errors are those of `transform`."""
    return transform(runtime, "reciprocal", x)


def exp(runtime: Runtime, x: Tensor) -> Tensor:
    """Give e to the power of x: TFLite's EXP. Arguments, result and errors as of `transform`."""
    return transform(runtime, "exp", x)


def log(runtime: Runtime, x: Tensor) -> Tensor:
    """Give the natural logarithm: TFLite's LOG. Arguments, result and errors as of `transform`."""
    return transform(runtime, "log", x)


def erf(runtime: Runtime, x: Tensor) -> Tensor:
    """Give the error function: ONNX's Erf. Arguments, result and errors as of `transform`."""
    return transform(runtime, "erf", x)
