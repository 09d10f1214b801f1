"""Padding of any axes: with a constant, or with what the tensor has near its edge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_cache.errors import ShapeError
from mace_cache.operators.arguments import choice, integers, items, number
from mace_cache.operators.checks import check_type
from mace_cache.operators.copying import OUTER_AXES, filled_up, shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.operators.tensor import Runtime, Tensor

__all__ = ["pad", "pad_for"]

_MODES = {"constant": 0, "reflect": 1, "symmetric": 2}  # as in layout.cl


@dataclass(frozen=True)
class _Padded:
    """One axis or several that are padded as one: *unit* elements stay together."""

    length: int
    before: int
    after: int
    unit: int = 1

    @property
    def output(self) -> int:
        return self.before + self.length + self.after


def pad(
    runtime: Runtime,
    x: Tensor,
    paddings: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """Put elements before and after those of each axis: TFLite's PADV2 and MIRROR_PAD.

    The modes are those of ``numpy.pad``.

    Args:
        runtime: where to compute.
        x: any shape of one axis or more.
        paddings: for each axis, how many elements come before it and after it.
        mode: ``constant``, ``reflect`` (the edge isn't repeated) or ``symmetric`` (it is).
        value: the constant; infinite if it is too large for the data type.

    Returns:
        The shape of *x*, and along each axis its two paddings more.

    Raises:
        ShapeError: another mode, not two integers an axis, a negative one, more than there is to
            reflect, or more than eight axes that can't be padded as one; *x* is of another type
            than the runtime's.
    """
    return pad_for("pad", runtime, x, paddings, mode=mode, value=value)


def pad_for(
    operator: str,
    runtime: Runtime,
    x: Tensor,
    paddings: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """Pad, as `pad` does, for the operator of that name, which errors have."""
    check_type(operator, runtime, x)
    choice(operator, "a mode", mode, _MODES)
    expected = f"two paddings for each axis of {x}"
    sides = items(operator, expected, paddings, len(x.shape))
    widths = [integers(operator, expected, both, 2) for both in sides]
    if not widths:
        raise ShapeError(operator, expected, widths)
    if min(map(min, widths)) < 0:
        raise ShapeError(operator, "paddings of 0 or more", widths)
    value = number(operator, "a number as value", value)
    most = {"constant": math.inf, "reflect": -1, "symmetric": 0}[mode]
    if any(max(both) > length + most for both, length in zip(widths, x.shape, strict=True)):
        raise ShapeError(
            operator, f"no more padding of mode {mode} than {x} has elements for", widths
        )
    axes = [_Padded(length, *both) for length, both in zip(x.shape, widths, strict=True)]
    output = runtime.empty([axis.output for axis in axes], operator=operator)
    *outer, last = _merge(axes, mode)
    if len(outer) > OUTER_AXES:
        raise ShapeError(operator, f"{OUTER_AXES + 1} axes or fewer", x)
    rows = math.prod(axis.output for axis in outer)
    run, chunk, work_items = shares(runtime, rows, last.output)
    with np.errstate(over="ignore"):
        constant = np.array(value, runtime.data_type).view(f"i{runtime.data_type.itemsize}")
    nearest_first = outer[::-1]
    runtime.launch(
        ("layout", "pad"),
        work_items,
        (x, output),
        (
            *(run, chunk, rows, last.output, last.length, last.before, last.unit, _MODES[mode]),
            *(int(constant), len(outer)),
            *filled_up([axis.output for axis in nearest_first], 1),
            *filled_up([axis.length for axis in nearest_first], 1),
            *filled_up([axis.before for axis in nearest_first], 0),
        ),
    )
    return output


def _merge(axes: Sequence[_Padded], mode: str) -> list[_Padded]:
    """Pad an axis and the one after it as one, where that one isn't padded.

    Only of the last axis can a kernel reflect several elements at a time.
    """
    merged = [_Padded(1, 0, 0)]
    for position, axis in enumerate(axes):
        previous = merged[-1]
        plain = previous.before == previous.after == 0
        rest_is_plain = not any(later.before or later.after for later in axes[position:])
        if axis.before or axis.after or not (plain or mode == "constant" or rest_is_plain):
            merged.append(axis)
            continue
        merged[-1] = _Padded(
            previous.length * axis.length,
            previous.before * axis.length,
            previous.after * axis.length,
            1 if plain else previous.unit * axis.length,
        )
    return merged[1:] if len(merged) > 1 and merged[0].length == 1 else merged
