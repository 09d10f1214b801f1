"""Products of matrices, and fully connected layers, which are such products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import activation_arguments, check_type
from mace_cache.operators.product import launch_product

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["fully_connected", "matrix_product"]


def matrix_product(
    runtime: Runtime,
    a: Tensor,
    b: Tensor,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Tensor | None = None,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Multiply matrices: ``numpy.matmul`` of two axes or more, TFLite's BATCH_MATMUL.

    Args:
        runtime: where to compute.
        a: (..., rows, depth), or (..., depth, rows) if *transpose_a*.
        b: (..., depth, columns), or (..., columns, depth) if *transpose_b*.
        transpose_a: whether the last two axes of *a* change places first.
        transpose_b: whether the last two axes of *b* change places first.
        bias: (columns,), added to every row.
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one a column.

    Returns:
        (..., rows, columns); the axes before the last two are broadcast as numpy does.

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "matrix_product"
    check_type(operator, runtime, a, b, bias)
    if min(len(a.shape), len(b.shape)) < 2:  # noqa: PLR2004 (a matrix has two axes)
        raise ShapeError(operator, "two tensors of two axes or more", f"{a} and {b}")
    rows, depth = reversed(a.shape[-2:]) if transpose_a else a.shape[-2:]
    b_depth, columns = reversed(b.shape[-2:]) if transpose_b else b.shape[-2:]
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        batch = None
    if depth != b_depth or batch is None:
        expected = "matrices of one depth, and axes before them that broadcast"
        raise ShapeError(operator, expected, f"{a} and {b}")
    slopes, number, coefficient = _epilogue(operator, bias, activation, alpha, columns)
    check_type(operator, runtime, slopes)
    output = runtime.empty((*batch, rows, columns), operator=operator)
    a_batch, b_batch, places = _batches(runtime, batch, a, b)
    launch_product(
        runtime,
        "matrix_product",
        (a, b, bias, slopes, places, output),
        (math.prod(batch), rows, columns, depth),
        a_steps=(*((1, rows) if transpose_a else (depth, 1)), a_batch),
        b_steps=(*((1, depth) if transpose_b else (columns, 1)), b_batch),
        epilogue=(number, coefficient),
    )
    return output


def fully_connected(
    runtime: Runtime,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str = "none",
    alpha: Tensor | float | None = None,
) -> Tensor:
    """Multiply each row of inputs by the weights: TFLite's FULLY_CONNECTED, keeping all axes.

    Args:
        runtime: where to compute.
        x: (..., inputs), of one axis or more.
        weights: (outputs, inputs).
        bias: (outputs,).
        activation: one of those that `activate` knows, applied last.
        alpha: what `activate` takes with it; the slopes of ``prelu`` are one an output.

    Returns:
        (..., outputs).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "fully_connected"
    check_type(operator, runtime, x, weights, bias)
    if not x.shape:
        raise ShapeError(operator, "a tensor (..., inputs)", x)
    inputs = x.shape[-1]
    if weights.shape[1:] != (inputs,):
        raise ShapeError(operator, f"weights (outputs, {inputs})", weights)
    return _multiply_rows(runtime, operator, (x, weights, bias), activation, alpha)


def _multiply_rows(
    runtime: Runtime,
    operator: str,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    activation: str,
    alpha: Tensor | float | None,
) -> Tensor:
    """Multiply every row along the last axis of x by every row of the weights."""
    x, weights, bias = tensors
    inputs, outputs = x.shape[-1], weights.shape[0]
    slopes, number, coefficient = _epilogue(operator, bias, activation, alpha, outputs)
    check_type(operator, runtime, slopes)
    output = runtime.empty((*x.shape[:-1], outputs), operator=operator)
    launch_product(
        runtime,
        "matrix_product",
        (x, weights, bias, slopes, None, output),
        (1, x.size // inputs, outputs, inputs),
        a_steps=(inputs, 1, 0),
        b_steps=(1, inputs, 0),
        epilogue=(number, coefficient),
    )
    return output


def _epilogue(
    operator: str,
    bias: Tensor | None,
    activation: str,
    alpha: Tensor | float | None,
    columns: int,
) -> tuple[Tensor | None, int, float]:
    """Check the bias, and give the activation as kernels take it."""
    if bias is not None and bias.shape != (columns,):
        raise ShapeError(operator, f"bias ({columns},)", bias)
    return activation_arguments(operator, activation, alpha, columns)


def _batches(
    runtime: Runtime, batch: tuple[int, ...], a: Tensor, b: Tensor
) -> tuple[int, int, Tensor | None]:
    """Tell where each product finds its matrices: steps from one to the next, or else a table."""
    sizes = [math.prod(tensor.shape[-2:]) for tensor in (a, b)]
    counts = [tensor.size // size for tensor, size in zip((a, b), sizes, strict=True)]
    if all(count in (1, math.prod(batch)) for count in counts):
        a_step, b_step = (
            0 if count == 1 else size for count, size in zip(counts, sizes, strict=True)
        )
        return a_step, b_step, None
    begins = [
        np.broadcast_to(np.arange(0, tensor.size, size).reshape(tensor.shape[:-2]), batch).ravel()
        for tensor, size in zip((a, b), sizes, strict=True)
    ]
    return 0, 0, runtime.to_device(np.stack(begins, axis=1).astype(np.int32))
