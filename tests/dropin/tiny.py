"""What the functions of pyopencl are tried on, and how each of many is made to build a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.array
import pyopencl.tools

if TYPE_CHECKING:
    from collections.abc import Callable

    Results = list[np.ndarray[Any, Any]]

__all__ = ["COUNT", "each", "floats", "indices", "integers"]

COUNT = 60
_cla: Any = pyopencl.array  # much of it is untyped
_tools: Any = pyopencl.tools


def integers(queue: cl.CommandQueue, seed: int = 1) -> Any:
    """Numbers between 0 and 49."""
    numbers = np.random.default_rng(seed).integers(0, 50, COUNT, dtype=np.int32)
    return _cla.to_device(queue, numbers)


def floats(queue: cl.CommandQueue) -> Any:
    """Numbers between 0 and 1."""
    return _cla.to_device(queue, np.linspace(0.1, 0.9, COUNT, dtype=np.float32))


def indices(queue: cl.CommandQueue) -> Any:
    """Every other place of such an array."""
    return _cla.to_device(queue, np.arange(0, COUNT, 2, dtype=np.int32))


def each(*calls: Callable[[], Any]) -> Results:
    """The results of calls, none of which finds a kernel that pyopencl kept of those before."""
    results: Results = []
    for call in calls:
        _tools.clear_first_arg_caches()
        result = call()
        results += [one.get() for one in (result if isinstance(result, list | tuple) else [result])]
    return results
