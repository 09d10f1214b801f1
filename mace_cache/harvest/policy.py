"""When a driver's binary is complete.

PoCL compiles a kernel again for each local size that it is launched with, and hands out the code of
the sizes launched so far; fetching the binary is slow, and what was fetched once is final. Its
programs are harvested late, unless the process may be ended at any time. The other drivers'
binaries are complete after the build and cheap to fetch (docs/drivers.md has the measurements).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from mace_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    HarvestPolicy = Literal["auto", "eager", "deferred"]

__all__ = ["check_policy", "harvests_late", "may_be_ended"]

_COMPILES_AT_LAUNCH = frozenset({"pocl"})


def check_policy(policy: str) -> None:
    """Check what a user has chosen.

    Raises:
        ConfigurationError: there is no such policy.
    """
    if policy not in ("auto", "eager", "deferred"):
        raise ConfigurationError("harvest", policy, "auto, eager or deferred")


def harvests_late(policy: HarvestPolicy, families: Iterable[str]) -> bool:
    """Whether binaries are taken after the launches instead of after the build.

    Args:
        policy: ``eager``, ``deferred``, or ``auto``: as the driver needs it.
        families: the driver families of the devices that a program is for.
    """
    if policy == "auto":
        return not _COMPILES_AT_LAUNCH.isdisjoint(families) and not may_be_ended()
    return policy == "deferred"


def may_be_ended() -> bool:
    """Whether this process is one of `multiprocessing`'s: a pool's worker is killed at its end."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return multiprocessing is not None and multiprocessing.parent_process() is not None
