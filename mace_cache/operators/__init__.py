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
from mace_cache.operators.pooling import max_pool
from mace_cache.operators.tensor import ProgramBuilder, Runtime, Tensor

__all__ = [
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "activate",
    "add",
    "concatenate",
    "convolution",
    "depthwise_convolution",
    "max_pool",
    "pad_channels",
    "pointwise_convolution",
    "reshape",
    "resize_normalise",
]
