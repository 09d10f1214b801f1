"""All that can be said of a file that may hold compiled programs, sound or broken, of any size."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mace_cache._filesystem import read_regular_file
from mace_cache.container import Bundle, Field, annotate
from mace_cache.container.structures import DIGEST_SIZE, HEADER
from mace_cache.errors import DamagedFileError, MaceFileError, SignatureError
from mace_cache.mace_file import START, MaceFile, read_mace_file
from mace_cache.signing import check_signature, signature_of

if TYPE_CHECKING:
    from mace_cache._signing_keys import TrustedKeys
    from mace_cache.program import CompiledProgram
    from mace_cache.signing import Signature

__all__ = [
    "LARGEST_ANNOTATED",
    "Examination",
    "Problem",
    "examine",
    "examine_mace",
    "read_any_file",
]

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
        signature: what its signature says of itself, or None.
        trusted: whether a trusted key has made it; None where no key is configured.
    """

    header: dict[str, str]
    fingerprints: list[str] = field(default_factory=list)
    programs: list[tuple[CompiledProgram, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    fields: list[Field] | None = None
    signature: Signature | None = None
    trusted: bool | None = None


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


def examine(data: bytes | mmap.mmap, keys: TrustedKeys | None = None) -> Examination:
    """Find out what a file holds and what is wrong with it.

    Args:
        data: the whole file, any bytes whatever.
        keys: those that its signature is verified with, if it has one.
    """
    found = _examine(data)
    try:
        bundle = Bundle(data)
        signature = signature_of(bundle)
        if signature is None or keys is None:
            return replace(found, signature=signature)
        check_signature(bundle, keys, "")
    except DamagedFileError:
        return found
    except SignatureError as error:
        end = bundle.header.digest_offset + DIGEST_SIZE
        problems = [*found.problems, Problem(end, "signature", error.reason)]
        return replace(found, problems=problems, signature=signature, trusted=False)
    return replace(found, signature=signature, trusted=True)


def examine_mace(data: bytes | mmap.mmap) -> MaceFile | Problem | None:
    """Find out what a file of MACE's holds, or its fault; None where it doesn't begin as one."""
    if data[: len(START)] != START:
        return None
    try:
        return read_mace_file(memoryview(data))
    except MaceFileError as error:
        return Problem(error.offset, "", f"as a file of MACE's: {error.reason}")


def _examine(data: bytes | mmap.mmap) -> Examination:
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
