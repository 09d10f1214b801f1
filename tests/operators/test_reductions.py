"""Reductions and softmax against numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from mace_cache import operators
from mace_cache.errors import ShapeError
from mace_cache.operators import log_softmax, reduce_maximum, reduce_minimum, reduce_sum, softmax
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_NUMPY: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "mean": np.mean,
    "minimum": np.min,
    "maximum": np.max,
    "product": np.prod,
}


def _run(bench: Bench, reduction: str, x: Array, axes: Any, **options: bool) -> Array:
    operator: Any = getattr(operators, f"reduce_{reduction}")
    made = operator(bench.runtime, bench.runtime.to_device(x), axes, **options)
    return bench.runtime.to_host(made)


def _near_one(seed: int, *shape: int) -> Array:
    return 1 + noise(seed, *shape) / 4


@settings(deadline=None, max_examples=25)
@given(array_shapes(max_dims=5, max_side=7), st.data())
def test_reductions_are_numpys(bench: Bench, shape: tuple[int, ...], data: st.DataObject) -> None:
    """Any axes of any shape, kept or not; what a half can't hold is rounded once, at the end."""
    reduction = data.draw(st.sampled_from(sorted(_NUMPY)))
    axes = data.draw(st.none() | st.sets(st.integers(-len(shape), -1)).map(list))
    keep = data.draw(st.booleans())
    x = _near_one(len(shape), *shape)
    numpy_axes = None if axes is None else tuple(axes)
    made = _run(bench, reduction, x, axes, keep_dims=keep)
    expected = np.asarray(_NUMPY[reduction](bench.rounded(x), axis=numpy_axes, keepdims=keep))
    assert made.shape == expected.shape
    relative, absolute = (6e-4, 1e-7) if _is_half(bench) else (1e-5, 1e-30)
    np.testing.assert_allclose(made, expected, rtol=relative, atol=absolute)


@pytest.mark.sample
@pytest.mark.parametrize("reduction", sorted(_NUMPY))
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *[((3, 1000), 1), ((700, 3), 1), ((5, 8), 1), ((2, 1001), 1), ((1, 60_001), 1)],
        *[((700, 3), 0), ((3, 200, 9), 1), ((1, 5000, 8), 1), ((2, 3, 600), 1), ((4100, 9), 0)],
    ],
)
def test_long_and_short_axes_are_reduced(
    bench: Bench, reduction: str, shape: tuple[int, ...], axis: int
) -> None:
    """Few results and many, of few elements and many, which are neighbours or aren't."""
    x = _near_one(axis, *shape)
    if reduction == "product":
        x = np.exp((x - 1) / np.sqrt(shape[axis]))
    made = _run(bench, reduction, x, [axis])
    bench.assert_close(made, np.asarray(_NUMPY[reduction](bench.rounded(x), axis=axis)))


@pytest.mark.sample
@pytest.mark.parametrize("reduction", ["sum", "mean", "product"])
@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 2, 900), (2, 5, 2, 4, 9), (2, 3, 40, 17)])
def test_axes_that_are_not_neighbours_are_reduced_in_float32(
    bench: Bench, reduction: str, shape: tuple[int, ...]
) -> None:
    """What lies between is more than a half holds, in sums and products."""
    axes = tuple(range(0, len(shape), 2))
    x = noise(0, *shape)
    if reduction == "product":
        x = 10 ** (x / 1e3 + 6 / math.prod(shape[axis] for axis in axes[1:]))
        x[1] = 1 / x[1]
    else:
        x[0] += 6e4
        x[1] -= 6e4
    x = bench.rounded(x)
    expected = np.asarray(_NUMPY[reduction](x, axis=axes))
    noticed = 0 if reduction == "product" else 1e-7 * np.abs(x).sum(axis=axes).max()
    made = _run(bench, reduction, x, axes)
    np.testing.assert_allclose(made, expected, rtol=6e-4, atol=noticed)


@pytest.mark.parametrize("shape", [(2**20 + 3,), (2**17, 8), (1024, 1024)])
def test_sums_of_a_million_are_exact(float_bench: Bench, shape: tuple[int, ...]) -> None:
    """The error of single precision doesn't grow with the number of elements."""
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    for axes in ([0], None):
        made = _run(float_bench, "sum", x, axes)
        expected = x.sum(axis=None if axes is None else 0, dtype=np.float64)
        np.testing.assert_allclose(made, expected, rtol=1e-6)


@pytest.mark.parametrize("length", [5, 8, 4001])
def test_infinities_and_nan_are_reduced_as_numpy_does(bench: Bench, length: int) -> None:
    """The smallest of infinities is one, and what is not a number wins."""
    x = np.full((4, length), np.inf)
    x[1] = -np.inf
    x[2:] = 0.0
    x[2, length - 1] = np.nan
    x[3, 0] = np.nan
    for reduction in ("minimum", "maximum", "sum"):
        made = _run(bench, reduction, x, [1])
        np.testing.assert_array_equal(made, _NUMPY[reduction](x, axis=1))
        made = _run(bench, reduction, x.T, [0])
        np.testing.assert_array_equal(made, _NUMPY[reduction](x, axis=1))


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


@pytest.mark.sample
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *[((1,), 0), ((7,), 0), ((3, 5), -1), ((3, 5), 0), ((2, 3, 16), 1), ((2, 1001), 1)],
        *[((4, 1, 3, 9), 0), ((1, 40_000), 1), ((40_000, 2), 0), ((5000, 10), 1)],
    ],
)
def test_softmax_is_numpys(bench: Bench, shape: tuple[int, ...], axis: int) -> None:
    """Over any axis, however large the numbers are."""
    x = noise(0, *shape) * 10 + 500
    rounded = bench.rounded(x)
    tensor = bench.runtime.to_device(x)
    made = bench.runtime.to_host(softmax(bench.runtime, tensor, axis=axis))
    bench.assert_close(made, _softmax(rounded, axis))
    made = bench.runtime.to_host(log_softmax(bench.runtime, tensor, axis=axis))
    with np.errstate(divide="ignore"):
        expected = rounded - rounded.max(axis=axis, keepdims=True)
        expected -= np.log(np.exp(expected).sum(axis=axis, keepdims=True))
    bench.assert_close(made, expected)


def test_softmax_of_masked_elements_is_zero(bench: Bench) -> None:
    """Minus infinity takes no part; numbers that differ widely give 0 and 1."""
    x = np.array([[0.0, -np.inf, 0.0], [-60000.0, 60000.0, 0.0]])
    made = softmax(bench.runtime, bench.runtime.to_device(x))
    expected = [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]
    np.testing.assert_array_equal(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda r, x: reduce_sum(r, x, [2]), r"reduce_sum: .* each once, given \(2,\)"),
        (lambda r, x: reduce_minimum(r, x, [0, -2]), r"reduce_minimum: .* given \(0, -2\)"),
        (lambda r, _: reduce_maximum(r, r.empty((2,), np.int32)), "reduce_maximum: .*given int32"),
        (lambda r, x: softmax(r, x, axis=-3), r"softmax: expected axes of float32 \(2, 3\)"),
        (lambda r, _: log_softmax(r, r.empty(())), r"log_softmax: .* given \(-1,\)"),
    ],
)
def test_axes_that_are_not_there_are_named(
    runtime: Runtime, call: Callable[[Runtime, Tensor], Tensor], named: str
) -> None:
    """The error tells the tensor and the axes."""
    with pytest.raises(ShapeError, match=named):
        call(runtime, runtime.empty((2, 3)))


def _is_half(bench: Bench) -> bool:
    return bool(bench.runtime.data_type == np.float16)
