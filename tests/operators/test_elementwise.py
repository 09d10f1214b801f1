"""Addition and activations against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import activate, add
from tests.operators import reference
from tests.operators.reference import ACTIVATIONS, noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench

_SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)


@settings(deadline=None, max_examples=40)
@given(_SHAPES, st.sampled_from(["none", "relu", "relu6", "sigmoid"]), st.integers(0, 99))
def test_add_is_numpys(bench: Bench, shape: tuple[int, ...], activation: str, seed: int) -> None:
    """Tensors of any shape are added, and the activation applied to the sum."""
    a, b = noise(seed, *shape) * 4, noise(seed + 1, *shape) * 4
    put = bench.runtime.to_device
    result = bench.runtime.to_host(add(bench.runtime, put(a), put(b), activation=activation))
    expected = reference.activate(bench.rounded(a) + bench.rounded(b), activation)
    bench.assert_close(result, expected)


@pytest.mark.sample
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (17,), (2, 3, 5, 7), (2, 3, 5, 8), (2, 1, 1, 13)])
def test_activate_is_numpys(bench: Bench, shape: tuple[int, ...], activation: str) -> None:
    """Every activation is what its definition gives, for any number of axes."""
    x = noise(0, *shape) * 5
    alpha = noise(1, shape[-1]) if activation == "prelu" else None
    put = bench.runtime.to_device
    slopes = None if alpha is None else put(alpha)
    result = bench.runtime.to_host(activate(bench.runtime, put(x), activation, slopes))
    alpha = None if alpha is None else bench.rounded(alpha)
    bench.assert_close(result, reference.activate(bench.rounded(x), activation, alpha))


_EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e3, -1e3, 3e4, -3e4, 1e-7]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_at_their_limits(bench: Bench, activation: str) -> None:
    """Zeros, infinities and NaN, and where an exponential overflows, as in the definition."""
    x = np.array(_EDGES)
    alpha = np.full(x.size, 0.25) if activation == "prelu" else None
    put = bench.runtime.to_device
    slopes = None if alpha is None else put(alpha)
    made = bench.runtime.to_host(activate(bench.runtime, put(x), activation, slopes))
    with np.errstate(all="ignore"):
        expected = reference.activate(bench.rounded(x), activation, alpha)
    bench.assert_close(made, expected)


_EXPONENTIALS: dict[str, Any] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
}


@pytest.mark.parametrize("activation", _EXPONENTIALS)
def test_exponentials_are_exact_everywhere(runtime: Runtime, activation: str) -> None:
    """The kernels' own exponentials err by parts in ten millions, near 0 and far from it alike."""
    sizes = np.geomspace(1e-30, 80, 20000, dtype=np.float32)
    x = np.concatenate([-sizes, sizes])
    result = runtime.to_host(activate(runtime, runtime.to_device(x), activation))
    expected = _EXPONENTIALS[activation](x.astype(np.float64))
    np.testing.assert_allclose(result, expected, rtol=5e-7)


@pytest.mark.parametrize("activation", ["leaky_relu", "elu"])
def test_a_coefficient_may_be_given(bench: Bench, activation: str) -> None:
    """The slope of leaky_relu, and how far elu goes below 0."""
    x = bench.rounded(noise(0, 3, 5))
    made = activate(bench.runtime, bench.runtime.to_device(x), activation, 0.3)
    below = 0.3 * x if activation == "leaky_relu" else 0.3 * np.expm1(x)
    bench.assert_close(bench.runtime.to_host(made), np.where(x < 0, below, x))


def test_shapes_that_do_not_fit_are_named(runtime: Runtime) -> None:
    """The error tells both shapes."""
    with pytest.raises(ShapeError, match=r"add: .*\(2, 3\) and float32 \(2,\)"):
        add(runtime, runtime.empty((2, 3)), runtime.empty((2,)))


def test_a_tensor_without_axes_is_refused(runtime: Runtime) -> None:
    """A scalar has no channels, which the slopes of prelu are for."""
    with pytest.raises(ShapeError, match=r"activate: .*one axis or more .*given float32 \(\)"):
        activate(runtime, runtime.empty(()), "prelu", runtime.empty((1,)))


def test_add_has_no_slopes_for_prelu(runtime: Runtime) -> None:
    """PReLU needs slopes, which addition doesn't take."""
    with pytest.raises(ShapeError, match="add: expected alpha of 3 channels for prelu"):
        add(runtime, runtime.empty((3,)), runtime.empty((3,)), activation="prelu")
