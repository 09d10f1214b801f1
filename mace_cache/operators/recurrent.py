"""Recurrent networks, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import items
from mace_cache.operators.checks import check_type
from mace_cache.operators.tensor import LOCAL_SIZE, MOST_WORK_ITEMS

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["lstm_cell"]

_GATES = "ifco"  # as recurrent.cl takes them
_MATRIX_AXES = 2
_TOGETHER = 4  # as in recurrent.cl


def lstm_cell(
    runtime: Runtime,
    state: tuple[Tensor, Tensor],
    x: Tensor,
    weights: tuple[Tensor, Tensor],
    bias: Tensor | None = None,
    *,
    gates: str = "iofc",
    forget_bias: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Make one step of a long short-term memory: ONNX's LSTM without peepholes, MACE's LSTMCell.

    With i, o, f and c the four products of weights and (x, h), plus the bias, the new state is
    c' = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(c) and h' = sigmoid(o) * tanh(c').

    Args:
        runtime: where to compute.
        state: h and c, both (batch, units): what the step before gave.
        x: (batch, inputs).
        weights: those of x, (4 * units, inputs), and those of h, (4 * units, units): ONNX's W and
            R of one direction. Rows are in four blocks, one a gate.
        bias: (4 * units,); of ONNX's bias the sum of both halves.
        gates: the blocks in their order: ``i`` input, ``o`` output, ``f`` forget, ``c`` cell.
            ``iofc`` is ONNX's, ``ifco`` Keras' and PyTorch's, ``icfo`` that of TensorFlow's
            BasicLSTMCell and MACE.
        forget_bias: added to the forget gate; BasicLSTMCell has 1.

    Returns:
        The new h and c, both (batch, units).

    Raises:
        ShapeError: arguments that don't fit together.
    """
    operator = "lstm_cell"
    hidden, cell = items(operator, "two tensors as state", state, 2)
    matrices = items(operator, "two tensors as weights", weights, 2)
    check_type(operator, runtime, hidden, cell, x, *matrices, bias)
    if len(x.shape) != _MATRIX_AXES or len(hidden.shape) != _MATRIX_AXES:
        raise ShapeError(operator, "x (batch, inputs) and h (batch, units)", f"{x} and {hidden}")
    batch, inputs = x.shape
    units = hidden.shape[1]
    shapes = [(batch, units), (batch, units), (4 * units, inputs), (4 * units, units), (4 * units,)]
    tensors = [tensor for tensor in (hidden, cell, *matrices, bias) if tensor is not None]
    if [tensor.shape for tensor in tensors] != shapes[: len(tensors)]:
        expected = "h, c, the weights of x and of h, and the bias of "
        given = ", ".join(str(tensor.shape) for tensor in tensors)
        raise ShapeError(operator, expected + ", ".join(map(str, shapes)), given)
    if set(gates) != set(_GATES) or len(gates) != len(_GATES):
        raise ShapeError(operator, "gates i, o, f and c in any order", repr(gates))
    made = runtime.empty((batch, units), operator=operator), runtime.empty((batch, units))
    groups = -(-batch * units // _TOGETHER)
    runtime.launch_groups(
        ("recurrent", "lstm_cell"),
        ((min(groups * LOCAL_SIZE, MOST_WORK_ITEMS),), (LOCAL_SIZE,)),
        (x, hidden, cell, *matrices, bias, *made),
        (batch * units, units, inputs, *(gates.index(gate) for gate in _GATES)),
        (forget_bias,),
    )
    return made
