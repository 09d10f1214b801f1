"""Tensors, and that what the manifest warms is what the operators launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyopencl as cl
import pytest

from mace_cache import operators
from mace_cache.errors import ShapeError
from mace_cache.library import build_options, load_manifest
from mace_cache.operators import Runtime
from mace_cache.operators.tensor import MOST_WORK_ITEMS
from tests.operators.conftest import PlainBuilder
from tests.operators.reference import noise

if TYPE_CHECKING:
    from mace_cache.operators import Tensor

_LAUNCHERS = [
    *("activate", "add", "convolution", "depthwise_convolution", "max_pool"),
    *("pointwise_convolution", "resize_normalise"),
    *("fully_connected", "matrix_product", "winograd_convolution", "winograd_weights"),
    *("batch_to_space", "cast", "channel_shuffle", "crop", "depth_to_space"),
    *("extract_image_patches", "gather", "pad", "resize", "space_to_batch", "space_to_depth"),
    *("split", "strided_slice", "tile", "transpose"),
    *("combine", "divide", "equal", "floor_divide", "maximum", "minimum", "multiply", "power"),
    *("squared_difference", "subtract", "add_n", "transform", "absolute", "clip", "erf", "exp"),
    *("log", "negate", "reciprocal", "rsqrt", "sign", "sqrt", "square", "reduce_maximum"),
    *("reduce_mean", "reduce_minimum", "reduce_product", "reduce_sum", "softmax", "log_softmax"),
    *("batch_norm", "bias_add", "instance_norm", "layer_norm", "lp_norm", "mean_variance_norm"),
    "lstm_cell",
    *("average_pool", "global_average_pool", "global_max_pool"),
    *("transposed_convolution", "transposed_depthwise_convolution"),
]
_COPIERS = ["concatenate", "pad_channels", "reshape"]


def run_every_operator(runtime: Runtime, edge: int = 12) -> None:
    """Run each operator that launches a kernel on tensors of that height and width."""
    image = runtime.to_device(np.zeros((edge, edge, 3), np.uint8))
    x = operators.resize_normalise(runtime, image, (edge, edge), scale=1.0, offset=0.0)
    run_what_looks_through_windows(runtime, x)
    run_what_multiplies_matrices(runtime, x)
    run_what_computes_by_elements(runtime, x)
    run_what_moves_elements(runtime, x)


def run_what_looks_through_windows(runtime: Runtime, x: Tensor) -> None:
    """Run each operator that has windows over height and width."""
    weights = runtime.to_device(noise(0, 3, 3, 3, 3))
    filters = runtime.to_device(noise(0, 1, 3, 3, 3))
    x = operators.convolution(runtime, x, weights)
    x = operators.depthwise_convolution(runtime, x, filters)
    x = operators.max_pool(runtime, x, size=1, stride=1)
    x = operators.average_pool(runtime, x, size=1, stride=1)
    operators.global_average_pool(runtime, x)
    operators.global_max_pool(runtime, x)
    x = operators.transposed_convolution(runtime, x, weights)
    runtime.to_host(operators.transposed_depthwise_convolution(runtime, x, filters))


def run_what_multiplies_matrices(runtime: Runtime, x: Tensor) -> None:
    """Run each operator that is computed by products of matrices."""
    square = runtime.to_device(noise(0, 3, 3))
    x = operators.pointwise_convolution(runtime, x, operators.reshape(square, (3, 1, 1, 3)))
    x = operators.fully_connected(runtime, operators.matrix_product(runtime, x, square), square)
    operators.matrix_product(runtime, square, square)  # of few rows
    prepared = operators.winograd_weights(runtime, runtime.to_device(noise(0, 3, 3, 3, 3)))
    runtime.to_host(operators.winograd_convolution(runtime, x, prepared))


def run_what_computes_by_elements(runtime: Runtime, x: Tensor) -> None:
    """Run each operator of arithmetic, reductions, normalisation and recurrence."""
    x = operators.add(runtime, x, operators.activate(runtime, x, "relu"))
    x = operators.add_n(runtime, [x, x])
    three = runtime.to_device(noise(0, 3))
    x = operators.multiply(runtime, operators.negate(runtime, x), operators.subtract(runtime, x, x))
    x = operators.instance_norm(runtime, operators.subtract(runtime, x, three), three, three)
    x = operators.softmax(runtime, operators.softmax(runtime, x, axis=1))
    pixels = operators.reshape(operators.reduce_sum(runtime, x), (1, 1))
    column = runtime.to_device(noise(0, 4, 1))
    hidden, _ = operators.lstm_cell(runtime, (pixels, pixels), pixels, (column, column))
    runtime.to_host(hidden)


def run_what_moves_elements(runtime: Runtime, x: Tensor) -> None:
    """Run each operator that copies elements to other places, or converts them."""
    edge = x.shape[1]
    x = operators.resize(runtime, x, (edge, edge))
    x = operators.transpose(runtime, x, (0, 2, 1, 3))
    x = operators.reshape(
        operators.transpose(runtime, operators.reshape(x, (edge, -1)), (1, 0)), x.shape
    )
    x = operators.space_to_depth(runtime, x, block=2)
    x = operators.channel_shuffle(runtime, x, groups=3)
    x = operators.depth_to_space(runtime, x, block=2)
    x = operators.space_to_batch(runtime, x, block=(2, 2))
    x = operators.batch_to_space(runtime, x, block=(2, 2))
    x = operators.extract_image_patches(runtime, x, sizes=(2, 2), strides=(2, 2))
    x = operators.pad(runtime, x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="symmetric")
    x = operators.crop(runtime, x, top=1, left=1, height=4, width=4)
    x = operators.tile(runtime, x, (1, 2, 1, 2))
    x = operators.strided_slice(runtime, x, (0,) * 4, x.shape, strides=(1, 2, 1, 1))
    x = operators.split(runtime, x, 3, axis=-1)[1]
    indices = operators.cast(runtime, operators.reshape(x, (-1,)), np.int32)
    runtime.to_host(operators.gather(runtime, x, indices, axis=-1))


def test_every_operator_is_run_here() -> None:
    """An operator that is added must be added to the tests of this file too."""
    public = {name for name in operators.__all__ if name.islower()}
    assert public == {*_LAUNCHERS, *_COPIERS}


@pytest.mark.parametrize(("data_type", "variant"), [("float32", "float"), ("float16", "half")])
def test_the_manifest_has_what_the_operators_launch(
    queue: cl.CommandQueue, monkeypatch: pytest.MonkeyPatch, data_type: str, variant: str
) -> None:
    """Every program, its options, and every kernel with its local size are in the manifest."""
    launched = set()
    enqueue = cl.enqueue_nd_range_kernel

    def record(
        queue: cl.CommandQueue, kernel: cl.Kernel, size: tuple[int], local: tuple[int]
    ) -> cl.Event:
        launched.add((kernel.function_name, local))
        return enqueue(queue, kernel, size, local)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", record)
    builder = PlainBuilder()
    run_every_operator(Runtime(queue, builder, data_type))

    programs = load_manifest().programs
    assert launched == {(a.kernel, a.local_size) for p in programs for a in p.launches}
    assert sorted(builder.asked) == sorted(
        (program.read_source(), tuple(build_options(program, program.variant(variant))))
        for program in programs
    )


def test_more_work_than_the_largest_grid_is_all_done(runtime: Runtime) -> None:
    """Kernels loop over the pieces of work that have no work-item of their own."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 201, 3), np.uint8)
    assert pixels[..., 0].size > MOST_WORK_ITEMS
    image = runtime.to_device(pixels)
    x = operators.resize_normalise(runtime, image, (200, 201), scale=1.0, offset=0.0)
    ones, identity = runtime.to_device(np.ones((1, 1, 1, 3))), runtime.to_device(np.eye(3))
    results = [
        x,
        operators.activate(runtime, x, "relu"),
        operators.max_pool(runtime, x, size=1, stride=1),
        operators.average_pool(runtime, x, size=1, stride=1),
        operators.depthwise_convolution(runtime, x, ones),
        operators.transposed_depthwise_convolution(runtime, x, ones),
        operators.pointwise_convolution(runtime, x, operators.reshape(identity, (3, 1, 1, 3))),
        operators.transposed_convolution(runtime, x, operators.reshape(identity, (3, 1, 1, 3))),
    ]
    for result in results:
        np.testing.assert_array_equal(runtime.to_host(result)[0], pixels)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 5, 7)])
def test_arrays_come_back_from_the_device(runtime: Runtime, shape: tuple[int, ...]) -> None:
    """Shape and values survive, whatever the array's order in memory."""
    array = noise(0, *shape).astype(np.float32)
    np.testing.assert_array_equal(runtime.to_host(runtime.to_device(array)), array)
    turned = runtime.to_host(runtime.to_device(array.T))
    np.testing.assert_array_equal(turned, array.T)
    assert turned.shape == array.T.shape


def test_half_tensors_hold_rounded_values(queue: cl.CommandQueue) -> None:
    """A runtime of half stores half, and gives float32 back."""
    runtime = Runtime(queue, PlainBuilder(), np.float16)
    tensor: Tensor = runtime.to_device(np.array([1 / 3]))
    assert tensor.data_type == np.float16
    back = runtime.to_host(tensor)
    assert back.dtype == np.float32
    assert back[0] == np.float16(1 / 3)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (2**20, 2**11)])
def test_tensors_too_small_or_too_large_are_refused(
    runtime: Runtime, shape: tuple[int, ...]
) -> None:
    """Kernels index with 32 bits, and a buffer can't be empty."""
    with pytest.raises(ShapeError, match="empty: expected 1 to 1073741824 elements"):
        runtime.empty(shape)
    with pytest.raises(ShapeError, match="to_device: expected 1 to 1073741824 elements"):
        runtime.to_device(np.broadcast_to(np.float32(0), shape))


def test_a_shape_of_two_negative_axes_is_refused(runtime: Runtime) -> None:
    """The product alone doesn't tell."""
    with pytest.raises(ShapeError, match="empty: "):
        runtime.empty((-2, -3))


def test_other_data_types_are_refused(queue: cl.CommandQueue) -> None:
    """The kernels know float and half."""
    with pytest.raises(ShapeError, match="float32, float16, given float64"):
        Runtime(queue, PlainBuilder(), np.float64)
