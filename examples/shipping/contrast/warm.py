"""Fills this user's cache at install time, for the devices that no shipped bundle is for."""

from __future__ import annotations

import sys

import mace_cache
from contrast import MANIFEST


def main() -> int:
    """Build and launch what isn't there; 1 where something failed."""
    report = mace_cache.warm_cache(MANIFEST)
    for result in report.results:
        print(f"{result.program} for {result.device}: {result.status}")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
