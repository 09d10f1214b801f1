"""Reductions, softmax and LSTMs as other devices than processors make them: in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyopencl as cl
import pytest

from mace_cache import operators
from mace_cache.operators import Runtime, copying, product, reductions, statistics
from tests.operators.reference import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Tensor
    from tests.operators.reference import Array


class GroupsBuilder:
    """Builds programs as for a GPU."""

    def build(
        self, context: cl.Context, source: str, options: list[str] | None = None
    ) -> cl.Program:
        """Build a program with one more option."""
        program = cl.Program(context, source)
        program.build([*(options or ()), "-DPROCESSOR=0"])
        return program


@pytest.fixture(scope="module")
def built_for_groups(queue: cl.CommandQueue) -> Runtime:
    """A runtime for the whole module: PoCL compiles slowly."""
    return Runtime(queue, GroupsBuilder())


@pytest.fixture(params=[False, True], ids=["shared-as-on-gpus", "shared-as-on-cpus"])
def runtime(
    built_for_groups: Runtime, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Runtime:
    """One whose kernels are a GPU's; some drivers compile for CPUs as for GPUs."""
    for module in (copying, product, reductions, statistics):
        monkeypatch.setattr(module, "on_cpu", lambda _: request.param)
    return built_for_groups


@pytest.mark.parametrize("shape", [(5, 3, 70), (300, 2, 3, 9), (2, 40, 9, 2, 3)])
def test_axes_that_are_not_neighbours_are_reduced(runtime: Runtime, shape: tuple[int, ...]) -> None:
    """What is left of the last ones is reduced across rows of totals."""
    x, axes = noise(0, *shape).astype(np.float32), tuple(range(0, len(shape), 2))
    made = runtime.to_host(operators.reduce_mean(runtime, runtime.to_device(x), axes))
    np.testing.assert_allclose(made, x.mean(axis=axes, dtype=np.float64), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axis"), [((70, 1001), 1), ((1, 40_000), 1), ((3, 900, 50), 1), ((2, 70, 300), 1)]
)
@pytest.mark.parametrize(
    ("operator", "plain"),
    [(operators.reduce_mean, np.mean), (operators.reduce_maximum, np.max)],
)
def test_groups_reduce_as_numpy_does(
    runtime: Runtime,
    shape: tuple[int, ...],
    axis: int,
    operator: Callable[..., Tensor],
    plain: Callable[..., Array],
) -> None:
    """Along lines and across them, with sections and without."""
    x = noise(1, *shape)
    made = runtime.to_host(operator(runtime, runtime.to_device(x), [axis]))
    np.testing.assert_allclose(made, plain(x, axis=axis), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(90, 1001), (300, 10), (5, 70, 3)])
@pytest.mark.parametrize("axis", [-1, 0])
def test_groups_make_softmax(runtime: Runtime, shape: tuple[int, ...], axis: int) -> None:
    """Whole lines or spans of them, with statistics or without, as the driver's exp has it."""
    x = noise(2, *shape)
    made = runtime.to_host(operators.softmax(runtime, runtime.to_device(x), axis=axis))
    expected = np.exp(x - x.max(axis=axis, keepdims=True))
    expected /= expected.sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-7)


def test_groups_make_a_step_of_an_lstm(runtime: Runtime) -> None:
    """The same as where one work-item does it all."""
    batch, units, inputs = 3, 13, 21
    shapes = [(batch, inputs), (batch, units), (batch, units), (4 * units, inputs)]
    arrays = [noise(seed, *shape) for seed, shape in enumerate([*shapes, (4 * units, units)])]
    x, h, c, weights, recurrent = arrays
    tensors = [runtime.to_device(array) for array in arrays]
    made = operators.lstm_cell(
        runtime, (tensors[1], tensors[2]), tensors[0], (tensors[3], tensors[4])
    )
    i, o, f, new = np.split(x @ weights.T + h @ recurrent.T, 4, axis=1)
    cell = _logistic(f) * c + _logistic(i) * np.tanh(new)
    for tensor, expected in zip(made, (_logistic(o) * np.tanh(cell), cell), strict=True):
        np.testing.assert_allclose(runtime.to_host(tensor), expected, rtol=1e-4, atol=1e-5)


def _logistic(x: Array) -> Array:
    made: Array = 1 / (1 + np.exp(-x))
    return made
