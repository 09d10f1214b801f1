"""Read a TFLite file: its operations in order, its constants as float32.

The format is the FlatBuffers schema of TensorFlow Lite (``schema.fbs``); the package ``tflite``
holds the code generated from it. Weights stored as float16 go through DEQUANTIZE operations: those
are done here, once, and don't appear among the operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tflite

from blazeface import BlazeFaceError

__all__ = ["Array", "Model", "Operation", "read_model"]

Array = np.ndarray[Any, np.dtype[Any]]

_TENSOR_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
_OPTIONS = {
    "CONV_2D": tflite.Conv2DOptions,
    "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
    "ADD": tflite.AddOptions,
    "MAX_POOL_2D": tflite.Pool2DOptions,
    "CONCATENATION": tflite.ConcatenationOptions,
}
_OPTION_NAMES = {
    "StrideH": "stride",
    "FilterHeight": "size",
    "FusedActivationFunction": "activation",
    "Axis": "axis",
}
_OPERATION_NAMES = {
    code: name for name, code in vars(tflite.BuiltinOperator).items() if name.isupper()
}


@dataclass(frozen=True)
class Operation:
    """One operation of the network.

    Attributes:
        name: TFLite's name of it, such as ``CONV_2D``.
        inputs: the numbers of the tensors that it reads.
        output: the number of the tensor that it writes.
        options: its options as numbers, under the names of `_OPTION_NAMES`.
    """

    name: str
    inputs: tuple[int, ...]
    output: int
    options: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """What a TFLite file says.

    Attributes:
        operations: in the order in which they run.
        constants: the values of the constant tensors, by number.
        shapes: the shapes of all tensors, by number.
        input: the number of the tensor that the image goes into.
        outputs: the numbers of the tensors that come out, by name.
    """

    operations: tuple[Operation, ...]
    constants: dict[int, Array]
    shapes: dict[int, tuple[int, ...]]
    input: int
    outputs: dict[str, int]


def read_model(data: bytes) -> Model:
    """Read a TFLite file's first graph.

    Args:
        data: the file's bytes, known to be whole (`download.read_model_file` checks the digest).

    Raises:
        BlazeFaceError: it holds a tensor of a type that isn't known here.
    """
    file = tflite.Model.GetRootAsModel(data, 0)
    graph = file.Subgraphs(0)
    tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
    constants = {
        number: _constant(file, tensor)
        for number, tensor in enumerate(tensors)
        if file.Buffers(tensor.Buffer()).DataLength()
    }
    operations = []
    for operation in (
        _operation(file, graph.Operators(number)) for number in range(graph.OperatorsLength())
    ):
        if operation.name == "DEQUANTIZE":
            constants[operation.output] = constants[operation.inputs[0]].astype(np.float32)
        else:
            operations.append(operation)
    return Model(
        operations=tuple(operations),
        constants=constants,
        shapes={number: _shape(tensor) for number, tensor in enumerate(tensors)},
        input=graph.Inputs(0),
        outputs={tensors[number].Name().decode(): int(number) for number in graph.OutputsAsNumpy()},
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))


def _constant(file: Any, tensor: Any) -> Array:
    try:
        data_type = _TENSOR_TYPES[tensor.Type()]
    except KeyError:
        raise BlazeFaceError(f"the model holds a tensor of type {tensor.Type()}") from None
    data = file.Buffers(tensor.Buffer()).DataAsNumpy()
    return np.frombuffer(data.tobytes(), data_type).reshape(_shape(tensor))


def _operation(file: Any, operator: Any) -> Operation:
    code = file.OperatorCodes(operator.OpcodeIndex())
    # Codes up to 127 stand in the older field, all in the newer one since version 3a of the schema.
    name = _OPERATION_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    return Operation(
        name=name,
        inputs=tuple(int(number) for number in operator.InputsAsNumpy()),
        output=operator.Outputs(0),
        options=_options(name, operator.BuiltinOptions()),
    )


def _options(name: str, table: Any) -> dict[str, int]:
    if name not in _OPTIONS:
        return {}
    options = _OPTIONS[name]()
    options.Init(table.Bytes, table.Pos)
    return {
        ours: getattr(options, theirs)()
        for theirs, ours in _OPTION_NAMES.items()
        if hasattr(options, theirs)
    }
