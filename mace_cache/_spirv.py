"""What SPIR-V says of itself before its first function (its specification, sections 2.3 and 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["has_own_variables", "may_be_specialized"]

_WORD, _MAGIC, _HEADER_WORDS = 4, 0x07230203, 5
_FUNCTION, _VARIABLE, _DECORATE = 54, 59, 71
_CONSTANT_ID = 1  # a decoration
_UNIFORM_CONSTANT, _INPUT, _WORKGROUP = 0, 1, 4  # storage classes


def may_be_specialized(il: bytes) -> bool:
    """Whether a program of that IL could be given values that nobody could ask it for."""
    if _is_unreadable(il):
        return True
    return any(
        operation == _DECORATE and operands[1:2] == [_CONSTANT_ID]
        for operation, operands in _declarations(il)
    )


def has_own_variables(il: bytes) -> bool:
    """Whether a program of that IL may have variables that keep their values."""
    if _is_unreadable(il):
        return True
    kept_elsewhere = ([_UNIFORM_CONSTANT], [_INPUT], [_WORKGROUP])
    return any(
        operation == _VARIABLE and operands[2:3] not in kept_elsewhere
        for operation, operands in _declarations(il)
    )


def _words(il: bytes) -> memoryview:
    return memoryview(il[: len(il) // _WORD * _WORD]).cast("I")


def _is_unreadable(il: bytes) -> bool:
    """Whether it is in the other byte order, or nothing of that kind."""
    words = _words(il)
    return not words or words[0] != _MAGIC


def _declarations(il: bytes) -> Iterator[tuple[int, list[int]]]:
    """Give each instruction's operation and its operands."""
    words = _words(il)
    position = _HEADER_WORDS
    while position < len(words):
        length, operation = max(words[position] >> 16, 1), words[position] & 0xFFFF
        if operation == _FUNCTION:
            return
        yield operation, list(words[position + 1 : position + length])
        position += length
