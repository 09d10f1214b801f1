"""Padding against numpy: copies, so bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import pad
from tests.operators.litert import run_litert
from tests.operators.reference import noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench

_AMOUNTS = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(4, 6), st.just((0, 0)) | _AMOUNTS), min_size=1, max_size=4),
    st.sampled_from(["constant", "reflect", "symmetric"]),
)
def test_pad_is_numpys(bench: Bench, axes: list[tuple[int, Any]], mode: str) -> None:
    """Any axes, on either side, in every mode."""
    shape, amounts = zip(*axes, strict=True)
    x = noise(0, *shape)
    value = {"constant_values": 2.5} if mode == "constant" else {}
    made = pad(bench.runtime, bench.runtime.to_device(x), amounts, mode=mode, value=2.5)
    expected = np.pad(bench.rounded(x), amounts, mode, **value)  # type: ignore[call-overload]  # any
    np.testing.assert_array_equal(bench.runtime.to_host(made), expected)
    assert made.shape == expected.shape


@pytest.mark.sample
@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric"])
def test_long_rows_and_eight_axes(bench: Bench, mode: str) -> None:
    """Rows in several runs, with edges in the first and the last; and as many axes as may be."""
    for shape, amounts in (
        ((3, 700, 5), ((1, 0), (3, 2), (0, 0))),
        ((2, 3000), ((0, 0), (1100, 1))),
        (
            (2, 1, 2, 3, 2, 2, 1, 2),
            ((1, 1), (1, 0), (0, 1), (1, 2), (1, 1), (0, 1), (1, 0), (1, 1)),
        ),
    ):
        small = tuple(
            (min(a, n - 1), min(b, n - 1)) for (a, b), n in zip(amounts, shape, strict=True)
        )
        x = noise(0, *shape)
        made = pad(bench.runtime, bench.runtime.to_device(x), small, mode=mode)
        expected = np.pad(bench.rounded(x), small, mode)  # type: ignore[call-overload]  # any mode
        np.testing.assert_array_equal(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize(("mode", "number"), [("reflect", 0), ("symmetric", 1)])
def test_mirrors_are_tflites(runtime: Runtime, mode: str, number: int) -> None:
    """As far as MIRROR_PAD goes: all but the edge of each axis, or all of it."""
    x = noise(0, 2, 3, 4).astype(np.float32)
    amounts = np.array([(1, 0), (2, 1), (3, 3)], np.int32) + number
    expected = run_litert("MIRROR_PAD", x, amounts, options="MirrorPadOptions", Mode=number)
    made = pad(runtime, runtime.to_device(x), amounts.tolist(), mode=mode)
    np.testing.assert_array_equal(runtime.to_host(made), expected)


@pytest.mark.parametrize("value", [-np.inf, -0.0, 65504.0])
def test_any_value_is_put_there(bench: Bench, value: float) -> None:
    """The constant arrives with its sign, infinite or not."""
    made = pad(bench.runtime, bench.runtime.to_device(np.ones(1)), [(1, 1)], value=value)
    result = bench.runtime.to_host(made)
    np.testing.assert_array_equal(result, np.array([value, 1, value], np.float32))
    assert np.signbit(result).tolist() == [np.signbit(value), False, np.signbit(value)]


def test_what_a_half_cannot_hold_is_infinite(half_bench: Bench) -> None:
    """As numpy converts it."""
    made = pad(half_bench.runtime, half_bench.runtime.to_device(np.ones(1)), [(0, 1)], value=1e6)
    assert half_bench.runtime.to_host(made).tolist() == [1.0, np.inf]


@pytest.mark.parametrize(
    ("shape", "amounts", "mode", "named"),
    [
        ((3, 4), [(1, 1)] * 2, "edge", "constant, reflect, symmetric, given 'edge'"),
        ((3, 4), [(1, 1)], "constant", "two paddings for each axis of float32 (3, 4)"),
        ((3, 4), [(1, 1), (1,)], "constant", "two paddings"),
        ((), [], "constant", "two paddings for each axis of float32 ()"),
        ((3, 4), [(1, 1), (-1, 0)], "constant", "paddings of 0 or more"),
        ((3, 4), [(3, 0), (0, 0)], "reflect", "of mode reflect than float32 (3, 4) has"),
        ((3, 4), [(0, 4), (0, 0)], "symmetric", "of mode symmetric than float32 (3, 4) has"),
        ((2,) * 9, [(1, 1)] * 9, "constant", "8 axes or fewer"),
    ],
)
def test_paddings_that_do_not_fit_are_named(
    runtime: Runtime, shape: tuple[int, ...], amounts: Any, mode: str, named: str
) -> None:
    """The error tells what the operator takes and what it got."""
    with pytest.raises(ShapeError, match="pad: ") as raised:
        pad(runtime, runtime.empty(shape), amounts, mode=mode)
    assert named in str(raised.value)


def test_tensors_of_another_type_are_named(runtime: Runtime, half_bench: Bench) -> None:
    """Half tensors don't go with a runtime of float."""
    with pytest.raises(ShapeError, match=r"pad: .*float32, given float16 \(3,\)"):
        pad(runtime, half_bench.runtime.empty((3,)), [(1, 1)])
