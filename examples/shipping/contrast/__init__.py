"""Stretches the contrast of a picture on OpenCL."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pyopencl as cl

from mace_cache.library import build_options, load_manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cache import ProgramCache

__all__ = ["MANIFEST", "build", "stretch"]

MANIFEST = str(files(__name__) / "kernels" / "manifest.json")
LOCAL_SIZE = 64  # that of the manifest: PoCL compiles a kernel again for each other one


def build(cache: ProgramCache, context: cl.Context) -> cl.Program:
    """Build the program, with the options that the manifest states."""
    (specification,) = load_manifest(MANIFEST).programs
    options = build_options(specification, specification.variant("float"))
    return cache.build(context, specification.read_source(), options)


def stretch(
    program: cl.Program, queue: cl.CommandQueue, picture: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give a picture whose darkest value is 0 and whose brightest is 1."""
    low, high = float(picture.min()), float(picture.max())
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    values = cl.Buffer(queue.context, flags, hostbuf=picture)
    size = -(-picture.size // LOCAL_SIZE) * LOCAL_SIZE
    cl.Kernel(program, "stretch")(
        queue,
        (size,),
        (LOCAL_SIZE,),
        values,
        np.int32(picture.size),
        np.float32(low),
        np.float32(1 / (high - low)),
    )
    stretched = np.empty_like(picture)
    cl.enqueue_copy(queue, stretched, values)
    return stretched
