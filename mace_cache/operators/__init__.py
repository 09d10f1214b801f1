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
from mace_cache.operators.pooling import (
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from mace_cache.operators.tensor import ProgramBuilder, Runtime, Tensor
from mace_cache.operators.transposed import (
    transposed_convolution,
    transposed_depthwise_convolution,
)

__all__ = [
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "activate",
    "add",
    "average_pool",
    "concatenate",
    "convolution",
    "depthwise_convolution",
    "global_average_pool",
    "global_max_pool",
    "max_pool",
    "pad_channels",
    "pointwise_convolution",
    "reshape",
    "resize_normalise",
    "transposed_convolution",
    "transposed_depthwise_convolution",
]
