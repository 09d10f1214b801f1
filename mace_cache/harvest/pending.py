"""Taking the binaries of programs built from source: at once, or when they are complete."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pyopencl as cl

from mace_cache import opencl
from mace_cache._report import warn_once
from mace_cache.harvest.finalise import Harvested, can_be_finalised, finalise
from mace_cache.program import CompiledProgram

if TYPE_CHECKING:
    from mace_cache.request import WantedProgram

__all__ = ["PendingHarvest", "harvest"]

logger = logging.getLogger(__name__)


def harvest(program: cl.Program, wanted: WantedProgram, build_seconds: float) -> list[Harvested]:
    """Fetch a program's binaries and insert them where they are needed: fetching may take seconds.

    A driver that has none to give is passed over.

    Args:
        program: the program, built from source.
        wanted: what it was built for.
        build_seconds: what the build took, in seconds.

    Returns:
        What was inserted.
    """
    needing = [tiers for tiers in wanted.tiers if tiers.needs(wanted.source.key)]
    if not needing:
        return []
    devices = [wanted.device_of(tiers) for tiers in needing]
    try:
        binaries = opencl.fetch_binaries(program, devices)
    except Exception as error:  # noqa: BLE001 (drivers answer anything, and other programs wait)
        warn_once(
            logger,
            "harvest",
            "the driver didn't hand out a program's binary (%s): it was not stored",
            opencl.status_of(error) if isinstance(error, cl.Error) else repr(error),
        )
        return []
    harvested = []
    names = opencl.kernel_names(program)
    for tiers, device, binary in zip(needing, devices, binaries, strict=True):
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
        tiers.insert(compiled)
        harvested.append(Harvested(program, wanted, tiers, compiled))
    return harvested


class PendingHarvest:
    """Built programs whose binaries are taken later, and harvested ones to be finalised."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, ...], tuple[cl.Program, WantedProgram, float]] = {}
        self._unfinalised: list[Harvested] = []
        self._lock = threading.RLock()  # a collection inside it may flush

    def add(self, program: cl.Program, wanted: WantedProgram, build_seconds: float) -> None:
        """Keep a program until `flush`; as `harvest`. Of several with one key the last counts."""
        identity = (wanted.source.key, *[tiers.fingerprint.digest for tiers in wanted.tiers])
        with self._lock:
            self._waiting[identity] = (program, wanted, build_seconds)

    def harvest_now(self, program: cl.Program, wanted: WantedProgram, build_seconds: float) -> bool:
        """Harvest a program at once; as `harvest`.

        Returns:
            Whether it waits for `flush` nevertheless, to be finalised.
        """
        unfinalised = [
            harvested
            for harvested in harvest(program, wanted, build_seconds)
            if can_be_finalised(harvested)
        ]
        with self._lock:
            self._unfinalised += unfinalised
        return bool(unfinalised)

    def flush(self) -> None:
        """Harvest what is kept; what another process has written in the meantime isn't needed."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for program, wanted, build_seconds in waiting.values():
            self.harvest_now(program, wanted, build_seconds)
        with self._lock:
            unfinalised, self._unfinalised = self._unfinalised, []
        if unfinalised:
            finalise(unfinalised)
