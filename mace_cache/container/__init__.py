"""The MCLP file: what every file of compiled programs is. ``docs/format.md`` specifies it.

An entry is a file of one program, a bundle one of many.
"""

from __future__ import annotations

from mace_cache.container.inspection import Field, annotate, diagnose
from mace_cache.container.reading import Bundle, decode_entry
from mace_cache.container.structures import FORMAT_MAJOR, FORMAT_MINOR, LARGEST_FILE
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
