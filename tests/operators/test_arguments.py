"""What operators refuse, in whose name, and what they take: arguments of every operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pytest

from mace_cache import operators
from mace_cache.errors import ShapeError
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor

FEATURES = (1, 8, 8, 4)
REACH = 2**27  # that windows have at most, as their strides and their padding

# Windows that no int of a kernel could hold, or that one barely holds.
TOO_LARGE = [
    ("convolution", {"dilation": 2**31}, "dilation of 1 to 134217728, given 2147483648"),
    ("convolution", {"dilation": 1431655765}, "dilation of 1 to 134217728, given 1431655765"),
    ("convolution", {"dilation": REACH // 2}, "over 1 to 134217728 pixels with their dilation"),
    ("convolution", {"stride": (1, 2**31)}, "stride of 1 to 134217728"),
    ("convolution", {"padding": ((0, 0), (0, 2**31))}, "padding of 0 to 134217728"),
    ("depthwise_convolution", {"dilation": 2**30}, "dilation of 1 to 134217728"),
    ("depthwise_convolution", {"stride": 2**31}, "stride of 1 to 134217728"),
    ("transposed_convolution", {"stride": 2**31}, "stride of 1 to 134217728"),
    ("transposed_convolution", {"dilation": 2**30}, "dilation of 1 to 134217728"),
    ("transposed_convolution", {"output_size": 2**31}, "output_size of 1 to 134217728"),
    ("transposed_depthwise_convolution", {"dilation": 2**30}, "dilation of 1 to 134217728"),
    ("max_pool", {"size": 2**31}, "size of 1 to 134217728"),
    ("max_pool", {"size": 3, "dilation": 2**30}, "dilation of 1 to 134217728"),
    ("average_pool", {"size": 46341, "count_padding": True}, "windows of 1 to 1073741824 pixels"),
    ("average_pool", {"stride": 2**31}, "stride of 1 to 134217728"),
    ("average_pool", {"padding": ((2**40, 0), (0, 0))}, "padding of 0 to 134217728"),
    ("extract_image_patches", {"sizes": (2, 2), "rates": (2**31, 1)}, "rates of 1 to 134217728"),
    (
        "extract_image_patches",
        {"sizes": (2, 2), "strides": (1, 2**31)},
        "strides of 1 to 134217728",
    ),
    ("extract_image_patches", {"sizes": (2**31, 1)}, "sizes of 1 to 134217728"),
    # What is too large as a whole is the operator's own error too.
    (
        "extract_image_patches",
        {"sizes": (2, 2), "rates": (2**26, 1), "padding": "SAME"},
        "1 to 1073741824 elements",
    ),
    ("resize", {"size": (2**31, 1)}, "1 to 1073741824 elements"),
    (
        "space_to_batch",
        {"block": (2, 2), "paddings": ((2**31, 0), (0, 0))},
        "1 to 1073741824 elements",
    ),
    ("tile", {"multiples": (1, 1, 2**31, 1)}, "1 to 1073741824 elements"),
    ("pad", {"paddings": ((0, 0), (0, 2**31), (0, 0), (0, 0))}, "1 to 1073741824 elements"),
    ("pad_channels", {"before": 2**31, "after": 0}, "1 to 1073741824 elements"),
]

# What isn't an integer where one is asked for, nor as many as are.
WRONG = [
    ("resize", {"size": (3, 3, 3)}, "a size (height, width)"),
    ("resize", {"size": 3}, "a size (height, width)"),
    ("resize", {"size": (3.5, 3)}, "given (3.5, 3)"),
    ("resize", {"size": (3, 3), "method": ["bilinear"]}, "a method of nearest"),
    ("pad", {"paddings": ((0, 0), (1.5, 1), (0, 0), (0, 0))}, "given (1.5, 1)"),
    ("pad", {"paddings": 1}, "given 1"),
    ("pad", {"paddings": ((0, 0),) * 4, "value": "x"}, "a number as value, given 'x'"),
    ("tile", {"multiples": (1, 2.0, 1, 1)}, "given (1, 2.0, 1, 1)"),
    ("space_to_depth", {"block": 2.0}, "given 2.0"),
    ("depth_to_space", {"block": 2.0}, "given 2.0"),
    ("channel_shuffle", {"groups": 2.0}, "given 2.0"),
    ("space_to_batch", {"block": (2, 2, 2)}, "given (2, 2, 2)"),
    (
        "space_to_batch",
        {"block": (2, 2), "paddings": ((-1, 1), (1, 1))},
        "paddings ((above, below), (left, right)) of 0 or more, given ((-1, 1), (1, 1))",
    ),
    ("batch_to_space", {"block": (1, 1), "crops": ((0, 0),)}, "given ((0, 0),)"),
    ("batch_to_space", {"block": 1}, "given 1"),
    ("extract_image_patches", {"sizes": 3}, "given 3"),
    ("extract_image_patches", {"sizes": (3, 3, 3)}, "given (3, 3, 3)"),
    ("reduce_sum", {"axes": 1}, "each once, given 1"),
    ("softmax", {"axis": 1.0}, "given [1.0]"),
    ("lp_norm", {"p": [2]}, "p of 1 or 2, given [2]"),
    ("layer_norm", {"axis": None}, "given [None]"),
    ("mean_variance_norm", {"axes": 1}, "given 1"),
    ("split", {"parts": 2.0, "axis": 1}, "given 2.0"),
    ("split", {"parts": 2, "axis": "1"}, "given 1"),
    ("crop", {"top": 0.0, "left": 0, "height": 1, "width": 1}, "given (0.0, 0, 1, 1)"),
    ("strided_slice", {"begin": 0, "end": (1, 1, 1, 1)}, "one begin, end and stride"),
    ("strided_slice", {"begin": (0.0, 0, 0, 0), "end": (1, 1, 1, 1)}, "one begin, end and stride"),
    ("transpose", {"permutation": (0.0, 1, 2, 3)}, "given (0.0, 1, 2, 3)"),
    ("transpose", {"permutation": 3}, "given 3"),
    ("cast", {"data_type": "foo"}, "given 'foo'"),
    ("activate", {"activation": ["relu"]}, "given ['relu']"),
    ("activate", {"activation": "elu", "alpha": "x"}, "a number as alpha for elu, given 'x'"),
    ("clip", {"low": "x"}, "numbers as bounds, given 'x'"),
    ("add", {"b": np.ones(4, np.float32)}, "given a numpy array of float32 (4,)"),
    ("multiply", {"b": None}, "tensors or numbers, given None"),
    ("convolution", {"groups": 2.0}, "groups that divides 4 channels, given 2.0"),
    ("convolution", {"stride": True}, "stride of 1 or more"),
    ("convolution", {"padding": ((1, 1.0), (1, 1))}, "given ((1, 1.0), (1, 1))"),
    ("convolution", {"padding": 1}, "padding SAME, VALID or"),
    ("pad_channels", {"before": 1.0, "after": 0}, "given (1.0, 0)"),
]


def arguments_for(runtime: Runtime, name: str, options: dict[str, Any]) -> tuple[Any, ...]:
    """The tensors that an operator takes beside its options."""
    filters = {
        "convolution": (4, 3, 3, 4),
        "transposed_convolution": (4, 3, 3, 4),
        "depthwise_convolution": (1, 3, 3, 4),
        "transposed_depthwise_convolution": (1, 3, 3, 4),
    }
    if options.get("groups") == 2:
        filters["convolution"] = (4, 3, 3, 2)
    x = runtime.empty(FEATURES)
    return (x, runtime.empty(filters[name])) if name in filters else (x,)


@pytest.mark.parametrize(("name", "options", "named"), TOO_LARGE + WRONG)
def test_what_does_not_fit_is_refused_in_the_name_of_the_operator(
    runtime: Runtime, name: str, options: dict[str, Any], named: str
) -> None:
    """The error tells what was expected and what was given, before anything is launched."""
    with pytest.raises(ShapeError) as raised:
        getattr(operators, name)(runtime, *arguments_for(runtime, name, options), **options)
    assert raised.value.operator == name
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convolution", {"stride": 2, "dilation": 1, "groups": 2, "padding": ((1, 1), (1, 1))}),
        ("transposed_convolution", {"stride": (2, 1), "output_size": (16, 8)}),
        ("max_pool", {"size": (2, 2), "stride": 1}),
        ("resize", {"size": (3, 5)}),
        ("pad", {"paddings": ((0, 0), (1, 1), (0, 0), (0, 0))}),
        ("pad_channels", {"before": 1, "after": 2}),
        ("tile", {"multiples": (1, 2, 1, 1)}),
        ("space_to_depth", {"block": 2}),
        ("depth_to_space", {"block": 2}),
        ("space_to_batch", {"block": (2, 2), "paddings": ((1, 1), (0, 0))}),
        ("channel_shuffle", {"groups": 2}),
        ("extract_image_patches", {"sizes": (2, 2), "strides": (2, 2), "rates": (2, 1)}),
        ("reduce_sum", {"axes": (1, 2)}),
        ("softmax", {"axis": 3}),
        ("lp_norm", {"p": 2}),
        ("split", {"parts": 2, "axis": 1}),
        ("crop", {"top": 0, "left": 1, "height": 2, "width": 3}),
        ("strided_slice", {"begin": (0, 1, 0, 0), "end": (1, 7, 8, 4), "strides": (1, 2, 1, 1)}),
        ("transpose", {"permutation": (0, 3, 1, 2)}),
        ("add", {"b": 2}),
    ],
)
def test_integers_of_numpy_are_integers(
    runtime: Runtime, name: str, options: dict[str, Any]
) -> None:
    """One as well as several, in any type, as a list or as an array."""
    tensors = arguments_for(runtime, name, options)
    plain = getattr(operators, name)(runtime, *tensors, **options)
    for kind in (np.int64, np.uint8):
        same = {key: kind(value) for key, value in options.items()}
        made = getattr(operators, name)(runtime, *tensors, **same)
        shapes = [tensor.shape for tensor in (made if isinstance(made, tuple) else (made,))]
        assert shapes == [t.shape for t in (plain if isinstance(plain, tuple) else (plain,))]
        assert all(type(length) is int for shape in shapes for length in shape)
    runtime.queue.finish()  # PoCL would be compiling when the process ends


@pytest.mark.parametrize("wrong", [(2.0, -1), 256, ("a",), (True, 256)])
def test_a_shape_is_made_of_integers(runtime: Runtime, wrong: Any) -> None:
    """Lengths of 2.0 would be seen by the next operator only."""
    with pytest.raises(ShapeError, match="reshape: expected a shape of 256 elements"):
        operators.reshape(runtime.empty(FEATURES), wrong)
    known: Any = np.array([2, -1])
    assert operators.reshape(runtime.empty(FEATURES), known).shape == (2, 128)


@pytest.mark.parametrize(
    "call",
    [
        operators.convolution,
        lambda r, x, w: operators.convolution(r, w, x),
        lambda r, x, w: operators.depthwise_convolution(r, w, w, x),
        lambda r, x, _: operators.max_pool(r, x),
        lambda r, x, w: operators.matrix_product(r, w, x),
        operators.fully_connected,
        lambda r, x, _: operators.winograd_weights(r, x),
        lambda r, x, w: operators.batch_norm(r, w, x, x),
        lambda r, x, w: operators.instance_norm(r, x, w, w),
        lambda r, x, _: operators.layer_norm(r, x),
        lambda r, x, _: operators.lp_norm(r, x),
        lambda r, x, _: operators.mean_variance_norm(r, x, (1,)),
        lambda r, x, _: operators.reduce_sum(r, x),
        lambda r, x, _: operators.transpose(r, x, (0, 1, 2, 3)),
        lambda r, x, w: operators.gather(r, w, x),
        lambda r, x, w: operators.concatenate(r, [w, x], 0),
        lambda r, x, w: operators.add_n(r, [w, x]),
        lambda r, x, _: operators.activate(r, x, "relu"),
        lambda r, x, _: operators.exp(r, x),
        lambda r, x, _: operators.cast(r, x, "int32"),
        lambda r, x, _: operators.resize(r, x, (2, 2)),
        lambda _r, x, _: operators.reshape(x, (-1,)),
        lambda r, x, _: operators.resize_normalise(r, x, (2, 2), scale=1.0, offset=0.0),
        lambda r, x, w: operators.lstm_cell(r, (w, w), x, (w, w)),
        lambda r, x, _: r.to_host(x),
    ],
)
def test_arrays_of_numpy_are_no_tensors(
    runtime: Runtime, call: Callable[[Runtime, Any, Tensor], Tensor]
) -> None:
    """They have a shape and a type too, but no buffer."""
    with pytest.raises(
        ShapeError, match=r"a tensor .*given a numpy array of float32 \(1, 8, 8, 4\)"
    ):
        call(runtime, np.ones(FEATURES, np.float32), runtime.empty((4, 3, 3, 4)))


@pytest.mark.parametrize(("operator", "more"), [("add_n", ()), ("concatenate", (0,))])
def test_a_tensor_is_no_sequence_of_tensors(
    runtime: Runtime, operator: str, more: tuple[int, ...]
) -> None:
    """One of them has to be in a list too."""
    x = runtime.empty((2, 3))
    with pytest.raises(ShapeError, match=f"{operator}: expected one or more tensors"):
        getattr(operators, operator)(runtime, x, *more)


def test_a_state_has_two_tensors(runtime: Runtime) -> None:
    """And so have the weights."""
    x = runtime.empty((2, 3))
    wrong: Any = (x, x, x)
    with pytest.raises(ShapeError, match="lstm_cell: expected two tensors as state"):
        operators.lstm_cell(runtime, wrong, x, (x, x))
    with pytest.raises(ShapeError, match="lstm_cell: expected two tensors as weights"):
        operators.lstm_cell(runtime, (x, x), x, wrong)


@pytest.mark.parametrize("given", [[1.0], 1.0, "x", np.array(["x"]), np.array([1j])])
def test_only_arrays_of_numbers_come_to_the_device(runtime: Runtime, given: Any) -> None:
    """What numpy would have to guess is for the caller to say."""
    with pytest.raises(
        ShapeError, match="to_device: expected a numpy array of real numbers, given"
    ):
        runtime.to_device(given)


@pytest.mark.parametrize("name", ["int32", "uint8"])
@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("transpose", ((1, 0),)),
        ("tile", ((2, 1),)),
        ("pad", (((1, 1), (0, 0)),)),
        ("strided_slice", ((0, 0), (1, 1))),
        ("pad_channels", (1, 1)),
    ],
)
def test_data_movement_of_other_types_is_refused(
    runtime: Runtime, name: str, operator: str, arguments: tuple[Any, ...]
) -> None:
    """Tensors of the runtime's type are moved, and others named."""
    x = runtime.empty((2, 2), name)
    with pytest.raises(ShapeError, match=rf"{operator}: expected tensors of float32, given {name}"):
        getattr(operators, operator)(runtime, x, *arguments)


def test_a_queue_out_of_order_is_refused(runtime: Runtime) -> None:
    """Kernels would read what others haven't written yet, and nobody would tell."""
    properties = cl.command_queue_properties.OUT_OF_ORDER_EXEC_MODE_ENABLE
    queue = cl.CommandQueue(runtime.queue.context, properties=properties)
    with pytest.raises(ShapeError, match="Runtime: expected a queue in order"):
        operators.Runtime(queue, runtime._cache)


def test_the_farthest_windows_see_their_centre(runtime: Runtime) -> None:
    """Dilations as large as are taken, and strides, leave one tap and one window."""
    x, weights = noise(0, *FEATURES), noise(1, 4, 3, 3, 4)
    given, filters = runtime.to_device(x), runtime.to_device(weights)
    dilation = REACH // 2 - 1
    made = operators.convolution(runtime, given, filters, dilation=dilation)
    expected = np.einsum("nhwc,fc->nhwf", x, weights[:, 1, 1])
    np.testing.assert_allclose(runtime.to_host(made), expected, rtol=1e-4, atol=1e-5)
    made = operators.transposed_convolution(runtime, given, filters, dilation=dilation)
    np.testing.assert_allclose(runtime.to_host(made), expected, rtol=1e-4, atol=1e-5)
    made = operators.max_pool(runtime, given, size=3, stride=1, dilation=dilation)
    np.testing.assert_array_equal(runtime.to_host(made), x.astype(np.float32))
    made = operators.max_pool(runtime, given, size=1, stride=REACH)
    np.testing.assert_array_equal(runtime.to_host(made), x[:, :1, :1].astype(np.float32))
    pixel = operators.crop(runtime, given, top=0, left=0, height=1, width=1)
    made = operators.transposed_convolution(
        runtime, pixel, filters, stride=(REACH, 7), dilation=(1, dilation), output_size=(1, 1)
    )
    expected = np.einsum("nhwc,fc->nhwf", x[:, :1, :1], weights[:, 1, 1])
    np.testing.assert_allclose(runtime.to_host(made), expected, rtol=1e-4, atol=1e-5)
