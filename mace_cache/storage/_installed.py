"""The bundles that installed Python packages ship, found without running any of their code.

A package names the directory that they lie in by an entry point, ``docs/shipping.md`` says how.
"""

from __future__ import annotations

import os
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GROUP", "SUFFIX", "installed_bundles"]

GROUP = "mace_cache.bundles"
SUFFIX = ".mclp"


def installed_bundles() -> list[str]:
    """Give the paths of all files ``*.mclp`` in the packages that entry points name.

    A package that isn't there is passed over. What ``sys.path`` says now is what counts.

    Returns:
        The paths, by the entry points' names, then by the files'.
    """
    points = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    directories = dict.fromkeys(path for point in points for path in _directories(point.value))
    return [path for directory in directories for path in _bundles(directory)]


def _directories(package: str) -> Iterator[str]:
    """Give where a package lies; only its outermost one is looked for, which runs nothing of it."""
    parts = package.partition(":")[0].strip().split(".")
    if not all(part.isidentifier() for part in parts):
        return
    outermost, *inner = parts
    try:
        spec = find_spec(outermost)
    except (ImportError, ValueError):  # ValueError: it runs without a spec
        return
    for location in (spec and spec.submodule_search_locations) or ():
        yield os.path.join(location, *inner)


def _bundles(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (OSError, ValueError):
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(SUFFIX)]
