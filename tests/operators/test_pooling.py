"""Max pooling against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import max_pool
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
        ((1, 5, 5, 3), {"size": 0}, "given 0 and 2"),
        ((1, 5, 5, 3), {"stride": 0}, "given 2 and 0"),
        ((1, 5, 5, 3), {"padding": "FULL"}, "SAME or VALID, given 'FULL'"),
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
