"""Convolutions against numpy, over odd sizes, channels that divide nothing, strides and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import convolution, depthwise_convolution, pointwise_convolution
from tests.operators import reference
from tests.operators.reference import ACTIVATIONS, noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor
    from tests.operators.conftest import Bench

_SHAPES = st.tuples(
    st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 5, 7, 8, 13])
)
_KERNELS = st.tuples(st.integers(1, 5), st.integers(1, 5))
_STRIDES_AND_SEEDS = st.tuples(st.sampled_from([1, 2]), st.integers(0, 99))


@settings(deadline=None, max_examples=40)
@given(_SHAPES, _KERNELS, st.sampled_from([1, 3, 4, 6, 13]), _STRIDES_AND_SEEDS)
def test_convolution_is_numpys(
    bench: Bench,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    filters: int,
    stride_and_seed: tuple[int, int],
) -> None:
    """Any shape, kernel and stride gives what TensorFlow's definition gives."""
    stride, seed = stride_and_seed
    x, weights = noise(seed, *shape), noise(seed + 1, filters, *kernel, shape[3]) / 8
    bias = noise(seed + 2, filters)
    put = bench.runtime.to_device
    result = convolution(bench.runtime, put(x), put(weights), put(bias), stride=stride)
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    expected = reference.convolution(x, weights, stride) + bias
    bench.assert_close(bench.runtime.to_host(result), expected)


@settings(deadline=None, max_examples=40)
@given(_SHAPES, _KERNELS, st.integers(1, 3), _STRIDES_AND_SEEDS)
def test_depthwise_convolution_is_numpys(
    bench: Bench,
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    multiplier: int,
    stride_and_seed: tuple[int, int],
) -> None:
    """Any shape, kernel, multiplier and stride gives what TensorFlow's definition gives."""
    stride, seed = stride_and_seed
    channels = shape[3] * multiplier
    x, weights, bias = (
        noise(seed, *shape),
        noise(seed + 1, 1, *kernel, channels),
        noise(2, channels),
    )
    put = bench.runtime.to_device
    result = depthwise_convolution(bench.runtime, put(x), put(weights), put(bias), stride=stride)
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    expected = reference.depthwise_convolution(x, weights, stride) + bias
    bench.assert_close(bench.runtime.to_host(result), expected)


@pytest.mark.parametrize("channels", [3, 8, 13])
@pytest.mark.parametrize("filters", [5, 12])
def test_pointwise_convolution_is_a_matrix_product(
    bench: Bench, channels: int, filters: int
) -> None:
    """A 1x1 convolution multiplies every pixel by the weights."""
    x, weights = noise(0, 2, 5, 7, channels), noise(1, filters, 1, 1, channels) / 8
    put = bench.runtime.to_device
    result = bench.runtime.to_host(pointwise_convolution(bench.runtime, put(x), put(weights)))
    bench.assert_close(result, bench.rounded(x) @ bench.rounded(weights)[:, 0, 0].T)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("operator", "plain", "weights_shape"),
    [
        (convolution, reference.convolution, (7, 3, 3, 7)),
        (depthwise_convolution, reference.depthwise_convolution, (1, 3, 3, 7)),
    ],
)
def test_bias_and_activation_are_fused(
    bench: Bench,
    operator: Callable[..., Tensor],
    plain: Callable[..., reference.Array],
    weights_shape: tuple[int, ...],
    activation: str,
) -> None:
    """The activation is applied to the sum with the bias, with one slope a channel for PReLU."""
    x, weights, bias = noise(0, 2, 5, 3, 7) * 3, noise(1, *weights_shape), noise(2, 7)
    alpha = noise(3, 1, 1, 7) if activation == "prelu" else None
    put = bench.runtime.to_device
    slopes = None if alpha is None else put(alpha)
    result = operator(
        bench.runtime, put(x), put(weights), put(bias), activation=activation, alpha=slopes
    )
    alpha = None if alpha is None else bench.rounded(alpha)
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    expected = reference.activate(plain(x, weights, 1) + bias, activation, alpha)
    bench.assert_close(bench.runtime.to_host(result), expected)


def test_same_padding_puts_the_odd_zero_last(runtime: Runtime) -> None:
    """Four pixels, kernel 3, stride 2: one zero is needed, and it comes after them."""
    x = runtime.to_device(np.arange(1.0, 5.0).reshape(1, 1, 4, 1))
    ones = runtime.to_device(np.ones((1, 1, 3, 1)))
    for operator in (convolution, depthwise_convolution):
        result = runtime.to_host(operator(runtime, x, ones, stride=2))
        assert result.ravel().tolist() == [6.0, 7.0]


@pytest.mark.parametrize(
    ("operator", "x", "weights", "named"),
    [
        (convolution, (5, 5, 3), (4, 3, 3, 3), ["convolution", "(5, 5, 3)"]),
        (convolution, (1, 5, 5, 3), (4, 3, 3, 5), ["kernel width, 3)", "(4, 3, 3, 5)"]),
        (convolution, (1, 5, 5, 3), (4, 3), ["weights", "(4, 3)"]),
        (depthwise_convolution, (1, 5, 5, 3), (1, 3, 3, 4), ["a multiple of 3", "(1, 3, 3, 4)"]),
        (depthwise_convolution, (1, 5, 5, 3), (3, 3, 3, 3), ["depthwise", "(3, 3, 3, 3)"]),
        (pointwise_convolution, (1, 5, 5, 3), (4, 3, 3, 3), ["pointwise", "(4, 3, 3, 3)"]),
        (pointwise_convolution, (1, 5, 5, 3), (4, 1, 1, 5), ["1, 1, 3)", "(4, 1, 1, 5)"]),
        (pointwise_convolution, (3,), (4, 1, 1, 3), ["pointwise", "(3,)"]),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    runtime: Runtime,
    operator: Callable[..., Tensor],
    x: tuple[int, ...],
    weights: tuple[int, ...],
    named: list[str],
) -> None:
    """The error tells what the operator takes and what it got."""
    with pytest.raises(ShapeError) as raised:
        operator(runtime, runtime.empty(x), runtime.empty(weights))
    assert raised.value.operator == operator.__name__
    assert all(part in str(raised.value) for part in named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"stride": 0}, "stride of 1 or more, one for both axes or two, given 0"),
        ({"stride": 1.5}, "stride of 1 or more, one for both axes or two, given 1.5"),
        ({"dilation": (1,)}, "dilation of 1 or more, one for both axes or two, given (1,)"),
        ({"groups": 2}, "a number of groups that divides 3 channels, given 2"),
        ({"groups": 0}, "given 0"),
        ({"groups": 3}, "weights (output channels (a multiple of 3), kernel height"),
        ({"padding": "FULL"}, "((top, bottom), (left, right)) of 0 or more, given 'FULL'"),
        ({"padding": ((0, 0), (0, -1))}, "given ((0, 0), (0, -1))"),
        ({"padding": (1, 1)}, "given (1, 1)"),
        ({"padding": ((0,), (0, 1))}, "given ((0,), (0, 1))"),
        ({"bias": (3,)}, "bias (4,), given float32 (3,)"),
        ({"activation": "swish"}, "hard_swish, given 'swish'"),
        ({"activation": "prelu"}, "alpha of 4 channels for prelu, given None"),
        ({"activation": "prelu", "alpha": (2, 2)}, "given float32 (2, 2)"),
        ({"activation": "relu", "alpha": (4,)}, "no alpha with activation relu"),
    ],
)
def test_other_arguments_that_do_not_fit_are_named(
    runtime: Runtime, arguments: dict[str, Any], named: str
) -> None:
    """The error tells which of stride, bias, activation and alpha is at fault."""
    given = {
        name: runtime.empty(value) if name in {"bias", "alpha"} else value
        for name, value in arguments.items()
    }
    operator: Callable[..., Tensor] = convolution
    with pytest.raises(ShapeError) as raised:
        operator(runtime, runtime.empty((1, 5, 5, 3)), runtime.empty((4, 1, 1, 3)), **given)
    assert named in str(raised.value)


def test_inputs_too_small_for_a_window_are_named(runtime: Runtime) -> None:
    """Without padding, the window has to fit in."""
    x, weights = runtime.empty((1, 5, 4, 3)), runtime.empty((1, 3, 3, 3))
    with pytest.raises(ShapeError, match="an input of 5x5 or more for padding 'VALID', given"):
        convolution(runtime, x, weights, padding="VALID", dilation=2)


def test_tensors_of_another_type_are_named(runtime: Runtime, half_bench: Bench) -> None:
    """Half weights don't go with a runtime of float."""
    weights = half_bench.runtime.empty((4, 1, 1, 3))
    with pytest.raises(ShapeError, match=r"tensors of float32, given float16 \(4, 1, 1, 3\)"):
        convolution(runtime, runtime.empty((1, 5, 5, 3)), weights)
