"""``MACE_CACHE_TRACE``: a line for every build, on the standard error."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from mace_cache.explanation import Outcome

if TYPE_CHECKING:
    from mace_cache.explanation import Explanation
    from mace_cache.missed import Missed
    from mace_cache.nearest import Known
    from mace_cache.storage.base import KVStorageFactory

__all__ = ["Tracer"]

_SHOWN_OF_KEY = 16  # digits


class Tracer:
    """Prints what became of the builds of one cache.

    Args:
        factory: makes the storages of the cache, or None where it has none.
    """

    def __init__(self, factory: KVStorageFactory | None) -> None:
        self._factory = factory
        self._known: Known | None = None  # as stored at the first miss

    def tell(self, explanation: Explanation, missed: Missed | None = None) -> None:
        """Print the line of one build.

        Args:
            explanation: what became of it.
            missed: what is known of a program that had to be built.
        """
        outcome, key = explanation.outcome, explanation.key[:_SHOWN_OF_KEY] or "-"
        why = explanation.reason
        if missed is not None and outcome is Outcome.MISS:
            why += self._nearest(missed)
        line = f"mace-cache: {outcome.value} {explanation.seconds * 1e3:.3f} ms {key}: {why}"
        # The stream may be closed, or absent.
        with suppress(Exception):
            sys.stderr.write(" ".join(line.split()) + "\n")

    def _nearest(self, missed: Missed) -> str:
        from mace_cache.nearest import (  # noqa: PLC0415 (few trace)
            find_nearest,
            read_traits,
            say_nearest,
        )

        if self._factory is None:
            return ""
        if self._known is None:
            self._known = read_traits(self._factory)
        nearest = find_nearest(missed, self._known.traits)
        return f"; {say_nearest(missed, nearest, self._known)}"
