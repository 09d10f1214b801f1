"""Neural-network operators on the bundled kernels: NHWC tensors on one device.

Not imported by ``mace_cache`` itself. Every operator enqueues its work and returns at once; only
`Runtime.to_host` waits.
"""

from __future__ import annotations

from mace_cache.operators.convolutions import (
    convolution,
    depthwise_convolution,
    pointwise_convolution,
)
from mace_cache.operators.elementwise import activate, add
from mace_cache.operators.image import resize_normalise
from mace_cache.operators.layout import concatenate, pad_channels, reshape
from mace_cache.operators.matrix import fully_connected, matrix_product
from mace_cache.operators.pooling import max_pool
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
    "concatenate",
    "convolution",
    "depthwise_convolution",
    "fully_connected",
    "matrix_product",
    "max_pool",
    "pad_channels",
    "pointwise_convolution",
    "reshape",
    "resize_normalise",
    "winograd_convolution",
    "winograd_weights",
]
