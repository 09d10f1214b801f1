"""What `pyopencl.clmath` and `pyopencl.clrandom` build."""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.array
import pyopencl.clmath
import pyopencl.clrandom
import pyopencl.cltypes

from tests.dropin.tiny import COUNT, each, floats, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]

cla: Any = pyopencl.array  # much of these is untyped
clmath: Any = pyopencl.clmath
clrandom: Any = pyopencl.clrandom
cltypes: Any = pyopencl.cltypes

_OF_ONE = [
    function
    for name, function in vars(clmath).items()
    if isfunction(function) and function.__code__ is clmath.sin.__code__ and name != "nan"
]


def functions_of_one_number(queue: cl.CommandQueue) -> Results:
    """Those of `pyopencl.clmath` that are made alike; of complex numbers, some."""
    a = floats(queue)
    of_complex = cla.to_device(queue, np.linspace(1 + 2j, 3 - 1j, COUNT).astype(np.complex64))
    results = each(*((lambda function=function: function(a)) for function in _OF_ONE))
    clmath.nan(integers(queue).astype(np.uint32))  # as an integer that is anything
    return results + each(*(lambda f=f: f(of_complex) for f in (clmath.exp, clmath.sqrt)))


def functions_of_mathematics(queue: cl.CommandQueue) -> Results:
    """Those of one argument, of two, and with two results."""
    a = floats(queue)
    exponent = (a * 10).astype(np.int32)
    return each(
        lambda: clmath.sin(a),
        lambda: clmath.atan2(a, a),
        lambda: clmath.atan2pi(a, a),
        lambda: clmath.fmod(a, a),
        lambda: clmath.frexp(a),
        lambda: clmath.modf(a),
        lambda: clmath.ldexp(a, exponent),
    )


def bessel(queue: cl.CommandQueue) -> Results:
    """Bessel and Hankel functions, which include pyopencl's own headers."""
    a = floats(queue).astype(np.float64)
    b = a.astype(np.complex128)
    return each(
        lambda: clmath.bessel_jn(1, a),
        lambda: clmath.bessel_yn(1, a),
        lambda: clmath.bessel_jn(1, b),
        lambda: clmath.hankel_01(b),
    )


def _numbers(queue: cl.CommandQueue, generator: Any) -> Results:
    """Of both distributions, as numbers of a few types."""
    made = [generator.uniform(queue, COUNT, np.float32), generator.normal(queue, COUNT, np.float32)]
    made += [generator.uniform(queue, COUNT, np.int32, a=0, b=9)]
    return [array.get() for array in made]


def philox(queue: cl.CommandQueue) -> Results:
    """Random numbers of `PhiloxGenerator`."""
    return _numbers(queue, clrandom.PhiloxGenerator(queue.context, seed=15))


def threefry(queue: cl.CommandQueue) -> Results:
    """Random numbers of `ThreefryGenerator`."""
    return _numbers(queue, clrandom.ThreefryGenerator(queue.context, seed=15))


def random_numbers_of_every_type(queue: cl.CommandQueue) -> Results:
    """Doubles, long integers and vectors, made and filled in."""
    generator = clrandom.PhiloxGenerator(queue.context, seed=15)
    results = []
    for dtype in (np.float64, np.int64, cltypes.float2, cltypes.float4):
        bound = 9 if dtype is np.int64 else np.float32(1)
        filled = cla.empty(queue, COUNT, dtype)
        generator.fill_uniform(filled, b=bound)
        results.append(filled.get())
    for dtype in (np.float64, cltypes.float2, cltypes.float4):
        filled = cla.empty(queue, COUNT, dtype)
        generator.fill_normal(filled)
        results.append(filled.get())
    return results


def random_numbers_of_nobody(queue: cl.CommandQueue) -> Results:
    """`rand` and `fill_rand`, whose seed is the clock: only shape and bounds can be compared."""

    def fill() -> Any:
        filled = cla.empty(queue, COUNT, np.float32)
        clrandom.fill_rand(filled, a=2, b=3)
        return filled

    made = each(fill, lambda: clrandom.rand(queue, COUNT, np.float32, a=2, b=3))
    return [(numbers // 1).clip(2, 2) for numbers in made]


FUNCTIONS: tuple[Callable[[cl.CommandQueue], Results], ...] = (
    functions_of_one_number,
    functions_of_mathematics,
    bessel,
    philox,
    threefry,
    random_numbers_of_every_type,
    random_numbers_of_nobody,
)
