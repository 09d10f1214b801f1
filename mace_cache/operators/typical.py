"""Typical calls of the operators, on tensors as mobile networks have them, for `mace-cache tune`.

Each launches kernels of one program alone. Together they launch every kernel that takes any local
size; programs whose kernels all require one size have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_cache import operators
from mace_cache.operators.tensor import VARIANTS, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyopencl as cl

    from mace_cache._trials import Trials
    from mace_cache.operators.tensor import Tensor

__all__ = ["TYPICAL_CALLS", "tune_typical_calls"]

_FEATURES = (1, 56, 56, 64)
_CHANNELS = (64,)
_FEW = (1, 56, 56, 16)  # of more channels a convolution is made as a product
_SMALL = (1, 28, 28, 32)
_IMAGE = (480, 640, 3)


@dataclass(frozen=True)
class _Given:
    """Has the program that a runtime asks for; what it tunes is neither looked for nor kept."""

    program: cl.Program

    def build(
        self,
        context: cl.Context,  # noqa: ARG002 (the one that it was built for)
        source: str,  # noqa: ARG002 (its source)
        options: list[str] | None = None,  # noqa: ARG002 (its options)
    ) -> cl.Program:
        """Give it."""
        return self.program


def tune_typical_calls(
    queue: cl.CommandQueue, program: cl.Program, name: str, variant: str
) -> dict[tuple[str, str], Trials]:
    """Try local sizes for the launches of typical calls, as `Runtime` does that tunes.

    Args:
        queue: where to launch them; what an operator launches depends on its device's type.
        program: a bundled program, built.
        name: its name in the manifest.
        variant: the variant of it that was built.

    Returns:
        What came of it, by kernel and class of shapes.

    Raises:
        pyopencl.Error: the driver refuses a launch.
    """
    (data_type,) = (known for known, built in VARIANTS.items() if built == variant)
    runtime = Runtime(queue, _Given(program), data_type, tune=True)
    if name in TYPICAL_CALLS:
        TYPICAL_CALLS[name](runtime)
    queue.finish()
    return runtime.tried


def _ones(runtime: Runtime, shape: Sequence[int]) -> Tensor:
    return runtime.to_device(np.ones(shape, np.float32))


def _convolve(runtime: Runtime) -> None:
    few = _ones(runtime, _FEW)
    for edge in (1, 3):
        weights = _ones(runtime, (16, edge, edge, 16))
        operators.convolution(runtime, few, weights, activation="relu")
    x = _ones(runtime, _FEATURES)
    for edge in (3, 5):
        filters = _ones(runtime, (1, edge, edge, 64))
        for stride in (1, 2):
            operators.depthwise_convolution(runtime, x, filters, stride=stride, activation="relu")


def _convolve_transposed(runtime: Runtime) -> None:
    x, weights = _ones(runtime, _SMALL), _ones(runtime, (32, 4, 4, 32))
    operators.transposed_convolution(runtime, x, weights, stride=2)
    filters = _ones(runtime, (1, 4, 4, 32))
    operators.transposed_depthwise_convolution(runtime, x, filters, stride=2)


def _convolve_by_winograd(runtime: Runtime) -> None:
    weights = operators.winograd_weights(runtime, _ones(runtime, (64, 3, 3, 64)))
    operators.winograd_convolution(runtime, _ones(runtime, _FEATURES), weights, activation="relu")


def _add_and_activate(runtime: Runtime) -> None:
    x = _ones(runtime, _FEATURES)
    for activation in ("none", "relu"):
        operators.add(runtime, x, x, activation=activation)
    for activation in ("relu", "sigmoid", "tanh"):
        operators.activate(runtime, x, activation)
    operators.add_n(runtime, [x, x, x])


def _combine_and_transform(runtime: Runtime) -> None:
    x, channels = _ones(runtime, _FEATURES), _ones(runtime, _CHANNELS)
    for combine in (operators.subtract, operators.multiply, operators.divide):
        combine(runtime, x, x)
        combine(runtime, x, channels)
    operators.multiply(runtime, x, 0.5)
    operators.clip(runtime, x, low=0.0, high=6.0)
    for transform in (operators.negate, operators.square, operators.sqrt, operators.exp):
        transform(runtime, x)


def _normalise(runtime: Runtime) -> None:
    x, channels = _ones(runtime, _FEATURES), _ones(runtime, _CHANNELS)
    operators.bias_add(runtime, x, channels)
    operators.batch_norm(runtime, x, channels, channels, activation="relu")


def _pool(runtime: Runtime) -> None:
    x = _ones(runtime, _FEATURES)
    for size in (2, 3):
        operators.max_pool(runtime, x, size=size)
        operators.average_pool(runtime, x, size=size)


def _softmax(runtime: Runtime) -> None:
    for shape in ((256, 1001), (1, 56, 56, 16)):
        operators.softmax(runtime, _ones(runtime, shape))


def _resize(runtime: Runtime) -> None:
    x = _ones(runtime, _SMALL)
    for method in ("nearest", "bilinear"):
        operators.resize(runtime, x, (56, 56), method=method)


def _prepare_an_image(runtime: Runtime) -> None:
    image = runtime.to_device(np.ones(_IMAGE, np.uint8))
    operators.resize_normalise(runtime, image, (224, 224), scale=1 / 128, offset=-1.0)


def _move(runtime: Runtime) -> None:
    x = _ones(runtime, _FEATURES)
    for order in ((0, 3, 1, 2), (0, 2, 1, 3)):
        operators.transpose(runtime, x, order)
    operators.crop(runtime, x, top=4, left=4, height=48, width=48)
    operators.split(runtime, x, 2, axis=-1)
    operators.space_to_depth(runtime, x, block=2)
    operators.channel_shuffle(runtime, x, groups=4)
    operators.pad(runtime, x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for data_type in (np.int32, np.uint8):
        operators.cast(runtime, x, data_type)


TYPICAL_CALLS: dict[str, Callable[[Runtime], None]] = {
    "arithmetic": _combine_and_transform,
    "convolution": _convolve,
    "elementwise": _add_and_activate,
    "image": _prepare_an_image,
    "layout": _move,
    "normalisation": _normalise,
    "pooling": _pool,
    "reduction": _softmax,
    "resize": _resize,
    "transposed_convolution": _convolve_transposed,
    "winograd": _convolve_by_winograd,
}
"""By the program's name in the manifest."""
