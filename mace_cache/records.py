"""What a program that was handed out carries with it, so that it can be explained."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.explanation import Explanation, Origin, Outcome

if TYPE_CHECKING:
    import pyopencl as cl

    from mace_cache.request import BuildRequest
    from mace_cache.resident import ResidentProgram

__all__ = [
    "NONE",
    "Record",
    "attach",
    "explain",
    "explain_built",
    "explain_found",
    "hand_out",
    "record_of",
]

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


NONE = Record(Explanation(Origin.SOURCE, "", "it was not built through a cache", 0.0), None)


def explain_found(
    request: BuildRequest, origin: Origin, reason: str, resident: ResidentProgram
) -> Explanation:
    """Explain a program that a tier had.

    Args:
        request: what was asked for, and when.
        origin: the kind of tier.
        reason: why it came from there.
        resident: the program in memory.
    """
    seconds = time.perf_counter() - request.started
    tier = "" if origin is Origin.MEMORY else resident.loaded[0].tier
    saved = max(0.0, resident.build_seconds - seconds)
    key = resident.wanted.source.key
    return Explanation(origin, tier, reason, seconds, saved, key, Outcome.HIT)


def explain_built(
    request: BuildRequest, reason: str, outcome: Outcome, key: str = ""
) -> Explanation:
    """Explain a program that was built from source, or whose build failed.

    Args:
        request: what was asked for, and when.
        reason: why it had to be built.
        outcome: what had come of asking the cache.
        key: the program key, or nothing where it can't be known.
    """
    seconds = time.perf_counter() - request.started
    return Explanation(Origin.SOURCE, "", reason, seconds, 0.0, key, outcome)


def hand_out(
    program: cl.Program, explanation: Explanation, resident: ResidentProgram | None
) -> cl.Program:
    """Give the program, with its record attached and logged: a slow build is worth an INFO."""
    slow = explanation.origin is Origin.SOURCE and explanation.seconds > _SLOW_BUILD_SECONDS
    logger.log(logging.INFO if slow else logging.DEBUG, "a program %s", explanation)
    attach(program, Record(explanation, resident))
    return program


def attach(program: cl.Program, record: Record) -> None:
    """Put its record on a program."""
    vars(program)[_ATTRIBUTE] = record


def explain(program: cl.Program) -> Explanation:
    """Tell where a program came from, and why.

    Args:
        program: what `ProgramCache.build` returned; or any `pyopencl.Program`: one that was built
            while `install` held has been explained, of others is said that they weren't cached.
    """
    return record_of(program).explanation


def record_of(program: cl.Program) -> Record:
    """Give a program's record; one that wasn't built through a cache is said to be so."""
    # Not getattr: pyopencl takes any attribute that it doesn't know for the name of a kernel.
    record = vars(program).get(_ATTRIBUTE)
    return record if isinstance(record, Record) else NONE
