"""Winograd's convolutions against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mace_cache.errors import ShapeError
from mace_cache.operators.winograd import winograd_convolution, winograd_weights
from tests.operators import reference
from tests.operators.reference import ACTIVATIONS, noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("shape", "filters"),
    [((1, 3, 3, 1), 1), ((2, 9, 7, 5), 13), ((1, 8, 6, 8), 4), ((3, 4, 5, 3), 6)],
)
def test_winograd_convolution_is_numpys(
    bench: Bench, shape: tuple[int, ...], filters: int, padding: str
) -> None:
    """Images of odd and even sizes, whose channels fill blocks or don't."""
    x, weights = noise(0, *shape), noise(1, filters, 3, 3, shape[3]) / 8
    bias = noise(2, filters)
    put = bench.runtime.to_device
    prepared = winograd_weights(bench.runtime, put(weights))
    result = winograd_convolution(bench.runtime, put(x), prepared, put(bias), padding=padding)
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    expected = reference.convolution(x, weights, 1) + bias
    if padding == "VALID":
        expected = expected[:, 1:-1, 1:-1]
    bench.assert_close(bench.runtime.to_host(result), expected)


@pytest.mark.sample
def test_prepared_weights_serve_images_of_any_size(bench: Bench) -> None:
    """A pixel, a line and a column are images too."""
    weights = noise(1, 4, 3, 3, 4) / 8
    prepared = winograd_weights(bench.runtime, bench.runtime.to_device(weights))
    for size in [(1, 1), (1, 5), (6, 1)]:
        x = noise(0, 1, *size, 4)
        result = winograd_convolution(bench.runtime, bench.runtime.to_device(x), prepared)
        expected = reference.convolution(bench.rounded(x), bench.rounded(weights), 1)
        bench.assert_close(bench.runtime.to_host(result), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_applied(bench: Bench, activation: str) -> None:
    """The activation comes after the bias."""
    x, weights, bias = noise(0, 1, 4, 5, 4) * 2, noise(1, 7, 3, 3, 4) / 2, noise(2, 7)
    alpha = noise(3, 7) if activation == "prelu" else None
    put = bench.runtime.to_device
    prepared = winograd_weights(bench.runtime, put(weights))
    slopes = None if alpha is None else put(alpha)
    result = winograd_convolution(
        bench.runtime, put(x), prepared, put(bias), activation=activation, alpha=slopes
    )
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    alpha = None if alpha is None else bench.rounded(alpha)
    expected = reference.activate(reference.convolution(x, weights, 1) + bias, activation, alpha)
    bench.assert_close(bench.runtime.to_host(result), expected)


def test_what_does_not_fit_is_named(runtime: Runtime) -> None:
    """Kernels of another size, channels, bias, padding and data types are refused."""
    empty = runtime.empty
    with pytest.raises(ShapeError, match=r"winograd_weights: .*\(output channels, 3, 3, channels"):
        winograd_weights(runtime, empty((4, 5, 5, 2)))
    with pytest.raises(ShapeError, match="winograd_weights: expected tensors of float32"):
        winograd_weights(runtime, empty((4, 3, 3, 2), np.float16))
    prepared = winograd_weights(runtime, empty((4, 3, 3, 2)))
    x = empty((1, 2, 5, 2))
    with pytest.raises(ShapeError, match="winograd_convolution: expected a tensor of 2 channels"):
        winograd_convolution(runtime, empty((1, 5, 5, 3)), prepared)
    with pytest.raises(ShapeError, match="padding of SAME, VALID, given 'FULL'"):
        winograd_convolution(runtime, x, prepared, padding="FULL")
    with pytest.raises(ShapeError, match="3x3 or more for VALID"):
        winograd_convolution(runtime, x, prepared, padding="VALID")
    with pytest.raises(ShapeError, match=r"bias \(4,\)"):
        winograd_convolution(runtime, x, prepared, empty((2,)))
