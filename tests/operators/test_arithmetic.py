"""Arithmetic with broadcasting against numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from mace_cache import operators
from mace_cache.errors import ShapeError
from mace_cache.operators import Tensor, add, add_n, combine, equal, floor_divide, maximum, minimum
from mace_cache.operators.tensor import MOST_WORK_ITEMS
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_NUMPY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "squared_difference": lambda a, b: (a - b) ** 2,
    "power": lambda a, b: np.abs(a) ** b,
    "equal": np.equal,
    "floor_divide": np.floor_divide,
}
_UNARY: dict[str, Callable[[Array], Array]] = {
    "negate": np.negative,
    "absolute": np.abs,
    "sign": np.sign,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": np.reciprocal,
    "exp": np.exp,
    "log": np.log,
    "erf": np.vectorize(math.erf, otypes=[float]),
}
_SHAPES = mutually_broadcastable_shapes(num_shapes=2, max_dims=7, max_side=9)


def _numbers(bench: Bench, seed: int, shape: tuple[int, ...]) -> Array:
    """Numbers that both types hold exactly, some of them equal, none of them 0."""
    whole = np.random.default_rng(seed).integers(1, 7, shape) * 0.5
    signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], shape)
    return bench.rounded(np.asarray(whole * signs))


def _run(bench: Bench, operation: str, a: Array | float, b: Array | float) -> Array:
    put = bench.runtime.to_device
    operands = [x if isinstance(x, float) else put(x) for x in (a, b)]
    operator: Any = getattr(operators, operation)
    return bench.runtime.to_host(operator(bench.runtime, *operands))


@settings(deadline=None, max_examples=25)
@given(_SHAPES, st.sampled_from(sorted(_NUMPY)), st.integers(0, 99))
def test_broadcasting_is_numpys(bench: Bench, shapes: Any, operation: str, seed: int) -> None:
    """Every operation gives what numpy gives, for any shapes that can be broadcast."""
    left, right = shapes.input_shapes
    a, b = _numbers(bench, seed, left), _numbers(bench, seed + 7, right)
    if operation == "power":
        a = np.abs(a)
    bench.assert_close(_run(bench, operation, a, b), _NUMPY[operation](a, b))


@pytest.mark.sample
@pytest.mark.parametrize("operation", sorted(_NUMPY))
@pytest.mark.parametrize("shapes", [((3, 5), (3, 5)), ((6, 19), (19,)), ((4, 1), (4, 33))])
def test_operations_are_numpys(bench: Bench, operation: str, shapes: Any) -> None:
    """Equal shapes, rows and columns, with runs that are full, and short."""
    a, b = (_numbers(bench, seed, shape) for seed, shape in enumerate(shapes))
    if operation == "power":
        a = np.abs(a)
    bench.assert_close(_run(bench, operation, a, b), _NUMPY[operation](a, b))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 1, 4, 1, 5, 1), (1, 2, 1, 3, 1, 2)),
        ((2, 1, 3, 1, 2, 1), (2, 5, 3, 2, 2, 2)),
        ((1, 1, 1), (7, 2)),
        ((300, 1, 40), (300, 50, 40)),
    ],
)
def test_many_axes_are_broadcast(bench: Bench, left: Any, right: Any) -> None:
    """Six axes that can't be merged, and more work than the largest grid."""
    a, b = noise(0, *left), noise(1, *right)
    expected = bench.rounded(a) - bench.rounded(b)
    bench.assert_close(_run(bench, "subtract", a, b), expected)
    bench.assert_close(_run(bench, "subtract", b, a), -expected)


def test_large_tensors_are_combined_to_their_end(bench: Bench) -> None:
    """Every run is worked on where there are more than work-items."""
    a = noise(0, MOST_WORK_ITEMS * 8 + 5)
    bench.assert_close(_run(bench, "multiply", a, 2.0), bench.rounded(a) * 2)
    x = bench.runtime.to_device(a)
    made = operators.negate(bench.runtime, x)
    bench.assert_close(bench.runtime.to_host(made), -bench.rounded(a))


@pytest.mark.parametrize("operation", sorted(_NUMPY))
def test_either_operand_may_be_a_number(bench: Bench, operation: str) -> None:
    """A number stands for a tensor that is the same all over."""
    x = np.abs(_numbers(bench, 0, (3, 7)))
    bench.assert_close(_run(bench, operation, x, 1.5), _NUMPY[operation](x, np.float64(1.5)))
    bench.assert_close(_run(bench, operation, 1.5, x), _NUMPY[operation](np.float64(1.5), x))


def test_powers_of_all_signs(bench: Bench) -> None:
    """Zeros, negative bases and whole, odd and broken exponents as numpy has them."""
    a = np.array([0.0, 0.0, 0.0, -2.0, -2.0, -2.0, -2.0, 1.0, 3.0, 0.5, 4.0, np.inf])
    b = np.array([2.0, 0.0, -1.0, 3.0, 2.0, -1.0, 0.5, 9.0, 4.0, 10.0, 0.5, -1.0])
    with np.errstate(all="ignore"):
        expected = a**b
    bench.assert_close(_run(bench, "power", a, b), expected)


_SPECIAL = np.array([0, -0.0, 1, -1, 0.5, -0.5, 2, -3, 0.1, 1e30, -1e-40, np.inf, -np.inf, np.nan])


@pytest.mark.sample
def test_powers_have_the_edges_of_c(runtime: Runtime) -> None:
    """Zeros, ones, infinities and NaN with each other, down to the sign of zero."""
    a, b = (x.ravel().astype(np.float32) for x in np.meshgrid(_SPECIAL, _SPECIAL))
    made = runtime.to_host(operators.power(runtime, runtime.to_device(a), runtime.to_device(b)))
    with np.errstate(all="ignore"):
        expected = np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(made, expected, rtol=2e-7, atol=2e-45)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(made[known]), np.signbit(expected[known]))


@pytest.mark.sample
def test_powers_are_nearly_rounded(runtime: Runtime) -> None:
    """Large and small results alike; what a float holds is exact, for negative bases too."""
    random = np.random.default_rng(0)
    a = np.exp(random.uniform(-80, 80, 40_000)).astype(np.float32)
    b = (random.uniform(-86, 86, a.size) / np.log(a)).astype(np.float32)
    put, take = runtime.to_device, runtime.to_host
    made = take(operators.power(runtime, put(a), put(b)))
    np.testing.assert_allclose(made, a.astype(np.float64) ** b, rtol=2e-7)
    pairs = [(a, b) for a in range(2, 260) for b in range(1, 24) if a**b < 2**24]
    bases, exponents = np.array(pairs, np.float32).T
    made = take(operators.power(runtime, put(-bases), put(exponents)))
    np.testing.assert_array_equal(made, [(-a) ** b for a, b in pairs])


@pytest.mark.sample
def test_floors_of_quotients_are_exact(runtime: Runtime) -> None:
    """Of all signs and sizes, near whole quotients, and with what has no quotient, as in numpy."""
    edges = [x.ravel() for x in np.meshgrid(_SPECIAL, _SPECIAL)]
    random = np.random.default_rng(0)
    a, b = np.exp(random.uniform(-20, 20, (2, 40_000))) * random.choice([-1, 1], (2, 40_000))
    near = (np.round(a / b) * b).astype(np.float32)
    rows = [a, near, np.nextafter(near, np.float32(0)), edges[0]], [b, b, b, edges[1]]
    a, b = (np.concatenate(row).astype(np.float32) for row in rows)
    with np.errstate(all="ignore"):
        known = ~(np.abs(a / b) > 2**22)  # numpy rounds larger ones on the way
        a, b = a[known], b[known]
        expected = np.floor_divide(a, b)
    made = runtime.to_host(floor_divide(runtime, runtime.to_device(a), runtime.to_device(b)))
    np.testing.assert_array_equal(made, expected)
    signed = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(made[signed]), np.signbit(expected[signed]))


def test_not_a_number_wins(bench: Bench) -> None:
    """As in numpy, and whichever operand it is."""
    a, b = np.array([np.nan, 1.0, np.nan, -np.inf]), np.array([1.0, np.nan, np.nan, np.inf])
    put, take = bench.runtime.to_device, bench.runtime.to_host
    for operator, expected in ((minimum, np.minimum), (maximum, np.maximum)):
        made = take(operator(bench.runtime, put(a), put(b)))
        np.testing.assert_array_equal(made, expected(a, b))
    np.testing.assert_array_equal(take(equal(bench.runtime, put(a), put(a))), [0, 1, 0, 1])


def test_floors_of_rounded_quotients_are_exact(runtime: Runtime) -> None:
    """1 / 0.1 rounds to 10, but 0.1 in single precision is a little more than a tenth."""
    a, b = np.array([1.0, -1.0, 6.0, 7.0], np.float32), np.array([0.1, 0.1, 3.0, -2.0], np.float32)
    made = floor_divide(runtime, runtime.to_device(a), runtime.to_device(b))
    np.testing.assert_array_equal(runtime.to_host(made), np.floor_divide(a, b))
    made = floor_divide(runtime, 1.0, runtime.to_device(np.array([0.0, -0.0])))
    np.testing.assert_array_equal(runtime.to_host(made), [np.inf, -np.inf])


@pytest.mark.parametrize("function", sorted(_UNARY))
@pytest.mark.parametrize("shape", [(), (5,), (3, 8), (2, 3, 5, 7)])
def test_functions_are_numpys(bench: Bench, function: str, shape: tuple[int, ...]) -> None:
    """Every function of one tensor, for any shape."""
    x = bench.rounded(_numbers(bench, 3, shape) * 1.25)
    x = np.abs(x) if function in {"sqrt", "rsqrt", "log"} else x
    operator: Any = getattr(operators, function)
    made = bench.runtime.to_host(operator(bench.runtime, bench.runtime.to_device(x)))
    bench.assert_close(made, np.asarray(_UNARY[function](x)))


@pytest.mark.parametrize("function", sorted(_UNARY))
def test_functions_at_their_limits(bench: Bench, function: str) -> None:
    """Zeros, infinities, NaN and what overflows give what numpy gives in that type."""
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e3, -1e3])
    with np.errstate(all="ignore"):
        expected = np.asarray(_UNARY[function](x)).astype(bench.runtime.data_type)
    operator: Any = getattr(operators, function)
    made = bench.runtime.to_host(operator(bench.runtime, bench.runtime.to_device(x)))
    bench.assert_close(made, expected.astype(np.float64))


def test_exp_and_log_are_exact_everywhere(runtime: Runtime) -> None:
    """Both err by parts in ten millions, from the smallest numbers to the largest ones."""
    x = np.linspace(-87, 88.7, 50001, dtype=np.float32)
    result = runtime.to_host(operators.exp(runtime, runtime.to_device(x)))
    np.testing.assert_allclose(result, np.exp(x.astype(np.float64)), rtol=5e-7)
    near_one = 1 + np.geomspace(1e-6, 0.4, 1000)
    x = np.concatenate([np.geomspace(1e-44, 3e38, 50000), near_one, 1 / near_one])
    x = x.astype(np.float32)
    result = runtime.to_host(operators.log(runtime, runtime.to_device(x)))
    np.testing.assert_allclose(result, np.log(x.astype(np.float64)), rtol=5e-7)
    tiny = runtime.to_device(np.array([-95, -103, -104, 89], np.float32))
    result = runtime.to_host(operators.exp(runtime, tiny))
    np.testing.assert_allclose(result, np.exp(np.array([-95, -103, -np.inf, np.inf])), atol=2e-45)


def test_clip_is_numpys(bench: Bench) -> None:
    """Either bound may be left out, the upper one wins, and NaN stays."""
    x = np.array([-np.inf, -7.0, -0.5, 0.0, 3.0, 8.0, np.inf, np.nan])
    put, take = bench.runtime.to_device, bench.runtime.to_host
    for bounds in ({"low": -1.0, "high": 6.0}, {"low": -1.0}, {"high": 1.0}, {}):
        made = take(operators.clip(bench.runtime, put(x), **bounds))
        expected = np.clip(x, bounds.get("low", -np.inf), bounds.get("high", np.inf))
        np.testing.assert_array_equal(made, expected)
    made = take(operators.clip(bench.runtime, put(np.array([0.0])), low=2.0, high=1.0))
    assert made == [1.0]


@pytest.mark.sample
@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_sums_of_several_are_rounded_once(bench: Bench, count: int) -> None:
    """What lies between is more than a half holds, in runs that are full, and short."""
    large = np.full((3, 7), 6e4)
    tail = [noise(seed, 3, 7) for seed in range(count - 3)]
    arrays = [bench.rounded(array) for array in (large, large, -1.05 * large, *tail)]
    expected = arrays[0].astype(np.float32)
    for array in arrays[1:]:
        expected += array.astype(np.float32)
    made = bench.runtime.to_host(add_n(bench.runtime, [*map(bench.runtime.to_device, arrays)]))
    rounded = expected.astype(bench.runtime.data_type).astype(np.float32)
    np.testing.assert_array_equal(made, rounded)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_tensors_is_added(bench: Bench, count: int) -> None:
    """The result is a new tensor; the ones added stay as they are."""
    arrays = [_numbers(bench, seed, (3, 5)) for seed in range(count)]
    tensors = [bench.runtime.to_device(array) for array in arrays]
    bench.assert_close(bench.runtime.to_host(add_n(bench.runtime, tensors)), np.sum(arrays, axis=0))
    bench.assert_close(bench.runtime.to_host(tensors[0]), arrays[0])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_broadcast_sums_are_activated(bench: Bench, activation: str) -> None:
    """Addition has its activation with broadcasting too, and with numbers."""
    a, b = _numbers(bench, 0, (2, 3, 5)), _numbers(bench, 1, (5,))
    put, take = bench.runtime.to_device, bench.runtime.to_host
    applied = np.tanh if activation == "tanh" else lambda x: np.maximum(x, 0)
    made = add(bench.runtime, put(a), put(b), activation=activation)
    bench.assert_close(take(made), applied(a + b))
    bench.assert_close(take(add(bench.runtime, put(a), 1.0, activation=activation)), applied(a + 1))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda r, x: combine(r, "divide", x, r.empty((2, 4))), "divide: expected shapes that can"),
        (lambda r, _: combine(r, "divide", 1.0, 2.0), "expected one tensor or two, given 1.0 and"),
        (lambda r, x: combine(r, "modulo", x, x), "expected an operation of add, subtract"),
        (lambda r, x: operators.transform(r, "cube", x), "expected a function of negate"),
        (lambda r, x: operators.exp(r, _bytes(x)), "exp: expected tensors of float32"),
        (lambda r, x: combine(r, "equal", x, _bytes(x)), "equal: expected tensors of float32"),
        (lambda r, _: add_n(r, []), "add_n: expected one or more tensors of one shape"),
        (lambda r, x: add_n(r, [x, r.empty((3,))]), "add_n: expected one or more tensors"),
        (
            lambda r, _: combine(r, "add", r.empty((2, 1) * 4), r.empty((1, 2) * 4)),
            "add: expected 6 axes to broadcast at most",
        ),
    ],
)
def test_operands_that_do_not_fit_are_named(
    runtime: Runtime, call: Callable[[Runtime, Tensor], Tensor], named: str
) -> None:
    """The error tells what is taken and what was given."""
    with pytest.raises(ShapeError, match=named):
        call(runtime, runtime.empty((2, 3)))


def _bytes(x: Tensor) -> Tensor:
    return Tensor(x.buffer, x.shape, np.dtype(np.uint8))
