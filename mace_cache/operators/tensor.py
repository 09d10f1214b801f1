"""Tensors on the device, and the runtime that makes them and launches the bundled kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyopencl as cl
from pyopencl.tools import ImmediateAllocator, MemoryPool

from mace_cache.cache import ProgramCache
from mace_cache.errors import ShapeError
from mace_cache.library import build_options, load_manifest
from mace_cache.local_sizes import LOCAL_SIZE, MOST_WORK_ITEMS, LocalSizes, grid
from mace_cache.operators.arguments import describe, integers, known_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache._trials import Trials

__all__ = [
    "DATA_TYPES",
    "LOCAL_SIZE",
    "MOST_WORK_ITEMS",
    "VARIANTS",
    "ProgramBuilder",
    "Runtime",
    "Tensor",
    "check_tensors",
]

_MOST_ELEMENTS = 2**30  # kernels index with int
_INTEGERS: tuple[np.dtype[Any], ...] = (np.dtype(np.int32), np.dtype(np.uint8))
_NO_NUMBERS = "cmMOSU"  # complex numbers, times, objects and text

VARIANTS: dict[np.dtype[Any], str] = {np.dtype(np.float32): "float", np.dtype(np.float16): "half"}
"""The variant in the manifest for each data type of a runtime."""

DATA_TYPES = (*VARIANTS, *_INTEGERS)  # as in layout.cl
"""What tensors are made of."""

_NAMES = {kind: str(kind) for kind in DATA_TYPES}  # numpy takes microseconds to name one


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
        buffer: its elements. What an operator made goes back to its runtime's pool when nothing
            refers to it any more.
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
        return f"{_NAMES.get(self.data_type, self.data_type)} {self.shape}"


class Runtime:
    """One command queue with the bundled kernels on it, for one type of tensor elements.

    A program is built when an operator first needs it. For one thread at a time: kernels keep their
    arguments from one launch to the next.

    Args:
        queue: an in-order queue on a context of one device.
        cache: builds the programs, and keeps tuned local sizes if it is a `ProgramCache`.
        data_type: float32 or float16: what tensors are stored as. Arithmetic is in float32.
        tune: whether launches that haven't been tuned yet are: they are run several times with each
            of several local sizes, and the best is kept beside the program. Without it what is kept
            is used, and nothing tried.

    Raises:
        ShapeError: *data_type* is another one, or the queue is out of order.
        ManifestError: the bundled kernels can't be found.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        cache: ProgramBuilder,
        data_type: Any = np.float32,
        *,
        tune: bool = False,
    ) -> None:
        if queue.properties & cl.command_queue_properties.OUT_OF_ORDER_EXEC_MODE_ENABLE:
            raise ShapeError("Runtime", "a queue in order", "one out of order")
        self.queue = queue
        self.data_type = known_type("Runtime", data_type, VARIANTS)
        self._context = queue.context
        # The queue is in order: what a kernel still reads isn't written by the next before it ends.
        self._pool = MemoryPool(ImmediateAllocator(queue))
        self._cache = cache
        self._tune = tune
        self._programs = {program.name: program for program in load_manifest().programs}
        self._built: dict[str, cl.Program] = {}
        self._kernels: dict[tuple[str, str], cl.Kernel] = {}
        self._local_sizes: dict[str, LocalSizes] = {}

    @property
    def tried(self) -> dict[tuple[str, str], Trials]:
        """What came of the trials of launches so far, by kernel and class of shapes."""
        return {launch: one for s in self._local_sizes.values() for launch, one in s.tried.items()}

    def to_device(self, array: np.ndarray[Any, Any]) -> Tensor:
        """Copy an array to the device.

        Args:
            array: any shape; int32 and uint8 stay so, anything else is converted to the runtime's
                data type.

        Raises:
            ShapeError: it isn't a numpy array of numbers, has no elements, or more than 2**30.
        """
        given: object = array
        if not isinstance(given, np.ndarray | np.generic) or given.dtype.kind in _NO_NUMBERS:
            raise ShapeError("to_device", "a numpy array of real numbers", describe(given))
        data_type = array.dtype if array.dtype in _INTEGERS else self.data_type
        _check_size("to_device", array.shape)
        given = np.ascontiguousarray(array, dtype=data_type)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        return Tensor(cl.Buffer(self._context, flags, hostbuf=given), array.shape, data_type)

    def to_host(self, tensor: Tensor) -> np.ndarray[Any, Any]:
        """Wait for a tensor and copy it to the host.

        Returns:
            Its elements in its shape: float32 for float16 too, else of its own type.

        Raises:
            ShapeError: it isn't a tensor.
        """
        check_tensors("to_host", tensor)
        array = np.empty(tensor.shape, tensor.data_type)
        cl.enqueue_copy(self.queue, array, tensor.buffer)
        return array.astype(np.float32) if array.dtype == np.float16 else array

    def empty(
        self, shape: Sequence[int], data_type: Any = None, *, operator: str = "empty"
    ) -> Tensor:
        """Make a tensor whose elements are yet to be written.

        Args:
            shape: its shape.
            data_type: float32, float16, int32 or uint8; the runtime's if None.
            operator: whose name errors have.

        Raises:
            ShapeError: the shape has no elements, or more than 2**30; or the type is another one.
        """
        lengths = integers(operator, "a shape of integers", shape)
        _check_size(operator, lengths)
        kind = self.data_type
        if data_type is not None:
            kind = known_type(operator, data_type, DATA_TYPES)
        buffer: Any = self._pool.allocate(math.prod(lengths) * kind.itemsize)
        return Tensor(buffer, lengths, kind)

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
        other integers, and floats. It must be safe to run several times on the same arguments, with
        any local size: where launches are tuned, it is.

        Args:
            kernel: the names of the program in the manifest and of its kernel.
            work_items: how many pieces of work there are.
            tensors: the tensors; None is a null pointer.
            integers: the other arguments of type ``int``.
            floats: the arguments of type ``float``.
        """
        integers = (work_items, *integers)
        ready = self._prepare(kernel, tensors, integers, floats)
        local_size = self._local_sizes[kernel[0]].choose(kernel[1], ready, integers)
        cl.enqueue_nd_range_kernel(self.queue, ready, *grid(work_items, local_size))

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
        ready = self._prepare(kernel, tensors, integers, floats)
        cl.enqueue_nd_range_kernel(self.queue, ready, *sizes)

    def _prepare(
        self,
        kernel: tuple[str, str],
        tensors: Sequence[Tensor | None],
        integers: Sequence[int],
        floats: Sequence[float],
    ) -> cl.Kernel:
        """Give a kernel with its arguments."""
        ready = self._kernels.get(kernel)
        if ready is None:
            ready = self._kernels[kernel] = self._make_kernel(*kernel)
            # Else pyopencl tries types, which takes microseconds a number.
            kinds = [None] * len(tensors), [np.int32] * len(integers), [np.float32] * len(floats)
            ready.set_arg_types([kind for group in kinds for kind in group])
        buffers = [None if tensor is None else tensor.buffer for tensor in tensors]
        ready.set_args(*buffers, *integers, *floats)
        return ready

    def _make_kernel(self, program: str, kernel: str) -> cl.Kernel:
        if program not in self._built:
            specification = self._programs[program]
            variant = specification.variant(VARIANTS[self.data_type])
            options = build_options(specification, variant)
            source = specification.read_source()
            built = self._cache.build(self._context, source, options=options)
            keeper = self._cache if isinstance(self._cache, ProgramCache) else None
            self._local_sizes[program] = LocalSizes(self.queue, built, keeper, tune=self._tune)
            self._built[program] = built
        return cl.Kernel(self._built[program], kernel)


def check_tensors(operator: str, *tensors: object) -> None:
    """Raise ShapeError unless all of them are tensors, or None."""
    for tensor in tensors:
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ShapeError(operator, "a tensor (of Runtime.to_device)", describe(tensor))


def _check_size(operator: str, shape: tuple[int, ...]) -> None:
    if not 1 <= math.prod(shape) <= _MOST_ELEMENTS or min(shape, default=1) < 1:
        raise ShapeError(operator, f"1 to {_MOST_ELEMENTS} elements", shape)
