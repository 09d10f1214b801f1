"""Every function of pyopencl that builds a program internally, on tiny data.

``python functions.py PLATFORM RESULTS [NAME...]`` runs them in this order and writes their results;
what the environment says of a cache, and whether one is installed, is the caller's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

from tests.dropin import of_algorithms, of_arrays, of_kernels, of_mathematics, of_others, of_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS", "main", "run"]

FUNCTIONS: dict[str, Callable[[cl.CommandQueue], Results]] = {
    function.__name__: function
    for room in (of_arrays, of_mathematics, of_kernels, of_algorithms, of_tools, of_others)
    for function in room.FUNCTIONS
}


def run(names: Sequence[str], device: cl.Device) -> dict[str, Results]:
    """Run functions in a context of their own, for which pyopencl has no kernel yet.

    Args:
        names: which; all if empty.
        device: where.

    Returns:
        The results by the names of the functions.
    """
    queue = cl.CommandQueue(cl.Context([device]))
    return {name: FUNCTIONS[name](queue) for name in names or FUNCTIONS}


def main(platform: str, path: str, *names: str) -> None:
    """Write results to a file of numpy's, an array each."""
    (chosen,) = [one for one in cl.get_platforms() if one.name == platform]
    device = chosen.get_devices()[0]
    results = run(names, device)
    arrays: dict[str, Any] = {
        f"{name}-{n}": array for name in results for n, array in enumerate(results[name])
    }
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
