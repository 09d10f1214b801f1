"""Products of matrices and what they compute, against numpy: on processors and in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyopencl as cl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import Runtime, convolution, convolutions, pointwise_convolution, product
from mace_cache.operators.matrix import (
    fully_connected,
    matrix_product,
)
from tests.operators import reference
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_EDGE = 32  # small tiles: PoCL takes long for the large ones of GPUs
_GROUPS = {
    "PROCESSOR": 0,
    "TILE_ROWS": _EDGE,
    "TILE_COLUMNS": _EDGE,
    "TILE_DEPTH": 8,
    "EACH_ROWS": 4,
    "EACH_COLUMNS": 4,
    "ITEMS": 64,
}


class GroupsBuilder:
    """Builds programs as for a GPU, with small tiles."""

    def build(
        self, context: cl.Context, source: str, options: list[str] | None = None
    ) -> cl.Program:
        """Build a program with more options."""
        more = [f"-D{name}={value}" for name, value in _GROUPS.items()]
        program = cl.Program(context, source)
        program.build([*(options or ()), *more])
        return program


@pytest.fixture(scope="module")
def built_for_groups(queue: cl.CommandQueue) -> Runtime:
    """A runtime for the whole module: PoCL compiles slowly."""
    return Runtime(queue, GroupsBuilder())


@pytest.fixture
def groups_runtime(built_for_groups: Runtime) -> Iterator[Runtime]:
    """A runtime whose work-groups make products together, as on a GPU."""
    with patch.multiple(product, TILE_ROWS=_EDGE, TILE_COLUMNS=_EDGE):
        yield built_for_groups


def multiply(
    runtime: Runtime, a: Array, b: Array, *, transpose_a: bool, transpose_b: bool
) -> Array:
    """Multiply on the device, with matrices that are stored transposed."""
    stored_a = a.swapaxes(-1, -2) if transpose_a else a
    stored_b = b.swapaxes(-1, -2) if transpose_b else b
    result = matrix_product(
        runtime,
        runtime.to_device(stored_a),
        runtime.to_device(stored_b),
        transpose_a=transpose_a,
        transpose_b=transpose_b,
    )
    return runtime.to_host(result)


@pytest.mark.sample
@settings(deadline=None, max_examples=25)
@given(
    st.tuples(*[st.sampled_from([1, 2, 5, 8, 17, 40, 130, 200])] * 3),
    st.sampled_from([((), ()), ((3,), ()), ((2, 1), (1, 3)), ((1,), (2, 2))]),
    st.booleans(),
    st.booleans(),
)
def test_products_are_numpys(
    bench: Bench,
    sizes: tuple[int, int, int],
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    transpose_a: bool,
    transpose_b: bool,
) -> None:
    """Any sizes, batches that broadcast, stored either way."""
    rows, depth, columns = sizes
    a, b = noise(0, *batches[0], rows, depth), noise(1, *batches[1], depth, columns) / depth
    result = multiply(bench.runtime, a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    bench.assert_close(result, bench.rounded(a) @ bench.rounded(b))


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (37, 9, 33), (40, 24, 36)])
def test_groups_multiply_together(
    groups_runtime: Runtime, sizes: tuple[int, int, int], transpose_a: bool, transpose_b: bool
) -> None:
    """What a GPU does gives the same: sizes that are multiples of four, and others."""
    rows, depth, columns = sizes
    a, b = noise(0, 2, rows, depth), noise(1, 3, 1, depth, columns)
    result = multiply(groups_runtime, a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    np.testing.assert_allclose(result, a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("sizes", [(1, 70, 130), (2, 9, 5), (3, 48, 64), (4, 1, 1)])
def test_few_rows_are_multiplied_one_by_one(
    bench: Bench, groups_runtime: Runtime, sizes: tuple[int, int, int], transpose_b: bool
) -> None:
    """Both ways to do it, with weights stored either way."""
    rows, depth, columns = sizes
    a, b = noise(0, rows, depth), noise(1, depth, columns) / 8
    result = multiply(bench.runtime, a, b, transpose_a=False, transpose_b=transpose_b)
    bench.assert_close(result, bench.rounded(a) @ bench.rounded(b))
    result = multiply(groups_runtime, a, b, transpose_a=False, transpose_b=transpose_b)
    np.testing.assert_allclose(result, a @ b, rtol=1e-4, atol=1e-5)


def test_special_halves_are_loaded(half_bench: Bench) -> None:
    """Infinity, the smallest half and a negative zero come out as they went in."""
    values = np.array([[np.inf, 2.0**-24, -0.0, -np.inf, 65504, -(2.0**-14), np.nan, 1.5, 3]])
    one = half_bench.runtime.to_device(np.ones((1, 1)))
    for x in (values.T, np.repeat(values.T, 2, axis=0)):  # loaded as columns, and as vectors
        put = half_bench.runtime.to_device(x)
        result = half_bench.runtime.to_host(matrix_product(half_bench.runtime, put, one))
        np.testing.assert_array_equal(result, half_bench.rounded(x))
    put = half_bench.runtime.to_device(values)
    result = half_bench.runtime.to_host(matrix_product(half_bench.runtime, one, put))
    np.testing.assert_array_equal(result, half_bench.rounded(values))


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "sigmoid", "prelu", "elu"])
@pytest.mark.parametrize("outputs", [3, 29])
def test_fully_connected_is_numpys(bench: Bench, outputs: int, activation: str) -> None:
    """Bias and activation are applied to each output."""
    x, weights, bias = noise(0, 2, 5, 7) * 4, noise(1, outputs, 7), noise(2, outputs)
    alpha = noise(3, outputs) if activation == "prelu" else None
    put = bench.runtime.to_device
    slopes = None if alpha is None else put(alpha)
    result = fully_connected(
        bench.runtime, put(x), put(weights), put(bias), activation=activation, alpha=slopes
    )
    x, weights, bias = map(bench.rounded, (x, weights, bias))
    alpha = None if alpha is None else bench.rounded(alpha)
    expected = reference.activate(x @ weights.T + bias, activation, alpha)
    bench.assert_close(bench.runtime.to_host(result), expected)


def test_an_epilogue_of_groups_is_numpys(groups_runtime: Runtime) -> None:
    """Bias and activation reach the columns at the edge of a matrix."""
    x, weights, bias = noise(0, 5, 7), noise(1, 19, 7), noise(2, 19)
    put = groups_runtime.to_device
    result = fully_connected(groups_runtime, put(x), put(weights), put(bias), activation="relu")
    expected = np.maximum(x @ weights.T + bias, 0)
    np.testing.assert_allclose(groups_runtime.to_host(result), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def as_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every convolution in one group is large enough for a product."""
    monkeypatch.setattr(convolutions, "_LARGE", 0)


@pytest.mark.parametrize("channels", [3, 16])
def test_pointwise_convolution_is_a_matrix_product(bench: Bench, channels: int) -> None:
    """A 1x1 convolution multiplies every pixel by the weights."""
    x, weights = noise(0, 2, 5, 7, channels), noise(1, 9, 1, 1, channels) / 8
    put = bench.runtime.to_device
    result = pointwise_convolution(bench.runtime, put(x), put(weights), activation="relu6")
    expected = bench.rounded(x) @ bench.rounded(weights)[:, 0, 0].T
    bench.assert_close(bench.runtime.to_host(result), np.clip(expected, 0, 6))


_ONCE = {"stride": (1, 1), "dilation": (1, 1), "padding": "SAME"}
_WINDOWS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 9, 7, 5), (13, 3, 3), _ONCE),
    ((1, 8, 6, 8), (4, 5, 3), {**_ONCE, "stride": (2, 2)}),
    ((2, 4, 4, 3), (18, 2, 4), {**_ONCE, "padding": ((1, 0), (0, 3))}),
    ((1, 1, 1, 1), (1, 3, 3), {**_ONCE, "stride": (3, 3)}),
    ((1, 9, 8, 3), (5, 2, 3), {"stride": (1, 2), "dilation": (3, 2), "padding": "VALID"}),
]


def convolved(x: Array, weights: Array, options: dict[str, Any]) -> Array:
    """Convolve in numpy."""
    seen = reference.placed_windows(x, weights.shape[1:3], options, 0.0)
    return np.asarray(np.einsum("nyxchw,ohwc->nyxo", seen, weights))


@pytest.mark.sample
@pytest.mark.usefixtures("as_products")
@pytest.mark.parametrize(("shape", "kernel", "options"), _WINDOWS)
def test_convolution_as_a_product_is_numpys(
    bench: Bench, shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Windows over the edges of images see zeros there."""
    x, weights = noise(0, *shape), noise(1, *kernel, shape[3]) / 8
    put = bench.runtime.to_device
    result = convolution(bench.runtime, put(x), put(weights), **options)
    expected = convolved(bench.rounded(x), bench.rounded(weights), options)
    bench.assert_close(bench.runtime.to_host(result), expected)


def test_a_large_convolution_is_made_as_a_product(
    float_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few million products of numbers are left to the program that is there anyway."""
    runtime = float_bench.runtime
    launched: list[str] = []
    for name in ("launch", "launch_groups"):
        monkeypatch.setattr(
            runtime, name, lambda kernel, *_others, **_options: launched.append(kernel[0])
        )
    for edge in (20, 64):
        convolution(runtime, runtime.empty((1, edge, edge, 32)), runtime.empty((32, 3, 3, 32)))
    assert launched == ["convolution", "matrix_product"]


@pytest.mark.usefixtures("as_products")
@pytest.mark.parametrize(("shape", "kernel", "options"), _WINDOWS)
def test_groups_convolve_together(
    groups_runtime: Runtime,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    options: dict[str, Any],
) -> None:
    """What a GPU does gives the same."""
    x, weights = noise(0, *shape), noise(1, *kernel, shape[3])
    put = groups_runtime.to_device
    result = convolution(groups_runtime, put(x), put(weights), **options)
    expected = convolved(x, weights, options)
    np.testing.assert_allclose(groups_runtime.to_host(result), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.sample
@pytest.mark.usefixtures("as_products")
@pytest.mark.parametrize("special", [np.inf, np.nan])
@pytest.mark.parametrize("place", [(1, 0, 0, 2), (3, 2, 1, 4)])
def test_windows_of_products_see_nothing_outside(
    bench: Bench, place: tuple[int, ...], special: float
) -> None:
    """Where a special weight lies outside the image, it has no part in the sum."""
    x, weights = noise(0, 2, 5, 4, 5), noise(1, 6, 3, 3, 5)
    weights[place] = special
    put = bench.runtime.to_device
    made = convolution(bench.runtime, put(x), put(weights))
    expected = reference.convolution_inside(bench.rounded(x), bench.rounded(weights), _ONCE)
    assert np.isfinite(expected[..., place[0]]).any()
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.usefixtures("as_products")
@pytest.mark.parametrize(("activation", "edge"), [("none", 3), ("relu", 3), ("none", 1)])
def test_windows_of_groups_see_nothing_outside(
    groups_runtime: Runtime, activation: str, edge: int
) -> None:
    """The same on a GPU, with a bias, an activation, and padding around single pixels."""
    x, weights, bias = noise(0, 2, 5, 4, 5), noise(1, 35, edge, edge, 5), noise(2, 35)
    weights[1, 0, 0, 2], weights[34, edge - 1, 0, 4] = np.inf, -np.inf
    options: dict[str, Any] = {**_ONCE, "padding": ((1, 1), (1, 2))}
    put = groups_runtime.to_device
    made = convolution(
        groups_runtime, put(x), put(weights), put(bias), activation=activation, **options
    )
    expected = reference.convolution_inside(x, weights, options) + bias
    assert np.isinf(expected).any()
    expected = reference.activate(expected, activation)
    np.testing.assert_allclose(groups_runtime.to_host(made), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.sample
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("depth", [3, 9, 37])
def test_infinities_stay_where_they_are(bench: Bench, rows: int, depth: int) -> None:
    """An infinite weight or input makes no other sum infinite, and none that is not a number."""
    a, b = noise(0, rows, depth), noise(1, depth, 21) / 8
    a[-1, 1] = b[depth - 1, 20] = b[0, 3] = np.inf
    a[-1, depth - 1] = a[-1, 0] = 1.0  # what it meets
    b[1] = np.abs(b[1]) + 0.1
    put, get = bench.runtime.to_device, bench.runtime.to_host
    expected = (bench.rounded(a)[:, :, None] * bench.rounded(b)).sum(axis=1)
    bench.assert_close(get(matrix_product(bench.runtime, put(a), put(b))), expected)
    bench.assert_close(get(fully_connected(bench.runtime, put(a), put(b.T))), expected)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3,), (3, 4), "two tensors of two axes or more, given float32 .3,. and"),
        ((2, 3), (4, 5), "matrices of one depth"),
        ((2, 4, 3), (3, 3, 5), "axes before them that broadcast"),
    ],
)
def test_matrices_that_do_not_fit_are_named(
    float_bench: Bench, a: tuple[int, ...], b: tuple[int, ...], message: str
) -> None:
    """The error tells both shapes."""
    runtime = float_bench.runtime
    with pytest.raises(ShapeError, match=f"matrix_product: .*{message}"):
        matrix_product(runtime, runtime.empty(a), runtime.empty(b))


def test_what_does_not_fit_a_product_is_named(float_bench: Bench) -> None:
    """Weights, bias, strides and data types are checked."""
    runtime = float_bench.runtime
    empty = runtime.empty
    with pytest.raises(ShapeError, match=r"fully_connected: .*weights \(outputs, 3\)"):
        fully_connected(runtime, empty((2, 3)), empty((4, 2)))
    with pytest.raises(ShapeError, match=r"fully_connected: .*\(\.\.\., inputs\)"):
        fully_connected(runtime, empty(()), empty((4, 2)))
    with pytest.raises(ShapeError, match=r"matrix_product: .*bias \(4,\)"):
        matrix_product(runtime, empty((2, 3)), empty((3, 4)), bias=empty((3,)))
    with pytest.raises(ShapeError, match="matrix_product: expected tensors of float32"):
        matrix_product(runtime, empty((2, 3), np.float16), empty((3, 4)))
