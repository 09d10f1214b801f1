"""Products of matrices and 3x3 convolutions: the bundled kernels against CLBlast and numpy.

    python benchmarks/matrix.py [--platform NAME] [--clblast PATH] [--sweep] [--json FILE]

Each contender runs by turns with the others, and the median of its runs counts. All results are
compared with numpy's. `--sweep` measures the bundled product with other tile sizes instead, which
are build options. CLBlast computes in float32 where the bundled kernels store float16: it needs
cl_khr_fp16 for that, which NVIDIA's driver doesn't have.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy starts

import numpy as np
import pyopencl as cl
from _clblast import CLBlast
from _common import describe_machine

from mace_cache.operators import Runtime, convolutions, matrix, product
from mace_cache.operators.winograd import winograd_convolution, winograd_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mace_cache.operators import Tensor

REPEATS = 7
SECONDS = 0.01  # about how long a contender runs at a time
ERRORS = {"float32": 2e-5, "float16": 1e-3}  # of the largest element

Array = np.ndarray[Any, np.dtype[Any]]


class Tile(NamedTuple):
    """One choice of the build options of `product_groups.h`."""

    rows: int
    columns: int
    depth: int
    each_rows: int
    each_columns: int
    wide: int = 1

    @property
    def items(self) -> int:
        """The work-items of a group."""
        return self.rows * self.columns // self.each_rows // self.each_columns

    @property
    def options(self) -> list[str]:
        """What builds it."""
        names = ("TILE_ROWS", "TILE_COLUMNS", "TILE_DEPTH", "EACH_ROWS", "EACH_COLUMNS", "WIDE")
        pairs = [*zip(names, self, strict=True), ("ITEMS", self.items), ("PROCESSOR", 0)]
        return [f"-D{name}={value}" for name, value in pairs]


TILES = [
    Tile(64, 64, 8, 8, 8),
    Tile(64, 64, 16, 8, 8),
    Tile(64, 64, 16, 8, 8, 0),
    Tile(64, 64, 32, 8, 8),
    Tile(128, 64, 8, 8, 8),
    Tile(128, 64, 16, 8, 8),
    Tile(64, 128, 16, 8, 8),
    Tile(128, 128, 8, 8, 8),
    Tile(128, 128, 16, 8, 8),
    Tile(128, 128, 16, 8, 8, 0),
    Tile(64, 64, 16, 8, 4),
    Tile(64, 64, 16, 4, 4),
    Tile(64, 64, 32, 4, 4),
    Tile(128, 64, 16, 8, 16),
    Tile(128, 128, 8, 16, 8),
    Tile(128, 128, 16, 8, 16),
    Tile(32, 64, 16, 8, 4),
    Tile(32, 32, 16, 4, 4),
]


class PlainBuilder:
    """Builds every program from its source, with more options."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.options = options

    def build(
        self, context: cl.Context, source: str, options: list[str] | None = None
    ) -> cl.Program:
        """Build a program as pyopencl does."""
        program = cl.Program(context, source)
        program.build([*(options or ()), *self.options])
        return program


class Work(NamedTuple):
    """What is measured.

    Attributes:
        name: what it is.
        data_type: what tensors are stored as.
        operations: floating-point operations, as the definition counts them.
        shape: rows, depth and columns of a product; or batch, edge and channels of a convolution.
        kind: product or convolution.
    """

    name: str
    data_type: str
    operations: int
    shape: tuple[int, int, int]
    kind: str


def square_product(size: int, data_type: str) -> Work:
    """Give the product of two square matrices."""
    name = f"product {size} {data_type}"
    return Work(name, data_type, 2 * size**3, (size, size, size), "product")


def convolution(batch: int, edge: int, channels: int, data_type: str) -> Work:
    """Give a 3x3 convolution that keeps the number of channels."""
    name = f"convolution 3x3 {batch}x{edge}x{edge}x{channels} {data_type}"
    operations = 2 * 9 * batch * edge**2 * channels**2
    return Work(name, data_type, operations, (batch, edge, channels), "convolution")


def works(*, processor: bool) -> list[Work]:
    """Give all that is measured on a processor, or on a GPU."""
    sizes = (256, 512, 1024) if processor else (1024, 2048, 4096)
    images = [(1, 28, 64)] if processor else [(1, 56, 256), (8, 56, 256)]
    return [
        *(square_product(size, data_type) for data_type in ERRORS for size in sizes),
        *(convolution(*image, data_type) for data_type in ERRORS for image in images),
    ]


def main() -> None:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--platform", default="", help="part of the name of the OpenCL platform")
    parser.add_argument("--clblast", help="CLBlast's library; 'none' leaves it out")
    parser.add_argument("--sweep", action="store_true", help="other tile sizes, and no CLBlast")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", cl.CompilerWarning)
    device = find_device(arguments.platform)
    queue = cl.CommandQueue(cl.Context([device]))
    print(f"{device.name}, {device.platform.name}, driver {device.driver_version}")
    todo = works(processor=bool(device.type & cl.device_type.CPU))
    if arguments.sweep:
        chosen = [work for work in todo if work.data_type == "float32"] + todo[4:5]  # and one half
        rows = [row for tile in TILES for row in sweep(queue, chosen, tile)]
    else:
        library = None if arguments.clblast == "none" else CLBlast(arguments.clblast)
        rows = [row for work in todo for row in compare(queue, work, library)]
    found = {
        **describe_machine(),
        "device": device.name,
        "driver": device.driver_version,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def find_device(platform: str) -> cl.Device:
    """Give the first device of a platform."""
    return next(p for p in cl.get_platforms() if platform in p.name).get_devices()[0]


def compare(queue: cl.CommandQueue, work: Work, library: CLBlast | None) -> list[dict[str, Any]]:
    """Measure every contender of one work, and print a line for each."""
    runtime = Runtime(queue, PlainBuilder(), work.data_type)
    arrays = make_arrays(work)
    runs, results = contenders(runtime, work, arrays, library)
    expected = expect(work, arrays)
    return report(work, measure(queue, runs), errors(runtime, results, expected))


def sweep(queue: cl.CommandQueue, todo: Sequence[Work], tile: Tile) -> list[dict[str, Any]]:
    """Measure the bundled product with other tiles, and print a line for each work."""
    rows = []
    with ExitStack() as stack:
        changes = {"TILE_ROWS": tile.rows, "TILE_COLUMNS": tile.columns, "LOCAL_SIZE": tile.items}
        for name, value in changes.items():
            stack.enter_context(patch.object(product, name, value))
        for data_type in ERRORS:
            runtime = Runtime(queue, PlainBuilder(tile.options), data_type)
            for work in todo:
                if work.data_type != data_type:
                    continue
                label = " ".join(map(str, tile))
                try:
                    arrays = make_arrays(work)
                    runs, results = contenders(runtime, work, arrays, None)
                    times = measure(queue, runs)
                    found = errors(runtime, results, expect(work, arrays))
                    rows += report(work, times, found, f"{label} ({tile.items}) ")
                except cl.Error as error:
                    print(f"{work.name:44} {label}: {str(error).splitlines()[0]}", flush=True)
    return rows


@functools.cache
def make_arrays(work: Work) -> tuple[Array, Array]:
    """Make the matrices, or the image and the weights, rounded to the work's data type."""
    rng = np.random.default_rng(0)
    if work.kind == "product":
        rows, depth, columns = work.shape
        shapes: tuple[tuple[int, ...], ...] = ((rows, depth), (depth, columns))
    else:
        batch, edge, channels = work.shape
        shapes = (batch, edge, edge, channels), (channels, 3, 3, channels)
    a, b = (rng.standard_normal(shape, np.float32).astype(work.data_type) for shape in shapes)
    return a, b


def contenders(
    runtime: Runtime, work: Work, arrays: tuple[Array, Array], library: CLBlast | None
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], Array]]]:
    """Give what enqueues each contender, and what gives its result on the host."""
    a, b = map(runtime.to_device, arrays)
    runs: dict[str, Callable[[], object]] = {}
    results: dict[str, Callable[[], Array]] = {}

    def add(name: str, run: Callable[[], Tensor]) -> None:
        runs[name] = run
        results[name] = lambda: runtime.to_host(run())

    single = Runtime(runtime.queue, PlainBuilder())  # makes CLBlast's tensors
    if work.kind == "product":
        add("ours", lambda: matrix.matrix_product(runtime, a, b))
        if library is not None:
            left, right = map(single.to_device, arrays)
            output = single.empty((left.shape[0], right.shape[1]))
            runs["CLBlast"] = lambda: library.multiply(runtime.queue, left, right, output)
            results["CLBlast"] = lambda: single.to_host(output)
        return runs, results
    add("windows", lambda: convolutions.convolution(runtime, a, b))
    prepared = winograd_weights(runtime, b)
    add("Winograd", lambda: winograd_convolution(runtime, a, prepared))
    if library is not None:
        # CLBlast's images are (batch, channels, height, width)
        x, weights = (single.to_device(array.transpose(0, 3, 1, 2)) for array in arrays)
        output = single.empty(x.shape)
        runs["CLBlast"] = lambda: library.convolve(runtime.queue, x, weights, output)
        results["CLBlast"] = lambda: single.to_host(output).transpose(0, 2, 3, 1)
    return runs, results


def expect(work: Work, arrays: tuple[Array, Array]) -> Array:
    """Compute with numpy the first rows of the result."""
    a, b = (array.astype(np.float32) for array in arrays)
    if work.kind == "product":
        return np.asarray(a[:64] @ b)
    padded = np.pad(a[:1, :5], ((0, 0), (1, 0), (1, 1), (0, 0)))
    taps = [(y, x) for y in range(3) for x in range(3)]
    edge = a.shape[2]
    return np.asarray(sum(padded[:, y : y + 4, x : x + edge] @ b[:, y, x].T for y, x in taps))


def errors(
    runtime: Runtime, results: dict[str, Callable[[], Array]], expected: Array
) -> dict[str, float]:
    """Give each contender's largest error, relative to the largest element."""
    scale = float(np.abs(expected).max())
    part = tuple(slice(length) for length in expected.shape)
    found = {}
    for name, result in results.items():
        found[name] = float(np.abs(result()[part] - expected).max()) / scale
        if not found[name] <= ERRORS[str(runtime.data_type)]:
            print(f"WRONG: {name} is off by {found[name]:.2g}", flush=True)
    return found


def measure(queue: cl.CommandQueue, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Give the median seconds of each, which run by turns."""
    counts = {}
    for name, run in runs.items():
        timed(queue, run, 1)
        counts[name] = max(1, min(100, int(SECONDS / timed(queue, run, 1))))
    turns = [
        {name: timed(queue, run, counts[name]) for name, run in runs.items()}
        for _ in range(REPEATS)
    ]
    return {name: statistics.median(turn[name] for turn in turns) for name in runs}


def timed(queue: cl.CommandQueue, run: Callable[[], object], count: int) -> float:
    """Give the seconds of one of *count* runs that are enqueued together."""
    queue.finish()
    start = time.perf_counter()
    for _ in range(count):
        run()
    queue.finish()
    return (time.perf_counter() - start) / count


def report(
    work: Work, seconds: dict[str, float], found: dict[str, float], label: str = ""
) -> list[dict[str, Any]]:
    """Print what was measured, and give it as rows."""
    rows = []
    for name, taken in seconds.items():
        gigaflops = work.operations / taken / 1e9
        ratio = taken / seconds["CLBlast"] if "CLBlast" in seconds else None
        shown = "" if ratio is None else f"  {ratio:5.2f} of CLBlast's time"
        figures = f"{taken * 1e3:9.3f} ms {gigaflops:9.0f} GFLOP/s"
        print(f"{work.name:44} {label}{name:10} {figures}{shown}", flush=True)
        rows.append(
            {
                "work": work.name,
                "contender": label + name,
                "seconds": taken,
                "gigaflops": round(gigaflops, 1),
                "error": found[name],
                "ratio": ratio,
            }
        )
    return rows


if __name__ == "__main__":
    main()
