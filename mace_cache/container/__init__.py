"""The MCLP file: what every file of compiled programs is. ``docs/format.md`` specifies it.

An entry is a file of one program, a bundle one of many.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_cache.container.reading import Bundle, decode_entry
from mace_cache.container.structures import FORMAT_MAJOR, FORMAT_MINOR, LARGEST_FILE
from mace_cache.container.writing import encode

if TYPE_CHECKING:
    from mace_cache.container.inspection import Field, annotate, diagnose

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

_INSPECTION = ("Field", "annotate", "diagnose")  # no start needs it


def __getattr__(name: str) -> Any:
    """Import what is only needed to look into a file (PEP 562)."""
    if name not in _INSPECTION:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("mace_cache.container.inspection"), name)
