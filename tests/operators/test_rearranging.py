"""Permutations, blocks, groups and patches: copies, so bit for bit what numpy or TFLite gives."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from mace_cache.errors import ShapeError
from mace_cache.operators import (
    batch_to_space,
    channel_shuffle,
    depth_to_space,
    extract_image_patches,
    space_to_batch,
    space_to_depth,
    transpose,
)
from tests.operators.litert import run_litert
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench
    from tests.operators.reference import Array


def _assert_same(bench: Bench, operator: Callable[..., Any], x: Array, expected: Array) -> None:
    result = operator(bench.runtime, bench.runtime.to_device(x))
    np.testing.assert_array_equal(bench.runtime.to_host(result), bench.rounded(expected))
    assert result.shape == expected.shape


@pytest.mark.sample
@pytest.mark.parametrize("shape", [(3, 5, 2, 7), (1, 40, 1, 33), (2, 33, 5, 17), (4, 4, 70, 4)])
def test_every_permutation_of_four_axes(bench: Bench, shape: tuple[int, ...]) -> None:
    """Small and large sides, with and without whole blocks."""
    x = noise(0, *shape)
    for order in permutations(range(4)):
        _assert_same(bench, lambda rt, t, o=order: transpose(rt, t, o), x, x.transpose(order))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8).flatmap(lambda axes: st.permutations(range(axes))), st.integers(0, 99))
def test_transpose_is_numpys(bench: Bench, order: list[int], seed: int) -> None:
    """Up to eight axes, in any order."""
    shape = np.random.default_rng(seed).integers(1, 5, len(order))
    x = noise(seed, *shape)
    _assert_same(bench, lambda rt, t: transpose(rt, t, order), x, x.transpose(order))


def test_more_blocks_than_the_largest_grid_are_all_turned(runtime: Runtime) -> None:
    """A long and a short side, and more tiles than there are work-items on a CPU at once."""
    x = np.arange(70 * 40000, dtype=np.float32).reshape(70, 40000)
    made = transpose(runtime, runtime.to_device(x), (1, 0))
    np.testing.assert_array_equal(runtime.to_host(made), x.T)


@pytest.mark.sample
@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_become_channels_and_come_back(bench: Bench, block: int) -> None:
    """What TFLite gives, and its opposite."""
    x = noise(0, 2, 6, 12, 5).astype(np.float32)
    deep = run_litert("SPACE_TO_DEPTH", x, options="SpaceToDepthOptions", BlockSize=block)
    _assert_same(bench, lambda rt, t: space_to_depth(rt, t, block=block), x, deep)
    back = run_litert("DEPTH_TO_SPACE", deep, options="DepthToSpaceOptions", BlockSize=block)
    _assert_same(bench, lambda rt, t: depth_to_space(rt, t, block=block), deep, back)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    ("block", "amounts"),
    [((2, 3), ((1, 1), (0, 2))), ((1, 2), ((0, 0), (0, 0))), ((3, 1), ((0, 2), (3, 0)))],
)
def test_blocks_become_images_and_come_back(
    bench: Bench, block: tuple[int, int], amounts: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """What TFLite gives, with paddings; and its opposite, with crops."""
    x = noise(0, 2, 4, 10, 3).astype(np.float32)
    constants = np.array(block, np.int32), np.array(amounts, np.int32)
    dealt = run_litert("SPACE_TO_BATCH_ND", x, *constants)
    _assert_same(
        bench, lambda rt, t: space_to_batch(rt, t, block=block, paddings=amounts), x, dealt
    )
    back = run_litert("BATCH_TO_SPACE_ND", dealt, *constants)
    _assert_same(
        bench, lambda rt, t: batch_to_space(rt, t, block=block, crops=amounts), dealt, back
    )
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("groups", [1, 2, 3, 12])
def test_channels_are_dealt_out_to_groups(bench: Bench, groups: int) -> None:
    """Channel c of group g becomes channel c * groups + g."""
    x = noise(0, 2, 3, 5, 12)
    split = x.reshape(2, 3, 5, groups, 12 // groups)
    _assert_same(
        bench,
        lambda rt, t: channel_shuffle(rt, t, groups=groups),
        x,
        split.swapaxes(3, 4).reshape(x.shape),
    )


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.sampled_from(["SAME", "VALID"]),
)
def test_patches_are_the_windows(
    bench: Bench,
    sizes: tuple[int, int],
    strides: tuple[int, int],
    rates: tuple[int, int],
    padding: str,
) -> None:
    """Windows of any size, stride and rate, padded as TensorFlow defines it."""
    x = noise(0, 2, 11, 10, 3)
    reach = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    amounts = [(0, 0)]
    for length, size, stride in zip(x.shape[1:3], reach, strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        amounts.append((total // 2, total - total // 2) if padding == "SAME" else (0, 0))
    seen = sliding_window_view(np.pad(x, [*amounts, (0, 0)]), reach, axis=(1, 2))
    taken = seen[:, :: strides[0], :: strides[1], :, :: rates[0], :: rates[1]]
    expected = taken.transpose(0, 1, 2, 4, 5, 3).reshape(*taken.shape[:3], -1)
    _assert_same(
        bench,
        lambda rt, t: extract_image_patches(
            rt, t, sizes=sizes, strides=strides, rates=rates, padding=padding
        ),
        x,
        expected,
    )


@pytest.mark.parametrize(
    ("operator", "shape", "options", "named"),
    [
        (space_to_depth, (6, 6, 3), {"block": 2}, "(batch, height, width, channels)"),
        (space_to_depth, (1, 6, 5, 3), {"block": 2}, "blocks that divide 6x5, given 2"),
        (space_to_depth, (1, 6, 6, 3), {"block": 0}, "given 0"),
        (depth_to_space, (1, 6, 6, 6), {"block": 2}, "whose area divides 6, given 2"),
        (space_to_batch, (1, 6, 5, 3), {"block": (2, 2)}, "divide 6x5, given (2, 2)"),
        (space_to_batch, (1, 6, 6, 3), {"block": (2, 0)}, "given (2, 0)"),
        (batch_to_space, (6, 2, 2, 3), {"block": (2, 2)}, "area divides 6, given (2, 2)"),
        (
            batch_to_space,
            (4, 2, 2, 3),
            {"block": (2, 2), "crops": ((2, 2), (0, 0))},
            "leave some of 4x4, given ((2, 2), (0, 0))",
        ),
        (batch_to_space, (4, 2, 2, 3), {"block": (2, 2), "crops": ((-1, 0), (0, 0))}, "leave some"),
        (channel_shuffle, (1, 2, 2, 6), {"groups": 4}, "groups that divide 6 channels, given 4"),
        (extract_image_patches, (1, 4, 4, 3), {"sizes": (0, 1)}, "of 1 or more"),
        (extract_image_patches, (1, 4, 4, 3), {"sizes": (1, 1), "padding": "FULL"}, "'FULL'"),
        (extract_image_patches, (1, 4, 4, 3), {"sizes": (3, 3), "rates": (1, 2)}, "3x5 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    runtime: Runtime,
    operator: Callable[..., object],
    shape: tuple[int, ...],
    options: dict[str, Any],
    named: str,
) -> None:
    """The error tells what the operator takes and what it got."""
    with pytest.raises(ShapeError) as raised:
        operator(runtime, runtime.empty(shape), **options)
    assert raised.value.operator == operator.__name__
    assert named in str(raised.value)


@pytest.mark.parametrize("order", [(0,), (0, 0), (1, 2), (-1, 0)])
def test_what_is_no_permutation_is_named(runtime: Runtime, order: tuple[int, ...]) -> None:
    """Every axis takes part once."""
    with pytest.raises(ShapeError, match="transpose: expected a permutation") as raised:
        transpose(runtime, runtime.empty((3, 4)), order)
    assert raised.value.given == order


def test_nine_axes_that_change_places_are_too_many(runtime: Runtime) -> None:
    """Kernels go through eight; axes that stay together count as one."""
    with pytest.raises(ShapeError, match="transpose: expected 8 axes or fewer"):
        transpose(runtime, runtime.empty((2,) * 9), range(8, -1, -1))
    assert (
        transpose(runtime, runtime.empty((2,) * 9), (7, 8, 6, 5, 4, 3, 2, 1, 0)).shape == (2,) * 9
    )
