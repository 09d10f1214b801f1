"""What worker processes can do for a build in this one, which depends on the driver.

- A driver that keeps what it builds from source in files of its own (PoCL, NVIDIA): a worker builds
  the source, after which the same build takes this process no time. The program is a build from
  source and is harvested as any other, complete.
- Any other: a worker builds the program and stores it, and this process loads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pyopencl as cl

from mace_cache import _source_worker
from mace_cache._driver_family import keeps_builds
from mace_cache._fetching import driver_loader
from mace_cache._warm_process import has_interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.request import IdentifiedProgram

__all__ = ["Help", "choose_help"]

# A script by its path, in an interpreter that looks for no packages: it starts in 20 ms.
_SOURCE_WORKER = ("-I", "-S", os.path.abspath(_source_worker.__file__))

# A binary that a worker took would be early, PoCL's without the launches and NVIDIA's as PTX, and
# what is loaded from a binary can't be completed any more.
_NEVER_STORED = frozenset({"pocl", "nvidia"})

# What a worker takes until its first program, in seconds: see benchmarks/many.py.
_SOURCE_WORKER_START = 0.0  # next to nothing: the driver's own start is part of the first program
_STORING_WORKER_START = 0.5


class Help(NamedTuple):
    """What workers can do for the programs of one context.

    Attributes:
        stores: whether they store what they build, so that it is to be loaded.
        arguments: what the interpreter is started with; None for ``_warm_worker``.
        common: what every message says.
        start: what a worker takes until its first program, in seconds.
    """

    stores: bool
    arguments: Sequence[str] | None
    common: dict[str, Any]
    start: float

    def message(self, identified: IdentifiedProgram) -> dict[str, Any] | None:
        """Give the message that has a program built, or None where there is none that does.

        Args:
            identified: the program.
        """
        source, options = identified.request.source, identified.request.options
        if not self.stores:
            encoded = source.encode() if isinstance(source, str) else source
            driver_options = identified.driver_options
            return {
                **self.common,
                "source": encoded.decode("latin-1"),
                "options": driver_options.decode("latin-1"),
            }
        try:
            text = source if isinstance(source, str) else source.decode()
        except UnicodeDecodeError:
            return None
        return {**self.common, "source": text, "options": options, "launches": []}


def choose_help(
    identified: IdentifiedProgram, cache_arguments: dict[str, Any] | None
) -> Help | None:
    """Tell what workers can do for a program and all others of its context.

    Args:
        identified: the program.
        cache_arguments: with which a worker opens the same cache, or None where it can't.

    Returns:
        What they can do, or None where nothing is gained by them.
    """
    if not has_interpreter():
        return None
    families = {fingerprint.family for fingerprint in identified.fingerprints}
    if all(keeps_builds(family) for family in families):
        place = _place_of(identified.devices)
        common = {"library": driver_loader(), **place}
        return Help(False, _SOURCE_WORKER, common, _SOURCE_WORKER_START) if place else None
    if cache_arguments is None or len(identified.devices) > 1 or families & _NEVER_STORED:
        return None
    common = {"cache": cache_arguments, "device": identified.fingerprints[0].storage_name}
    return Help(True, None, common, _STORING_WORKER_START)


def _place_of(devices: Sequence[cl.Device]) -> dict[str, Any]:
    """Give the place of devices in the loader's lists, or nothing for parts of a device."""
    platform = devices[0].platform
    listed = platform.get_devices()
    try:
        places = [listed.index(device) for device in devices]
        return {"platform": cl.get_platforms().index(platform), "devices": places}
    except ValueError:
        return {}
