"""Loading a program from the binaries that its tiers have, until the driver takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mace_cache import opencl
from mace_cache.errors import BinaryRejectedError
from mace_cache.guard import ChangedError, PassedOverError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyopencl as cl

    from mace_cache.request import WantedProgram
    from mace_cache.tiers import Found, Tiers

__all__ = ["Loading", "Reading", "load", "read"]


class Reading(NamedTuple):
    """What was read of a program, verified and not yet seen by the driver.

    Attributes:
        wanted: the program and its tiers.
        candidates: the nearest binary of each fingerprint, or None where no tier has one.
        fault: what went wrong with a storage, or nothing.
    """

    wanted: WantedProgram
    candidates: tuple[Found | None, ...]
    fault: str


class Loading(NamedTuple):
    """What came of trying to load a program.

    Attributes:
        program: the program, or None where it has to be built from source.
        loaded: what it was loaded from, one a fingerprint.
        rejected: whether the driver rejected a binary on the way.
        crashed: whether a binary was passed over since a process had died of it.
        reason: why it was loaded, or why not.
    """

    program: cl.Program | None
    loaded: tuple[Found, ...]
    rejected: bool
    crashed: bool
    reason: str


def read(wanted: WantedProgram, refused: Sequence[bytes | memoryview] = ()) -> Reading:
    """Read and verify the nearest binary of each fingerprint.

    Args:
        wanted: the program and its tiers.
        refused: binaries that the driver has refused; they are passed over.
    """
    candidates = tuple([_nearest(tiers, wanted.source.key, refused) for tiers in wanted.tiers])
    faults = [tiers.take_fault() for tiers in wanted.tiers]
    return Reading(wanted, candidates, next(filter(None, faults), ""))


def load(reading: Reading) -> Loading:
    """Hand what was read to the driver; after a rejection, the next that can be read.

    Args:
        reading: the program, with the nearest binary of each fingerprint.
    """
    wanted = reading.wanted
    # Not a set: hashing a binary takes as long as verifying it.
    refused: list[bytes | memoryview] = []
    rejected, crashed, why = (
        False,
        False,
        "",
    )  # not the error itself: its traceback would keep the cache alive
    while True:
        found = tuple([candidate for candidate in reading.candidates if candidate is not None])
        if len(found) < len(reading.candidates) or not found:
            reason = why or reading.fault or "no tier has it"
            return Loading(None, (), rejected, crashed, reason)
        try:
            program = _load(wanted, found)
        except BinaryRejectedError as error:
            # Of several devices' binaries the driver doesn't say which one it means.
            rejected, why = True, str(error)
            for tiers, candidate in zip(wanted.tiers, found, strict=True):
                refused.append(candidate.program.binary)
                tiers.reject(candidate, error)
        except PassedOverError as error:
            crashed, why = crashed or error.crashed, str(error)
            refused.append(error.binary)
        except ChangedError:
            pass
        else:
            reason = "it was stored" if not why else f"{why}, and took the next"
            return Loading(program, found, rejected, crashed, reason)
        reading = read(wanted, refused)


def _nearest(tiers: Tiers, key: str, refused: Sequence[bytes | memoryview]) -> Found | None:
    for candidate in tiers.candidates(key):
        if candidate.program.binary not in refused:
            return candidate
    return None


def _load(wanted: WantedProgram, found: tuple[Found, ...]) -> cl.Program:
    guard = wanted.tiers[0].guard
    if guard is None or all(candidate.program.proven for candidate in found):
        return _take(wanted, found)
    return guard.load([*zip(wanted.tiers, found, strict=True)], lambda: _take(wanted, found))


def _take(wanted: WantedProgram, found: tuple[Found, ...]) -> cl.Program:
    identified = wanted.identified
    binaries = {
        tiers.fingerprint: candidate.program.binary
        for tiers, candidate in zip(wanted.tiers, found, strict=True)
    }
    program = opencl.load_from_binaries(
        identified.request.context,
        identified.devices,
        [binaries[fingerprint] for fingerprint in identified.fingerprints],
        identified.driver_options,
    )
    for tiers, candidate in zip(wanted.tiers, found, strict=True):
        tiers.accept(candidate)
    return program
