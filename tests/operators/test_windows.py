"""Strides, dilations, padding and groups of what slides windows, against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import (
    average_pool,
    convolution,
    depthwise_convolution,
    max_pool,
    transposed_convolution,
    transposed_depthwise_convolution,
)
from tests.operators import reference
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
_SIDES = st.tuples(st.integers(0, 3), st.integers(0, 3))
_PADDINGS = st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(_SIDES, _SIDES))


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes, and an input that is large enough for them."""
    size, strides, dilations = draw(_PAIRS), draw(_PAIRS), draw(_PAIRS)
    least = [(s - 1) * d + 1 for s, d in zip(size, dilations, strict=True)]
    lengths = [draw(st.integers(low, low + 5)) for low in least]
    return {
        "size": size,
        "shape": (draw(st.integers(1, 2)), *lengths),
        "options": {"stride": strides, "dilation": dilations, "padding": draw(_PADDINGS)},
    }


def seen(x: Array, drawn: dict[str, Any], fill: float = 0.0) -> Array:
    """Give the windows in numpy."""
    return reference.placed_windows(x, drawn["size"], drawn["options"], fill)


@settings(deadline=None, max_examples=25)
@given(windows(), st.sampled_from([1, 2, 3]), st.sampled_from([1, 3, 8, 11]), st.integers(1, 5))
def test_convolution_of_any_windows(
    bench: Bench, drawn: dict[str, Any], groups: int, channels: int, filters: int
) -> None:
    """Each group of filters sees its group of channels."""
    x = noise(0, *drawn["shape"], channels * groups)
    weights = noise(1, filters * groups, *drawn["size"], channels) / 8
    put = bench.runtime.to_device
    made = convolution(bench.runtime, put(x), put(weights), groups=groups, **drawn["options"])
    x, weights = bench.rounded(x), bench.rounded(weights)
    split = np.split(seen(x, drawn), groups, axis=3), np.split(weights, groups)
    parts = [np.einsum("nyxchw,ohwc->nyxo", *pair) for pair in zip(*split, strict=True)]
    bench.assert_close(bench.runtime.to_host(made), np.concatenate(parts, axis=3))


@settings(deadline=None, max_examples=25)
@given(windows(), st.sampled_from([1, 4, 6]), st.integers(1, 3))
def test_depthwise_convolution_of_any_windows(
    bench: Bench, drawn: dict[str, Any], channels: int, multiplier: int
) -> None:
    """Each output channel sees one input channel."""
    x = noise(0, *drawn["shape"], channels)
    weights = noise(1, 1, *drawn["size"], channels * multiplier)
    put = bench.runtime.to_device
    made = depthwise_convolution(bench.runtime, put(x), put(weights), **drawn["options"])
    x, weights = bench.rounded(x), bench.rounded(weights)
    under = seen(np.repeat(x, multiplier, axis=3), drawn)
    expected = np.einsum("nyxchw,hwc->nyxc", under, weights[0])
    bench.assert_close(bench.runtime.to_host(made), expected)


@settings(deadline=None, max_examples=25)
@given(windows(), st.sampled_from([1, 4, 6]))
def test_max_pool_of_any_windows(bench: Bench, drawn: dict[str, Any], channels: int) -> None:
    """What lies outside the input takes no part."""
    x = noise(0, *drawn["shape"], channels) - 5
    put = bench.runtime.to_device
    made = max_pool(bench.runtime, put(x), size=drawn["size"], **drawn["options"])
    expected = seen(bench.rounded(x), drawn, -np.inf).max(axis=(-1, -2))
    bench.assert_close(bench.runtime.to_host(made), expected)


@settings(deadline=None, max_examples=25)
@given(windows(), st.sampled_from([1, 4, 6]), st.booleans())
def test_average_pool_of_any_windows(
    bench: Bench, drawn: dict[str, Any], channels: int, count_padding: bool
) -> None:
    """What lies outside the input counts as zeros, or not at all."""
    drawn["options"]["dilation"] = 1, 1
    x = noise(0, *drawn["shape"], channels)
    made = average_pool(
        bench.runtime,
        bench.runtime.to_device(x),
        size=drawn["size"],
        stride=drawn["options"]["stride"],
        padding=drawn["options"]["padding"],
        count_padding=count_padding,
    )
    x = bench.rounded(x)
    expected = seen(x, drawn).sum(axis=(-1, -2))
    counted = seen(np.ones_like(x), drawn, float(count_padding)).sum(axis=(-1, -2))
    bench.assert_close(bench.runtime.to_host(made), expected / np.maximum(counted, 1))


@st.composite
def transposed(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes, and what is cut off the output of which something is left."""
    size, strides, dilations = draw(_PAIRS), draw(_PAIRS), draw(_PAIRS)
    lengths = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    sides, more = [], []
    for length, s, stride, dilation in zip(lengths, size, strides, dilations, strict=True):
        whole = (length - 1) * stride + (s - 1) * dilation + 1
        before = draw(st.integers(0, min(2, whole - 1)))
        sides.append((before, draw(st.integers(0, min(2, whole - 1 - before)))))
        more.append(draw(st.integers(0, stride - 1)))
    return {
        "size": size,
        "shape": (draw(st.integers(1, 2)), *lengths),
        "options": {"stride": strides, "dilation": dilations, "padding": tuple(sides)},
        "more": more,
    }


def cut(whole: Array, drawn: dict[str, Any]) -> Array:
    """Cut off what the padding says, and add zeros behind."""
    (top, bottom), (left, right) = drawn["options"]["padding"]
    down, across = drawn["more"]
    wider = np.pad(whole, [(0, 0), (0, down), (0, across), (0, 0)])
    return wider[:, top : wider.shape[1] - bottom, left : wider.shape[2] - right]


@settings(deadline=None, max_examples=25)
@given(transposed(), st.sampled_from([1, 2]), st.sampled_from([1, 3, 8, 11]), st.integers(1, 5))
def test_transposed_convolution_of_any_windows(
    bench: Bench, drawn: dict[str, Any], groups: int, channels: int, filters: int
) -> None:
    """Every pixel adds its filters to the output."""
    x = noise(0, *drawn["shape"], channels * groups)
    weights = noise(1, filters * groups, *drawn["size"], channels) / 8
    strides, dilations, _ = drawn["options"].values()
    rounded = bench.rounded(x), bench.rounded(weights)
    whole = reference.transposed_convolution(*rounded, strides, dilations, groups)
    expected = cut(whole, drawn)
    put = bench.runtime.to_device
    made = transposed_convolution(
        bench.runtime,
        put(x),
        put(weights),
        groups=groups,
        output_size=(expected.shape[1], expected.shape[2]),
        **drawn["options"],
    )
    bench.assert_close(bench.runtime.to_host(made), expected)


@settings(deadline=None, max_examples=25)
@given(transposed(), st.sampled_from([1, 4, 6]), st.integers(1, 3))
def test_transposed_depthwise_convolution_of_any_windows(
    bench: Bench, drawn: dict[str, Any], channels: int, multiplier: int
) -> None:
    """It is the transposed convolution with a group a channel."""
    x = noise(0, *drawn["shape"], channels)
    weights = noise(1, 1, *drawn["size"], channels * multiplier)
    strides, dilations, _ = drawn["options"].values()
    rounded = bench.rounded(x), bench.rounded(weights).transpose(3, 1, 2, 0)
    whole = reference.transposed_convolution(*rounded, strides, dilations, channels)
    expected = cut(whole, drawn)
    put = bench.runtime.to_device
    made = transposed_depthwise_convolution(
        bench.runtime,
        put(x),
        put(weights),
        output_size=(expected.shape[1], expected.shape[2]),
        **drawn["options"],
    )
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (5, 4)),
        ({"stride": 2}, (10, 8)),
        ({"stride": 2, "output_size": (9, 8)}, (9, 8)),
        ({"stride": 2, "padding": "VALID"}, (11, 9)),
        ({"stride": (2, 3), "padding": "VALID", "output_size": (12, 14)}, (12, 14)),
        ({"stride": 2, "padding": ((1, 1), (0, 1))}, (9, 8)),
    ],
)
def test_transposed_convolution_is_the_gradient_of_a_convolution(
    bench: Bench, options: dict[str, Any], shape: tuple[int, int]
) -> None:
    """With the same options, <convolution(a), b> is <a, transposed(b)>, whatever a and b."""
    a, b, weights = noise(0, 1, *shape, 2), noise(1, 1, 5, 4, 3), noise(2, 2, 3, 3, 3)
    put, get = bench.runtime.to_device, bench.runtime.to_host
    made = get(transposed_convolution(bench.runtime, put(b), put(weights), **options))
    assert made.shape == a.shape
    options = {name: value for name, value in options.items() if name != "output_size"}
    turned = put(weights.transpose(3, 1, 2, 0))
    there = get(convolution(bench.runtime, put(a), turned, **options))
    assert there.shape == b.shape
    np.testing.assert_allclose((there * b).sum(), (a * made).sum(), rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize(
    ("operator", "weights"),
    [
        (transposed_convolution, (7, 3, 3, 7)),
        (transposed_depthwise_convolution, (1, 3, 3, 7)),
    ],
)
@pytest.mark.parametrize("activation", ["relu6", "prelu", "hard_swish"])
def test_transposed_convolutions_end_as_others_do(
    bench: Bench, operator: Callable[..., Tensor], weights: tuple[int, ...], activation: str
) -> None:
    """Bias and activation are applied to the sums."""
    x, bias, alpha = noise(0, 1, 4, 5, 7), noise(1, 7), noise(2, 7)
    put, get = bench.runtime.to_device, bench.runtime.to_host
    filters = put(noise(3, *weights) * 2)
    sums = get(operator(bench.runtime, put(x), filters)).astype(np.float64)
    slopes = {"alpha": put(alpha)} if activation == "prelu" else {}
    made = operator(bench.runtime, put(x), filters, put(bias), activation=activation, **slopes)
    expected = reference.activate(sums + bench.rounded(bias), activation, bench.rounded(alpha))
    np.testing.assert_allclose(get(made), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"x": (5, 5, 3)}, "(batch, height, width, channels), given float32 (5, 5, 3)"),
        ({"weights": (4, 3, 3, 2)}, "weights (output channels, kernel height, kernel width, 3)"),
        ({"groups": 2}, "divides 3 channels"),
        ({"bias": (3,)}, "bias (4,)"),
        ({"stride": 0}, "stride of 1 or more"),
        ({"padding": "FULL"}, "padding SAME, VALID or"),
        ({"output_size": (10, 12)}, "padding 'SAME' and output_size (10, 12)"),
        ({"output_size": (10, 0)}, "output_size of 1 or more"),
        ({"padding": "VALID", "output_size": (13, 11)}, "output_size (13, 11)"),
        ({"padding": ((9, 9), (0, 0))}, "padding ((9, 9), (0, 0))"),
    ],
)
def test_transposed_convolutions_that_do_not_fit_are_named(
    runtime: Runtime, arguments: dict[str, Any], named: str
) -> None:
    """The error tells what is expected and given."""
    given_all = {"x": (1, 5, 5, 3), "weights": (4, 3, 3, 3), "stride": 2, **arguments}
    for name in {"x", "weights", "bias"} & given_all.keys():
        given_all[name] = runtime.empty(given_all[name])
    operator: Callable[..., Tensor] = transposed_convolution
    with pytest.raises(ShapeError) as raised:
        operator(runtime, **given_all)
    assert raised.value.operator == "transposed_convolution"
    assert named in str(raised.value)


def test_depthwise_filters_that_do_not_fit_are_named(runtime: Runtime) -> None:
    """Those of the transposed operator are as those of the other."""
    with pytest.raises(ShapeError, match="a multiple of 3"):
        transposed_depthwise_convolution(
            runtime, runtime.empty((1, 5, 5, 3)), runtime.empty((1, 3, 3, 4))
        )
