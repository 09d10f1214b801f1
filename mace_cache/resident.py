"""The memory tier: programs that this process has built or loaded already."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pyopencl as cl

    from mace_cache.request import WantedProgram
    from mace_cache.tiers import Found

__all__ = ["ResidentProgram", "ResidentPrograms"]

_MOST = 512


class ResidentProgram(NamedTuple):
    """A built program that is kept.

    Attributes:
        program: the program.
        wanted: what it was built for.
        loaded: what it was loaded from, one a fingerprint, or nothing for a build from source.
        build_seconds: what the build from source took, now or when the binary was stored.
    """

    program: cl.Program
    wanted: WantedProgram
    loaded: tuple[Found, ...]
    build_seconds: float


class ResidentPrograms:
    """The most recently used programs. Each keeps its context alive, so their number is bounded."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._programs: OrderedDict[Hashable, ResidentProgram] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, identity: Hashable) -> ResidentProgram | None:
        """Give the program of that identity, and count it as just used."""
        with self._lock:
            resident = self._programs.get(identity)
            if resident is not None:
                self._programs.move_to_end(identity)
            return resident

    def insert(self, identity: Hashable, resident: ResidentProgram) -> None:
        """Keep a program; the least recently used goes where there are too many."""
        with self._lock:
            self._programs[identity] = resident
            self._programs.move_to_end(identity)
            if len(self._programs) > self._most:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        """Keep none any longer."""
        with self._lock:
            self._programs.clear()
