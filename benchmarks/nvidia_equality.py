"""Whether an NVIDIA program's native code is the driver's own build, bit for bit.

    python benchmarks/nvidia_equality.py [--json FILE]

Needs an NVIDIA GPU. Every program is built from source, its PTX finalised, the cubin loaded, and
the two are compared: the machine code that the driver keeps of its own build from source, what
each kernel writes (and prints), and what the programs tell about themselves. Times are medians of
three loads with the driver's cache off. Exits with 1 if a program differs that would be stored.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyopencl as cl
from nvidia_cases import Case, all_cases

from mace_cache import opencl
from mace_cache.harvest import nvidia
from mace_cache.harvest.sameness import tells_the_same

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPEATS = 3


class Binaries(NamedTuple):
    """What there is of a program.

    Attributes:
        ptx: what the driver hands out.
        code: what it was finalised to, if it was.
        own: what the driver keeps of its own build from source.
    """

    ptx: bytes
    code: bytes | None
    own: bytes | None


def main() -> None:
    """Compare, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)  # one case, and no more
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", cl.CompilerWarning)
    cases = all_cases()
    if arguments.build is not None:
        build(cl.Context([find_device()]), cases[arguments.build])
        return
    os.environ["CUDA_CACHE_DISABLE"] = "1"  # before the driver starts
    device = find_device()
    rows, seconds = compare_all(device, cases)
    print_table(rows)
    found = {
        "device": device.name,
        "driver": device.driver_version,
        "finalising all, seconds": round(seconds, 2),
        "programs": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(any(differs(row) for row in rows))


def find_device() -> cl.Device:
    """Give the first NVIDIA device."""
    for platform in cl.get_platforms():
        if "NVIDIA" in platform.name:
            return platform.get_devices()[0]
    raise SystemExit("there is no NVIDIA device")


def compare_all(device: cl.Device, cases: list[Case]) -> tuple[list[dict[str, Any]], float]:
    """Give a row a case, and how long it took to finalise all of them at once, in seconds."""
    context = cl.Context([device])
    programs = [build(context, case) for case in cases]
    binaries = [opencl.fetch_binaries(program, [device])[0] for program in programs]
    options = [opencl.driver_options(context, case.options) for case in cases]
    texts = [option.decode("utf-8", "surrogateescape") for option in options]
    started = time.perf_counter()
    codes = nvidia.finalise_all(list(zip(binaries, texts, strict=True)), device)
    seconds = time.perf_counter() - started
    own = [own_code(number, ptx) for number, ptx in enumerate(binaries)]
    rows = [
        compare(device, case, program, option, Binaries(*found))
        for case, program, option, *found in zip(
            cases, programs, options, binaries, codes, own, strict=True
        )
    ]
    return rows, seconds


def build(context: cl.Context, case: Case) -> cl.Program:
    """Build a case from source."""
    return opencl.build_from_source(context, case.source, case.options)[0]


def own_code(number: int, ptx: bytes) -> bytes | None:
    """Give the native code that the driver keeps when it builds a case from source."""
    with tempfile.TemporaryDirectory() as kept:
        environment = {**os.environ, "CUDA_CACHE_PATH": kept, "CUDA_CACHE_DISABLE": "0"}
        command = [sys.executable, __file__, "--build", str(number)]
        subprocess.run(command, env=environment, check=True)
        return nvidia.kept_code(kept, ptx)


def compare(
    device: cl.Device,
    case: Case,
    program: cl.Program,
    options: bytes,
    binaries: Binaries,
) -> dict[str, Any]:
    """Compare a program with its native code."""
    row: dict[str, Any] = {"program": case.name, "options": shown(case.options), "stored": False}
    ptx, code = binaries.ptx, binaries.code
    if code is None:
        return row
    queue = cl.CommandQueue(program.context)

    def load(binary: bytes) -> cl.Program:
        return opencl.load_from_binaries(queue.context, [device], [binary], options)

    finalised = load(code)
    tells = tells_the_same(program, finalised, device)
    kernels = {
        kernel: run(launch, program, queue) == run(launch, finalised, queue)
        for kernel, launch in case.launches.items()
    }
    return row | {
        "stored": tells,
        "equal": all(kernels.values()),
        "tells the same": tells,
        "machine code": judge(code, binaries.own),
        "kernels, equal output": kernels,
        "bytes": {"PTX": len(ptx), "cubin": len(code)},
        "load, milliseconds": {"PTX": milliseconds(load, ptx), "cubin": milliseconds(load, code)},
    }


def differs(row: dict[str, Any]) -> bool:
    """Whether a program would be stored although something of it isn't as the driver built it."""
    unequal = not row.get("equal") or row["machine code"].startswith("differs")
    return bool(row["stored"] and unequal)


def shown(options: Sequence[str]) -> str:
    """Give options as text, without where this checkout lies."""
    return " ".join(options).replace(str(Path(__file__).parents[1]), "...")


def judge(code: bytes, own: bytes | None) -> str:
    """Say how native code stands to the driver's own."""
    if own is None:
        return "unknown: the driver kept none of its own"
    return "identical" if code == own else f"differs: {len(code)} bytes, not {len(own)}"


def run(
    launch: Callable[[cl.Program, cl.CommandQueue], list[bytes]],
    program: cl.Program,
    queue: cl.CommandQueue,
) -> list[bytes]:
    """Launch a kernel; what it prints counts as written."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as printed:
        before = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            written = launch(program, queue)
            queue.finish()
            ctypes.CDLL(None).fflush(None)
        finally:
            os.dup2(before, 1)
            os.close(before)
        printed.seek(0)
        return [*written, printed.read()]


def milliseconds(load: Callable[[bytes], cl.Program], binary: bytes) -> float:
    """Give the median time that a load takes."""
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        load(binary)
        taken.append(1e3 * (time.perf_counter() - started))
    return round(statistics.median(taken), 3)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the figures as a Markdown table."""
    print("| program | kernels, equal | machine code | tells the same | load PTX | load cubin |")
    print("| --- | ---: | --- | --- | ---: | ---: |")
    for row in rows:
        if "equal" not in row:
            print(f"| {row['program']} | | stays PTX | | | |")
            continue
        kernels, loads = row["kernels, equal output"], row["load, milliseconds"]
        equal = f"{sum(kernels.values())} of {len(kernels)}"
        tells = "yes" if row["tells the same"] else "no: stays PTX"
        print(
            f"| {row['program']} | {equal} | {row['machine code']} "
            f"| {tells} | {loads['PTX']:.1f} ms | {loads['cubin']:.2f} ms |"
        )


if __name__ == "__main__":
    main()
