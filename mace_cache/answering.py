"""What a program that was loaded from a binary answers: what one of its source would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache._program_parts import unbuilt_of
from mace_cache.opencl import PROGRAM, make_unbuilt
from mace_cache.records import record_of
from mace_cache.resident import kept_of

if TYPE_CHECKING:
    from mace_cache.resident import ResidentProgram

__all__ = ["build_info_of", "info_of", "loaded_of", "readable"]


def info_of(program: cl.Program, info: cl.program_info) -> object:
    """Give what a program of a source would answer, though it was loaded from a binary.

    Args:
        program: the program.
        info: what is asked for.

    Returns:
        The source or IL, or the devices or their number, or None where the program itself knows
        best.
    """
    asked, resident = cl.program_info, loaded_of(program)
    if resident is None:
        return None
    if info in (asked.SOURCE, asked.IL):
        return _source_of(unbuilt_of(program) or _unbuilt(resident), info)
    devices = resident.wanted.identified.request.context.devices
    if len(devices) == 1:  # the program itself knows best
        return None
    if info == asked.DEVICES:
        return devices
    return len(devices) if info == asked.NUM_DEVICES else None


def _source_of(unbuilt: Any, info: cl.program_info) -> object:
    if isinstance(unbuilt, bytes):
        return unbuilt.decode(errors="replace")
    if isinstance(unbuilt, str):
        return unbuilt if info == cl.program_info.SOURCE else None
    return unbuilt.get_info(info)


def build_info_of(program: cl.Program, device: object, info: object) -> str | None:
    """Give what a program of a source would answer of its build; see `info_of`.

    Args:
        program: the program.
        device: the device that it was built for.
        info: what is asked for.

    Returns:
        The build log or the options, or None where the program itself knows best.
    """
    asked, resident = cl.program_build_info, loaded_of(program)
    if resident is None:
        return None
    if info == asked.LOG:
        return _build_log(resident, device)
    identified = resident.wanted.identified
    if info != asked.OPTIONS or device not in identified.devices:
        return None
    told = vars(program)["_prg"].get_build_info(device, info)
    return None if told else identified.options_text  # rusticl tells none of what it loads


def _build_log(resident: ResidentProgram, device: object) -> str | None:
    identified = resident.wanted.identified
    for one, its in zip(identified.devices, identified.fingerprints, strict=True):
        for tiers, found in zip(resident.wanted.tiers, resident.loaded, strict=True):
            if one == device and its == tiers.fingerprint:
                return str(found.program.build_log)
    known = identified.request.context.devices
    return "" if device in known else None  # it wasn't built for this one


def loaded_of(program: cl.Program) -> ResidentProgram | None:
    """Give what was loaded in the place of a program, or of one that it is another wrapper of.

    Returns:
        None where it was built from its source, or nobody has the loaded one any more.
    """
    for known in (program, kept_of(program)):
        resident = None if known is None else record_of(known).resident
        if resident is not None and resident.loaded:
            return resident
    return None


def readable(header: Any) -> tuple[Any, Any]:
    """Make a header for `compile` one that the driver can read.

    Of a program that was loaded it has no source, of which PoCL dies.

    Args:
        header: a name and a program, as an application gives them.

    Returns:
        The name, and the program or one of its source.

    Raises:
        TypeError: what is given isn't a pair, as pyopencl says it.
        ValueError: the same.
        pyopencl.Error: the driver can't make a program of the source.
    """
    name, program = header
    resident = loaded_of(program) if isinstance(program, PROGRAM) else None
    return name, program if resident is None else PROGRAM(_unbuilt(resident))


def _unbuilt(resident: ResidentProgram) -> Any:
    request = resident.wanted.identified.request
    return make_unbuilt(request.context, request.source)
