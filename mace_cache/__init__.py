"""A cache for compiled OpenCL programs: pyopencl applications start warm.

    import mace_cache

    with mace_cache.ProgramCache() as cache:
        program = cache.build(context, source, options=["-DTILE=16"])
        print(cache.explain(program))

Each name is imported with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_cache import _driver_family as _driver_family  # it notes the environment as it is now

if TYPE_CHECKING:
    from mace_cache.cache import ProgramCache
    from mace_cache.dropin import install, installed, uninstall
    from mace_cache.errors import MaceCacheError
    from mace_cache.explanation import Explanation, Origin, Outcome
    from mace_cache.program import CompiledProgram
    from mace_cache.records import explain
    from mace_cache.request import ProgramRequest
    from mace_cache.reuse import ReusePolicy
    from mace_cache.storage.base import KVStorage, KVStorageFactory
    from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage
    from mace_cache.storage.directory import DirectoryStorage, DirectoryStorageFactory
    from mace_cache.storage.factory import ConfigKVStorageFactory
    from mace_cache.storage.file import FileStorage, FileStorageFactory
    from mace_cache.storage.memory import MemoryStorage, MemoryStorageFactory
    from mace_cache.warm import WarmReport, warm_cache

__version__ = "0.1.0"

__all__ = [
    "CompiledProgram",
    "ConfigKVStorageFactory",
    "DirectoryStorage",
    "DirectoryStorageFactory",
    "Explanation",
    "FileStorage",
    "FileStorageFactory",
    "KVStorage",
    "KVStorageFactory",
    "MaceCacheError",
    "MemoryStorage",
    "MemoryStorageFactory",
    "Origin",
    "Outcome",
    "ProgramCache",
    "ProgramRequest",
    "ReadOnlyByteStreamStorage",
    "ReusePolicy",
    "WarmReport",
    "explain",
    "install",
    "installed",
    "uninstall",
    "warm_cache",
]

_ON_FIRST_USE = {
    "CompiledProgram": "mace_cache.program",
    "ConfigKVStorageFactory": "mace_cache.storage.factory",
    "DirectoryStorage": "mace_cache.storage.directory",
    "DirectoryStorageFactory": "mace_cache.storage.directory",
    "FileStorage": "mace_cache.storage.file",
    "FileStorageFactory": "mace_cache.storage.file",
    "Explanation": "mace_cache.explanation",
    "KVStorage": "mace_cache.storage.base",
    "KVStorageFactory": "mace_cache.storage.base",
    "MaceCacheError": "mace_cache.errors",
    "MemoryStorage": "mace_cache.storage.memory",
    "MemoryStorageFactory": "mace_cache.storage.memory",
    "Origin": "mace_cache.explanation",
    "Outcome": "mace_cache.explanation",
    "ProgramCache": "mace_cache.cache",
    "ProgramRequest": "mace_cache.request",
    "ReadOnlyByteStreamStorage": "mace_cache.storage.bytestream",
    "ReusePolicy": "mace_cache.reuse",
    "WarmReport": "mace_cache.warm",
    "explain": "mace_cache.records",
    "install": "mace_cache.dropin",
    "installed": "mace_cache.dropin",
    "uninstall": "mace_cache.dropin",
    "warm_cache": "mace_cache.warm",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for by name (PEP 562)."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what can be imported."""
    return sorted({*globals(), *__all__})
