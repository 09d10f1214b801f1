"""What a program that was handed out carries with it, so that it can be explained."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.explanation import Explanation, Origin

if TYPE_CHECKING:
    import pyopencl as cl

    from mace_cache.request import BuildRequest
    from mace_cache.resident import ResidentProgram

__all__ = ["Record", "hand_out", "make_explanation", "record_of"]

logger = logging.getLogger(__name__)

_SLOW_BUILD_SECONDS = 1.0
_ATTRIBUTE = "_mace_cache_record"


class Record(NamedTuple):
    """What is known of a program that was handed out.

    Attributes:
        explanation: where it came from.
        resident: the program in memory, or None where it can't be cached.
    """

    explanation: Explanation
    resident: ResidentProgram | None


def make_explanation(
    request: BuildRequest, origin: Origin, reason: str, resident: ResidentProgram | None
) -> Explanation:
    """Explain a program that is about to be handed out.

    Args:
        request: what was asked for, and when.
        origin: where the program came from.
        reason: why it came from there.
        resident: the program in memory, or None where it can't be cached.
    """
    seconds = time.perf_counter() - request.started
    if resident is None:
        return Explanation(origin, "", reason, seconds)
    tier, saved = "", 0.0
    if origin is not Origin.SOURCE:
        saved = max(0.0, resident.build_seconds - seconds)
        tier = "" if origin is Origin.MEMORY else resident.loaded[0].tier
    return Explanation(origin, tier, reason, seconds, saved, resident.wanted.source.key)


def hand_out(
    program: cl.Program, explanation: Explanation, resident: ResidentProgram | None
) -> cl.Program:
    """Give the program, with its record attached and logged: a slow build is worth an INFO."""
    slow = explanation.origin is Origin.SOURCE and explanation.seconds > _SLOW_BUILD_SECONDS
    logger.log(logging.INFO if slow else logging.DEBUG, "a program %s", explanation)
    vars(program)[_ATTRIBUTE] = Record(explanation, resident)
    return program


def record_of(program: cl.Program) -> Record:
    """Give a program's record; one that wasn't built through a cache is said to be so."""
    # Not getattr: pyopencl takes any attribute that it doesn't know for the name of a kernel.
    record = vars(program).get(_ATTRIBUTE)
    if isinstance(record, Record):
        return record
    return Record(Explanation(Origin.SOURCE, "", "it was not built through a cache", 0.0), None)
