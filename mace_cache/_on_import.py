"""Installs the cache in a program that never heard of it, when it imports pyopencl.

``mace-cache hook enable`` writes the text of this very file into a ``.pth`` file, which Python runs
at every start: it imports next to nothing, and whatever goes wrong stays in here.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing it would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["watch"]


class _WhenImported:
    """Among the finders of modules, one that finds pyopencl as the others do."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 (as importlib calls it)
        target: ModuleType | None = None,  # noqa: ARG002 (as importlib calls it)
    ) -> ModuleSpec | None:
        """Find a module; see `importlib.abc.MetaPathFinder`."""
        if name != "pyopencl":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec  # noqa: PLC0415 (most programs never get here)

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            _install_after(spec.loader)
        return spec


def _install_after(loader: Loader) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        try:
            from mace_cache import install  # noqa: PLC0415 (it may be gone by now)

            install()
        except Exception:  # noqa: BLE001, S110 (pyopencl works without)
            pass

    vars(loader)["exec_module"] = exec_module


def watch() -> None:
    """Install the cache as soon as pyopencl has been imported."""
    sys.meta_path.insert(0, _WhenImported())


if __name__ == "mace_cache_hook":
    watch()
