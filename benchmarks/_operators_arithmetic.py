"""What `operators.py` measures: arithmetic, reductions, normalisation, a step of an LSTM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from _operators import Array, Case

from mace_cache import operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor

__all__ = ["CASES"]

_FEATURES = (1, 64, 64, 256)
_CHANNELS = (256,)
_UNITS = 256


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)

    return prepare


def _positive(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(rng.uniform(0.1, 4, shape).astype(np.float32) for shape in shapes)

    return prepare


def _near_one(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple[Array, ...]]:
    """Make arrays whose products stay near 1: of others they overflow or vanish."""

    def prepare(rng: np.random.Generator) -> tuple[Array, ...]:
        return tuple(rng.uniform(0.9, 1.1, shape).astype(np.float32) for shape in shapes)

    return prepare


def _softmax(x: Array) -> Array:
    made: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    made /= made.sum(axis=-1, keepdims=True)
    return made


def _log_softmax(x: Array) -> Array:
    made: Array = x - x.max(axis=-1, keepdims=True)
    made -= np.log(np.exp(made).sum(axis=-1, keepdims=True))
    return made


def _batch_norm(x: Array, *parameters: Array) -> Array:
    scale, offset, mean, variance = parameters
    factor = scale / np.sqrt(variance + np.float32(1e-5))
    made: Array = x * factor
    made += offset - mean * factor
    return made


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    made: Array = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(made).mean(axis=axes, keepdims=True)
    made /= np.sqrt(variance + np.float32(epsilon))
    return made


def _instance_norm(x: Array, scale: Array, offset: Array) -> Array:
    made = _normalise(x, (1, 2), 1e-5)
    made *= scale
    made += offset
    return made


def _lstm(*arrays: Array) -> Array:
    x, h, c, weights, recurrent, bias = arrays
    i, o, f, new = np.split(x @ weights.T + h @ recurrent.T + bias, 4, axis=1)
    i, o, f = (1 / (1 + np.exp(-gate)) for gate in (i, o, f))
    return np.asarray(o * np.tanh(f * c + i * np.tanh(new)))


def _run_batch_norm(runtime: Runtime, *tensors: Tensor) -> Tensor:
    x, scale, offset, mean, variance = tensors
    return operators.batch_norm(runtime, x, scale, offset, mean=mean, variance=variance)


def _run_lstm(runtime: Runtime, *tensors: Tensor) -> Tensor:
    x, h, c, weights, recurrent, bias = tensors
    return operators.lstm_cell(runtime, (h, c), x, (weights, recurrent), bias)[0]


_erf = np.vectorize(math.erf, otypes=[np.float32])

CASES: list[Case] = [
    Case("add", _normal(_FEATURES, _FEATURES), operators.add, np.add),
    Case("add, a row of channels", _normal(_FEATURES, _CHANNELS), operators.add, np.add),
    Case(
        "add with relu",
        _normal(_FEATURES, _FEATURES),
        lambda runtime, a, b: operators.add(runtime, a, b, activation="relu"),
        lambda a, b: np.maximum(a + b, 0),
    ),
    Case(
        "activate, sigmoid",
        _normal(_FEATURES),
        lambda runtime, x: operators.activate(runtime, x, "sigmoid"),
        lambda x: 1 / (1 + np.exp(-x)),
    ),
    Case("subtract", _normal(_FEATURES, _FEATURES), operators.subtract, np.subtract),
    Case("multiply", _normal(_FEATURES, _FEATURES), operators.multiply, np.multiply),
    Case(
        "multiply, a map by a number a pixel",
        _normal(_FEATURES, (1, 64, 64, 1)),
        operators.multiply,
        np.multiply,
    ),
    Case(
        "multiply, by a number",
        _normal(_FEATURES),
        lambda runtime, x: operators.multiply(runtime, x, 0.5),
        lambda x: x * np.float32(0.5),
    ),
    Case("divide", _positive(_FEATURES, _FEATURES), operators.divide, np.divide),
    Case("minimum", _normal(_FEATURES, _FEATURES), operators.minimum, np.minimum),
    Case("maximum", _normal(_FEATURES, _FEATURES), operators.maximum, np.maximum),
    Case(
        "squared_difference",
        _normal(_FEATURES, _FEATURES),
        operators.squared_difference,
        lambda a, b: np.square(a - b),
    ),
    Case("power", _positive(_FEATURES, _FEATURES), operators.power, np.power),
    Case(
        "equal",
        _normal(_FEATURES, _FEATURES),
        operators.equal,
        lambda a, b: (a == b).astype(np.float32),
    ),
    Case("floor_divide", _positive(_FEATURES, _FEATURES), operators.floor_divide, np.floor_divide),
    Case(
        "add_n, four tensors",
        _normal(*[_FEATURES] * 4),
        lambda runtime, *tensors: operators.add_n(runtime, tensors),
        lambda a, b, c, d: a + b + c + d,
    ),
    Case("negate", _normal(_FEATURES), operators.negate, np.negative),
    Case("absolute", _normal(_FEATURES), operators.absolute, np.abs),
    Case("sign", _normal(_FEATURES), operators.sign, np.sign),
    Case("square", _normal(_FEATURES), operators.square, np.square),
    Case(
        "clip",
        _normal(_FEATURES),
        lambda runtime, x: operators.clip(runtime, x, low=-1.0, high=1.0),
        lambda x: np.clip(x, np.float32(-1), np.float32(1)),
    ),
    Case("sqrt", _positive(_FEATURES), operators.sqrt, np.sqrt),
    Case("rsqrt", _positive(_FEATURES), operators.rsqrt, lambda x: 1 / np.sqrt(x)),
    Case("reciprocal", _positive(_FEATURES), operators.reciprocal, np.reciprocal),
    Case("exp", _normal(_FEATURES), operators.exp, np.exp),
    Case("log", _positive(_FEATURES), operators.log, np.log),
    Case("erf", _normal(_FEATURES), operators.erf, _erf),
    Case("reduce_sum, of all", _normal(_FEATURES), operators.reduce_sum, np.sum),
    Case(
        "reduce_sum, along the last axis",
        _normal(_FEATURES),
        lambda runtime, x: operators.reduce_sum(runtime, x, [-1]),
        lambda x: x.sum(axis=-1),
    ),
    Case(
        "reduce_mean, of each channel",
        _normal(_FEATURES),
        lambda runtime, x: operators.reduce_mean(runtime, x, [1, 2]),
        lambda x: x.mean(axis=(1, 2)),
    ),
    Case(
        "reduce_maximum, of rows of 10",
        _normal((100_000, 10)),
        lambda runtime, x: operators.reduce_maximum(runtime, x, [1]),
        lambda x: x.max(axis=1),
    ),
    Case(
        "reduce_minimum, along the first axis",
        _normal((1024, 1024)),
        lambda runtime, x: operators.reduce_minimum(runtime, x, [0]),
        lambda x: x.min(axis=0),
    ),
    Case(
        "reduce_product, along the last axis",
        _near_one(_FEATURES),
        lambda runtime, x: operators.reduce_product(runtime, x, [-1]),
        lambda x: x.prod(axis=-1),
    ),
    Case("softmax, of rows of 1001", _normal((1000, 1001)), operators.softmax, _softmax),
    Case("softmax, of rows of 10", _normal((100_000, 10)), operators.softmax, _softmax),
    Case("log_softmax", _normal((1000, 1001)), operators.log_softmax, _log_softmax),
    Case("bias_add", _normal(_FEATURES, _CHANNELS), operators.bias_add, np.add),
    Case("batch_norm", _positive(_FEATURES, *[_CHANNELS] * 4), _run_batch_norm, _batch_norm),
    Case(
        "instance_norm",
        _normal(_FEATURES, _CHANNELS, _CHANNELS),
        operators.instance_norm,
        _instance_norm,
    ),
    Case(
        "layer_norm",
        _normal((4096, 256)),
        operators.layer_norm,
        lambda x: _normalise(x, (-1,), 1e-5),
    ),
    Case(
        "mean_variance_norm",
        _normal(_FEATURES),
        lambda runtime, x: operators.mean_variance_norm(runtime, x, (1, 2, 3)),
        lambda x: _normalise(x, (1, 2, 3), 1e-9),
    ),
    Case(
        "lp_norm",
        _normal(_FEATURES),
        operators.lp_norm,
        lambda x: x / np.sqrt(np.einsum("...c,...c->...", x, x))[..., np.newaxis],
    ),
    Case(
        "lstm_cell",
        _normal(*[(1, _UNITS)] * 3, *[(4 * _UNITS, _UNITS)] * 2, (4 * _UNITS,)),
        _run_lstm,
        _lstm,
    ),
]
