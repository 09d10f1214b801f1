"""What `operators.py` measures: one operator on arrays of about a MiB, and the same in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import Tensor

__all__ = ["Array", "Case"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Case:
    """One operator, its arguments, and what it is compared with.

    Attributes:
        name: the operator's name, and what is special about its arguments.
        prepare: makes the arrays that go to the device, float32 (or int32 for indices), 1 MiB or
            more in all.
        run: enqueues the operator on a runtime and those arrays as tensors; gives its result.
        numpy: the same by numpy alone, as a good user of numpy would write it.
    """

    name: str
    prepare: Callable[[np.random.Generator], tuple[Array, ...]]
    run: Callable[..., Tensor]
    numpy: Callable[..., Array]
