"""Whether the crash guard can do its work: where it notes things, and what it loads no more."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache._directories import refuse_as_root
from mace_cache._filesystem import read_regular_file
from mace_cache._mounts import nearest_existing
from mace_cache._notebook import note_places
from mace_cache._notes import MOST_DEATHS, NOTES, UNCLEAR, NoteBusyError, take_note
from mace_cache.cli.findings import Finding, note, ok, problem
from mace_cache.cli.output import spoken_number
from mace_cache.cli.place_health import write_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache._directories import Place

__all__ = ["examine_guard"]

_GUARD = "guard"
_LARGEST_NOTE = 2  # bytes
_NOTED = re.compile(rb"([0-9])[LXR]")  # the deaths, and what is going on
_ADVICE = ", so it isn't used"  # whom to trust: of no use among temporary files
_PATIENCE = 5.0  # seconds


def examine_guard(state_place: Place | None) -> Iterator[Finding]:
    """Tell where the guard notes what is loaded for the first time, and which binaries it refuses.

    Args:
        state_place: the directory of the format version, or None where nothing is written there.
    """
    yield _where_it_notes(state_place)
    for place in note_places(state_place):
        yield from _convicted(place)


def _where_it_notes(state_place: Place | None) -> Finding:
    unusable: list[str] = []
    for place in note_places(state_place):
        fault = _fault(place)
        if not fault:
            but = f" (not in {', '.join(unusable)})" if unusable else ""
            return ok(_GUARD, f"what is loaded for the first time is noted in {place}/{NOTES}{but}")
        unusable.append(f"{place}: {fault}")
    return problem(
        _GUARD,
        f"nothing can be noted ({'; '.join(unusable)}), so binaries aren't guarded: one that a "
        "driver dies of ends every process that loads it",
        'mend one of these, or have a child process try binaries: ProgramCache(guard="subprocess")',
    )


def _fault(place: Place) -> str:
    """Note something, which is gone afterwards, and say what went wrong."""
    try:
        with suppress(FileNotFoundError):
            with place.open(NOTES):
                pass
            take_note(place, os.urandom(40).hex(), _PATIENCE).end()
            return ""
        above = nearest_existing(os.path.join(place, NOTES))
        refuse_as_root(above, place.trust)
        return write_fault(above)
    except NoteBusyError:
        return "locks don't work there"
    except OSError as error:
        why, _, _whom_to_trust = str(error.strerror or error).partition(_ADVICE)
        return why


def _convicted(place: Place) -> Iterator[Finding]:
    """Count what processes died of, by what the notes say."""
    deaths = list(_noted_deaths(place))
    unclear = deaths.count(UNCLEAR)
    if convicted := sum(number >= MOST_DEATHS for number in deaths) - unclear:
        yield problem(
            _GUARD,
            f"processes died of the binaries of {spoken_number(convicted, 'program')} (noted in "
            f"{place}/{NOTES}): wherever such a binary comes again, its program is built from "
            "source instead",
            "mace-cache clear, or removing that directory, has them tried again",
        )
    if unclear:
        yield note(
            _GUARD,
            f"processes died while they loaded the binaries of {spoken_number(unclear, 'program')} "
            f"(noted in {place}/{NOTES}), or were just killed: these are built from source until "
            "they have been tried again",
            "mace-cache clear forgets it",
        )


def _noted_deaths(place: Place) -> Iterator[int]:
    with suppress(OSError), place.open(NOTES) as directory:
        for name in os.listdir(directory):
            with suppress(OSError):
                content, _status = read_regular_file(name, directory, largest=_LARGEST_NOTE)
                if noted := _NOTED.fullmatch(content):
                    yield int(noted[1])
