"""Taking the binaries of programs built from source: at once, or when they are complete."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import pyopencl as cl

from mace_cache import opencl
from mace_cache._report import cause_of, warn_once
from mace_cache.harvest.finalise import Harvested, can_be_finalised, finalise
from mace_cache.program import CompiledProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache._program_locks import ProgramLocks
    from mace_cache.request import WantedProgram
    from mace_cache.resident import ResidentProgram

__all__ = ["PendingHarvest", "fetch"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


def fetch(program: cl.Program, wanted: WantedProgram, build_seconds: float) -> list[Harvested]:
    """Fetch a program's binaries, which may take seconds; nothing is written yet.

    A driver that has none to give is passed over.

    Args:
        program: the program, built from source.
        wanted: what it was built for.
        build_seconds: what the build took, in seconds.
    """
    devices = [wanted.device_of(tiers) for tiers in wanted.tiers]
    try:
        binaries = opencl.fetch_binaries(program, devices)
    except Exception as error:  # noqa: BLE001 (drivers answer anything, and other programs wait)
        warn_once(
            logger,
            cause_of(error) if isinstance(error, OSError) else "harvest",
            "the driver didn't hand out a program's binary (%s): it was not stored",
            opencl.status_of(error) if isinstance(error, cl.Error) else repr(error),
        )
        return []
    names = opencl.kernel_names(program)
    harvested = []
    for tiers, device, binary in zip(wanted.tiers, devices, binaries, strict=True):
        if not binary:
            logger.debug("the driver has no binary of %s: it was not stored", wanted.source.key)
            continue
        compiled = CompiledProgram(
            key=wanted.source.key,
            fingerprint=tiers.fingerprint.text,
            binary=binary,
            kernel_names=names,
            options=wanted.identified.options_text,
            build_log=opencl.build_log(program, device),
            build_seconds=build_seconds,
            components=wanted.source.components,
            created=time.time(),
        )
        harvested.append(Harvested(program, wanted, tiers, compiled))
    return harvested


def _release(wanted: WantedProgram) -> None:
    for tiers in wanted.tiers:
        tiers.release(wanted.source.key)


class PendingHarvest:
    """Built programs whose binaries are to be taken, written and finalised.

    Args:
        locks: let one of several processes take a program's binaries while the others wait.
    """

    def __init__(self, locks: ProgramLocks) -> None:
        self._locks = locks
        self._waiting: dict[tuple[str, ...], ResidentProgram] = {}
        self._unwritten: list[Harvested] = []
        self._unfinalised: list[Harvested] = []
        self._awaited: dict[str, None] = {}  # keys, the next one first
        self._lock = threading.RLock()  # a collection inside it may flush

    def add(self, built: ResidentProgram) -> None:
        """Keep a program built from source until `flush`; of several with one key the last."""
        wanted = built.wanted
        identity = (wanted.source.key, *[tiers.fingerprint.digest for tiers in wanted.tiers])
        with self._lock:
            self._waiting[identity] = built

    def fetch(self, built: ResidentProgram) -> None:
        """Take a program's binaries at once, and keep them until `write`.

        What the application has made another program of meanwhile is passed over.
        """
        if not built.is_unchanged():
            return
        fetched = fetch(built.program, built.wanted, built.build_seconds)
        if not built.is_unchanged():
            return
        with self._lock:
            self._unwritten += fetched

    def finalise_later(self, harvested: Harvested) -> None:
        """Keep a stored program until `flush`, to be finalised."""
        with self._lock:
            self._unfinalised.append(harvested)

    def write(self) -> bool:
        """Write what was fetched, where nobody else has written it in the meantime.

        Returns:
            Whether some of it waits for `flush`, to be finalised.
        """
        while (harvested := self._take(self._unwritten.pop)) is not None:
            with self._keeping(harvested, self._unwritten.append):
                if harvested.tiers.needs(harvested.stored.key):
                    harvested.tiers.insert(harvested.stored)
                    if can_be_finalised(harvested):
                        self.finalise_later(harvested)
        return bool(self._unfinalised)

    def flush(self, until: float = math.inf) -> bool:
        """Fetch, write and finalise all that is kept.

        Args:
            until: when nothing more is begun, in seconds of `time.monotonic`.

        Returns:
            Whether nothing is left.
        """
        self.write()
        while time.monotonic() < until:
            item = self._take(self._waiting.popitem)
            if item is None:
                break
            self._harvest(item, until)
        if self._unfinalised and time.monotonic() < until:
            with self._lock:
                several, self._unfinalised = self._unfinalised, []
            with self._keeping(several, self._unfinalised.extend):
                finalise(several)
        return not self._waiting and not self._unfinalised

    def harvest_awaited(self) -> None:
        """Fetch and write what `want_soon` was told of."""
        while (item := self._take(self._pop_awaited)) is not None:
            self._harvest(item, math.inf)

    def want_soon(self, key: str) -> bool:
        """Hear that other machines wait for a program: whether it waits here for its harvest.

        What else is built by now comes after it, since they are likely to ask for that next: each
        by itself would take them longer to wait for than to build.
        """
        with self._lock:
            built = dict.fromkeys(identity[0] for identity in self._waiting)
            if key not in built:
                return False
            self._awaited = {key: None} | self._awaited | built
        return True

    def give_up(self) -> None:
        """Let other machines build what isn't harvested in time."""
        with self._lock:
            waiting = list(self._waiting.values())
        for built in waiting:
            _release(built.wanted)

    def _harvest(self, item: tuple[tuple[str, ...], ResidentProgram], until: float) -> None:
        built = item[1]
        wanted = built.wanted
        # Fetching takes seconds on some drivers: not for what another process has written.
        with self._keeping(item, self._put_back), self._locks.held(wanted, "-harvest", until):
            if time.monotonic() >= until:  # another one has it all the time
                self._put_back(item)
                return
            if any(tiers.needs(wanted.source.key) for tiers in wanted.tiers):
                self.fetch(built)
            self.write()
        _release(wanted)

    def _pop_awaited(self) -> tuple[tuple[str, ...], ResidentProgram]:
        for key in list(self._awaited):
            for identity in self._waiting:
                if identity[0] == key:
                    return identity, self._waiting.pop(identity)
            del self._awaited[key]
        raise KeyError

    def _take(self, take: Callable[[], Item]) -> Item | None:
        with self._lock, suppress(IndexError, KeyError):
            return take()
        return None

    def _put_back(self, item: tuple[tuple[str, ...], ResidentProgram]) -> None:
        self._waiting.setdefault(*item)

    @contextmanager
    def _keeping(self, item: Item, put_back: Callable[[Item], None]) -> Iterator[None]:
        """Work on something that was kept, which an interrupt leaves to whoever flushes next.

        A fault is the program's own: the others are harvested nevertheless.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 (see above)
            warn_once(logger, "flush", "a program could not be stored (%r)", error)
        except BaseException:  # Ctrl-C, or what a signal's handler raises
            with self._lock:
                put_back(item)
            raise
