"""The MCLP file: what every file of compiled programs is. ``docs/format.md`` specifies it.

An entry is a file of one program, a bundle one of many.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_cache.container.reading import Bundle, decode_entry
from mace_cache.container.structures import FORMAT_MAJOR, FORMAT_MINOR, LARGEST_FILE

if TYPE_CHECKING:
    from mace_cache.container.inspection import Field, annotate, diagnose
    from mace_cache.container.writing import encode

__all__ = [
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "LARGEST_FILE",
    "Bundle",
    "Field",
    "annotate",
    "decode_entry",
    "diagnose",
    "encode",
]

_ROOMS = {  # a warm start needs none of these
    "Field": "inspection",
    "annotate": "inspection",
    "diagnose": "inspection",
    "encode": "writing",
}


def __getattr__(name: str) -> Any:
    """Import what is only needed to write a file or to look into one (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mace_cache.container.{_ROOMS[name]}"), name)
