"""All that can be said of a file that may hold compiled programs, sound or broken, of any size."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mace_cache._filesystem import read_regular_file
from mace_cache.container import Bundle, Field, annotate
from mace_cache.container.structures import HEADER
from mace_cache.errors import DamagedFileError

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram

__all__ = ["LARGEST_ANNOTATED", "Examination", "Problem", "examine", "read_any_file"]

# Bytes. A byte of a crafted file can take 250 bytes of memory when it is told field by field.
LARGEST_ANNOTATED = 16 << 20


@dataclass(frozen=True)
class Problem:
    """A fault.

    Attributes:
        offset: where it lies, in bytes.
        field: the field that it is in; empty where that isn't known.
        problem: what is wrong.
    """

    offset: int
    field: str
    problem: str


@dataclass(frozen=True)
class Examination:
    """What was found in a file.

    Attributes:
        header: the header's fields and their values, as text.
        fingerprints: the device fingerprints that its sound programs are for.
        programs: its sound programs without their binaries, and the binaries' sizes.
        problems: what is wrong, by offset. Only the first fault where the file isn't annotated.
        fields: every byte, field by field; None for a file of more than `LARGEST_ANNOTATED` bytes.
    """

    header: dict[str, str]
    fingerprints: list[str] = field(default_factory=list)
    programs: list[tuple[CompiledProgram, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    fields: list[Field] | None = None


def read_any_file(path: str) -> bytes | mmap.mmap:
    """Read a file, or map it where it is larger than `LARGEST_ANNOTATED`.

    Args:
        path: the file, with links resolved.

    Raises:
        OSError: it isn't a regular file, or can't be read.
    """
    data, _status = read_regular_file(path, largest=LARGEST_ANNOTATED)
    if len(data) <= LARGEST_ANNOTATED:
        return data
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def examine(data: bytes | mmap.mmap) -> Examination:
    """Find out what a file holds and what is wrong with it.

    Args:
        data: the whole file, any bytes whatever.
    """
    start = annotate(data[: HEADER.size])
    header = [(one.name, one.value) for one in start if one.name.startswith("header.")]
    programs = list(_sound_programs(data))
    fields = annotate(data) if isinstance(data, bytes) else None
    return Examination(
        header={name.removeprefix("header."): value for name, value in header},
        fingerprints=sorted({program.fingerprint for program, _size in programs}),
        programs=programs,
        problems=_first_problem(data) if fields is None else _problems(fields),
        fields=fields,
    )


def _sound_programs(data: bytes | mmap.mmap) -> list[tuple[CompiledProgram, int]]:
    sound = []
    with suppress(DamagedFileError):
        bundle = Bundle(data)
        names = bundle.keys()
        for fingerprint, key in names:
            with suppress(DamagedFileError):
                program = bundle.find(fingerprint, key)
                if program is not None:
                    sound.append((replace(program, binary=b""), len(program.binary)))
    return sound


def _problems(fields: list[Field]) -> list[Problem]:
    return [Problem(one.offset, one.name, one.problem) for one in fields if one.problem is not None]


def _first_problem(data: bytes | mmap.mmap) -> list[Problem]:
    try:
        Bundle(data).verify()
    except DamagedFileError as error:
        return [Problem(error.offset or 0, "", error.reason)]
    return []
