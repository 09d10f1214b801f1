"""Local sizes that were tuned for a program's launches, kept in the storage of its fingerprint.

They are an entry of their own, under a key made of the program's: another source or other options
have another. It has no binary, and `Tiers` hands it to nobody who asks for a program.
"""

from __future__ import annotations

import hashlib
import time
from operator import index
from typing import TYPE_CHECKING, Any

from mace_cache.errors import ConfigurationError
from mace_cache.explanation import Origin
from mace_cache.program import CompiledProgram
from mace_cache.records import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import SupportsIndex

    import pyopencl as cl

    from mace_cache.resident import ResidentProgram

__all__ = ["TUNED_PROGRAM", "find_sizes", "keep_sizes", "tuning_key"]

TUNED_PROGRAM = "tuned program"
"""The component of a record that holds the key of its program."""

_FORMAT = "mace-cache tuned local sizes 1"
_MOST = 1000
_LARGEST = 2**31 - 1


def tuning_key(program_key: str) -> str:
    """Give the key of the record for a program's key."""
    return hashlib.sha256(f"{_FORMAT}\0{program_key}".encode()).hexdigest()


def find_sizes(program: cl.Program) -> dict[tuple[str, str], int]:
    """Give the local sizes that are kept for a program, by kernel and shape.

    A remote is asked for those of a program that came from there, or was nowhere: a warm start asks
    nobody.

    Args:
        program: what a cache has built.
    """
    resident = record_of(program).resident
    if resident is None:
        return {}
    near = resident.loaded and resident.loaded[0].origin is not Origin.REMOTE
    return _find(resident, fetches=not near)


def _find(resident: ResidentProgram, *, fetches: bool) -> dict[tuple[str, str], int]:
    tiers, key = resident.wanted.tiers[0], resident.wanted.source.key
    rows = tiers.tuned(tuning_key(key), fetches=fetches)
    tiers.take_fault()  # it is no reason for which a program is built
    return {(kernel, shape): size for kernel, shape, size in rows}


def keep_sizes(program: cl.Program, sizes: Mapping[tuple[str, str], SupportsIndex]) -> None:
    """Keep local sizes for a program, with those that are kept already.

    Args:
        program: what a cache has built.
        sizes: local sizes by kernel and shape.

    Raises:
        ConfigurationError: a kernel or shape is no text, or a size no whole number in range.
    """
    checked = dict(_check(launch, size) for launch, size in sizes.items())
    resident = record_of(program).resident
    if resident is None or not checked:
        return
    wanted = resident.wanted
    kept = {**_find(resident, fetches=True), **checked}
    rows = [(kernel, shape, size) for (kernel, shape), size in kept.items()]
    record = CompiledProgram(
        key=tuning_key(wanted.source.key),
        fingerprint=wanted.tiers[0].fingerprint.text,
        binary=b"",
        options=wanted.identified.options_text,
        components=((TUNED_PROGRAM, wanted.source.key),),
        created=time.time(),
        tuned=tuple(rows[-_MOST:]),
    )
    wanted.tiers[0].keep_tuned(record)


def _check(launch: Any, size: Any) -> tuple[tuple[str, str], int]:
    """Give them as a record can hold them."""
    is_pair = isinstance(launch, tuple) and len(launch) == 2  # noqa: PLR2004 (kernel and shape)
    is_launch = is_pair and all(isinstance(one, str) for one in launch)
    try:
        number = 0 if isinstance(size, bool) else index(size)
    except TypeError:
        number = 0
    if is_launch and 1 <= number <= _LARGEST:
        return launch, number
    expected = f"a kernel and a shape, both text, and a whole number from 1 to {_LARGEST}"
    raise ConfigurationError("sizes", {launch: size}, expected)
