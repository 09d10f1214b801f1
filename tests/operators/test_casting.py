"""Conversions between types against numpy, and where it leaves them open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mace_cache.errors import ShapeError
from mace_cache.operators import cast

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_ALL = ("float32", "float16", "int32", "uint8")


def _elements(runtime: Runtime, x: Array, wanted: str) -> Array:
    result = cast(runtime, runtime.to_device(x), wanted)
    assert result.shape == x.shape
    assert result.data_type == wanted
    return runtime.to_host(result)


@settings(deadline=None, max_examples=25)
@given(arrays(np.float16, st.integers(1, 40), elements=st.floats(width=16)))
def test_floats_become_integers(bench: Bench, x: Array) -> None:
    """What is behind the point goes; what can't be held is the nearest value, NaN 0."""
    whole = np.nan_to_num(np.trunc(x.astype(np.float64)), posinf=np.inf, neginf=-np.inf)
    for wanted in ("int32", "uint8"):
        limits = np.iinfo(wanted)
        expected = np.clip(whole, limits.min, limits.max).astype(wanted)
        np.testing.assert_array_equal(_elements(bench.runtime, x, wanted), expected)


@pytest.mark.parametrize(
    ("given_value", "whole", "byte"),
    [
        (2147483520.0, 2147483520, 255),
        (2147483648.0, 2147483647, 255),
        (-2147483648.0, -2147483648, 0),
        (-1e20, -2147483648, 0),
        (255.99, 255, 255),
        (-0.99, 0, 0),
        (np.nan, 0, 0),
    ],
)
def test_the_ends_of_the_range(runtime: Runtime, given_value: float, whole: int, byte: int) -> None:
    """The largest float below the limit keeps its value; the limit is the last integer."""
    x = np.full(3, given_value, np.float32)
    assert _elements(runtime, x, "int32").tolist() == [whole] * 3
    assert _elements(runtime, x, "uint8").tolist() == [byte] * 3


@settings(deadline=None, max_examples=25)
@given(arrays(np.int32, st.integers(1, 40)))
def test_integers_become_other_types(bench: Bench, x: Array) -> None:
    """Rounded to the nearest float, or the nearest byte."""
    runtime = bench.runtime
    np.testing.assert_array_equal(_elements(runtime, x, "float32"), x.astype(np.float32))
    np.testing.assert_array_equal(_elements(runtime, x, "uint8"), np.clip(x, 0, 255))
    small = x % 65536 - 32768
    np.testing.assert_array_equal(_elements(runtime, small, "float16"), small.astype(np.float16))


@pytest.mark.sample
@pytest.mark.parametrize("wanted", _ALL)
def test_bytes_survive_every_type(bench: Bench, wanted: str) -> None:
    """Every type holds what a byte holds."""
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    there = cast(bench.runtime, bench.runtime.to_device(x), wanted)
    np.testing.assert_array_equal(bench.runtime.to_host(there), x)
    np.testing.assert_array_equal(bench.runtime.to_host(cast(bench.runtime, there, "uint8")), x)


def test_floats_are_rounded_to_the_even_half(runtime: Runtime) -> None:
    """As numpy rounds them, down to numbers that only a half of few bits holds, up to infinity."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**32, 5000, np.uint32).view(np.float32)
    small = np.ldexp(1 + np.arange(4096) / 4096, -14 - np.arange(4096) % 12)
    x = np.concatenate([x[np.isfinite(x)], small.astype(np.float32)])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    half = cast(runtime, runtime.to_device(x), "float16")
    assert half.data_type == np.float16
    np.testing.assert_array_equal(runtime.to_host(cast(runtime, half, "float32")), expected)


def test_its_own_type_is_the_tensor_itself(bench: Bench) -> None:
    """Nothing is copied."""
    x = bench.runtime.empty((2, 3))
    assert cast(bench.runtime, x, x.data_type) is x


def test_another_type_is_named(runtime: Runtime) -> None:
    """The error tells which types there are."""
    with pytest.raises(ShapeError, match=r"cast: expected a data type of float32, .*given float64"):
        cast(runtime, runtime.empty((2, 3)), np.float64)
