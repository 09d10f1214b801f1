"""One runtime a data type for the whole run, so that each program is compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pytest

from mace_cache.operators import Runtime

if TYPE_CHECKING:
    from tests.operators.reference import Array


class PlainBuilder:
    """Builds every program from its source, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def build(
        self, context: cl.Context, source: str, options: list[str] | None = None
    ) -> cl.Program:
        """Build a program as pyopencl does."""
        self.asked.append((source, tuple(options or ())))
        program: Any = cl.Program(context, source)
        built: cl.Program = program.build(options, cache_dir=False)
        return built


class Bench:
    """Runs operators on numpy arrays, with storage as one data type.

    Attributes:
        runtime: the runtime.
    """

    def __init__(self, queue: cl.CommandQueue, data_type: str) -> None:
        self.runtime = Runtime(queue, PlainBuilder(), data_type)

    def rounded(self, array: Array) -> Array:
        """What remains of an array in storage, in double precision."""
        return array.astype(self.runtime.data_type).astype(np.float64)

    def assert_close(self, result: Array, expected: Array) -> None:
        """Assert equality but for single-precision sums and one rounding to the storage's type."""
        half = self.runtime.data_type == np.float16
        np.testing.assert_allclose(result, expected, rtol=6e-4 if half else 1e-5, atol=2e-5)
        assert result.shape == expected.shape


@pytest.fixture(scope="session")
def float_bench(queue: cl.CommandQueue) -> Bench:
    """Operators on tensors of float32."""
    return Bench(queue, "float32")


@pytest.fixture(scope="session")
def half_bench(queue: cl.CommandQueue) -> Bench:
    """Operators on tensors of float16."""
    return Bench(queue, "float16")


@pytest.fixture(scope="session", params=["float32", "float16"])
def bench(request: pytest.FixtureRequest, float_bench: Bench, half_bench: Bench) -> Bench:
    """Operators on tensors of each type."""
    return float_bench if request.param == "float32" else half_bench


@pytest.fixture(scope="session")
def runtime(float_bench: Bench) -> Runtime:
    """A runtime of float32."""
    return float_bench.runtime
