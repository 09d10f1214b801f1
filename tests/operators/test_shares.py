"""What one work-item does on other devices than CPUs, where neighbours share memory accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mace_cache import operators
from mace_cache.operators import copying, resizing
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Runtime, Tensor
    from tests.operators.conftest import Bench

_OPERATORS: dict[str, Callable[[Runtime, Tensor], Tensor]] = {
    "turn": lambda rt, x: operators.transpose(rt, x, (0, 3, 1, 2)),
    "turn_twice": lambda rt, x: operators.transpose(rt, x, (3, 2, 1, 0)),
    "copy": lambda rt, x: operators.crop(rt, x, top=1, left=2, height=6, width=30),
    "backwards": lambda rt, x: operators.strided_slice(
        rt, x, [None] * 4, [None] * 4, strides=[1, -1, 2, -3]
    ),
    "look_up": lambda rt, x: operators.gather(
        rt, x, rt.to_device(np.array([37, 2, -9, 99, 5], np.int32)), axis=2
    ),
    "pad": lambda rt, x: operators.pad(rt, x, [(0, 1), (2, 3), (5, 1), (0, 0)]),
    "reflect": lambda rt, x: operators.pad(rt, x, [(0, 1), (2, 3), (5, 1), (0, 0)], mode="reflect"),
    "cast": lambda rt, x: operators.cast(rt, x, np.int32),
    "add": lambda rt, x: operators.add(rt, x, x, activation="tanh"),
    "prelu": lambda rt, x: operators.activate(
        rt, x, "prelu", rt.to_device(np.linspace(-1, 1, 18, dtype=np.float32))
    ),
    "multiply": lambda rt, x: operators.multiply(rt, x, 3.0),
    "broadcast": lambda rt, x: operators.subtract(
        rt, x, rt.to_device(np.arange(76, dtype=np.float32).reshape(2, 1, 38, 1))
    ),
    "square": operators.square,
    "bias": lambda rt, x: operators.bias_add(
        rt, x, rt.to_device(np.arange(18, dtype=np.float32)), activation="elu"
    ),
    "normalise": lambda rt, x: operators.mean_variance_norm(rt, x, [1, 2]),
    "nearest": lambda rt, x: operators.resize(rt, x, (5, 60), method="nearest"),
    "bicubic": lambda rt, x: operators.resize(rt, x, (5, 60), method="bicubic"),
}


@pytest.mark.parametrize("name", _OPERATORS)
def test_small_shares_come_to_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Many work-items that do little each make what few make that do much."""
    x = bench.runtime.to_device(noise(0, 2, 9, 38, 18) * 9)
    expected = bench.runtime.to_host(_OPERATORS[name](bench.runtime, x))
    for module in (copying, resizing):
        monkeypatch.setattr(module, "on_cpu", lambda runtime: runtime is None)
    result = bench.runtime.to_host(_OPERATORS[name](bench.runtime, x))
    np.testing.assert_array_equal(result, expected)
