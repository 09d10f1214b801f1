"""TFLite models of one operation, and what TFLite's own interpreter makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import tflite
from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from tests.operators.reference import Array

__all__ = ["run"]

_SCHEMA_VERSION = 3
_VERSION = 2  # of operations: the first with dilations
_CODES = {
    "Conv2D": tflite.BuiltinOperator.CONV_2D,
    "DepthwiseConv2D": tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
    "TransposeConv": tflite.BuiltinOperator.TRANSPOSE_CONV,
    "AveragePool": tflite.BuiltinOperator.AVERAGE_POOL_2D,
    "MaxPool": tflite.BuiltinOperator.MAX_POOL_2D,
}
_TYPES = {"float32": tflite.TensorType.FLOAT32, "int32": tflite.TensorType.INT32}


def run(
    operation: str, x: Array, constants: list[Array], size: tuple[int, ...], **options: int
) -> Array:
    """Run one operation on float32.

    Args:
        operation: a key of `_CODES`.
        x: its input that isn't a constant, float32.
        constants: its other inputs, float32 or int32.
        size: the output's shape.
        options: the fields of its options' table.
    """
    interpreter = Interpreter(model_content=_build(operation, [x, *constants], size, options))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _build(
    operation: str, inputs: list[Array], size: tuple[int, ...], options: dict[str, int]
) -> bytes:
    builder = flatbuffers.Builder()
    # Buffer 0 is empty, by the schema: that of tensors which aren't constants.
    data = [b"", *(array.tobytes() for array in inputs[1:])]
    buffers = [_table(builder, "Buffer", Data=builder.CreateByteVector(part)) for part in data]
    tensors = [
        _table(
            builder,
            "Tensor",
            Shape=builder.CreateNumpyVector(np.array(shape, np.int32)),
            Type=_TYPES[kind],
            Buffer=buffer,
        )
        for buffer, (shape, kind) in enumerate((array.shape, str(array.dtype)) for array in inputs)
    ]
    output = builder.CreateNumpyVector(np.array(size, np.int32))
    tensors.append(_table(builder, "Tensor", Shape=output, Type=_TYPES["float32"], Buffer=0))
    # What TRANSPOSE_CONV takes first is the output's shape, and its input last but the bias.
    order = (
        [1, 2, 0, *range(3, len(inputs))] if operation == "TransposeConv" else range(len(inputs))
    )
    table = "Pool2DOptions" if operation.endswith("Pool") else f"{operation}Options"
    arguments = builder.CreateNumpyVector(np.array(order, np.int32))
    results = builder.CreateNumpyVector(np.array([len(inputs)], np.int32))
    operator = _table(
        builder,
        "Operator",
        Inputs=arguments,
        Outputs=results,
        BuiltinOptionsType=getattr(tflite.BuiltinOptions, table),
        BuiltinOptions=_table(builder, table, **options),
    )
    graph = _table(
        builder,
        "SubGraph",
        Tensors=_vector(builder, tensors),
        Inputs=builder.CreateNumpyVector(np.array([0], np.int32)),
        Outputs=builder.CreateNumpyVector(np.array([len(inputs)], np.int32)),
        Operators=_vector(builder, [operator]),
    )
    code = _CODES[operation]
    operator_code = _table(
        builder, "OperatorCode", DeprecatedBuiltinCode=code, BuiltinCode=code, Version=_VERSION
    )
    model = _table(
        builder,
        "Model",
        Version=_SCHEMA_VERSION,
        OperatorCodes=_vector(builder, [operator_code]),
        Subgraphs=_vector(builder, [graph]),
        Buffers=_vector(builder, buffers),
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _table(builder: Any, name: str, **fields: int) -> int:
    getattr(tflite, f"{name}Start")(builder)
    for field, value in fields.items():
        getattr(tflite, f"{name}Add{field}")(builder, value)
    offset: int = getattr(tflite, f"{name}End")(builder)
    return offset


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    made: int = builder.EndVector()
    return made
