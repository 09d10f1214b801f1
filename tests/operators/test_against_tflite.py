"""What TFLite defines, against its interpreter: strides, dilations and both paddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tflite

from mace_cache.operators import (
    average_pool,
    convolution,
    depthwise_convolution,
    max_pool,
    transposed_convolution,
)
from tests.operators.litert import run_litert
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Tensor
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_PADDINGS = {"SAME": tflite.Padding.SAME, "VALID": tflite.Padding.VALID}
_EITHER = pytest.mark.parametrize("padding", ["SAME", "VALID"])


def stored(bench: Bench, *arrays: Array) -> list[Array]:
    """Give what storage leaves of arrays, as TFLite takes them."""
    return [bench.rounded(array).astype(np.float32) for array in arrays]


def fields(padding: str, stride: tuple[int, int]) -> dict[str, Any]:
    """Give the options that all these operations have."""
    return {"Padding": _PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1]}


@pytest.mark.sample
@_EITHER
@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 3))]
)
def test_convolution_is_tflites(
    bench: Bench, padding: str, stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """CONV_2D."""
    x, weights, bias = stored(bench, noise(0, 2, 8, 9, 5), noise(1, 6, 3, 2, 5) / 4, noise(2, 6))
    put = bench.runtime.to_device
    made = bench.runtime.to_host(
        convolution(
            *(bench.runtime, put(x), put(weights), put(bias)),
            stride=stride,
            dilation=dilation,
            padding=padding,
        )
    )
    options: dict[str, Any] = {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
    options |= fields(padding, stride)
    expected = run_litert("CONV_2D", x, weights, bias, options="Conv2DOptions", **options)
    bench.assert_close(made, expected)


@pytest.mark.sample
@_EITHER
@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 3))]
)
def test_depthwise_convolution_is_tflites(
    bench: Bench, padding: str, stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """DEPTHWISE_CONV_2D with two output channels for each of the input."""
    x, weights, bias = stored(bench, noise(0, 2, 8, 9, 5), noise(1, 1, 3, 2, 10), noise(2, 10))
    put = bench.runtime.to_device
    made = bench.runtime.to_host(
        depthwise_convolution(
            *(bench.runtime, put(x), put(weights), put(bias)),
            stride=stride,
            dilation=dilation,
            padding=padding,
        )
    )
    options: dict[str, Any] = {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
    options |= {"DepthMultiplier": 2, **fields(padding, stride)}
    expected = run_litert(
        "DEPTHWISE_CONV_2D", x, weights, bias, options="DepthwiseConv2DOptions", **options
    )
    bench.assert_close(made, expected)


@pytest.mark.sample
@pytest.mark.parametrize(
    ("padding", "stride", "size"),
    [
        ("SAME", (1, 1), (5, 4)),
        ("SAME", (2, 2), (10, 8)),
        ("SAME", (2, 3), (9, 10)),
        ("VALID", (2, 2), (11, 9)),
        ("VALID", (2, 3), (12, 14)),
    ],
)
def test_transposed_convolution_is_tflites(
    bench: Bench, padding: str, stride: tuple[int, int], size: tuple[int, int]
) -> None:
    """TRANSPOSE_CONV with the output's shape as it is given."""
    x, weights = stored(bench, noise(0, 2, 5, 4, 5), noise(1, 6, 3, 3, 5) / 4)
    put = bench.runtime.to_device
    options: dict[str, Any] = {"stride": stride, "padding": padding, "output_size": size}
    made = transposed_convolution(bench.runtime, put(x), put(weights), **options)
    shape = np.array([2, *size, 6], np.int32)
    given = fields(padding, stride)
    expected = run_litert(
        "TRANSPOSE_CONV", x, shape, weights, options="TransposeConvOptions", last=True, **given
    )
    bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.sample
@_EITHER
@pytest.mark.parametrize(("operator", "name"), [(average_pool, "Average"), (max_pool, "Max")])
def test_pools_are_tflites(
    bench: Bench, operator: Callable[..., Tensor], name: str, padding: str
) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    (x,) = stored(bench, noise(0, 2, 8, 9, 5))
    given = bench.runtime.to_device(x)
    made = bench.runtime.to_host(
        operator(bench.runtime, given, size=(3, 2), stride=(2, 1), padding=padding)
    )
    options = {"FilterHeight": 3, "FilterWidth": 2, **fields(padding, (2, 1))}
    expected = run_litert(f"{name.upper()}_POOL_2D", x, options="Pool2DOptions", **options)
    bench.assert_close(made, expected)
