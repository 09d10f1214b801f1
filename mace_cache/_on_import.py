"""Installs the cache in a program that never heard of it, when it imports pyopencl.

``mace-cache hook enable`` writes the text of this very file into a ``.pth`` file, which Python runs
at every start: it imports next to nothing, and whatever goes wrong stays in here.
"""

from __future__ import annotations

import sys
from _thread import get_ident  # threading would take longer

TYPE_CHECKING = False  # importing it would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["unwatch", "watch"]


class _WhenImported:
    """Among the finders of modules, one that finds pyopencl as the others do."""

    def __init__(self) -> None:
        self._looking: set[int] = set()  # threads: another finder may ask all of them as well

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module; see `importlib.abc.MetaPathFinder`."""
        if name != "pyopencl" or get_ident() in self._looking:
            return None
        self._looking.add(get_ident())
        try:
            spec = self._find_elsewhere(name, path, target)
        finally:
            self._looking.discard(get_ident())
        try:
            if spec is not None and spec.loader is not None:
                self._install_after(spec.loader)
        except Exception:  # noqa: BLE001, S110 (it is imported as ever)
            pass
        return spec

    def _find_elsewhere(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                return spec  # type: ignore[no-any-return] # whatever a finder gives
        return None

    def _install_after(self, loader: Loader) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ != "pyopencl":  # some loaders are there for all modules
                return
            try:
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                from mace_cache import install  # noqa: PLC0415 (it may be gone by now)

                install()
            except Exception:  # noqa: BLE001, S110 (pyopencl works without)
                pass

        if "exec_module" not in vars(loader):  # a loader can be found twice
            vars(loader)["exec_module"] = exec_module


def watch() -> None:
    """Install the cache as soon as pyopencl has been imported.

    Once is enough: some Pythons run a ``.pth`` file twice, and ``mace-cache run`` may come on top.
    """
    if not any(map(_is_ours, sys.meta_path)):
        sys.meta_path.insert(0, _WhenImported())


def unwatch() -> None:
    """Undo `watch`, where pyopencl hasn't been imported yet."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]


def _is_ours(finder: object) -> bool:
    """Whether a finder is of this room, or of a copy in a ``.pth`` file."""
    return type(finder).__module__.startswith("mace_cache")


if __name__ == "mace_cache_hook":
    watch()
