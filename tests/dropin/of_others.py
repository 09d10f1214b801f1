"""What loopy builds, which is another's package: code that it makes of loops, for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.array

from tests.dropin.tiny import COUNT, floats

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]


def loops(queue: cl.CommandQueue) -> Results:
    """A loop over an array in groups, and a product of a matrix and a vector in tiles."""
    import loopy  # noqa: PLC0415 (few have it)

    lp: Any = loopy
    twice = lp.make_kernel("{[i]: 0 <= i < n}", "out[i] = 2 * a[i] + i", lang_version=(2018, 2))
    twice = lp.split_iname(twice, "i", 16, outer_tag="g.0", inner_tag="l.0")
    product = lp.make_kernel(
        "{[i, j]: 0 <= i, j < n}", "out[i] = sum(j, m[i, j] * a[j])", lang_version=(2018, 2)
    )
    product = lp.split_iname(product, "i", 4, outer_tag="g.0", inner_tag="l.0")
    product = lp.split_iname(product, "j", 4)
    a = floats(queue)
    matrix: Any = pyopencl.array.to_device(
        queue, np.linspace(0, 1, COUNT * COUNT, dtype=np.float32).reshape(COUNT, COUNT)
    )
    _event, (doubled,) = twice.executor(queue.context)(queue, a=a)
    _event, (multiplied,) = product.executor(queue.context)(queue, a=a, m=matrix)
    return [doubled.get(), multiplied.get()]


FUNCTIONS: tuple[Callable[[cl.CommandQueue], Results], ...] = (loops,)
