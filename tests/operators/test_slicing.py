"""Slices, splits, crops, tiles and look-ups against numpy: copies, so bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.errors import ShapeError
from mace_cache.operators import crop, gather, split, strided_slice, tile
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench

_SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def _slices(length: int) -> st.SearchStrategy[slice]:
    return st.slices(length).filter(lambda drawn: bool(range(*drawn.indices(length))))


@settings(deadline=None, max_examples=40)
@given(_SHAPES, st.data())
def test_a_slice_is_pythons(bench: Bench, shape: list[int], data: st.DataObject) -> None:
    """Any begin, end and stride, negative or left out, takes what Python's slices take."""
    slices = [data.draw(_slices(length)) for length in shape]
    x = noise(0, *shape)
    result = strided_slice(
        bench.runtime,
        bench.runtime.to_device(x),
        [s.start for s in slices],
        [s.stop for s in slices],
        strides=[s.step or 1 for s in slices],
    )
    expected = bench.rounded(x)[tuple(slices)]
    np.testing.assert_array_equal(bench.runtime.to_host(result), expected)
    assert result.shape == expected.shape


@pytest.mark.parametrize("edge", [(3, 70), (70, 3), (1, 5000), (2, 1031)])
def test_long_and_short_rows_are_copied_whole(bench: Bench, edge: tuple[int, int]) -> None:
    """Rows longer than one work-item copies, and more rows than it takes at once."""
    x = noise(0, 5, *edge, 3)
    put = bench.runtime.to_device(x)
    made = strided_slice(bench.runtime, put, (1, 0, 0, 0), (5, *edge, 3))
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x)[1:])
    made = strided_slice(bench.runtime, put, (0, 0, 0, 1), (5, *edge, 3))
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x)[..., 1:])
    none = (None,) * 4
    made = strided_slice(bench.runtime, put, none, none, strides=(1, 1, -1, 1))
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x)[:, :, ::-1])


def test_strides_are_1_if_not_given(runtime: Runtime) -> None:
    """Negative bounds count from the end."""
    x = runtime.to_device(np.arange(10.0))
    assert runtime.to_host(strided_slice(runtime, x, [-3], [-1])).tolist() == [7.0, 8.0]


@settings(deadline=None, max_examples=25)
@given(_SHAPES, st.data())
def test_split_is_numpys(bench: Bench, shape: list[int], data: st.DataObject) -> None:
    """Parts of given lengths, along any axis, make up the tensor."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    shape[axis] = sum(lengths)
    x = noise(0, *shape)
    parts = split(bench.runtime, bench.runtime.to_device(x), lengths, axis=axis)
    expected = np.split(bench.rounded(x), np.cumsum(lengths)[:-1], axis)
    assert [part.shape for part in parts] == [part.shape for part in expected]
    for part, plain in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(bench.runtime.to_host(part), plain)


def test_split_makes_equal_parts_of_a_number(runtime: Runtime) -> None:
    """Three parts of six columns are of two columns each."""
    x = noise(0, 2, 6).astype(np.float32)
    parts = split(runtime, runtime.to_device(x), 3, axis=1)
    for part, plain in zip(parts, np.split(x, 3, 1), strict=True):
        np.testing.assert_array_equal(runtime.to_host(part), plain)


def test_crop_cuts_a_rectangle_out_of_every_image(bench: Bench) -> None:
    """The batch and the channels stay."""
    x = noise(0, 2, 7, 9, 3)
    put = bench.runtime.to_device(x)
    made = crop(bench.runtime, put, top=1, left=2, height=5, width=7)
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x)[:, 1:6, 2:9])
    made = crop(bench.runtime, put, top=0, left=0, height=7, width=9)
    np.testing.assert_array_equal(bench.runtime.to_host(made), bench.rounded(x))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4))
def test_tile_is_numpys(bench: Bench, axes: list[tuple[int, int]]) -> None:
    """Any axis is repeated any number of times."""
    shape, multiples = zip(*axes, strict=True)
    x = noise(0, *shape)
    made = tile(bench.runtime, bench.runtime.to_device(x), multiples)
    expected = np.tile(bench.rounded(x), multiples)
    np.testing.assert_array_equal(bench.runtime.to_host(made), expected)
    assert made.shape == expected.shape


@pytest.mark.sample
@settings(deadline=None, max_examples=40)
@given(_SHAPES, st.lists(st.integers(1, 4), max_size=3), st.data())
def test_gather_is_numpys_take(
    bench: Bench, shape: list[int], indices_shape: list[int], data: st.DataObject
) -> None:
    """Indices of any shape, for any axis; those out of range mean the first or the last."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    indices = rng.integers(-3, shape[axis] + 3, indices_shape, np.int32)
    indices = np.asarray(indices, np.int32)
    x = noise(0, *shape)
    put = bench.runtime.to_device
    made = gather(bench.runtime, put(x), put(indices), axis=axis)
    expected = np.take(bench.rounded(x), indices, axis, mode="clip")
    np.testing.assert_array_equal(bench.runtime.to_host(made), expected)
    assert made.shape == expected.shape


def test_gather_never_reads_outside(runtime: Runtime) -> None:
    """The farthest indices that there are mean the first and the last slice."""
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    farthest = runtime.to_device(np.array([-(2**31), 2**31 - 1, -1, 4], np.int32))
    for axis, expected in ((0, x[[0, 3, 0, 3]]), (1, x[:, [0, 2, 0, 2]])):
        made = gather(runtime, runtime.to_device(x), farthest, axis=axis)
        np.testing.assert_array_equal(runtime.to_host(made), expected)


@pytest.mark.parametrize(
    ("operator", "shape", "arguments", "named"),
    [
        (strided_slice, (3, 4), ([(0,), (3, 4)], {}), "one begin, end and stride"),
        (strided_slice, (3, 4), ([(0, 0), (3, 4)], {"strides": (1, 0)}), "(not 0)"),
        (strided_slice, (), ([(), ()], {}), "for each axis of float32 ()"),
        (strided_slice, (3, 4), ([(0, 2), (3, 2)], {}), "one element or more"),
        (strided_slice, (3,) * 9, ([(None,) * 9] * 2, {"strides": (2,) * 9}), "8 axes or fewer"),
        (split, (3, 4), ([2], {"axis": 2}), "an axis 2, given float32 (3, 4)"),
        (split, (3, 4), ([3], {"axis": 1}), "make up axis 1 of float32 (3, 4), given 3"),
        (split, (3, 4), ([0], {"axis": 1}), "given 0"),
        (split, (3, 4), ([[1, 2]], {"axis": 1}), "given [1, 2]"),
        (split, (3, 4), ([[5, -1]], {"axis": 1}), "given [5, -1]"),
        (crop, (5, 6, 3), ([], {"top": 0, "left": 0, "height": 1, "width": 1}), "(batch, height"),
        (crop, (1, 5, 6, 3), ([], {"top": 3, "left": 0, "height": 3, "width": 1}), "inside 5x6"),
        (crop, (1, 5, 6, 3), ([], {"top": 0, "left": -1, "height": 3, "width": 1}), "at (0, -1)"),
        (crop, (1, 5, 6, 3), ([], {"top": 0, "left": 0, "height": 3, "width": 0}), "given 3x0"),
        (tile, (3, 4), ([(1,)], {}), "for each axis of float32 (3, 4), given (1,)"),
        (tile, (3, 4), ([(1, 0)], {}), "tile: expected 1 or more"),
        (tile, (), ([()], {}), "given ()"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    runtime: Runtime,
    operator: Callable[..., object],
    shape: tuple[int, ...],
    arguments: tuple[list[Any], dict[str, Any]],
    named: str,
) -> None:
    """The error tells what the operator takes and what it got."""
    with pytest.raises(ShapeError) as raised:
        operator(runtime, runtime.empty(shape), *arguments[0], **arguments[1])
    assert raised.value.operator == operator.__name__
    assert named in str(raised.value)


def test_look_ups_of_another_type_are_named(runtime: Runtime, half_bench: Bench) -> None:
    """Indices are int32, and what is looked up is of the runtime's type."""
    x, indices = runtime.empty((3, 4)), runtime.empty((2,), np.int32)
    with pytest.raises(ShapeError, match=r"indices of int32, given float32 \(3, 4\)"):
        gather(runtime, x, x)
    with pytest.raises(ShapeError, match=r"gather: expected a tensor with an axis -3"):
        gather(runtime, x, indices, axis=-3)
    half = half_bench.runtime.empty((3, 4))
    with pytest.raises(ShapeError, match=r"gather: .*float32, given float16 \(3, 4\)"):
        gather(runtime, half, indices)
    with pytest.raises(ShapeError, match=r"tile: .*float32, given float16 \(3, 4\)"):
        tile(runtime, half, (2, 2))
