"""Resize and normalise against a sampling written pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import resize_normalise
from tests.operators.reference import resize

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array

_SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
_QUARTERS = st.integers(-20, 20).map(lambda quarters: quarters / 4)


def _image(height: int, width: int) -> Array:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@settings(deadline=None, max_examples=40)
@given(_SIZES, _SIZES)
def test_the_whole_image_is_resized(
    bench: Bench, given_size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """Smaller and larger, with bilinear interpolation between half-pixel centres."""
    image = _image(*given_size)
    made = resize_normalise(
        bench.runtime, bench.runtime.to_device(image), wanted, scale=1 / 127.5, offset=-1.0
    )
    expected = resize(image, wanted, (0, 0, *given_size)) / 127.5 - 1
    bench.assert_close(bench.runtime.to_host(made), expected[np.newaxis])


@pytest.mark.sample
@settings(deadline=None, max_examples=40)
@given(_QUARTERS, _QUARTERS, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_a_rectangle_crops_and_letterboxes(
    bench: Bench, top: float, left: float, rows: int, columns: int
) -> None:
    """A rectangle inside the image crops it; what reaches beyond it is black."""
    image, rectangle = _image(7, 5), (top, left, rows * 1.5, columns * 1.5)
    made = resize_normalise(
        bench.runtime,
        bench.runtime.to_device(image),
        (rows, columns),
        scale=0.5,
        offset=3.0,
        rectangle=rectangle,
    )
    expected = resize(image, (rows, columns), rectangle) * 0.5 + 3
    bench.assert_close(bench.runtime.to_host(made), expected[np.newaxis])


def test_the_size_of_the_image_keeps_every_pixel(runtime: Runtime) -> None:
    """Without a change of size, every value is its pixel's."""
    image = _image(13, 11)
    made = resize_normalise(runtime, runtime.to_device(image), (13, 11), scale=1.0, offset=0.0)
    np.testing.assert_array_equal(runtime.to_host(made)[0], image)


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 4), (1, 5, 5, 3)])
def test_images_of_another_shape_are_named(runtime: Runtime, shape: tuple[int, ...]) -> None:
    """Only RGB images are taken, without a batch."""
    image = runtime.to_device(np.zeros(shape, np.uint8))
    with pytest.raises(ShapeError, match=r"resize_normalise: .*\(height, width, 3\)") as raised:
        resize_normalise(runtime, image, (4, 4), scale=1.0, offset=0.0)
    assert str(shape) in str(raised.value)


def test_images_of_another_type_are_named(runtime: Runtime) -> None:
    """An image of floats isn't one of bytes."""
    with pytest.raises(ShapeError, match=r"uint8 .*given float32 \(5, 5, 3\)"):
        resize_normalise(runtime, runtime.empty((5, 5, 3)), (4, 4), scale=1.0, offset=0.0)


@pytest.mark.parametrize(
    ("size", "rectangle"), [((0, 4), None), ((4, 4), (0, 0, 0, 4)), ((4, 4), (0, 0, 4, -1))]
)
def test_empty_sizes_are_named(
    runtime: Runtime, size: tuple[int, int], rectangle: tuple[float, float, float, float] | None
) -> None:
    """Neither the result nor the rectangle may be empty."""
    image = runtime.to_device(_image(5, 5))
    with pytest.raises(ShapeError, match="that isn't empty") as raised:
        resize_normalise(runtime, image, size, scale=1.0, offset=0.0, rectangle=rectangle)
    assert raised.value.given in (size, rectangle)
