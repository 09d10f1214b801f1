"""One operator of TensorFlow Lite, run by its own runtime: a model of that operator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import tflite
from ai_edge_litert.interpreter import Interpreter, OpResolverType

if TYPE_CHECKING:
    from tests.operators.reference import Array

__all__ = ["run_litert"]

_TYPES = {
    np.dtype(np.float32): tflite.TensorType.FLOAT32,
    np.dtype(np.int32): tflite.TensorType.INT32,
}


def run_litert(
    operator: str, x: Array, *constants: Array, options: str = "", **values: int
) -> Array:
    """Give what an operator makes of *x*.

    Args:
        operator: its name, as in ``BuiltinOperator`` of the schema.
        x: the input.
        constants: the other inputs.
        options: the name of its table of options, if it has one.
        values: what is in that table, by the names of the schema in camel case.
    """
    model = _model(operator, [x.astype(np.float32), *constants], options, values)
    reference = OpResolverType.BUILTIN_REF  # the plain kernels: those that others must agree with
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.astype(np.float32))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _model(operator: str, inputs: list[Array], options: str, values: dict[str, int]) -> bytes:
    builder = flatbuffers.Builder(1024)
    buffers = [_buffer(builder, None), *(_buffer(builder, array) for array in inputs[1:])]
    output = len(inputs)
    tensors = [
        *(_tensor(builder, array.shape, array.dtype, index) for index, array in enumerate(inputs)),
        _tensor(builder, (), np.dtype(np.float32), 0),
    ]
    table = _options(builder, options, values) if options else None
    given, made = builder.CreateNumpyVector, np.array([output], np.int32)
    all_inputs, outputs = given(np.arange(output, dtype=np.int32)), given(made)
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, 0)
    tflite.OperatorAddInputs(builder, all_inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    if table is not None:
        tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, options))
        tflite.OperatorAddBuiltinOptions(builder, table)
    operators = _vector(builder, [tflite.OperatorEnd(builder)])
    all_tensors = _vector(builder, tensors)
    first = given(np.zeros(1, np.int32))
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddInputs(builder, first)
    tflite.SubGraphAddOutputs(builder, outputs)
    tflite.SubGraphAddOperators(builder, operators)
    graphs = _vector(builder, [tflite.SubGraphEnd(builder)])
    code = getattr(tflite.BuiltinOperator, operator)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
    tflite.OperatorCodeAddBuiltinCode(builder, code)
    tflite.OperatorCodeAddVersion(builder, 1)
    codes = _vector(builder, [tflite.OperatorCodeEnd(builder)])
    all_buffers = _vector(builder, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, all_buffers)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(builder: Any, array: Array | None) -> int:
    data = None if array is None else builder.CreateByteVector(array.tobytes())
    tflite.BufferStart(builder)
    if data is not None:
        tflite.BufferAddData(builder, data)
    return int(tflite.BufferEnd(builder))


def _tensor(builder: Any, shape: tuple[int, ...], kind: np.dtype[Any], buffer: int) -> int:
    lengths = builder.CreateNumpyVector(np.array(shape, np.int32))
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, lengths)
    tflite.TensorAddType(builder, _TYPES[kind])
    tflite.TensorAddBuffer(builder, buffer)
    return int(tflite.TensorEnd(builder))


def _options(builder: Any, options: str, values: dict[str, int]) -> int:
    getattr(tflite, f"{options}Start")(builder)
    for name, value in values.items():
        getattr(tflite, f"{options}Add{name}")(builder, value)
    return int(getattr(tflite, f"{options}End")(builder))


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
