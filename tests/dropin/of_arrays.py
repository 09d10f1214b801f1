"""What `pyopencl.array` builds: each operator, method and function, of arrays and of scalars."""

from __future__ import annotations

import contextlib
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.array

from tests.dropin.tiny import COUNT, each, floats, indices, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]

cla: Any = pyopencl.array  # much of it is untyped


def _with(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Callable[[], Any]:
    """A call for later; what it changes is a copy."""
    return lambda: function(a.copy(), b)


def arithmetic(queue: cl.CommandQueue) -> Results:
    """Operators of arithmetic, of two arrays, of an array and a number, and the other way round."""
    a, b, x = integers(queue), integers(queue, 2) + 1, floats(queue)
    both = (
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.iadd,
        operator.isub,
        operator.imul,
    )
    calls = [_with(function, a, other) for function in both for other in (b, 3)]
    inexact = (operator.itruediv, operator.pow)
    calls += [_with(function, x, other) for function in inexact for other in (x, np.float32(3))]
    calls += [
        lambda: 3 - a,
        lambda: 3 * a,
        lambda: 3 / b,
        lambda: 3**x,
        lambda: -a,
        lambda: abs(-a),
    ]
    calls += [lambda: a.mul_add(2, b, 3), lambda: a.mul_add(2, 5, 3)]
    return each(*calls)


def bits(queue: cl.CommandQueue) -> Results:
    """Operators of bits."""
    a, b = integers(queue), integers(queue, 2)
    both = (
        operator.and_,
        operator.or_,
        operator.xor,
        operator.iand,
        operator.ior,
        operator.ixor,
    )
    return each(*(_with(function, a, other) for function in both for other in (b, 3)), lambda: ~a)


def comparisons(queue: cl.CommandQueue) -> Results:
    """Comparisons, truth values, choices and extremes."""
    a, b = integers(queue), integers(queue, 2)
    both = (operator.lt, operator.le, operator.eq, operator.ne, operator.ge, operator.gt)
    calls = [_with(function, a, other) for function in both for other in (b, 25)]
    some = (cla.logical_and, cla.logical_or, cla.maximum, cla.minimum)
    calls += [_with(function, a, other) for function in some for other in (b, np.int32(25))]
    calls += [
        lambda: cla.logical_not(a),
        lambda: cla.if_positive(a - b, a, b),
        lambda: cla.if_positive(a - b, np.int32(1), np.int32(2)),
    ]
    return each(*calls)


def complex_numbers(queue: cl.CommandQueue) -> Results:
    """Parts of complex numbers, and arithmetic with them."""
    a = cla.to_device(queue, np.linspace(1 + 2j, 3 - 1j, COUNT).astype(np.complex64))
    return each(
        lambda: a.real,
        lambda: a.imag,
        a.conj,
        a.conjugate,
        lambda: abs(a),
        lambda: a * a + 2j,
        lambda: cla.vdot(a, a),
    )


def making(queue: cl.CommandQueue) -> Results:
    """Arrays that are made, filled, converted, picked and put together on the device."""
    a, some = integers(queue), indices(queue)
    matrix = a.reshape(COUNT // 2, 2)
    return each(
        lambda: cla.arange(queue, 0, COUNT, 2, dtype=np.int32),
        lambda: cla.zeros(queue, COUNT, np.int32),
        lambda: cla.zeros_like(a),
        lambda: cla.empty(queue, COUNT, np.float32).fill(1.5),
        lambda: a.astype(np.float32),
        a.reverse,
        lambda: cla.take(a, some),
        lambda: a[some],
        lambda: cla.concatenate([a, some]),
        lambda: cla.hstack([a, some]),
        lambda: cla.stack([matrix, matrix]),
        lambda: cla.diff(a),
    )


def putting(queue: cl.CommandQueue) -> Results:
    """Elements that are put into an array."""
    a, some = integers(queue), indices(queue)

    def assign(place: Any, value: Any) -> Any:
        changed = a.copy()
        changed[place] = value
        return changed

    def take_many() -> list[Any]:
        out = [cla.zeros_like(some)]
        with contextlib.suppress(AttributeError):  # it fails in pyopencl, after the build
            cla.multi_take([a], some, out=out)
        return []

    return each(
        lambda: assign(some, some),
        lambda: assign(slice(10, 20), a[30:40].copy()),
        lambda: assign(slice(10, 20), 7),
        lambda: cla.multi_put([cla.take(a, some)], some, out=[cla.zeros_like(a)]),
        lambda: cla.multi_take_put([a, a + 1], some, some, out=[cla.zeros_like(a) for _ in "ab"]),
        take_many,
    )


def reductions(queue: cl.CommandQueue) -> Results:
    """Sums, products, extremes and truth of all elements, and of chosen ones."""
    a, b, some = integers(queue), integers(queue, 2), indices(queue)
    return each(
        lambda: cla.sum(a),
        lambda: cla.dot(a, b),
        lambda: cla.vdot(a, b),
        lambda: cla.max(a),
        lambda: cla.min(a),
        lambda: cla.any(a),
        lambda: cla.all(a),
        lambda: cla.subset_dot(some, a, a),
        lambda: cla.subset_max(some, a),
        lambda: cla.subset_min(some, a),
    )


def running_sums(queue: cl.CommandQueue) -> Results:
    """`cumsum`."""
    return each(lambda: cla.cumsum(integers(queue)))


FUNCTIONS = (
    arithmetic,
    bits,
    comparisons,
    complex_numbers,
    making,
    putting,
    reductions,
    running_sums,
)
