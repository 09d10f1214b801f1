"""The local sizes of launches: which may be tried, which are kept, and which one is chosen.

It is all about kernels that are launched in one dimension and loop over what is left, to which any
local size is right. They must be safe to run several times on the same arguments.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyopencl as cl

from mace_cache._trials import try_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mace_cache._trials import Trials
    from mace_cache.cache import ProgramCache
    from mace_cache.manifest import Launch

__all__ = [
    "LOCAL_SIZE",
    "MOST_WORK_ITEMS",
    "LocalSizes",
    "candidates",
    "grid",
    "shape_class",
    "tuned_launches",
]

LOCAL_SIZE = 64
"""The local size where none is tuned: PoCL compiles each kernel again for every other one."""

MOST_WORK_ITEMS = 32768
"""The largest global size; kernels loop over what is left.

PoCL compiles a kernel again for grids wider than 65535 (``grid_width_specialization_limit``).
"""

_TRIED = (16, 32, 64, 128, 256, 512, 1024)  # all divide MOST_WORK_ITEMS
_EXACT_BELOW = 16


def grid(work_items: int, local_size: int) -> tuple[tuple[int], tuple[int]]:
    """Give the global and the local size of a launch over so many pieces of work."""
    groups = -(-min(work_items, MOST_WORK_ITEMS) // local_size)
    return (groups * local_size,), (local_size,)


def shape_class(integers: Sequence[int]) -> str:
    """Give the class that a launch is tuned for: its integers, from 16 on rounded up.

    Args:
        integers: the pieces of work and the other arguments of type ``int``. They are rounded away
            from zero to powers of two.
    """
    return " ".join([str(_rounded(int(integer))) for integer in integers])


def candidates(kernel: cl.Kernel, device: cl.Device) -> tuple[int, ...]:
    """Give the local sizes that a kernel may be launched with.

    They are powers of two from 16 to 1024, within the limits of kernel and device and multiples of
    the size that the kernel prefers, and `LOCAL_SIZE`. There are none where the kernel requires one
    size, or the driver doesn't tell.
    """
    about = cl.kernel_work_group_info
    try:
        if any(kernel.get_work_group_info(about.COMPILE_WORK_GROUP_SIZE, device)):
            return ()
        most = kernel.get_work_group_info(about.WORK_GROUP_SIZE, device)
        most = min(most, device.max_work_item_sizes[0])
        multiple = kernel.get_work_group_info(about.PREFERRED_WORK_GROUP_SIZE_MULTIPLE, device)
    except cl.Error:
        return ()
    sizes = [size for size in _TRIED if size <= most and not size % max(1, multiple)]
    return tuple(sorted({LOCAL_SIZE, *sizes}))


def tuned_launches(
    program: cl.Program, launch: Launch, kept: Mapping[tuple[str, str], int], device: cl.Device
) -> Iterator[Launch]:
    """Give a typical launch, and the same with every other local size that is kept for its kernel.

    Args:
        program: the program of the kernel.
        launch: the launch.
        kept: local sizes by kernel and shape, as `ProgramCache.tuned_sizes` gives them.
        device: the device; what it can't launch is left out.
    """
    yield launch
    sizes = {size for (kernel, _shape), size in kept.items() if kernel == launch.kernel}
    if not sizes or not _is_plain(launch):
        return
    possible = candidates(cl.Kernel(program, launch.kernel), device)
    for size in sorted(sizes.intersection(possible) - {*(launch.local_size or ())}):
        global_size, local_size = grid(launch.global_size[0], size)
        yield replace(launch, global_size=global_size, local_size=local_size)


class LocalSizes:
    """The local sizes of one program's launches.

    Args:
        queue: where it is launched.
        program: the program, built.
        cache: keeps what is tuned; None where nothing does.
        tune: whether sizes are tried for what isn't tuned yet.

    Attributes:
        tried: what came of trials, by kernel and class of shapes.
    """

    def __init__(
        self, queue: cl.CommandQueue, program: cl.Program, cache: ProgramCache | None, *, tune: bool
    ) -> None:
        self._queue = queue
        self._program = program
        self._cache = cache
        self._tune = tune
        self._kept = {} if cache is None else cache.tuned_sizes(program)
        self._chosen: dict[tuple[str, str], int] = {}
        self.tried: dict[tuple[str, str], Trials] = {}

    def choose(self, name: str, kernel: cl.Kernel, integers: Sequence[int]) -> int:
        """Give the local size for a launch, after trials where it is to be tuned.

        Args:
            name: the kernel's name.
            kernel: the kernel; its arguments are set.
            integers: the pieces of work and the other arguments of type ``int``.

        Raises:
            pyopencl.Error: the driver refuses the launch.
        """
        if not (self._kept or self._tune):
            return LOCAL_SIZE
        launch = name, shape_class(integers)
        if launch not in self._chosen:
            self._chosen[launch] = self._find(launch, kernel, integers[0])
        return self._chosen[launch]

    def _find(self, launch: tuple[str, str], kernel: cl.Kernel, work_items: int) -> int:
        sizes = candidates(kernel, self._queue.device)
        kept = self._kept.get(launch)
        if kept in sizes:
            return kept
        if not (self._tune and sizes):
            return LOCAL_SIZE

        def enqueue(size: int) -> cl.Event:
            return cl.enqueue_nd_range_kernel(self._queue, kernel, *grid(work_items, size))

        trials = self.tried[launch] = try_sizes(self._queue, enqueue, sizes, LOCAL_SIZE)
        if self._cache is not None:
            self._cache.keep_tuned_sizes(self._program, {launch: trials.local_size})
        return trials.local_size


def _is_plain(launch: Launch) -> bool:
    """Whether a launch is in one dimension, and without local memory, whose size it would be of."""
    return len(launch.global_size) == 1 and all(one.kind != "local" for one in launch.arguments)


def _rounded(integer: int) -> int:
    if abs(integer) < _EXACT_BELOW:
        return integer
    power: int = 1 << (abs(integer) - 1).bit_length()
    return power if integer > 0 else -power
