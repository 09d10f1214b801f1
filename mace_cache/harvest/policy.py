"""When a driver's binary is complete.

PoCL compiles a kernel again for each local size that it is launched with, and hands out the code of
the sizes launched so far; fetching the binary is slow, and what was fetched once is final. Its
programs are harvested late. The other drivers' binaries are complete after the build and cheap to
fetch (docs/drivers.md has the measurements).
"""

from __future__ import annotations

__all__ = ["harvests_late"]

_COMPILES_AT_LAUNCH = frozenset({"pocl"})


def harvests_late(family: str) -> bool:
    """Whether a driver family's binaries are taken after the launches instead of after the build.

    Args:
        family: the driver family of a device fingerprint.
    """
    return family in _COMPILES_AT_LAUNCH
