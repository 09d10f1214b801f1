"""Conversions from one type of elements to another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mace_cache.operators.arguments import known_type
from mace_cache.operators.copying import shares
from mace_cache.operators.tensor import DATA_TYPES, check_tensors

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["cast"]


def cast(runtime: Runtime, x: Tensor, data_type: Any) -> Tensor:
    """Convert a tensor's elements: TFLite's CAST, with the edges defined.

    Everything goes through float32. From floats to integers, what is behind the point is cut off
    (as in TFLite and numpy). What an integer type can't hold becomes its nearest value (numpy
    wraps around or leaves it open), and NaN becomes 0. Numbers are rounded to the nearest float32
    or float16, to the even one of two; what float16 can't hold becomes infinite.

    Args:
        runtime: where to compute.
        x: float32, float16, int32 or uint8, any shape, whatever the runtime's data type is.
        data_type: one of these types.

    Returns:
        A tensor of the shape of *x* and of that type; *x* itself if it has that type.

    Raises:
        ShapeError: *data_type* is another one, or *x* isn't a tensor.
    """
    check_tensors("cast", x)
    wanted = known_type("cast", data_type, DATA_TYPES)
    if wanted == x.data_type:
        return x
    output = runtime.empty(x.shape, wanted)
    run, _, work_items = shares(runtime, 1, x.size)
    runtime.launch(
        ("layout", "cast"),
        work_items,
        (x, output),
        (run, x.size, DATA_TYPES.index(x.data_type), DATA_TYPES.index(wanted)),
    )
    return output
