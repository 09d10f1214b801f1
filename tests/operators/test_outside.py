"""Numbers that are infinite, or none, in windows that reach over the edge of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mace_cache.operators import (
    convolution,
    depthwise_convolution,
    transposed_convolution,
    transposed_depthwise_convolution,
)
from tests.operators import reference
from tests.operators.reference import noise

if TYPE_CHECKING:
    from tests.operators.conftest import Bench

_ONCE = {"stride": (1, 1), "dilation": (1, 1), "padding": "SAME"}


@pytest.mark.sample
@pytest.mark.parametrize("special", [np.inf, np.nan])
@pytest.mark.parametrize(
    ("shapes", "options", "groups"),
    [
        (((1, 2, 2, 9), (5, 1, 1, 9)), {}, 1),
        (((2, 4, 5, 3), (3, 3, 3, 3)), {}, 1),
        (((1, 4, 4, 18), (4, 3, 3, 9)), {"dilation": (2, 1)}, 2),
        (((1, 7, 3, 11), (6, 4, 2, 11)), {"padding": ((2, 3), (1, 0)), "stride": (2, 1)}, 1),
    ],
)
def test_convolutions_see_nothing_outside(
    bench: Bench,
    special: float,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    options: dict[str, Any],
    groups: int,
) -> None:
    """Where a special weight or input meets nothing, the sum is what the rest gives."""
    options = {**_ONCE, **options}
    x, weights = noise(0, *shapes[0]), np.abs(noise(1, *shapes[1])) / 8
    weights[0, 0, 0, 2] = weights[-1, -1, -1, 1] = x[0, -1, 0, 2] = special
    x[..., :3] = np.abs(x[..., :3]) + 0.1
    put = bench.runtime.to_device
    made = convolution(bench.runtime, put(x), put(weights), groups=groups, **options)
    expected = reference.convolution_inside(
        bench.rounded(x), bench.rounded(weights), options, groups
    )
    assert np.isfinite(expected).any()
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize("groups", [1, 9])
def test_depthwise_convolutions_see_nothing_outside(bench: Bench, groups: int) -> None:
    """Neither does the convolution of each channel by itself, made either way."""
    x, weights = noise(0, 2, 4, 5, 9), noise(1, 9, 3, 3, 1)
    weights[4, 0, 0, 0], weights[8, 2, 1, 0] = np.inf, -np.inf
    put = bench.runtime.to_device
    if groups == 1:
        filters = put(weights.transpose(3, 1, 2, 0))
        made = depthwise_convolution(bench.runtime, put(x), filters)
    else:
        made = convolution(bench.runtime, put(x), put(weights), groups=groups)
    rounded = bench.rounded(x), bench.rounded(weights)
    expected = reference.convolution_inside(*rounded, _ONCE, 9)
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.sample
@pytest.mark.parametrize(("groups", "channels"), [(1, 9), (2, 11), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolutions_see_nothing_outside(
    bench: Bench, groups: int, channels: int, stride: int
) -> None:
    """Where a special weight has no pixel to be multiplied by, it has no part in the sum."""
    x, weights = noise(0, 2, 4, 3, channels * groups), noise(1, 3 * groups, 3, 4, channels)
    weights[0, 0, 0, 2], weights[1, 2, 3, 1] = np.inf, -np.inf
    rounded = bench.rounded(x), bench.rounded(weights)
    expected = reference.transposed_convolution(*rounded, (stride, stride), (1, 1), groups)
    assert np.isfinite(expected[..., 0]).any()
    put = bench.runtime.to_device
    made = transposed_convolution(
        bench.runtime, put(x), put(weights), stride=stride, padding="VALID", groups=groups
    )
    bench.assert_close(bench.runtime.to_host(made), expected)


def test_transposed_depthwise_convolutions_see_nothing_outside(bench: Bench) -> None:
    """Neither does that of each channel by itself."""
    x, weights = noise(0, 2, 4, 3, 5), noise(1, 5, 3, 3, 1)
    weights[1, 0, 0, 0], weights[4, 2, 1, 0] = np.inf, -np.inf
    rounded = bench.rounded(x), bench.rounded(weights)
    expected = reference.transposed_convolution(*rounded, (1, 1), (1, 1), 5)
    put = bench.runtime.to_device
    filters = put(weights.transpose(3, 1, 2, 0))
    made = transposed_depthwise_convolution(bench.runtime, put(x), filters, padding="VALID")
    bench.assert_close(bench.runtime.to_host(made), expected)
