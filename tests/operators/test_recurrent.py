"""One step of a long short-term memory against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mace_cache.errors import ShapeError
from mace_cache.operators import lstm_cell
from tests.operators.reference import activate, noise

if TYPE_CHECKING:
    from mace_cache.operators import Runtime
    from tests.operators.conftest import Bench


@pytest.mark.sample
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 5, 3), (1, 200, 70)])
@pytest.mark.parametrize("gates", ["iofc", "ifco", "icfo"])
@pytest.mark.parametrize("forget_bias", [None, 1.0])
def test_a_step_is_as_its_definition_says(
    bench: Bench, sizes: tuple[int, int, int], gates: str, forget_bias: float | None
) -> None:
    """Any size and order of the gates, with bias or without."""
    batch, inputs, units = sizes
    shapes: list[tuple[int, ...]] = [(batch, inputs), (batch, units), (batch, units)]
    shapes += [(4 * units, inputs), (4 * units, units), (4 * units,)]
    arrays = [noise(seed, *shape) / np.sqrt(units) for seed, shape in enumerate(shapes)]
    x, h, c, weights, recurrent, bias = (bench.runtime.to_device(array) for array in arrays)
    extra = (bias,) if forget_bias else ()
    made = lstm_cell(
        bench.runtime,
        (h, c),
        x,
        (weights, recurrent),
        *extra,
        gates=gates,
        forget_bias=forget_bias or 0.0,
    )

    x_, h_, c_, weights_, recurrent_, bias_ = map(bench.rounded, arrays)
    sums = x_ @ weights_.T + h_ @ recurrent_.T + (bias_ if forget_bias else 0)
    part = dict(zip(gates, np.split(sums, 4, axis=1), strict=True))
    kept = activate(part["f"] + (forget_bias or 0), "sigmoid") * c_
    cell = kept + activate(part["i"], "sigmoid") * np.tanh(part["c"])
    bench.assert_close(bench.runtime.to_host(made[1]), cell)
    expected = activate(part["o"], "sigmoid") * np.tanh(cell)
    bench.assert_close(bench.runtime.to_host(made[0]), expected)


@pytest.mark.parametrize(
    ("wrong", "shape", "named"),
    [
        ("x", (2, 5, 1), r"x \(batch, inputs\) and h"),
        ("h", (2,), r"given float32 \(2, 5\) and float32 \(2,\)"),
        ("c", (2, 4), r"h, c, .*\(12, 5\), \(12, 3\), \(12,\), given .*\(2, 3\), \(2, 4\)"),
        ("weights", (12, 4), r"given .*\(12, 4\)"),
        ("recurrent", (3, 12), r"given .*\(3, 12\)"),
        ("bias", (24,), r"given .*\(24,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    runtime: Runtime, wrong: str, shape: tuple[int, ...], named: str
) -> None:
    """The error tells what is taken and what was given."""
    shapes: dict[str, tuple[int, ...]] = {"x": (2, 5), "h": (2, 3), "c": (2, 3)}
    shapes |= {"weights": (12, 5), "recurrent": (12, 3), "bias": (12,), wrong: shape}
    given = {name: runtime.empty(size) for name, size in shapes.items()}
    state, weights = (given["h"], given["c"]), (given["weights"], given["recurrent"])
    with pytest.raises(ShapeError, match=rf"lstm_cell: .*{named}"):
        lstm_cell(runtime, state, given["x"], weights, given["bias"])


def test_other_gates_are_refused(runtime: Runtime) -> None:
    """Each of the four letters has to be there once."""
    state, weights = runtime.empty((1, 1)), runtime.empty((4, 1))
    with pytest.raises(ShapeError, match=r"lstm_cell: expected gates i, o, f and c .*'iofg'"):
        lstm_cell(runtime, (state, state), state, (weights, weights), gates="iofg")
