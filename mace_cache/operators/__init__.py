"""Neural-network operators on the bundled kernels: NHWC tensors on one device.

Not imported by ``mace_cache`` itself. Every operator enqueues its work and returns at once; only
`Runtime.to_host` waits.
"""

from __future__ import annotations

from mace_cache.operators.arithmetic import (
    combine,
    divide,
    equal,
    floor_divide,
    maximum,
    minimum,
    multiply,
    power,
    squared_difference,
    subtract,
)
from mace_cache.operators.convolutions import (
    convolution,
    depthwise_convolution,
    pointwise_convolution,
)
from mace_cache.operators.elementwise import activate, add, add_n
from mace_cache.operators.image import resize_normalise
from mace_cache.operators.layout import concatenate, pad_channels, reshape
from mace_cache.operators.pooling import max_pool
from mace_cache.operators.tensor import ProgramBuilder, Runtime, Tensor
from mace_cache.operators.unary import (
    absolute,
    clip,
    erf,
    exp,
    log,
    negate,
    reciprocal,
    rsqrt,
    sign,
    sqrt,
    square,
    transform,
)

__all__ = [
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "absolute",
    "activate",
    "add",
    "add_n",
    "clip",
    "combine",
    "concatenate",
    "convolution",
    "depthwise_convolution",
    "divide",
    "equal",
    "erf",
    "exp",
    "floor_divide",
    "log",
    "max_pool",
    "maximum",
    "minimum",
    "multiply",
    "negate",
    "pad_channels",
    "pointwise_convolution",
    "power",
    "reciprocal",
    "reshape",
    "resize_normalise",
    "rsqrt",
    "sign",
    "sqrt",
    "square",
    "squared_difference",
    "subtract",
    "transform",
]
