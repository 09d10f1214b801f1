"""Launches of the kernel ``product``: matrices, or windows of images, with matrices of filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mace_cache.operators.copying import on_cpu
from mace_cache.operators.tensor import LOCAL_SIZE

if TYPE_CHECKING:
    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["TILE_COLUMNS", "TILE_ROWS", "WindowRows", "launch_product"]

TILE_ROWS = 32
"""Rows of the result that a work-group makes at a time, as in product_groups.h."""

TILE_COLUMNS = 64
"""Its columns."""

FEW_ROWS = 4
"""Products of so many rows or fewer are made row by row."""

_ROW_COLUMNS = 8  # columns of a row that a work-group makes at a time, on a GPU
_CPU_ROW_COLUMNS = 64  # and on a CPU
_MOST_GROUPS = 65535 // LOCAL_SIZE  # PoCL compiles a kernel again for wider launches


class WindowRows(NamedTuple):
    """The windows of images that are rows of a product, as the kernel takes them.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        output_height: rows of windows.
        output_width: columns of windows.
        kernel_width: columns of a window.
        taps: pixels of a window.
        stride_y: from a row of windows to the next.
        stride_x: from a column of windows to the next.
        dilation_y: from a row of a window to the next.
        dilation_x: from a column of a window to the next.
        top: how far above the image the first row of windows starts.
        left: how far left of the image the first column of windows starts.
    """

    height: int
    width: int
    output_height: int
    output_width: int
    kernel_width: int = 1
    taps: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    top: int = 0
    left: int = 0


def launch_product(
    runtime: Runtime,
    program: str,
    tensors: tuple[Tensor | None, ...],
    sizes: tuple[int, int, int, int],
    *,
    a_steps: tuple[int, int, int],
    b_steps: tuple[int, int, int],
    windows: WindowRows | None = None,
    epilogue: tuple[int, float] = (0, 0.0),
) -> None:
    """Launch the kernel ``product``, of which ``product.h`` tells more.

    Args:
        runtime: where to compute.
        program: the program that has the kernel.
        tensors: a, b, bias, slopes, places and output; all but a, b and output may be None.
        sizes: how many products, and their rows, columns and depth.
        a_steps: elements from a row of *a* to the next, along its depth, to the next matrix.
        b_steps: elements along the depth of *b*, from a column to the next, to the next matrix.
        windows: what rows of *a* are, if not rows of a matrix.
        epilogue: the activation's number and its coefficient.
    """
    if program == "matrix_product" and _is_rows(sizes, a_steps, windows):
        _launch_rows(runtime, tensors, sizes, b_steps, epilogue)
        return
    batches, rows, columns, _ = sizes
    groups = [-(-columns // TILE_COLUMNS), -(-rows // TILE_ROWS), batches]
    across, down, deep = (min(count, _MOST_GROUPS) for count in groups)
    runtime.launch_groups(
        (program, "product"),
        ((across * LOCAL_SIZE, down, deep), (LOCAL_SIZE, 1, 1)),
        tensors,
        (*sizes, *a_steps, *b_steps, *(windows or WindowRows(1, rows, 1, rows)), epilogue[0]),
        (epilogue[1],),
    )


def _launch_rows(
    runtime: Runtime,
    tensors: tuple[Tensor | None, ...],
    sizes: tuple[int, int, int, int],
    b_steps: tuple[int, int, int],
    epilogue: tuple[int, float],
) -> None:
    """Launch the kernel ``row_product``."""
    _, rows, columns, depth = sizes
    a, b, bias, slopes, _, output = tensors
    together = _CPU_ROW_COLUMNS if on_cpu(runtime) else _ROW_COLUMNS
    groups = min(-(-columns // together), _MOST_GROUPS)
    runtime.launch_groups(
        ("matrix_product", "row_product"),
        ((groups * LOCAL_SIZE, rows), (LOCAL_SIZE, 1)),
        (a, b, bias, slopes, output),
        (rows, columns, depth, *b_steps[:2], epilogue[0]),
        (epilogue[1],),
    )


def _is_rows(
    sizes: tuple[int, int, int, int], a_steps: tuple[int, int, int], windows: WindowRows | None
) -> bool:
    """Whether this is one product of few rows, each of which lies after the other."""
    batches, rows, _, depth = sizes
    in_order = a_steps[1] == 1 and (rows == 1 or a_steps[0] == depth)
    return batches == 1 and rows <= FEW_ROWS and in_order and windows is None
