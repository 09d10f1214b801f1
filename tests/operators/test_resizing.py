"""Resizing against TFLite, and bicubic against a sampling written from ONNX's definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mace_cache.errors import ShapeError
from mace_cache.operators import resize
from tests.operators.litert import run_litert
from tests.operators.reference import noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_SIZES = [(9, 4), (3, 13), (1, 1), (10, 14), (5, 7)]
_CENTRES: list[dict[str, bool]] = [{}, {"align_corners": True}, {"half_pixel_centers": True}]


@pytest.mark.parametrize("centres", _CENTRES)
@pytest.mark.parametrize("channels", [1, 4, 7])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resize_is_tflites(
    bench: Bench, method: str, channels: int, centres: dict[str, bool]
) -> None:
    """Smaller, larger and the same, with each kind of centres."""
    x = bench.rounded(noise(0, 2, 5, 7, channels))
    name = "NearestNeighbor" if method == "nearest" else "Bilinear"
    values: dict[str, Any] = {
        "AlignCorners": int(centres.get("align_corners", False)),
        "HalfPixelCenters": int(centres.get("half_pixel_centers", False)),
    }
    operator = f"RESIZE_{'NEAREST_NEIGHBOR' if method == 'nearest' else 'BILINEAR'}"
    for size in _SIZES:
        made = resize(bench.runtime, bench.runtime.to_device(x), size, method=method, **centres)
        wanted = np.array(size, np.int32)
        expected = run_litert(operator, x, wanted, options=f"Resize{name}Options", **values)
        bench.assert_close(bench.runtime.to_host(made), expected)


def _cubic(distance: Array, a: float) -> Array:
    """Keys's kernel (1981)."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weights(length: int, wanted: int, centres: dict[str, bool], a: float, exclude: bool) -> Array:
    """Give the matrix of what each output pixel takes from each input pixel of an axis."""
    index = np.arange(wanted)
    if centres.get("align_corners") and wanted > 1:
        places = index * (length - 1) / (wanted - 1)
    elif centres.get("half_pixel_centers"):
        places = (index + 0.5) * length / wanted - 0.5
    else:
        places = index * length / wanted
    taps = np.floor(places).astype(int)[:, None] + np.arange(-1, 3)
    weights = _cubic(places[:, None] - taps, a)
    if exclude:
        weights = np.where((taps >= 0) & (taps < length), weights, 0)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((wanted, length))
    np.add.at(matrix, (index[:, None], np.clip(taps, 0, length - 1)), weights)
    return matrix


@pytest.mark.sample
@pytest.mark.parametrize("centres", _CENTRES)
@pytest.mark.parametrize(("coefficient", "exclude"), [(-0.5, True), (-0.75, False)])
def test_bicubic_is_onnxs(
    bench: Bench, coefficient: float, exclude: bool, centres: dict[str, bool]
) -> None:
    """Both coefficients, with what is outside repeated or left out."""
    x = noise(0, 2, 5, 7, 6)
    for size in _SIZES:
        made = resize(
            bench.runtime,
            bench.runtime.to_device(x),
            size,
            method="bicubic",
            coefficient=coefficient,
            exclude_outside=exclude,
            **centres,
        )
        down, across = (
            _weights(length, wanted, centres, coefficient, exclude)
            for length, wanted in zip((5, 7), size, strict=True)
        )
        expected = np.einsum("yh,xw,nhwc->nyxc", down, across, bench.rounded(x))
        bench.assert_close(bench.runtime.to_host(made), expected)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_rows_longer_than_a_work_items_share(bench: Bench, method: str) -> None:
    """The size that an image has keeps every pixel of it, wide and deep as it may be."""
    x = noise(0, 1, 2, 333, 9)
    tensor = bench.runtime.to_device(x)
    made = resize(bench.runtime, tensor, (2, 333), method=method, half_pixel_centers=True)
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x))


@pytest.mark.parametrize(
    ("shape", "size", "options", "named"),
    [
        ((5, 7, 3), (4, 4), {}, "(batch, height, width, channels), given float32 (5, 7, 3)"),
        ((1, 5, 7, 3), (0, 4), {}, "a size (height, width) that isn't empty, given (0, 4)"),
        ((1, 5, 7, 3), (4, 4), {"method": "area"}, "nearest, bilinear, bicubic, given 'area'"),
        (
            (1, 5, 7, 3),
            (4, 4),
            {"align_corners": True, "half_pixel_centers": True},
            "align_corners or half_pixel_centers, given both",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    runtime: Runtime, shape: tuple[int, ...], size: tuple[int, int], options: Any, named: str
) -> None:
    """The error tells what the operator takes and what it got."""
    with pytest.raises(ShapeError, match="resize: ") as raised:
        resize(runtime, runtime.empty(shape), size, **options)
    assert named in str(raised.value)


def test_tensors_of_another_type_are_named(runtime: Runtime) -> None:
    """Images of bytes are cast first."""
    image = runtime.to_device(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ShapeError, match="resize: expected tensors of float32, given uint8"):
        resize(runtime, image, (4, 4))
