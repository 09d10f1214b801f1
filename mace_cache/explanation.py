"""Where a program came from, and why: what `ProgramCache.explain` answers."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["Explanation", "Origin", "Outcome"]


class Origin(str, enum.Enum):
    """Where a program came from: one of the tiers, or a build from source."""

    MEMORY = "memory"
    STORAGE = "storage"
    PRECOMPILED = "precompiled"
    REMOTE = "remote"
    SOURCE = "source"


class Outcome(str, enum.Enum):
    """What came of asking the cache for a program.

    Attributes:
        HIT: a tier had it.
        MISS: no tier had it: it was built from source.
        REBUILD: a driver rejected its binary: it was built from source.
        BYPASS: the cache wasn't asked, or couldn't be: it was built from source.
    """

    HIT = "hit"
    MISS = "miss"
    REBUILD = "rebuild"
    BYPASS = "bypass"


class Explanation(NamedTuple):
    """What became of one `ProgramCache.build`.

    Attributes:
        origin: the tier that the program came from, or the source.
        tier: the storage within it, as a person would name it, or nothing for the source.
        reason: why it came from there.
        seconds: what the call took.
        seconds_saved: the seconds that the build from source had taken, less *seconds*; 0 for a
            build from source.
        key: the program key, or nothing where it can't be known.
        outcome: what came of asking the cache.
    """

    origin: Origin
    tier: str
    reason: str
    seconds: float
    seconds_saved: float = 0.0
    key: str = ""
    outcome: Outcome = Outcome.BYPASS

    def __str__(self) -> str:
        """One line for a person."""
        place = f" ({self.tier})" if self.tier else ""
        saved = f", {self.seconds_saved:.3g} s saved" if self.seconds_saved > 0 else ""
        return (
            f"from {self.origin.value}{place} in {self.seconds * 1e3:.3g} ms{saved}: {self.reason}"
        )
