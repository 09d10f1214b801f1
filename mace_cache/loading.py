"""Loading a program from the binaries that its tiers have, until the driver takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mace_cache import opencl
from mace_cache.errors import BinaryRejectedError

if TYPE_CHECKING:
    import pyopencl as cl

    from mace_cache.request import WantedProgram
    from mace_cache.tiers import Found, Tiers

__all__ = ["Loading", "load"]


class Loading(NamedTuple):
    """What came of trying to load a program.

    Attributes:
        program: the program, or None where it has to be built from source.
        loaded: what it was loaded from, one a fingerprint.
        rejected: whether the driver rejected a binary on the way.
        reason: why it was loaded, or why not.
    """

    program: cl.Program | None
    loaded: tuple[Found, ...]
    rejected: bool
    reason: str


def load(wanted: WantedProgram) -> Loading:
    """Hand the nearest binary of each fingerprint to the driver; after a rejection, the next.

    Args:
        wanted: the program and its tiers.
    """
    refused: list[
        bytes | memoryview
    ] = []  # not a set: hashing a binary takes as long as verifying it
    rejection = ""  # not the error itself: its traceback would keep the cache alive
    while True:
        candidates = [_nearest(tiers, wanted.source.key, refused) for tiers in wanted.tiers]
        found = tuple([candidate for candidate in candidates if candidate is not None])
        if len(found) < len(candidates):
            faults = [tiers.take_fault() for tiers in wanted.tiers]
            reason = rejection or next(filter(None, faults), "no tier has it")
            return Loading(None, (), bool(refused), reason)
        try:
            program = _load(wanted, found)
        except BinaryRejectedError as error:
            # Of several devices' binaries the driver doesn't say which one it means.
            rejection = str(error)
            for tiers, candidate in zip(wanted.tiers, found, strict=True):
                refused.append(candidate.program.binary)
                tiers.reject(candidate, error)
            continue
        for tiers, candidate in zip(wanted.tiers, found, strict=True):
            tiers.accept(candidate)
        reason = "it was stored" if not rejection else f"{rejection}, and took the next"
        return Loading(program, found, bool(refused), reason)


def _nearest(tiers: Tiers, key: str, refused: list[bytes | memoryview]) -> Found | None:
    for candidate in tiers.candidates(key):
        if candidate.program.binary not in refused:
            return candidate
    return None


def _load(wanted: WantedProgram, found: tuple[Found, ...]) -> cl.Program:
    identified = wanted.identified
    binaries = {
        tiers.fingerprint: candidate.program.binary
        for tiers, candidate in zip(wanted.tiers, found, strict=True)
    }
    return opencl.load_from_binaries(
        identified.request.context,
        identified.devices,
        [binaries[fingerprint] for fingerprint in identified.fingerprints],
        identified.driver_options,
    )
