"""Bias and normalisation against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from mace_cache.errors import ShapeError
from mace_cache.operators import (
    Tensor,
    batch_norm,
    bias_add,
    instance_norm,
    layer_norm,
    lp_norm,
    mean_variance_norm,
)
from tests.operators import reference
from tests.operators.reference import ACTIVATIONS, noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_SHAPES = array_shapes(min_dims=1, max_dims=4, max_side=19)
_FEATURES = [(2, 3, 5, 7), (1, 9, 4, 1), (3, 1, 1, 8), (1, 70, 60, 16), (2, 5, 19)]


def _normalised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    variance = x.var(axis=axes, keepdims=True)
    return np.asarray((x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + epsilon))


@settings(deadline=None, max_examples=25)
@given(_SHAPES, st.sampled_from(ACTIVATIONS))
def test_bias_and_batch_norm_are_numpys(
    bench: Bench, shape: tuple[int, ...], activation: str
) -> None:
    """One number a channel, folded or not, with any activation."""
    x = noise(0, *shape)
    scale, offset, mean, alpha = (noise(seed, shape[-1]) for seed in range(1, 5))
    variance = noise(5, shape[-1]) ** 2 + 0.1
    put, take = bench.runtime.to_device, bench.runtime.to_host
    kept = [bench.rounded(array) for array in (x, scale, offset, mean, variance, alpha)]
    tensors = put(x), put(scale), put(offset)
    options: dict[str, Any] = {
        "activation": activation,
        "alpha": put(alpha) if activation == "prelu" else None,
    }
    made: Array = take(bias_add(bench.runtime, tensors[0], tensors[2], **options))
    bench.assert_close(made, reference.activate(kept[0] + kept[2], activation, kept[5]))
    made = take(batch_norm(bench.runtime, *tensors, **options))
    bench.assert_close(made, reference.activate(kept[0] * kept[1] + kept[2], activation, kept[5]))
    options |= {"mean": put(mean), "variance": put(variance), "epsilon": 1e-3}
    made = take(batch_norm(bench.runtime, *tensors, **options))
    expected = (kept[0] - kept[3]) / np.sqrt(kept[4] + 1e-3) * kept[1] + kept[2]
    bench.assert_close(made, reference.activate(expected, activation, kept[5]))


@pytest.mark.sample
@pytest.mark.parametrize("shape", _FEATURES)
@pytest.mark.parametrize("activation", ["none", "relu", "prelu"])
def test_instance_norm_is_numpys(bench: Bench, shape: tuple[int, ...], activation: str) -> None:
    """Every channel of every image by itself, with one scale, offset and slope a channel."""
    x, scale, offset = noise(0, *shape) * 3 + 7, noise(1, shape[-1]), noise(2, shape[-1])
    alpha = noise(3, shape[-1])
    put = bench.runtime.to_device
    slopes = put(alpha) if activation == "prelu" else None
    made = instance_norm(
        bench.runtime, put(x), put(scale), put(offset), activation=activation, alpha=slopes
    )
    expected = _normalised(bench.rounded(x), tuple(range(1, len(shape) - 1)), 1e-5)
    expected = expected * bench.rounded(scale) + bench.rounded(offset)
    expected = reference.activate(expected, activation, bench.rounded(alpha))
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        *[((2, 3, 5, 7), (1, 2)), ((2, 3, 5, 7), (1, 2, 3)), ((2, 3, 5, 7), (0, 1, 2))],
        *[((3, 1000), (-1,)), ((40_001,), (0,)), ((2, 9, 8), (0,)), ((20_000, 5), (0,))],
    ],
)
def test_mean_variance_norm_is_numpys(
    bench: Bench, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    """With and without the variance, of numbers far from 0."""
    x = noise(0, *shape) + 20
    rounded, tensor = bench.rounded(x), bench.runtime.to_device(x)
    take = bench.runtime.to_host
    made = take(mean_variance_norm(bench.runtime, tensor, axes))
    bench.assert_close(made, _normalised(rounded, axes, 1e-9))
    made = take(mean_variance_norm(bench.runtime, tensor, axes, divide=False))
    bench.assert_close(made, rounded - rounded.mean(axis=axes, keepdims=True))


@pytest.mark.sample
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 5), -1), ((2, 3, 16), 2), ((2, 3, 5), 1), ((2, 3, 5), 0), ((9,), 0)]
)
def test_layer_norm_is_numpys(bench: Bench, shape: tuple[int, ...], axis: int) -> None:
    """Over the last axes, with parameters of their shape or without."""
    x, scale, offset = noise(0, *shape), noise(1, *shape[axis:]), noise(2, *shape[axis:])
    put, take = bench.runtime.to_device, bench.runtime.to_host
    axes = tuple(range(axis % len(shape), len(shape)))
    expected = _normalised(bench.rounded(x), axes, 1e-5)
    bench.assert_close(take(layer_norm(bench.runtime, put(x), axis=axis)), expected)
    made = layer_norm(bench.runtime, put(x), put(scale), put(offset), axis=axis)
    bench.assert_close(take(made), expected * bench.rounded(scale) + bench.rounded(offset))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [((3, 5), -1), ((2, 9, 8), 1), ((1, 5000), 1)])
def test_lp_norm_is_numpys(bench: Bench, p: int, shape: tuple[int, ...], axis: int) -> None:
    """Along any axis; zeros stay zeros."""
    x = noise(0, *shape)
    x.reshape(-1)[0] = 0
    made = lp_norm(bench.runtime, bench.runtime.to_device(x), axis=axis, p=p)
    rounded = bench.rounded(x)
    expected = rounded / np.linalg.norm(rounded, ord=p, axis=axis, keepdims=True)
    bench.assert_close(bench.runtime.to_host(made), expected)
    zeros = lp_norm(bench.runtime, bench.runtime.to_device(np.zeros(shape)), axis=axis, p=p)
    assert not bench.runtime.to_host(zeros).any()


def test_a_norm_is_as_long_as_its_least(bench: Bench) -> None:
    """A norm below epsilon doesn't blow small numbers up."""
    x = np.array([1e-3, 0.0])
    made = lp_norm(bench.runtime, bench.runtime.to_device(x), epsilon=0.5)
    bench.assert_close(bench.runtime.to_host(made), bench.rounded(x) / 0.5)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda r, x, _c: bias_add(r, x, r.empty((4,))), r"bias_add: .*of 3 channels, .*\(4,\)"),
        (lambda r, _x, c: bias_add(r, r.empty(()), c), "bias_add: .*one axis or more"),
        (lambda r, x, c: bias_add(r, x, c, activation="prelu"), "bias_add: expected alpha of 3"),
        (lambda r, x, c: batch_norm(r, x, c, c, mean=x), "batch_norm: .*of 3 channels"),
        (lambda r, x, c: instance_norm(r, x, c, c), "instance_norm: .*3 axes or more"),
        (lambda r, x, _c: layer_norm(r, x, axis=2), "layer_norm: expected axes of"),
        (lambda r, x, _c: layer_norm(r, x, x), r"layer_norm: expected scale and offset \(3,\)"),
        (lambda r, x, _c: mean_variance_norm(r, x, []), "mean_variance_norm: .*side by side"),
        (lambda r, x, _c: lp_norm(r, x, p=3), "lp_norm: expected p of 1 or 2, given 3"),
        (lambda r, _x, _c: lp_norm(r, r.empty((2,), np.int32)), "lp_norm: .*given int32"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    runtime: Runtime, call: Callable[[Runtime, Tensor, Tensor], Any], named: str
) -> None:
    """The error tells what is taken and what was given."""
    with pytest.raises(ShapeError, match=named):
        call(runtime, runtime.empty((2, 3)), runtime.empty((3,)))


def test_too_many_statistics_are_named(runtime: Runtime) -> None:
    """Statistics take more than the tensor where what they are of is short."""
    x = Tensor(runtime.empty((1,)).buffer, (2**27 + 1, 1), runtime.data_type)
    for operator in (lp_norm, layer_norm):
        named = f"{operator.__name__}: expected at most 134217728 runs of 8 statistics, given float"
        with pytest.raises(ShapeError, match=named):
            operator(runtime, x)
