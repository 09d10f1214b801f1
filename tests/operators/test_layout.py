"""Reshape, padding and concatenation against numpy: copies, so bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import concatenate, pad_channels, reshape
from tests.operators.reference import noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 5))
def test_pad_channels_is_numpys(bench: Bench, shape: list[int], before: int, after: int) -> None:
    """Zeros stand before and after the channels, and nothing else changes."""
    x = noise(0, *shape)
    made = pad_channels(bench.runtime, bench.runtime.to_device(x), before, after)
    widths = [(0, 0)] * (len(shape) - 1) + [(before, after)]
    assert made.shape == np.pad(x, widths).shape
    np.testing.assert_array_equal(bench.runtime.to_host(made), np.pad(bench.rounded(x), widths))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.data(),
)
def test_concatenate_is_numpys(
    bench: Bench, shape: list[int], lengths: list[int], data: st.DataObject
) -> None:
    """Any number of tensors is joined along any axis, counted from either end."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = []
    for seed, length in enumerate(lengths):
        shape[axis] = length
        arrays.append(noise(seed, *shape))
    tensors = [bench.runtime.to_device(array) for array in arrays]
    result = bench.runtime.to_host(concatenate(bench.runtime, tensors, axis))
    expected = np.concatenate([bench.rounded(array) for array in arrays], axis)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == expected.shape


@pytest.mark.parametrize("shape", [(6, 4), (24,), (2, -1, 3), (1, 2, 3, 4), (-1,)])
def test_reshape_is_numpys_and_copies_nothing(runtime: Runtime, shape: tuple[int, ...]) -> None:
    """The result has the new shape, and stands on the same buffer."""
    x = noise(0, 4, 6).astype(np.float32)
    tensor = runtime.to_device(x)
    made = reshape(tensor, shape)
    assert made.buffer is tensor.buffer
    np.testing.assert_array_equal(runtime.to_host(made), x.reshape(shape))


@pytest.mark.parametrize("shape", [(5, 5), (-1, -1), (7, -1), (0, -1), (-2, -12), (), (-24, -1)])
def test_reshape_to_another_number_of_elements_is_refused(
    runtime: Runtime, shape: tuple[int, ...]
) -> None:
    """The error tells how many elements there are and what was wanted."""
    with pytest.raises(ShapeError, match=r"reshape: expected a shape of 24 elements") as raised:
        reshape(runtime.empty((4, 6)), shape)
    assert raised.value.given == shape


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [([], 0), ([(2, 3)], 2), ([(2, 3)], -3), ([(2, 3), (2, 4)], 0), ([(2, 3), (2, 3, 1)], 0)],
)
def test_concatenate_of_shapes_that_do_not_fit_is_refused(
    runtime: Runtime, shapes: list[tuple[int, ...]], axis: int
) -> None:
    """The error tells every shape."""
    with pytest.raises(ShapeError, match="concatenate: ") as raised:
        concatenate(runtime, [runtime.empty(shape) for shape in shapes], axis)
    assert raised.value.given == shapes


@pytest.mark.parametrize(("before", "after"), [(-1, 0), (0, -1)])
def test_negative_padding_is_refused(runtime: Runtime, before: int, after: int) -> None:
    """Channels can't be cut off by padding."""
    with pytest.raises(ShapeError, match=f"pad_channels: .*given .{before}, {after}.$"):
        pad_channels(runtime, runtime.empty((2, 3)), before, after)


def test_copies_between_types_are_refused(runtime: Runtime, half_bench: Bench) -> None:
    """Tensors of another type than the runtime's can't be joined or padded."""
    half = half_bench.runtime.empty((2, 3))
    with pytest.raises(ShapeError, match=r"concatenate: .*float32, given float16 \(2, 3\)"):
        concatenate(runtime, [runtime.empty((2, 3)), half], 0)
    with pytest.raises(ShapeError, match=r"pad_channels: .*float32, given float16 \(2, 3\)"):
        pad_channels(runtime, half, 1, 1)
