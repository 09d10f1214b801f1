"""Local sizes that were tuned for a program's launches, kept in the storage of its fingerprint.

They are an entry of their own, under a key made of the program's: another source or other options
have another. It has no binary, and `Tiers` hands it to nobody who asks for a program.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from mace_cache.explanation import Origin
from mace_cache.program import CompiledProgram
from mace_cache.records import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyopencl as cl

    from mace_cache.resident import ResidentProgram

__all__ = ["TUNED_PROGRAM", "find_sizes", "keep_sizes", "tuning_key"]

TUNED_PROGRAM = "tuned program"
"""The component of a record that holds the key of its program."""

_FORMAT = "mace-cache tuned local sizes 1"
_MOST = 1000


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


def keep_sizes(program: cl.Program, sizes: Mapping[tuple[str, str], int]) -> None:
    """Keep local sizes for a program, with those that are kept already.

    Args:
        program: what a cache has built.
        sizes: local sizes by kernel and shape.
    """
    resident = record_of(program).resident
    if resident is None or not sizes:
        return
    wanted = resident.wanted
    kept = {**_find(resident, fetches=True), **sizes}
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
