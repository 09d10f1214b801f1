"""The bundled kernels: where they are, how they are built, and how each is launched once.

Who compiles ahead of time learns from a manifest what to build and launch.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyopencl as cl

from mace_cache.errors import ManifestError
from mace_cache.manifest import (
    Argument,
    Launch,
    Manifest,
    ProgramSpecification,
    Variant,
    read_manifest,
)

__all__ = [
    "Argument",
    "Launch",
    "Manifest",
    "ProgramSpecification",
    "Variant",
    "build_options",
    "kernels_directory",
    "launch_once",
    "load_manifest",
]


def kernels_directory() -> str:
    """Give the directory of the bundled kernels: in the wheel, or in a checkout beside the package.

    Raises:
        ManifestError: there is no manifest in either place.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "kernels")
    for directory in (installed, os.path.join(os.path.dirname(package), "kernels")):
        if os.path.isfile(os.path.join(directory, "manifest.json")):
            return directory
    raise ManifestError(os.path.join(installed, "manifest.json"), "the bundled kernels are missing")


def load_manifest(path: str | os.PathLike[str] | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: the JSON file, or None for that of the bundled kernels.

    Raises:
        ManifestError: the file can't be read, isn't JSON or has another form than
            ``docs/kernels.md`` describes; the reason names the place.
    """
    return read_manifest(path or os.path.join(kernels_directory(), "manifest.json"))


def build_options(specification: ProgramSpecification, variant: Variant) -> list[str]:
    """Give the options that build a variant: its own, and where the program's headers are."""
    directory = os.path.dirname(specification.path)
    quoted = f'"{directory}"' if any(c.isspace() for c in directory) else directory
    return [*variant.options, "-I", quoted]


def launch_once(program: cl.Program, queue: cl.CommandQueue, launch: Launch) -> None:
    """Run a typical launch on buffers of zeros, and wait for its end.

    Args:
        program: a built program with that kernel.
        queue: where to run it.
        launch: the launch.

    Raises:
        pyopencl.Error: the driver refuses the launch, as pyopencl raises it.
    """
    kernel = cl.Kernel(program, launch.kernel)
    arguments = [_make_argument(queue.context, argument) for argument in launch.arguments]
    for index, argument in enumerate(arguments):
        kernel.set_arg(index, argument)
    cl.enqueue_nd_range_kernel(queue, kernel, launch.global_size, launch.local_size).wait()


def _make_argument(context: cl.Context, argument: Argument) -> Any:
    if argument.value is None:
        return None
    if argument.kind == "local":
        return cl.LocalMemory(int(argument.value))
    if argument.kind != "buffer":
        return np.dtype(argument.kind).type(argument.value)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    return cl.Buffer(context, flags, hostbuf=np.zeros(int(argument.value), np.uint8))
