"""Tensors on the device, and the runtime that makes them and launches the bundled kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyopencl as cl

from mace_cache.errors import ShapeError
from mace_cache.library import build_options, load_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LOCAL_SIZE", "MOST_WORK_ITEMS", "ProgramBuilder", "Runtime", "Tensor"]

LOCAL_SIZE = 64
"""The local size of every launch: PoCL compiles each kernel again for every other one."""

MOST_WORK_ITEMS = 32768
"""The largest global size; kernels loop over what is left.

PoCL compiles a kernel again for grids wider than 65535 (``grid_width_specialization_limit``).
"""

_MOST_ELEMENTS = 2**30  # kernels index with int
_VARIANTS = {np.dtype(np.float32): "float", np.dtype(np.float16): "half"}
_INTEGERS = (np.dtype(np.int32), np.dtype(np.uint8))


class ProgramBuilder(Protocol):
    """What builds programs: a `mace_cache.ProgramCache`, or anything else with its ``build``."""

    def build(
        self, context: cl.Context, source: str, options: list[str] | None = None
    ) -> cl.Program:
        """Give the built program."""


@dataclass(frozen=True)
class Tensor:
    """An array on the device, in C order and without gaps.

    Attributes:
        buffer: its elements.
        shape: its shape; images and features are (batch, height, width, channels).
        data_type: the type of its elements: float32, float16, int32 or uint8.
    """

    buffer: cl.Buffer
    shape: tuple[int, ...]
    data_type: np.dtype[Any]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """Give its type and shape, for messages."""
        return f"{self.data_type} {self.shape}"


class Runtime:
    """One command queue with the bundled kernels on it, for one type of tensor elements.

    A program is built when an operator first needs it. For one thread at a time: kernels keep their
    arguments from one launch to the next.

    Args:
        queue: an in-order queue on a context of one device.
        cache: builds the programs.
        data_type: float32 or float16: what tensors are stored as. Arithmetic is in float32.

    Raises:
        ShapeError: *data_type* is another one.
        ManifestError: the bundled kernels can't be found.
    """

    def __init__(
        self, queue: cl.CommandQueue, cache: ProgramBuilder, data_type: Any = np.float32
    ) -> None:
        self.queue = queue
        self.data_type = np.dtype(data_type)
        if self.data_type not in _VARIANTS:
            raise ShapeError("Runtime", "data type float32 or float16", self.data_type)
        self._context = queue.context
        self._cache = cache
        self._programs = {program.name: program for program in load_manifest().programs}
        self._built: dict[str, cl.Program] = {}
        self._kernels: dict[tuple[str, str], cl.Kernel] = {}

    def to_device(self, array: np.ndarray[Any, Any]) -> Tensor:
        """Copy an array to the device.

        Args:
            array: any shape; int32 and uint8 stay so, anything else is converted to the runtime's
                data type.

        Raises:
            ShapeError: the array has no elements, or more than 2**30.
        """
        data_type = array.dtype if array.dtype in _INTEGERS else self.data_type
        _check_size("to_device", array.shape)
        given = np.ascontiguousarray(array, dtype=data_type)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        return Tensor(cl.Buffer(self._context, flags, hostbuf=given), array.shape, data_type)

    def to_host(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """Wait for a tensor and copy it to the host.

        Returns:
            Its elements in its shape: float32 for float16 too, else of its own type.
        """
        array = np.empty(tensor.shape, tensor.data_type)
        cl.enqueue_copy(self.queue, array, tensor.buffer)
        return array.astype(np.float32) if array.dtype == np.float16 else array

    def empty(self, shape: Sequence[int], data_type: Any = None) -> Tensor:
        """Make a tensor whose elements are yet to be written.

        Args:
            shape: its shape.
            data_type: float32, float16, int32 or uint8; the runtime's if None.

        Raises:
            ShapeError: the shape has no elements, or more than 2**30.
        """
        _check_size("empty", tuple(shape))
        kind = self.data_type if data_type is None else np.dtype(data_type)
        buffer = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, math.prod(shape) * kind.itemsize)
        return Tensor(buffer, tuple(shape), kind)

    def launch(
        self,
        kernel: tuple[str, str],
        work_items: int,
        tensors: Sequence[Tensor | None],
        integers: Sequence[int],
        floats: Sequence[float] = (),
    ) -> None:
        """Enqueue a kernel of the bundled programs.

        Every kernel takes its tensors, how many pieces of work there are (over which it loops),
        other integers, and floats.

        Args:
            kernel: the names of the program in the manifest and of its kernel.
            work_items: how many pieces of work there are.
            tensors: the tensors; None is a null pointer.
            integers: the other arguments of type ``int``.
            floats: the arguments of type ``float``.
        """
        groups = -(-min(work_items, MOST_WORK_ITEMS) // LOCAL_SIZE)
        sizes = (groups * LOCAL_SIZE,), (LOCAL_SIZE,)
        self.launch_groups(kernel, sizes, tensors, (work_items, *integers), floats)

    def launch_groups(
        self,
        kernel: tuple[str, str],
        sizes: tuple[tuple[int, ...], tuple[int, ...]],
        tensors: Sequence[Tensor | None],
        integers: Sequence[int],
        floats: Sequence[float] = (),
    ) -> None:
        """Enqueue a kernel whose work-groups work together: one with local memory and barriers.

        Args:
            kernel: the names of the program in the manifest and of its kernel.
            sizes: the global size and the local size, which the kernel requires.
            tensors: the tensors; None is a null pointer.
            integers: the arguments of type ``int``.
            floats: the arguments of type ``float``.
        """
        ready = self._kernels.get(kernel) or self._make_kernel(
            *kernel, [None] * len(tensors) + [np.int32] * len(integers) + [np.float32] * len(floats)
        )
        buffers = [None if tensor is None else tensor.buffer for tensor in tensors]
        ready.set_args(*buffers, *integers, *floats)
        cl.enqueue_nd_range_kernel(self.queue, ready, *sizes)

    def _make_kernel(self, program: str, kernel: str, types: list[Any]) -> cl.Kernel:
        if program not in self._built:
            specification = self._programs[program]
            variant = specification.variant(_VARIANTS[self.data_type])
            options = build_options(specification, variant)
            source = specification.read_source()
            self._built[program] = self._cache.build(self._context, source, options=options)
        made = cl.Kernel(self._built[program], kernel)
        made.set_scalar_arg_dtypes(types)  # set_arg tries many types, 10 us for each number
        self._kernels[program, kernel] = made
        return made


def _check_size(operator: str, shape: tuple[int, ...]) -> None:
    if not 1 <= math.prod(shape) <= _MOST_ELEMENTS or min(shape, default=1) < 1:
        raise ShapeError(operator, f"1 to {_MOST_ELEMENTS} elements", shape)
