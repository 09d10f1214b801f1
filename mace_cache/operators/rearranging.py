"""The same elements in another order: permutations, blocks and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import integer, integers
from mace_cache.operators.checks import check_features, check_type
from mace_cache.operators.copying import contiguous, strided_copy
from mace_cache.operators.padding import pad_for
from mace_cache.operators.slicing import crop
from mace_cache.operators.windows import check_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = [
    "batch_to_space",
    "channel_shuffle",
    "depth_to_space",
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
        ShapeError: not a permutation of the axes, or more than eight axes change places; *x* is of
            another type than the runtime's.
    """
    check_type("transpose", runtime, x)
    expected = f"a permutation of the axes of {x}"
    order = integers("transpose", expected, permutation)
    if not x.shape or sorted(order) != list(range(len(x.shape))):
        raise ShapeError("transpose", expected, permutation)
    return _permute("transpose", runtime, x, x.shape, order)


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
        ShapeError: *x* has another number of axes or another type than the runtime's, or isn't made
            of such blocks.
    """
    check_type("space_to_depth", runtime, x)
    batch, height, width, channels = check_features("space_to_depth", x)
    expected = f"blocks that divide {height}x{width}"
    block = integer("space_to_depth", expected, block, least=1)
    if height % block or width % block:
        raise ShapeError("space_to_depth", expected, block)
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
        ShapeError: *x* has another number of axes or another type than the runtime's, or channels
            that don't make up blocks.
    """
    check_type("depth_to_space", runtime, x)
    batch, height, width, channels = check_features("depth_to_space", x)
    expected = f"blocks whose area divides {channels}"
    block = integer("depth_to_space", expected, block, least=1)
    if channels % (block * block):
        raise ShapeError("depth_to_space", expected, block)
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
        ShapeError: *x* has another number of axes or another type than the runtime's, isn't made of
            such blocks, or a padding is negative.
    """
    operator = "space_to_batch"
    check_type(operator, runtime, x)
    batch, _, _, channels = check_features(operator, x)
    expected = "paddings ((above, below), (left, right)) of 0 or more"
    (above, below), (left, right) = check_sides(operator, expected, paddings)
    height, width = above + x.shape[1] + below, left + x.shape[2] + right
    expected = f"blocks (height, width) that divide {height}x{width}"
    down, across = integers(operator, expected, block, 2, least=1)
    if height % down or width % across:
        raise ShapeError(operator, expected, block)
    if above or below or left or right:
        x = pad_for(operator, runtime, x, ((0, 0), (above, below), (left, right), (0, 0)))
    rows, columns = height // down, width // across
    split = (batch, rows, down, columns, across, channels)
    shape = (down * across * batch, rows, columns, channels)
    return _permute(operator, runtime, x, split, (2, 4, 0, 1, 3, 5), shape=shape)


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
        ShapeError: *x* has another number of axes or another type than the runtime's, or a batch
            that doesn't make up blocks, or the crops leave nothing.
    """
    operator = "batch_to_space"
    check_type(operator, runtime, x)
    images, rows, columns, channels = check_features(operator, x)
    expected = f"blocks (height, width) whose area divides {images}"
    down, across = integers(operator, expected, block, 2, least=1)
    if images % (down * across):
        raise ShapeError(operator, expected, block)
    batch, height, width = images // (down * across), rows * down, columns * across
    split = (down, across, batch, rows, columns, channels)
    shape = (batch, height, width, channels)
    expected = f"crops ((above, below), (left, right)) that leave some of {height}x{width}"
    (top, bottom), (left, right) = check_sides(operator, expected, crops)
    rectangle = {"height": height - top - bottom, "width": width - left - right}
    if min(rectangle.values()) < 1:
        raise ShapeError(operator, expected, crops)
    made = _permute(operator, runtime, x, split, (2, 3, 0, 4, 1, 5), shape=shape)
    if not (top or bottom or left or right):
        return made
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
        ShapeError: *x* has another number of axes or another type than the runtime's, or channels
            that don't make up groups.
    """
    check_type("channel_shuffle", runtime, x)
    batch, height, width, channels = check_features("channel_shuffle", x)
    expected = f"groups that divide {channels} channels"
    groups = integer("channel_shuffle", expected, groups, least=1)
    if channels % groups:
        raise ShapeError("channel_shuffle", expected, groups)
    split = (batch * height * width, groups, channels // groups)
    return _permute("channel_shuffle", runtime, x, split, (0, 2, 1), shape=x.shape)


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
