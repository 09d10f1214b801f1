"""Cases of the operators that move elements, convert them or resize images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from _operators import Array, Case
from numpy.lib.stride_tricks import sliding_window_view

from mace_cache import operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor

__all__ = ["CASES"]


def _noise(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)

    return prepare


def _look_up(axis: int) -> Case:
    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        x = rng.normal(size=(4096, 128)).astype(np.float32)
        return x, rng.integers(0, x.shape[axis], x.shape[axis], np.int32)

    return Case(
        f"gather, axis {axis}",
        prepare,
        lambda runtime, x, indices: operators.gather(runtime, x, indices, axis=axis),
        lambda x, indices: np.take(x, indices, axis),
    )


def _permutation(shape: tuple[int, ...], permutation: tuple[int, ...]) -> Case:
    return Case(
        f"transpose {shape} to {permutation}",
        _noise(shape),
        lambda runtime, x: operators.transpose(runtime, x, permutation),
        lambda x: np.ascontiguousarray(x.transpose(permutation)),
    )


def _pad(mode: str, amounts: tuple[tuple[int, int], ...]) -> Case:
    name = f"pad, {mode}, {sum(max(sides) > 0 for sides in amounts)} of 4 axes"
    return Case(
        name,
        _noise((2, 128, 128, 16)),
        lambda runtime, x: operators.pad(runtime, x, amounts, mode=mode),
        lambda x: np.pad(x, amounts, mode),  # type: ignore[call-overload]  # any mode
    )


def _blocks(x: Array, block: int) -> Array:
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // block, block, width // block, block, channels)


def _space_to_depth(x: Array) -> Array:
    made = _blocks(x, 2).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(made).reshape(*made.shape[:3], -1)


def _depth_to_space(x: Array) -> Array:
    batch, height, width, channels = x.shape
    split = x.reshape(batch, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(split).reshape(batch, height * 2, width * 2, channels // 4)


def _space_to_batch(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    made = _blocks(padded, 2).transpose(2, 4, 0, 1, 3, 5)
    return np.ascontiguousarray(made).reshape(-1, *made.shape[3:])


def _batch_to_space(x: Array) -> Array:
    images, height, width, channels = x.shape
    split = x.reshape(2, 2, images // 4, height, width, channels).transpose(2, 3, 0, 4, 1, 5)
    whole = split.reshape(images // 4, height * 2, width * 2, channels)
    return np.ascontiguousarray(whole[:, 1:-1, 1:-1])


def _channel_shuffle(x: Array) -> Array:
    split = x.reshape(*x.shape[:3], 4, -1)
    made: Array = np.ascontiguousarray(split.swapaxes(3, 4)).reshape(x.shape)
    return made


def _patches(x: Array) -> Array:
    seen = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    patches = np.ascontiguousarray(seen.transpose(0, 1, 2, 4, 5, 3))
    made: Array = patches.reshape(*patches.shape[:3], -1)
    return made


def _places(length: int, wanted: int) -> Array:
    places: Array = (np.arange(wanted, dtype=np.float32) + 0.5) * (length / wanted) - 0.5
    return places.clip(0, None)


def _nearest(x: Array) -> Array:
    rows = np.arange(2 * x.shape[1]) // 2
    columns = np.arange(2 * x.shape[2]) // 2
    return x[:, rows][:, :, columns]


def _bilinear(x: Array) -> Array:
    for axis in (1, 2):
        length = x.shape[axis]
        places = _places(length, 2 * length)
        first = places.astype(np.int32)
        shape = (-1, *[1] * (3 - axis))
        share = (places - first).reshape(shape)
        second = np.minimum(first + 1, length - 1)
        x = np.take(x, first, axis) * (1 - share) + np.take(x, second, axis) * share
    return x


def _bicubic(x: Array) -> Array:
    for axis in (1, 2):
        length = x.shape[axis]
        places = (np.arange(2 * length, dtype=np.float32) + 0.5) / 2 - 0.5
        first = np.floor(places).astype(np.int32)
        total: Array | float = 0.0
        for tap in range(-1, 3):
            t = np.abs(places - first - tap)
            near, far = (1.25 * t - 2.25) * t * t + 1, ((-0.75 * t + 3.75) * t - 6) * t + 3
            weights = np.where(t <= 1, near, far).reshape(-1, *[1] * (3 - axis))
            total = total + np.take(x, np.clip(first + tap, 0, length - 1), axis) * weights
        x = np.asarray(total)
    return x


def _resize(method: str, plain: Callable[[Array], Array], channels: int) -> Case:
    def run(runtime: Runtime, x: Tensor) -> Tensor:
        size = 2 * x.shape[1], 2 * x.shape[2]
        return operators.resize(runtime, x, size, method=method, half_pixel_centers=True)

    edge = 256 if channels < 16 else 128
    return Case(
        f"resize, {method}, {channels} channels", _noise((1, edge, edge, channels)), run, plain
    )


CASES = [
    _permutation((1024, 1024), (1, 0)),
    _permutation((1000, 1003), (1, 0)),
    _permutation((1, 256, 256, 16), (0, 3, 1, 2)),
    _permutation((1, 16, 256, 256), (0, 2, 3, 1)),
    _permutation((1, 512, 512, 3), (0, 3, 1, 2)),
    _permutation((1, 3, 512, 512), (0, 2, 3, 1)),
    _permutation((16, 64, 16, 64), (0, 2, 1, 3)),
    _permutation((16, 64, 16, 64), (3, 2, 1, 0)),
    Case(
        "concatenate, 2 of 8 channels",
        _noise((1, 256, 256, 8), (1, 256, 256, 8)),
        lambda runtime, a, b: operators.concatenate(runtime, [a, b], -1),
        lambda a, b: np.concatenate([a, b], -1),
    ),
    Case(
        "concatenate, 2 of 512 rows",
        _noise((512, 512), (512, 512)),
        lambda runtime, a, b: operators.concatenate(runtime, [a, b], 0),
        lambda a, b: np.concatenate([a, b], 0),
    ),
    Case(
        "split, 2 of 8 channels",
        _noise((1, 256, 256, 16)),
        lambda runtime, x: operators.split(runtime, x, 2, axis=-1)[1],
        lambda x: [np.ascontiguousarray(part) for part in np.split(x, 2, -1)][1],
    ),
    Case(
        "strided_slice, every second row and column",
        _noise((1, 512, 512, 8)),
        lambda runtime, x: operators.strided_slice(
            runtime, x, (None,) * 4, (None,) * 4, strides=(1, 2, 2, 1)
        ),
        lambda x: np.ascontiguousarray(x[:, ::2, ::2]),
    ),
    Case(
        "strided_slice, backwards",
        _noise((1024, 1024)),
        lambda runtime, x: operators.strided_slice(
            runtime, x, (None, None), (None, None), strides=(1, -1)
        ),
        lambda x: np.ascontiguousarray(x[:, ::-1]),
    ),
    Case(
        "crop",
        _noise((2, 160, 160, 16)),
        lambda runtime, x: operators.crop(runtime, x, top=16, left=16, height=128, width=128),
        lambda x: np.ascontiguousarray(x[:, 16:144, 16:144]),
    ),
    _pad("constant", ((0, 0), (1, 1), (1, 1), (0, 0))),
    _pad("constant", ((0, 0), (0, 0), (0, 0), (8, 8))),
    _pad("reflect", ((0, 0), (1, 1), (1, 1), (0, 0))),
    _pad("symmetric", ((1, 1), (2, 2), (2, 2), (2, 2))),
    Case(
        "pad_channels",
        _noise((2, 128, 128, 16)),
        lambda runtime, x: operators.pad_channels(runtime, x, 0, 16),
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 16))),
    ),
    Case(
        "tile",
        _noise((64, 64, 16)),
        lambda runtime, x: operators.tile(runtime, x, (2, 4, 2)),
        lambda x: np.tile(x, (2, 4, 2)),
    ),
    _look_up(0),
    _look_up(1),
    Case(
        "space_to_depth",
        _noise((1, 512, 512, 3)),
        lambda runtime, x: operators.space_to_depth(runtime, x, block=2),
        _space_to_depth,
    ),
    Case(
        "depth_to_space",
        _noise((1, 256, 256, 12)),
        lambda runtime, x: operators.depth_to_space(runtime, x, block=2),
        _depth_to_space,
    ),
    Case(
        "space_to_batch",
        _noise((1, 254, 254, 8)),
        lambda runtime, x: operators.space_to_batch(
            runtime, x, block=(2, 2), paddings=((1, 1), (1, 1))
        ),
        _space_to_batch,
    ),
    Case(
        "batch_to_space",
        _noise((4, 128, 128, 8)),
        lambda runtime, x: operators.batch_to_space(
            runtime, x, block=(2, 2), crops=((1, 1), (1, 1))
        ),
        _batch_to_space,
    ),
    Case(
        "channel_shuffle",
        _noise((1, 128, 128, 32)),
        lambda runtime, x: operators.channel_shuffle(runtime, x, groups=4),
        _channel_shuffle,
    ),
    Case(
        "extract_image_patches",
        _noise((1, 257, 257, 8)),
        lambda runtime, x: operators.extract_image_patches(
            runtime, x, sizes=(3, 3), strides=(2, 2)
        ),
        _patches,
    ),
    Case(
        "cast to float16 and back",
        _noise((1024, 1024)),
        lambda runtime, x: operators.cast(
            runtime, operators.cast(runtime, x, "float16"), "float32"
        ),
        lambda x: x.astype(np.float16).astype(np.float32),
    ),
    Case(
        "cast to int32",
        _noise((1024, 1024)),
        lambda runtime, x: operators.cast(runtime, x, "int32"),
        lambda x: x.astype(np.int32),
    ),
    Case(
        "cast to uint8",
        _noise((1024, 1024)),
        lambda runtime, x: operators.cast(runtime, x, "uint8"),
        lambda x: np.clip(x, 0, 255).astype(np.uint8),
    ),
    _resize("nearest", _nearest, 16),
    _resize("nearest", _nearest, 3),
    _resize("bilinear", _bilinear, 16),
    _resize("bilinear", _bilinear, 3),
    _resize("bicubic", _bicubic, 16),
    _resize("bicubic", _bicubic, 3),
]
