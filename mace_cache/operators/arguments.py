"""What callers write as numbers, read as Python's own: integers of numpy are as good as others."""

from __future__ import annotations

from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cache.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["choice", "describe", "integer", "integers", "items", "known_type", "number"]


_INTS = frozenset({int})


def integer(
    operator: str, expected: str, value: object, least: float = -np.inf, most: float = np.inf
) -> int:
    """Give an integer.

    Raises:
        ShapeError: it isn't one (a truth value isn't, nor 2.0), or it is out of bounds.
    """
    made = _read(value)
    if made is None or not least <= made <= most:
        raise ShapeError(operator, expected, value)
    return made


def integers(
    operator: str,
    expected: str,
    values: object,
    count: int | None = None,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> tuple[int, ...]:
    """Give a sequence of integers.

    Raises:
        ShapeError: it isn't one, not so long, or one of them is out of bounds.
    """
    made = items(operator, expected, values, count)
    if not _INTS.issuperset(map(type, made)):  # seldom: this is quicker than to read each
        made = tuple(map(_read, made))
    if None in made or (made and not least <= min(made) <= max(made) <= most):
        raise ShapeError(operator, expected, values)
    return made


def items(
    operator: str, expected: str, values: object, count: int | None = None
) -> tuple[Any, ...]:
    """Give what is in a sequence.

    Raises:
        ShapeError: it isn't one, or not so long.
    """
    sequence: Any = values
    try:
        made = tuple(sequence)
    except TypeError:
        raise ShapeError(operator, expected, values) from None
    if count is not None and len(made) != count:
        raise ShapeError(operator, expected, values)
    return made


def number(operator: str, expected: str, value: object) -> float:
    """Give a number.

    Raises:
        ShapeError: it isn't a real one; an array isn't, unless it has no axes.
    """
    scalar = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if not isinstance(scalar, Real):
        raise ShapeError(operator, expected, describe(value))
    return float(scalar)


def choice(operator: str, what: str, value: object, known: Collection[str]) -> str:
    """Give the name of what is to be one of those known.

    Raises:
        ShapeError: it isn't a known one.
    """
    if not isinstance(value, str) or value not in known:
        raise ShapeError(operator, f"{what} of {', '.join(known)}", repr(value))
    return value


def known_type(operator: str, data_type: Any, known: Collection[np.dtype[Any]]) -> np.dtype[Any]:
    """Give a data type.

    Raises:
        ShapeError: it isn't a known one.
    """
    try:
        made: np.dtype[Any] | None = np.dtype(data_type)
    except TypeError:
        made = None
    if made is None or made not in known:
        expected = f"a data type of {', '.join(map(str, known))}"
        raise ShapeError(operator, expected, repr(data_type) if made is None else made)
    return made


def _read(value: object) -> int | None:
    """Give an integer of any kind, or None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, bool | np.bool_):
        return None
    whole: Any = value
    try:
        return index(whole)
    except TypeError:
        return None


def describe(value: object) -> str:
    """Tell what was given in the place of something else, without an array's elements."""
    if isinstance(value, np.ndarray | np.generic):
        return f"a numpy array of {value.dtype} {value.shape}"
    return f"{value!r} of type {type(value).__name__}"
