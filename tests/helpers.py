"""What the tests of the cache share: a tiny kernel, storages that fail, and drivers that refuse.

PoCL compiles what its preprocessor makes of a source: sources that differ in a comment are
different programs for the cache, while PoCL compiles them once. Child processes import this room
too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

from mace_cache import opencl
from mace_cache.container import decode_entry, encode
from mace_cache.errors import BinaryRejectedError
from mace_cache.storage.base import KVStorage, KVStorageFactory
from mace_cache.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from mace_cache.program import CompiledProgram

REPOSITORY = Path(__file__).parents[1]
GARBAGE = b"this is no binary of any driver " * 200

_KERNEL = """
#ifndef FACTOR
#define FACTOR 2
#endif
kernel void scale(global int *x) { x[get_global_id(0)] *= FACTOR; }
"""


def make_source(tag: object = "", head: str = "") -> str:
    """A program that multiplies by FACTOR, 2 unless an option or *head* says otherwise."""
    return f"// {tag}\n{head}{_KERNEL}"


def make_heavy_source(tag: str, kernels: int = 8) -> str:
    """A program that PoCL compiles at the fetch for a while: about 0.1 s a kernel.

    Every tag is another program for the driver too, whose own cache would answer at once.
    """
    seed = zlib.crc32(tag.encode()) % 2**24  # exact in a float
    steps = "\n".join(
        f"v = v * {step}.5f + native_sin(v + {step}.25f) + {seed}.0f;"
        f" if (v > {step}.0f) v -= x[(i + {step}) & 255];"
        for step in range(20)
    )
    return "\n".join(
        f"kernel void heavy{number}(global float *x)"
        f" {{ int i = get_global_id(0); float v = x[i] + {number}.0f; {steps} x[i] = v; }}"
        for number in range(kernels)
    )


def open_context() -> cl.Context:
    """A context on all devices of PoCL, for child processes."""
    return cl.Context(cl.get_platforms()[0].get_devices())


def scale(
    program: cl.Program, queue: cl.CommandQueue | None = None, local: int | None = None
) -> int:
    """Run the kernel once on four ones, with that local size: the factor that it multiplied by."""
    if queue is None:
        queue = cl.CommandQueue(program.get_info(cl.program_info.CONTEXT))  # type: ignore[arg-type] # stated as object
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    numbers = np.ones(4, np.int32)
    buffer = cl.Buffer(queue.context, flags, hostbuf=numbers)
    cl.Kernel(program, "scale")(queue, (4,), None if local is None else (local,), buffer)
    cl.enqueue_copy(queue, numbers, buffer)
    assert len(set(numbers.tolist())) == 1
    return int(numbers[0])


def entries(directory: Path) -> list[Path]:
    """The files of the programs in a cache directory."""
    return sorted(directory.rglob("*.mclp"))


def read_entry(path: Path) -> CompiledProgram:
    """The program in a file."""
    return decode_entry(path.read_bytes(), str(path))


def plant(path: Path, binary: bytes | memoryview = GARBAGE, **changes: Any) -> None:
    """Put another binary, or other fields, into an entry that stays well-formed in every digest."""
    data = encode([replace(read_entry(path), binary=binary, **changes)])
    path.unlink()  # the library never writes into a file either: it may be proven
    path.touch(0o600)
    path.write_bytes(data)


def run_child(code: str, *arguments: object, **environment: str) -> str:
    """Run Python code in a process of its own, warnings being errors, and give what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start_child(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start Python code in a process of its own; its warnings go to the error output."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def opened_below(directory: Path) -> list[str]:
    """Name what this process has open below a directory, with what was removed since."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if name.startswith(f"{directory}/")]


def halve(path: Path) -> None:
    """Put half of its binary into an entry that stays well-formed: PoCL 3.0 dies of that."""
    binary = read_entry(path).binary
    plant(path, binary[: len(binary) // 2])


def watch_loads(patch: pytest.MonkeyPatch) -> list[bytes]:
    """Every binary that is handed to the driver from now on."""
    seen: list[bytes] = []
    real = opencl.load_from_binaries

    def load(
        context: cl.Context,
        devices: Sequence[cl.Device],
        binaries: Sequence[bytes | memoryview],
        options: bytes,
    ) -> cl.Program:
        seen.extend(bytes(binary) for binary in binaries)
        return real(context, devices, binaries, options)

    patch.setattr(opencl, "load_from_binaries", load)
    return seen


def watch_fetches(patch: pytest.MonkeyPatch) -> list[cl.Program]:
    """Every program whose binaries the driver is asked for from now on."""
    seen: list[cl.Program] = []
    real = opencl.fetch_binaries

    def fetch(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        seen.append(program)
        return real(program, devices)

    patch.setattr(opencl, "fetch_binaries", fetch)
    return seen


def refuse_loads(patch: pytest.MonkeyPatch, status: str = "INVALID_BINARY") -> list[bytes]:
    """Make the driver refuse every binary from now on; they are collected."""
    refused: list[bytes] = []

    def refuse(
        context: cl.Context,  # noqa: ARG001 (as the real one)
        devices: Sequence[cl.Device],  # noqa: ARG001
        binaries: Sequence[bytes | memoryview],
        options: bytes,  # noqa: ARG001
    ) -> cl.Program:
        refused.extend(bytes(binary) for binary in binaries)
        raise BinaryRejectedError(status, "clBuildProgram")

    patch.setattr(opencl, "load_from_binaries", refuse)
    return refused


def opencl_error(status: str | int, routine: str = "clBuildProgram") -> cl.Error:
    """An error as pyopencl raises it, of a status that has a name or any other."""
    code = status if isinstance(status, int) else getattr(cl.status_code, status)
    return cl.LogicError(cl._cl._ErrorRecord(msg="", code=code, routine=routine))


class FaultyStorage(KVStorage):
    """A storage in memory one method of which raises an error instead of doing its work."""

    def __init__(self, method: str = "", error: Exception | None = None) -> None:
        self._memory = MemoryStorage()
        self._method = method
        self._error = error
        self.calls: list[str] = []

    def _enter(self, method: str) -> None:
        self.calls.append(method)
        if method == self._method and self._error is not None:
            raise type(self._error)(*self._error.args)  # anew: an error keeps whom it passed alive

    def load(self) -> None:
        """Raise, or do nothing."""
        self._enter("load")

    def find(self, key: str) -> CompiledProgram | None:
        """Raise, or find it."""
        self._enter("find")
        return self._memory.find(key)

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Raise, or insert it."""
        self._enter("insert")
        self._memory.insert(key, program)

    def remove(self, key: str) -> None:
        """Raise, or remove it."""
        self._enter("remove")
        self._memory.remove(key)

    def prove(self, program: CompiledProgram) -> bool:
        """Raise, or leave it to others."""
        self._enter("prove")
        return self._memory.prove(program)

    def clear(self) -> None:
        """Raise, or remove all."""
        self._enter("clear")
        self._memory.clear()

    def flush(self) -> None:
        """Raise, or do nothing."""
        self._enter("flush")

    def keys(self) -> Iterator[str]:
        """Give all keys."""
        return self._memory.keys()


class FakeFactory(KVStorageFactory):
    """Gives storages that a test has made; others are in memory."""

    def __init__(self, storage: KVStorage | None = None, **named: KVStorage) -> None:
        self._storage = storage
        self.storages: dict[str, KVStorage] = dict(named)

    def create_storage(self, name: str) -> KVStorage:
        """Give the one storage if there is one, else the one of that name."""
        return self.storages.setdefault(name, self._storage or MemoryStorage())

    def names(self) -> list[str]:
        """Give the names that were asked for."""
        return sorted(self.storages)
