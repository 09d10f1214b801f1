"""What is known of a compiled program beside its binary: to JSON and back."""

from __future__ import annotations

import json
import math
from typing import Any

from mace_cache.container.structures import TEXT
from mace_cache.program import CompiledProgram

__all__ = ["decode_metadata", "encode_metadata"]


_ONLY_STRINGS = frozenset({str})
_HEXADECIMAL = frozenset("0123456789abcdef")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def encode_metadata(program: CompiledProgram) -> bytes:
    """Give a program's metadata as compact JSON.

    Raises:
        ValueError: a number of seconds isn't finite.
    """
    members = {
        "build_log": program.build_log,
        "build_seconds": float(program.build_seconds),
        "components": program.components,
        "created": float(program.created),
        "kernels": program.kernel_names,
        "options": program.options,
    }
    if program.final:
        members["final"] = True
    if program.signer:
        members["signer"] = program.signer
    if program.tuned:
        members["tuned"] = program.tuned
    return _ENCODER.encode(members).encode(*TEXT)


def decode_metadata(
    text: str, key: str, fingerprint: str, binary: bytes | memoryview
) -> CompiledProgram:
    """Give the program that *text* is the metadata of; members that aren't known are passed over.

    Raises:
        ValueError: the text isn't JSON, or a member is missing or of the wrong type.
    """
    try:
        members = _DECODER.decode(text)
        return CompiledProgram(
            key=key,
            fingerprint=fingerprint,
            binary=binary,
            kernel_names=_strings(members["kernels"]),
            options=_string(members["options"]),
            build_log=_string(members["build_log"]),
            build_seconds=_number(members["build_seconds"]),
            components=tuple([_pair(item) for item in _list(members["components"])]),
            created=_number(members["created"]),
            final=_boolean(members.get("final", False)),
            tuned=tuple([_row(item) for item in _list(members.get("tuned", []))]),
            signer=_hexadecimal(members.get("signer", "")),
        )
    except (TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError("not an array")
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a string")
    return value


def _hexadecimal(value: Any) -> str:
    text = _string(value)
    if not _HEXADECIMAL.issuperset(text):
        raise ValueError("not hexadecimal digits")
    return text


def _strings(value: Any) -> tuple[str, ...]:
    strings = tuple(_list(value))
    if not _ONLY_STRINGS.issuperset(map(type, strings)):
        raise TypeError("not strings only")
    return strings


def _pair(value: Any) -> tuple[str, str]:
    name, text = _strings(value)
    return name, text


def _row(value: Any) -> tuple[str, str, int]:
    kernel, shape, size = _list(value)
    if type(size) is not int:
        raise TypeError("not a whole number")
    return _string(kernel), _string(shape), size


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError("not true or false")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
