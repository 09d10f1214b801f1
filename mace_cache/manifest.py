"""Manifests: which OpenCL programs there are, how to build them and launch their kernels.

A manifest is a JSON file beside OpenCL sources, strictly of the form that ``docs/kernels.md``
describes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cache.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Argument", "Launch", "Manifest", "ProgramSpecification", "Variant", "read_manifest"]

_VERSION = 1
_MOST = 2**31 - 1  # bytes of a buffer, work-items of a launch: far above anything typical
_MOST_DIMENSIONS = 3  # CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS is 3 on all but custom devices
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Argument:
    """One argument of a typical launch.

    Attributes:
        kind: ``buffer``, ``local``, or the numpy name of a scalar's type, such as ``int32``.
        value: a size in bytes (None for a null buffer), or the scalar.
    """

    kind: str
    value: float | None


@dataclass(frozen=True)
class Launch:
    """A typical launch of a kernel.

    Attributes:
        kernel: the kernel's name.
        global_size: work-items in each dimension.
        local_size: work-items of a work-group in each dimension, or None for the driver's choice.
        arguments: what the kernel takes, in its order.
    """

    kernel: str
    global_size: tuple[int, ...]
    local_size: tuple[int, ...] | None
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Variant:
    """One way to build a program.

    Attributes:
        name: what it is called in reports.
        options: its build options.
    """

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class ProgramSpecification:
    """One program of a manifest.

    Attributes:
        name: what it is called in reports.
        path: its source file, absolute.
        variants: the ways to build it, one or more.
        launches: typical launches, which every variant can run.
    """

    name: str
    path: str
    variants: tuple[Variant, ...]
    launches: tuple[Launch, ...]

    def read_source(self) -> str:
        """Give the program's text.

        Raises:
            ManifestError: the file can't be read.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(self.path, f"the source can't be read: {error}") from error

    def variant(self, name: str) -> Variant:
        """Give the variant of that name.

        Raises:
            ManifestError: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ManifestError(self.path, f"program {self.name} has no variant {name!r}")


@dataclass(frozen=True)
class Manifest:
    """The programs of one manifest.

    Attributes:
        path: the manifest's file, absolute.
        programs: its programs, in its order.
    """

    path: str
    programs: tuple[ProgramSpecification, ...]


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Args:
        path: the JSON file; sources are found relative to its directory.

    Raises:
        ManifestError: the file can't be read, isn't JSON or has another form than
            ``docs/kernels.md`` describes; the reason names the place.
    """
    where = os.path.abspath(path)
    try:
        with open(where, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise ManifestError(where, f"can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(where, f"isn't valid JSON: {error}") from error
    try:
        return Manifest(where, _programs(document, os.path.dirname(where)))
    except _FormError as error:
        raise ManifestError(where, str(error)) from None


class _FormError(Exception):
    """The place in a manifest that has another form than it must, and what is wrong there."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")


def _programs(document: object, directory: str) -> tuple[ProgramSpecification, ...]:
    members = _members(document, "manifest", ("version", "programs"))
    if members["version"] != _VERSION:
        raise _FormError("version", f"expected {_VERSION}, found {members['version']!r}")

    def program(value: object, place: str) -> ProgramSpecification:
        parts = _members(value, place, ("name", "source", "variants", "launches"))
        path = os.path.join(directory, _text(parts["source"], f"{place}.source"))
        if not os.path.isfile(path):
            raise _FormError(f"{place}.source", f"there is no file {path}")
        return ProgramSpecification(
            _text(parts["name"], f"{place}.name"),
            path,
            _named(parts["variants"], f"{place}.variants", _variant),
            _each(parts["launches"], f"{place}.launches", _launch),
        )

    return _named(members["programs"], "programs", program)


def _variant(value: object, place: str) -> Variant:
    members = _members(value, place, ("name", "options"))
    options = _each(members["options"], f"{place}.options", _text)
    return Variant(_text(members["name"], f"{place}.name"), options)


def _launch(value: object, place: str) -> Launch:
    members = _members(value, place, ("kernel", "global_size", "local_size", "arguments"))
    global_size = _size(members["global_size"], f"{place}.global_size")
    local_size = None
    if members["local_size"] is not None:
        local_size = _size(members["local_size"], f"{place}.local_size")
        if len(local_size) != len(global_size):
            raise _FormError(f"{place}.local_size", "expected as many dimensions as global_size")
        if any(total % part for total, part in zip(global_size, local_size, strict=True)):
            raise _FormError(f"{place}.local_size", "expected to divide global_size")
    return Launch(
        _text(members["kernel"], f"{place}.kernel"),
        global_size,
        local_size,
        _each(members["arguments"], f"{place}.arguments", _argument),
    )


def _argument(value: object, place: str) -> Argument:
    if not isinstance(value, dict) or len(value) != 1:
        raise _FormError(place, "expected an object of one member")
    ((kind, content),) = value.items()
    place = f"{place}.{kind}"
    if kind == "buffer" and content is None:
        return Argument(kind, None)
    if kind in ("buffer", "local"):
        return Argument(kind, _count(content, place))
    if kind in _INTEGERS or kind in _FLOATS:
        return Argument(kind, _number(content, kind, place))
    known = ", ".join(("buffer", "local", *_INTEGERS, *_FLOATS))
    raise _FormError(place, f"expected one of {known}")


def _number(value: object, kind: str, place: str) -> float:
    limits: Any = np.iinfo(kind) if kind in _INTEGERS else np.finfo(kind)
    if (
        isinstance(value, int if kind in _INTEGERS else (int, float))
        and not isinstance(value, bool)
        and int(limits.min) <= value <= int(limits.max)
    ):
        return value
    raise _FormError(place, f"expected a number that {kind} holds, found {value!r}")


def _members(value: object, place: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _FormError(place, "expected an object")
    for name in sorted({*names} ^ value.keys()):
        raise _FormError(place, f"{name} is {'missing' if name in names else 'not known'}")
    return value


def _each(value: object, place: str, read: Callable[[object, str], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _FormError(place, "expected a list")
    return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))


def _named(value: object, place: str, read: Callable[[object, str], Any]) -> tuple[Any, ...]:
    items = _each(value, place, read)
    if not items:
        raise _FormError(place, "expected at least one")
    names = [item.name for item in items]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _FormError(f"{place}[{index}].name", f"{name!r} is there twice")
    return items


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _FormError(place, "expected text that isn't empty")
    return value


def _count(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise _FormError(place, f"expected a whole number from 1 to {_MOST}, found {value!r}")
    return value


def _size(value: object, place: str) -> tuple[int, ...]:
    size = _each(value, place, _count)
    if not 1 <= len(size) <= _MOST_DIMENSIONS:
        raise _FormError(place, "expected 1 to 3 dimensions")
    return size
