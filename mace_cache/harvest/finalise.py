"""Finalise: harvested binaries that a driver would compile again become code that it only loads.

Today these are NVIDIA's, which are PTX. What can't be finalised stays as it was harvested.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mace_cache import opencl
from mace_cache.errors import BinaryRejectedError
from mace_cache.explanation import Origin
from mace_cache.guard import BusyError, PassedOverError
from mace_cache.tiers import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyopencl as cl

    from mace_cache.program import CompiledProgram
    from mace_cache.request import WantedProgram
    from mace_cache.tiers import Tiers

__all__ = ["Harvested", "can_be_finalised", "finalise"]

logger = logging.getLogger(__name__)

_NATIVE = b"\x7fELF"


class Harvested(NamedTuple):
    """A program whose binary for one fingerprint has been fetched, or was stored already.

    Attributes:
        program: the program, built from source or loaded from that binary.
        wanted: what it was built for.
        tiers: where the binary is kept.
        stored: the binary, with what is known of it.
    """

    program: cl.Program
    wanted: WantedProgram
    tiers: Tiers
    stored: CompiledProgram

    @property
    def device(self) -> cl.Device:
        """A device of the fingerprint."""
        return self.wanted.device_of(self.tiers)


def can_be_finalised(harvested: Harvested) -> bool:
    """Whether a driver would compile this binary again at its load."""
    if harvested.tiers.fingerprint.family != "nvidia" or harvested.stored.final:
        return False
    if bytes(harvested.stored.binary[: len(_NATIVE)]) == _NATIVE:  # as nearly always
        return False
    from mace_cache.harvest.nvidia import is_ptx  # noqa: PLC0415 (only with such a device)

    return is_ptx(bytes(harvested.stored.binary))


def finalise(programs: Sequence[Harvested]) -> None:
    """Put native code in the place of what was stored, where it is the same to whoever uses it.

    Args:
        programs: programs that `can_be_finalised`.
    """
    from mace_cache.harvest.nvidia import finalise_all  # noqa: PLC0415 (as above)

    by_device: dict[cl.Device, list[Harvested]] = {}
    for harvested in programs:
        by_device.setdefault(harvested.device, []).append(harvested)
    for device, alike in by_device.items():
        texts = [(bytes(one.stored.binary), one.stored.options) for one in alike]
        for harvested, code in zip(alike, finalise_all(texts, device), strict=True):
            if code is None:  # a later process may have more luck
                continue
            native = replace(harvested.stored, binary=code, proven=False)
            try:
                same = _is_the_same(harvested, native)
            except BusyError:  # another process is at it
                continue
            if same:
                harvested.tiers.insert(native)
                harvested.tiers.prove(native)
            elif harvested.tiers.holds(harvested.stored):
                harvested.tiers.insert(replace(harvested.stored, final=True))


def _is_the_same(harvested: Harvested, native: CompiledProgram) -> bool:
    """Load the code back once, since nothing is to be stored that doesn't load, and compare."""
    from mace_cache.harvest.sameness import tells_the_same  # noqa: PLC0415 (as above)

    device, tiers = harvested.device, harvested.tiers
    try:
        if tiers.guard is None:
            loaded = _load(harvested, native)
        else:
            found = Found(native, Origin.SOURCE, str(tiers), own=False)
            loaded = tiers.guard.load([(tiers, found)], lambda: _load(harvested, native))
    except BusyError:
        raise
    except (BinaryRejectedError, PassedOverError) as error:
        logger.debug("native code isn't stored: %s", error)
        return False
    return tells_the_same(harvested.program, loaded, device)


def _load(harvested: Harvested, native: CompiledProgram) -> cl.Program:
    identified = harvested.wanted.identified
    return opencl.load_from_binaries(
        identified.request.context, [harvested.device], [native.binary], identified.driver_options
    )
