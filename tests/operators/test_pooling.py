"""Max pooling against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import average_pool, global_average_pool, global_max_pool, max_pool
from tests.operators.reference import noise, sliding_windows, windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor
    from tests.operators.conftest import Bench

_SHAPES = st.tuples(st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(1, 9))


@settings(deadline=None, max_examples=40)
@given(_SHAPES, st.integers(1, 3), st.integers(1, 3), st.sampled_from(["SAME", "VALID"]))
def test_max_pool_is_numpys(
    bench: Bench, shape: tuple[int, int, int, int], size: int, stride: int, padding: str
) -> None:
    """Any window, stride and padding gives what TensorFlow's definition gives."""
    x = noise(size, *shape) - 5  # a zero from the padding would be the largest
    made = max_pool(
        bench.runtime, bench.runtime.to_device(x), size=size, stride=stride, padding=padding
    )
    x = bench.rounded(x)
    if padding == "SAME":
        under = windows(x, size, size, stride, fill=-np.inf)
    else:
        under = sliding_windows(x, size, size, stride)
    bench.assert_close(bench.runtime.to_host(made), under.max(axis=(-1, -2)))


@pytest.mark.parametrize(
    ("shape", "arguments", "named"),
    [
        ((5, 5, 3), {}, "(batch, height, width, channels), given float32 (5, 5, 3)"),
        ((1, 5, 5, 3), {"size": 0}, "size of 1 or more, one for both axes or two, given 0"),
        ((1, 5, 5, 3), {"stride": 0}, "stride of 1 or more, one for both axes or two, given 0"),
        ((1, 5, 5, 3), {"padding": "FULL"}, "of 0 or more, given 'FULL'"),
        ((1, 2, 5, 3), {"size": 3, "padding": "VALID"}, "3x3 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    runtime: Runtime, shape: tuple[int, ...], arguments: dict[str, object], named: str
) -> None:
    """The error tells what max_pool takes and what it got."""
    operator: Callable[..., Tensor] = max_pool
    with pytest.raises(ShapeError) as raised:
        operator(runtime, runtime.empty(shape), **arguments)
    assert raised.value.operator == "max_pool"
    assert named in str(raised.value)


@pytest.mark.sample
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 9, 5, 3), (3, 4, 4, 32), (2, 7, 7, 70)])
def test_global_pools_are_numpys(bench: Bench, shape: tuple[int, ...]) -> None:
    """Each channel's mean and maximum, over any number of pixels and channels."""
    x = noise(0, *shape) - 5
    tensor, get = bench.runtime.to_device(x), bench.runtime.to_host
    x = bench.rounded(x)
    mean, largest = x.mean(axis=(1, 2), keepdims=True), x.max(axis=(1, 2), keepdims=True)
    bench.assert_close(get(global_average_pool(bench.runtime, tensor)), mean)
    bench.assert_close(get(global_max_pool(bench.runtime, tensor)), largest)


@pytest.mark.sample
@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 1), (2, 2), (0, 2)])
@pytest.mark.parametrize("channel", [0, 8])
def test_what_is_not_a_number_stays_so(bench: Bench, row: int, column: int, channel: int) -> None:
    """A maximum is not a number wherever in the window that stands, as numpy's isn't."""
    x = noise(0, 1, 3, 3, 9)
    x[0, row, column, channel] = np.nan
    wide = np.pad(x, [(0, 0), (0, 7), (3, 4), (0, 0)])  # of more pixels than are pooled as a window
    runtime, put, get = bench.runtime, bench.runtime.to_device, bench.runtime.to_host
    expected = bench.rounded(x).max(axis=(1, 2), keepdims=True)
    bench.assert_close(get(max_pool(runtime, put(x), size=3, padding="VALID")), expected)
    bench.assert_close(get(global_max_pool(runtime, put(x))), expected)
    expected = bench.rounded(wide).max(axis=(1, 2), keepdims=True)
    bench.assert_close(get(global_max_pool(runtime, put(wide))), expected)


def test_windows_that_see_nothing_have_a_value(runtime: Runtime) -> None:
    """Where all of a window is padding, a maximum is minus infinity and a mean is 0."""
    x = runtime.to_device(np.ones((1, 1, 1, 1)))
    for operator, empty in ((max_pool, -np.inf), (average_pool, 0.0)):
        made = operator(runtime, x, size=1, stride=1, padding=((0, 0), (1, 1)))
        assert runtime.to_host(made).ravel().tolist() == [empty, 1.0, empty]


@pytest.mark.parametrize("operator", [average_pool, global_average_pool, global_max_pool])
def test_shapes_and_types_that_do_not_fit_are_named(
    runtime: Runtime, half_bench: Bench, operator: Callable[..., Tensor]
) -> None:
    """The error has the name of the operator that was called."""
    with pytest.raises(ShapeError, match=rf"^{operator.__name__}: expected a tensor \(batch"):
        operator(runtime, runtime.empty((5, 5, 3)))
    with pytest.raises(ShapeError, match=rf"^{operator.__name__}: expected tensors of float32"):
        operator(runtime, half_bench.runtime.empty((1, 5, 5, 3)))
