"""The same elements in another order: permutations, blocks, groups and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.checks import check_features, window
from mace_cache.operators.copying import Axis, contiguous, strided_copy
from mace_cache.operators.padding import pad
from mace_cache.operators.slicing import crop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "batch_to_space",
    "channel_shuffle",
    "depth_to_space",
    "extract_image_patches",
    "space_to_batch",
    "space_to_depth",
    "transpose",
]

Pair = tuple[int, int]


def transpose(runtime: Runtime, x: Tensor, permutation: Sequence[int]) -> Tensor:
    """Put axes into another order: TFLite's TRANSPOSE, ``numpy.transpose``.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        permutation: for each axis of the result, which axis of *x* it is.

    Returns:
        The tensor with its axes in that order.

    Raises:
        ShapeError: not a permutation of the axes, or more than eight axes change places.
    """
    if not x.shape or sorted(permutation) != list(range(len(x.shape))):
        raise ShapeError("transpose", f"a permutation of the axes of {x}", tuple(permutation))
    return _permute("transpose", runtime, x, x.shape, permutation)


def space_to_depth(runtime: Runtime, x: Tensor, *, block: int) -> Tensor:
    """Move each block of pixels into the channels of one pixel: TFLite's SPACE_TO_DEPTH.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        block: the block's height and width, of which the image's are multiples.

    Returns:
        (batch, height / *block*, width / *block*, *block* * *block* * channels); the channels of a
        block's pixels follow each other row by row.

    Raises:
        ShapeError: *x* has another number of axes, or isn't made of such blocks.
    """
    batch, height, width, channels = check_features("space_to_depth", x)
    if block < 1 or height % block or width % block:
        raise ShapeError("space_to_depth", f"blocks that divide {height}x{width}", block)
    rows, columns = height // block, width // block
    split = (batch, rows, block, columns, block, channels)
    shape = (batch, rows, columns, block * block * channels)
    return _permute("space_to_depth", runtime, x, split, (0, 1, 3, 2, 4, 5), shape=shape)


def depth_to_space(runtime: Runtime, x: Tensor, *, block: int) -> Tensor:
    """Spread each pixel's channels over a block of pixels: TFLite's DEPTH_TO_SPACE.

    It is ONNX's DepthToSpace of mode ``DCR``, and undoes `space_to_depth`.

    Args:
        runtime: where to compute.
        x: (batch, height, width, *block* * *block* * channels).
        block: the block's height and width.

    Returns:
        (batch, height * *block*, width * *block*, channels).

    Raises:
        ShapeError: *x* has another number of axes, or channels that don't make up blocks.
    """
    batch, height, width, channels = check_features("depth_to_space", x)
    if block < 1 or channels % (block * block):
        raise ShapeError("depth_to_space", f"blocks whose area divides {channels}", block)
    left = channels // (block * block)
    split = (batch, height, width, block, block, left)
    shape = (batch, height * block, width * block, left)
    return _permute("depth_to_space", runtime, x, split, (0, 1, 3, 2, 4, 5), shape=shape)


def space_to_batch(
    runtime: Runtime, x: Tensor, *, block: Pair, paddings: tuple[Pair, Pair] = ((0, 0), (0, 0))
) -> Tensor:
    """Deal the pixels of each block out to images of their own: TFLite's SPACE_TO_BATCH_ND.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        block: the block's height and width, of which the padded image's are multiples.
        paddings: rows of zeros (above, below) and columns of zeros (left, right), put there first.

    Returns:
        (block height * block width * batch, padded height / block height, padded width / block
        width, channels); the batch of the blocks' first pixels comes first.

    Raises:
        ShapeError: *x* has another number of axes or isn't made of such blocks, or a padding is
            negative.
    """
    check_features("space_to_batch", x)
    if any(amount for side in paddings for amount in side):
        x = pad(runtime, x, ((0, 0), *paddings, (0, 0)))
    batch, height, width, channels = x.shape
    down, across = block
    if min(block) < 1 or height % down or width % across:
        raise ShapeError("space_to_batch", f"blocks that divide {height}x{width}", block)
    rows, columns = height // down, width // across
    split = (batch, rows, down, columns, across, channels)
    shape = (down * across * batch, rows, columns, channels)
    return _permute("space_to_batch", runtime, x, split, (2, 4, 0, 1, 3, 5), shape=shape)


def batch_to_space(
    runtime: Runtime, x: Tensor, *, block: Pair, crops: tuple[Pair, Pair] = ((0, 0), (0, 0))
) -> Tensor:
    """Put the pixels of each block together again: TFLite's BATCH_TO_SPACE_ND.

    Args:
        runtime: where to compute.
        x: (block height * block width * batch, height, width, channels).
        block: the block's height and width.
        crops: rows (above, below) and columns (left, right) to cut off at last.

    Returns:
        (batch, height * block height - crops, width * block width - crops, channels).

    Raises:
        ShapeError: *x* has another number of axes or a batch that doesn't make up blocks, or the
            crops leave nothing.
    """
    images, rows, columns, channels = check_features("batch_to_space", x)
    down, across = block
    if min(block) < 1 or images % (down * across):
        raise ShapeError("batch_to_space", f"blocks whose area divides {images}", block)
    batch, height, width = images // (down * across), rows * down, columns * across
    split = (down, across, batch, rows, columns, channels)
    shape = (batch, height, width, channels)
    made = _permute("batch_to_space", runtime, x, split, (2, 3, 0, 4, 1, 5), shape=shape)
    (top, bottom), (left, right) = crops
    if not (top or bottom or left or right):
        return made
    rectangle = {"height": height - top - bottom, "width": width - left - right}
    if min(top, bottom, left, right, *(length - 1 for length in rectangle.values())) < 0:
        raise ShapeError("batch_to_space", f"crops that leave some of {height}x{width}", crops)
    return crop(runtime, made, top=top, left=left, **rectangle)


def channel_shuffle(runtime: Runtime, x: Tensor, *, groups: int) -> Tensor:
    """Deal the channels of each group out to all groups, as ShuffleNet does (arXiv:1707.01083).

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        groups: a divisor of the channels.

    Returns:
        The shape of *x*; channel c of group g is now channel c * *groups* + g.

    Raises:
        ShapeError: *x* has another number of axes, or channels that don't make up groups.
    """
    batch, height, width, channels = check_features("channel_shuffle", x)
    if groups < 1 or channels % groups:
        raise ShapeError("channel_shuffle", f"groups that divide {channels} channels", groups)
    split = (batch * height * width, groups, channels // groups)
    return _permute("channel_shuffle", runtime, x, split, (0, 2, 1), shape=x.shape)


def extract_image_patches(
    runtime: Runtime,
    x: Tensor,
    *,
    sizes: Pair,
    strides: Pair = (1, 1),
    rates: Pair = (1, 1),
    padding: str = "VALID",
) -> Tensor:
    """Put the pixels of each window into the channels of one: ``tf.image.extract_patches``.

    Args:
        runtime: where to compute.
        x: (batch, height, width, channels).
        sizes: the window's height and width in pixels that it takes.
        strides: the distance between windows down and across.
        rates: the distance between the pixels that a window takes, down and across.
        padding: ``SAME`` (windows may reach over the edge, where zeros are) or ``VALID``.

    Returns:
        (batch, windows down, windows across, window height * window width * channels).

    Raises:
        ShapeError: *x* has another number of axes, a number is less than 1, the padding is another
            one, or there is no room for a window.
    """
    operator = "extract_image_patches"
    batch, height, width, channels = check_features(operator, x)
    if min(*sizes, *strides, *rates) < 1:
        raise ShapeError(operator, "sizes, strides and rates of 1 or more", (sizes, strides, rates))
    if padding not in ("SAME", "VALID"):
        raise ShapeError(operator, "padding SAME or VALID", repr(padding))
    reach = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    if padding == "VALID" and (reach[0] > height or reach[1] > width):
        raise ShapeError(operator, f"an input of {reach[0]}x{reach[1]} or more for VALID", x)
    rows, top = window(height, reach[0], strides[0], padding)
    columns, left = window(width, reach[1], strides[1], padding)
    bottom = max((rows - 1) * strides[0] + reach[0] - height - top, 0)
    right = max((columns - 1) * strides[1] + reach[1] - width - left, 0)
    if top or bottom or left or right:
        x = pad(runtime, x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    image, row, column, channel = contiguous(x.shape)
    axes = [
        image,
        Axis(rows, row.stride * strides[0]),
        Axis(columns, column.stride * strides[1]),
        Axis(sizes[0], row.stride * rates[0]),
        Axis(sizes[1], column.stride * rates[1]),
        channel,
    ]
    shape = (batch, rows, columns, sizes[0] * sizes[1] * channels)
    return strided_copy(operator, runtime, x, shape, axes)


def _permute(
    operator: str,
    runtime: Runtime,
    x: Tensor,
    split: Sequence[int],
    permutation: Sequence[int],
    *,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """Permute *x* as if it had the shape *split*; the result's shape is *shape*, if given."""
    whole = contiguous(split)
    axes = [whole[index] for index in permutation]
    return strided_copy(operator, runtime, x, shape or [axis.length for axis in axes], axes)
