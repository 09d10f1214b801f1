"""Neural-network operators on the bundled kernels: NHWC tensors on one device.

Not imported by ``mace_cache`` itself. Every operator enqueues its work and returns at once; only
`Runtime.to_host` waits.
"""

from __future__ import annotations

from mace_cache.operators.casting import cast
from mace_cache.operators.convolutions import (
    convolution,
    depthwise_convolution,
    pointwise_convolution,
)
from mace_cache.operators.elementwise import activate, add
from mace_cache.operators.image import resize_normalise
from mace_cache.operators.layout import concatenate, pad_channels, reshape
from mace_cache.operators.matrix import fully_connected, matrix_product
from mace_cache.operators.padding import pad
from mace_cache.operators.pooling import max_pool
from mace_cache.operators.rearranging import (
    batch_to_space,
    channel_shuffle,
    depth_to_space,
    extract_image_patches,
    space_to_batch,
    space_to_depth,
    transpose,
)
from mace_cache.operators.resizing import resize
from mace_cache.operators.slicing import crop, gather, split, strided_slice, tile
from mace_cache.operators.tensor import ProgramBuilder, Runtime, Tensor
from mace_cache.operators.winograd import (
    WinogradWeights,
    winograd_convolution,
    winograd_weights,
)

__all__ = [
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "WinogradWeights",
    "activate",
    "add",
    "batch_to_space",
    "cast",
    "channel_shuffle",
    "concatenate",
    "convolution",
    "crop",
    "depth_to_space",
    "depthwise_convolution",
    "extract_image_patches",
    "fully_connected",
    "gather",
    "matrix_product",
    "max_pool",
    "pad",
    "pad_channels",
    "pointwise_convolution",
    "reshape",
    "resize",
    "resize_normalise",
    "space_to_batch",
    "space_to_depth",
    "split",
    "strided_slice",
    "tile",
    "transpose",
    "winograd_convolution",
    "winograd_weights",
]
