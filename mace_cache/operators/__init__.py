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
from mace_cache.operators.casting import cast
from mace_cache.operators.convolutions import (
    convolution,
    depthwise_convolution,
    pointwise_convolution,
)
from mace_cache.operators.elementwise import activate, add, add_n
from mace_cache.operators.image import resize_normalise
from mace_cache.operators.layout import concatenate, pad_channels, reshape
from mace_cache.operators.matrix import fully_connected, matrix_product
from mace_cache.operators.normalisation import (
    instance_norm,
    layer_norm,
    lp_norm,
    mean_variance_norm,
)
from mace_cache.operators.padding import pad
from mace_cache.operators.patches import extract_image_patches
from mace_cache.operators.pooling import (
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from mace_cache.operators.rearranging import (
    batch_to_space,
    channel_shuffle,
    depth_to_space,
    space_to_batch,
    space_to_depth,
    transpose,
)
from mace_cache.operators.recurrent import lstm_cell
from mace_cache.operators.reductions import (
    log_softmax,
    reduce_maximum,
    reduce_mean,
    reduce_minimum,
    reduce_product,
    reduce_sum,
    softmax,
)
from mace_cache.operators.resizing import resize
from mace_cache.operators.scaling import batch_norm, bias_add
from mace_cache.operators.slicing import crop, gather, split, strided_slice, tile
from mace_cache.operators.tensor import ProgramBuilder, Runtime, Tensor
from mace_cache.operators.transposed import transposed_convolution, transposed_depthwise_convolution
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
from mace_cache.operators.winograd import WinogradWeights, winograd_convolution, winograd_weights

__all__ = [
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "WinogradWeights",
    "absolute",
    "activate",
    "add",
    "add_n",
    "average_pool",
    "batch_norm",
    "batch_to_space",
    "bias_add",
    "cast",
    "channel_shuffle",
    "clip",
    "combine",
    "concatenate",
    "convolution",
    "crop",
    "depth_to_space",
    "depthwise_convolution",
    "divide",
    "equal",
    "erf",
    "exp",
    "extract_image_patches",
    "floor_divide",
    "fully_connected",
    "gather",
    "global_average_pool",
    "global_max_pool",
    "instance_norm",
    "layer_norm",
    "log",
    "log_softmax",
    "lp_norm",
    "lstm_cell",
    "matrix_product",
    "max_pool",
    "maximum",
    "mean_variance_norm",
    "minimum",
    "multiply",
    "negate",
    "pad",
    "pad_channels",
    "pointwise_convolution",
    "power",
    "reciprocal",
    "reduce_maximum",
    "reduce_mean",
    "reduce_minimum",
    "reduce_product",
    "reduce_sum",
    "reshape",
    "resize",
    "resize_normalise",
    "rsqrt",
    "sign",
    "softmax",
    "space_to_batch",
    "space_to_depth",
    "split",
    "sqrt",
    "square",
    "squared_difference",
    "strided_slice",
    "subtract",
    "tile",
    "transform",
    "transpose",
    "transposed_convolution",
    "transposed_depthwise_convolution",
    "winograd_convolution",
    "winograd_weights",
]
