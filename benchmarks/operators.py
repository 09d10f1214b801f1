"""Every operator on arrays of a MiB or more, beside numpy in one thread.

    python benchmarks/operators.py [--platform TEXT] [--float16] [--only TEXT] [--json FILE]

Each case's result is compared with numpy's first. Then both are run by turns; what counts is the
median of the ratios. Arrays are on the device beforehand, and results stay there.
``operators_report.py`` makes tables of the figures.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import importlib
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
from _common import describe_machine, shown_seconds

import mace_cache
from mace_cache.operators import Runtime, multiply

if TYPE_CHECKING:
    from collections.abc import Callable

    from _operators import Array, Case

LEAST_SECONDS = 0.3  # how long a case is measured
LEAST_ROUNDS, MOST_ROUNDS = 5, 50


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--platform", default="", help="the first platform with this in its name")
    parser.add_argument("--float16", action="store_true", help="tensors are stored as float16")
    parser.add_argument("--only", default="", help="only cases with this in their names")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    platform = next(
        each for each in cl.get_platforms() if arguments.platform in f"{each.name} {each.version}"
    )
    context = cl.Context([platform.get_devices()[0]])
    rows = []
    with mace_cache.ProgramCache() as cache:
        data_type = np.float16 if arguments.float16 else np.float32
        runtime = Runtime(cl.CommandQueue(context), cache, data_type)
        call_seconds = seconds_of_a_call(runtime)
        for case in load_cases(arguments.only):
            rows.append(measure(runtime, case))
            print(make_line(rows[-1]), flush=True)
    if arguments.json:
        document = {
            "machine": describe_machine(),
            "device": f"{context.devices[0].name.strip()} ({platform.name} {platform.version})",
            "data_type": str(np.dtype(data_type)),
            "call_seconds": call_seconds,
            "cases": rows,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def load_cases(only: str) -> list[Case]:
    """Collect the cases of every module beside this one that has some."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("_operators_*.py"))
    cases: list[Case] = []
    for module in modules:
        cases += importlib.import_module(module).CASES
    return [case for case in cases if only in case.name]


def measure(runtime: Runtime, case: Case) -> dict[str, Any]:
    """Compare a case's result with numpy's, then the time that both take.

    Raises:
        SystemExit: the results differ.
    """
    arrays = case.prepare(np.random.default_rng(0))
    tensors = [runtime.to_device(array) for array in arrays]
    arrays = tuple(runtime.to_host(tensor) for tensor in tensors)

    def ours() -> None:
        case.run(runtime, *tensors)
        runtime.queue.finish()

    check(case, runtime.to_host(case.run(runtime, *tensors)), case.numpy(*arrays))
    pairs: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(pairs) < LEAST_ROUNDS or (
        len(pairs) < MOST_ROUNDS and time.perf_counter() - began < LEAST_SECONDS
    ):
        pairs.append((seconds_of(ours), seconds_of(lambda: case.numpy(*arrays))))
    return {
        "name": case.name,
        "megabytes": sum(array.nbytes for array in arrays) / 1e6,
        "seconds": statistics.median(pair[0] for pair in pairs),
        "numpy_seconds": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
    }


def seconds_of_a_call(runtime: Runtime) -> float:
    """Time the multiplication of one number: what any operator costs, whatever it does."""
    tensor = runtime.to_device(np.ones(1, np.float32))

    def call() -> None:
        multiply(runtime, tensor, 0.5)
        runtime.queue.finish()

    call()
    return statistics.median(seconds_of(call) for _ in range(200))


def check(case: Case, result: Array, expected: Array) -> None:
    """Stop if a result isn't numpy's, but for the rounding of sums and of the storage's type."""
    close = np.allclose(result, expected, rtol=2e-2, atol=2e-2)
    if result.shape != expected.shape or not close:
        worst = np.abs(result - expected).max() if result.shape == expected.shape else result.shape
        raise SystemExit(f"{case.name}: the results differ: {worst}")


def seconds_of(work: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make_line(row: dict[str, Any]) -> str:
    """Give one case as a line for people."""
    here, there = shown_seconds(row["seconds"]), shown_seconds(row["numpy_seconds"])
    return f"{row['name']:50} {here:>9}, numpy {there:>9}: {row['ratio']:.2f}"


if __name__ == "__main__":
    main()
