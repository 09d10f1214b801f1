"""One operator of TensorFlow Lite, run by its own runtime: a model of that operator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import tflite
from ai_edge_litert.interpreter import Interpreter, OpResolverType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.operators.reference import Array

__all__ = ["run_litert"]

_SCHEMA_VERSION = 3
_DILATED = ("CONV_2D", "DEPTHWISE_CONV_2D")  # since their second version
_TYPES = {"float32": tflite.TensorType.FLOAT32, "int32": tflite.TensorType.INT32}


def run_litert(
    operator: str, x: Array, *constants: Array, options: str = "", last: bool = False, **values: Any
) -> Array:
    """Give what an operator makes of *x*.

    Args:
        operator: its name, as in ``BuiltinOperator`` of the schema.
        x: the input.
        constants: the other inputs.
        options: the name of its table of options, if it has one.
        last: whether *x* is the last of its inputs, not the first.
        values: what is in that table, by the names of the schema in camel case.
    """
    x = x.astype(np.float32)
    order = [*range(1, len(constants) + 1), 0] if last else range(len(constants) + 1)
    model = _model(operator, [x, *constants], order, options, values)
    reference = OpResolverType.BUILTIN_REF  # the plain kernels: those that others must agree with
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _model(
    operator: str,
    inputs: Sequence[Array],
    order: Iterable[int],
    options: str,
    values: dict[str, int],
) -> bytes:
    builder = flatbuffers.Builder()
    # Buffer 0 is empty, by the schema: that of tensors which aren't constants.
    data = [b"", *(array.tobytes() for array in inputs[1:])]
    buffers = [_table(builder, "Buffer", Data=builder.CreateByteVector(part)) for part in data]
    shapes = [*((array.shape, str(array.dtype)) for array in inputs), ((), "float32")]
    tensors = [
        _table(
            builder,
            "Tensor",
            Shape=_numbers(builder, shape),
            Type=_TYPES[kind],
            Buffer=number if number < len(inputs) else 0,
        )
        for number, (shape, kind) in enumerate(shapes)
    ]
    table = {}
    if options:
        kind = getattr(tflite.BuiltinOptions, options)
        made = _table(builder, options, **values)
        table = {"BuiltinOptionsType": kind, "BuiltinOptions": made}
    arguments, results = _numbers(builder, order), _numbers(builder, [len(inputs)])
    step = _table(builder, "Operator", Inputs=arguments, Outputs=results, **table)
    graph = _table(
        builder,
        "SubGraph",
        Tensors=_vector(builder, tensors),
        Inputs=_numbers(builder, [0]),
        Outputs=_numbers(builder, [len(inputs)]),
        Operators=_vector(builder, [step]),
    )
    code = getattr(tflite.BuiltinOperator, operator)
    codes = _table(
        builder,
        "OperatorCode",
        DeprecatedBuiltinCode=min(code, 127),
        BuiltinCode=code,
        Version=2 if operator in _DILATED else 1,
    )
    model = _table(
        builder,
        "Model",
        Version=_SCHEMA_VERSION,
        OperatorCodes=_vector(builder, [codes]),
        Subgraphs=_vector(builder, [graph]),
        Buffers=_vector(builder, buffers),
    )
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def _table(builder: Any, name: str, **fields: int) -> int:
    getattr(tflite, f"{name}Start")(builder)
    for field, value in fields.items():
        getattr(tflite, f"{name}Add{field}")(builder, value)
    return int(getattr(tflite, f"{name}End")(builder))


def _numbers(builder: Any, numbers: Iterable[int]) -> int:
    return int(builder.CreateNumpyVector(np.array([*numbers], np.int32)))


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
