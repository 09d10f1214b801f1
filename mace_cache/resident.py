"""The memory tier: programs that this process has built or loaded already."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from mace_cache import opencl

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pyopencl as cl

    from mace_cache.request import WantedProgram
    from mace_cache.tiers import Found

__all__ = ["ResidentProgram", "ResidentPrograms", "kept_of", "note_rebuilt", "watch"]

_MOST = 512
_MOST_CONTEXTS = 16  # each may hold hundreds of megabytes on a GPU
_REBUILT = "_mace_cache_rebuilt"

_watched: WeakValueDictionary[int, cl.Program] = WeakValueDictionary()  # by handle


def watch(program: cl.Program) -> None:
    """Be ready to hear that a program, which is kept, is built anew in its place."""
    _watched[opencl.handle_of(program)] = program


def kept_of(program: cl.Program) -> cl.Program | None:
    """Give what is kept of the OpenCL program that a program wraps, or None."""
    held = vars(program).get("_prg")
    return None if held is None else _watched.get(held.int_ptr)


def note_rebuilt(program: cl.Program) -> None:
    """Note that a program is about to be built or compiled in its place.

    Whatever is kept of it isn't what it was, though the driver may tell the same of it: a header,
    or the compiler's environment, may have changed.

    Args:
        program: the program, which needn't be one that is kept.
    """
    kept = kept_of(program)
    if kept is not None:
        vars(kept)[_REBUILT] = True


class ResidentProgram(NamedTuple):
    """A built program that is kept.

    Attributes:
        program: the program.
        wanted: what it was built for.
        loaded: what it was loaded from, one a fingerprint, or nothing for a build from source.
        build_seconds: what the build from source took, now or when the binary was stored.
        state: what the driver told of it (`opencl.state_of`) when it was built or loaded.
    """

    program: cl.Program
    wanted: WantedProgram
    loaded: tuple[Found, ...]
    build_seconds: float
    state: tuple[object, ...]

    def is_unchanged(self) -> bool:
        """Whether nobody who shares the program has built it anew, or compiled it, in its place."""
        if _REBUILT in vars(self.program):
            return False
        return opencl.state_of(self.program, self.wanted.identified.devices) == self.state


class ResidentPrograms:
    """The most recently used programs, by their identities, the first part of which is the context.

    Each program keeps its context alive, so the number of both is bounded: an application may make
    a new context for every task.

    Args:
        most: how many programs are kept.
        most_contexts: of how many contexts.
    """

    def __init__(self, most: int = _MOST, most_contexts: int = _MOST_CONTEXTS) -> None:
        self._most = most
        self._most_contexts = most_contexts
        self._programs: OrderedDict[tuple[Hashable, ...], ResidentProgram] = OrderedDict()
        self._contexts: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, identity: tuple[Hashable, ...]) -> ResidentProgram | None:
        """Give the program of that identity, and count it and its context as just used."""
        with self._lock:
            resident = self._programs.get(identity)
            if resident is not None:
                self._programs.move_to_end(identity)
                self._contexts.move_to_end(identity[0])
            return resident

    def insert(self, identity: tuple[Hashable, ...], resident: ResidentProgram) -> None:
        """Keep a program; where there are too many, the least recently used goes.

        Where there are too many contexts, all programs of the least recently used go.
        """
        with self._lock:
            self._programs[identity] = resident
            self._programs.move_to_end(identity)
            self._contexts[identity[0]] = None
            self._contexts.move_to_end(identity[0])
            if len(self._programs) > self._most:
                self._programs.popitem(last=False)
            if len(self._contexts) > self._most_contexts:
                context, _ = self._contexts.popitem(last=False)
                for other in [other for other in self._programs if other[0] == context]:
                    del self._programs[other]

    def clear(self) -> None:
        """Keep none any longer."""
        with self._lock:
            self._programs.clear()
            self._contexts.clear()
