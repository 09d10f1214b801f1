"""Run the model's operations on a device, each through the operator of mace-cache that does it.

It does what this one model asks for, whose digest was checked: padding ``SAME`` (or a 1x1 kernel,
where there is nothing to pad), one stride for both axes, no dilation, zeros only beside channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mace_cache import operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from blazeface.model import Array, Model, Operation
    from mace_cache.operators import Runtime, Tensor

__all__ = ["Network", "fuse_activations"]

# TFLite's ActivationFunctionType (schema.fbs).
_NONE, _RELU = 0, 1
_ACTIVATIONS = {_NONE: "none", _RELU: "relu", 3: "relu6"}


class Network:
    """A model whose constants are on the device, ready to run.

    Args:
        runtime: where it runs, and through which cache its programs come.
        model: what runs.
    """

    def __init__(self, runtime: Runtime, model: Model) -> None:
        self.runtime = runtime
        self.model = model
        self.operations = fuse_activations(model.operations)
        self._constants = {
            number: runtime.to_device(value)
            for number, value in model.constants.items()
            if value.dtype == np.float32
        }

    def run(self, image: Tensor) -> dict[str, Array]:
        """What comes out for one image.

        Args:
            image: the input, of the shape that the model gives it, on the device.

        Returns:
            The outputs on the host, float32, by name.
        """
        tensors = {**self._constants, self.model.input: image}
        for operation in self.operations:
            tensors[operation.output] = _RUN[operation.name](self, operation, tensors)
        return {
            name: self.runtime.to_host(tensors[number])
            for name, number in self.model.outputs.items()
        }


def fuse_activations(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Let each operation that can do so apply the RELU that is its only reader.

    Args:
        operations: in the order in which they run.

    Returns:
        The same network with fewer operations.
    """
    readers: dict[int, list[Operation]] = {}
    for operation in operations:
        for number in operation.inputs:
            readers.setdefault(number, []).append(operation)
    fused = []
    taken_in = set()
    for operation in operations:
        followers = readers.get(operation.output, [])
        alone = len(followers) == 1 and followers[0].name == "RELU"
        if alone and operation.options.get("activation") == _NONE:
            taken_in.add(followers[0].output)
            options = {**operation.options, "activation": _RELU}
            fused.append(replace(operation, output=followers[0].output, options=options))
        elif operation.output not in taken_in:
            fused.append(operation)
    return tuple(fused)


def _convolution(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    x, weights, bias = (tensors[number] for number in operation.inputs)
    return operators.convolution(
        network.runtime,
        x,
        weights,
        bias,
        stride=operation.options["stride"],
        activation=_ACTIVATIONS[operation.options["activation"]],
    )


def _depthwise(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    x, weights, bias = (tensors[number] for number in operation.inputs)
    return operators.depthwise_convolution(
        network.runtime,
        x,
        weights,
        bias,
        stride=operation.options["stride"],
        activation=_ACTIVATIONS[operation.options["activation"]],
    )


def _add(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    a, b = (tensors[number] for number in operation.inputs)
    activation = _ACTIVATIONS[operation.options["activation"]]
    return operators.add(network.runtime, a, b, activation=activation)


def _relu(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    return operators.activate(network.runtime, tensors[operation.inputs[0]], "relu")


def _max_pool(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    return operators.max_pool(
        network.runtime,
        tensors[operation.inputs[0]],
        size=operation.options["size"],
        stride=operation.options["stride"],
    )


def _pad(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    x, amounts = operation.inputs
    before, after = network.model.constants[amounts][-1].tolist()
    return operators.pad_channels(network.runtime, tensors[x], before, after)


def _reshape(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    return operators.reshape(tensors[operation.inputs[0]], network.model.shapes[operation.output])


def _concatenate(network: Network, operation: Operation, tensors: dict[int, Tensor]) -> Tensor:
    return operators.concatenate(
        network.runtime,
        [tensors[number] for number in operation.inputs],
        axis=operation.options["axis"],
    )


_RUN: dict[str, Callable[[Network, Operation, dict[int, Tensor]], Tensor]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "ADD": _add,
    "RELU": _relu,
    "MAX_POOL_2D": _max_pool,
    "PAD": _pad,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenate,
}
