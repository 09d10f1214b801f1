"""Where the campaign takes place: its directories, prepared caches, drivers and nurseries."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tests.drivers.matrix import DRIVERS
from tests.faults.application import FACTOR, Orders
from tests.faults.nursery import Ended, Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PREPARED", "Scene", "World"]

# What a fault may find: no cache at all, one that a process has written, one that another has read.
PREPARED = ("empty", "written", "proven")


@dataclass
class Scene:
    """The place of one try.

    Attributes:
        world: where it is.
        root: a directory of its own.
        cache: the cache directory.
        kind: ``directory``, or ``file`` where one file keeps all programs.
        driver: the driver's name.
        orders: what the processes are told, beside their harm.
    """

    world: World
    root: Path
    cache: Path
    kind: str
    driver: str
    orders: Orders

    @property
    def entry(self) -> Path:
        """The file of the program."""
        if self.kind == "file":
            return self.cache / "all.mclp"
        (entry,) = self.cache.glob("v1/*/??/*.mclp")
        return entry

    def run(self, *harm: list[Any], **changes: Any) -> Ended:
        """Run the application once."""
        return self.world.nursery(self.driver).run(self.ordered(*harm, **changes))

    def ordered(self, *harm: list[Any], **changes: Any) -> Orders:
        """Give the orders with what is harmed added."""
        orders: Any = {**self.orders, "harm": list(harm), **changes}
        return cast("Orders", orders)


@dataclass
class World:
    """What all tries share.

    Args:
        root: a directory that is there for this alone; removed by `end`.
    """

    root: Path
    _own: threading.local = field(default_factory=threading.local)
    _nurseries: list[Nursery] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        """Make what all processes need."""
        for name in ("include", "home", "pocl", "scenes"):
            Path(self.root, name).mkdir(parents=True)
        Path(self.root, "include", "factor.h").write_text(f"#define FACTOR {FACTOR}\n")

    def environment(self, driver: str) -> dict[str, str]:
        """Give the variables that processes on a driver have."""
        with self._lock:
            vendors = self.root / f"vendors-{driver}"
            if not vendors.exists():
                vendors.mkdir()
                library = DRIVERS[driver].library
                if library:
                    (vendors / "driver.icd").write_text(library + "\n")
        return {
            **DRIVERS[driver].environment,
            "OCL_ICD_VENDORS": str(vendors),
            "POCL_CACHE_DIR": str(self.root / "pocl"),
            "MESA_SHADER_CACHE_DISABLE": "1",
            "HOME": str(self.root / "home"),
            "XDG_CACHE_HOME": str(self.root / "home" / ".cache"),
            "MACE_CACHE_LOCK_TIMEOUT": "2",
            "PYOPENCL_NO_CACHE": "1",  # pyopencl's own raises where its directory can't be made
        }

    def nursery(self, driver: str) -> Nursery:
        """Give this thread's nursery for a driver."""
        nurseries: dict[str, Nursery] = self._own.__dict__.setdefault("nurseries", {})
        if driver not in nurseries:
            with self._lock:
                directory = self.root / f"nursery-{len(self._nurseries)}"
                directory.mkdir()
                nurseries[driver] = Nursery(directory, self.environment(driver))
                self._nurseries.append(nurseries[driver])
        return nurseries[driver]

    @contextmanager
    def scene(
        self, prepared: str = "proven", kind: str = "directory", driver: str = "pocl-3.0"
    ) -> Iterator[Scene]:
        """Yield a place with a copy of a prepared cache; it is removed afterwards."""
        template = self._template(prepared, kind, driver)
        root = Path(tempfile.mkdtemp(dir=self.root / "scenes"))
        scene = self._make_scene(root, kind, driver)
        if template.exists():
            shutil.copytree(template, scene.cache)
        try:
            yield scene
        finally:
            _remove(root)

    def _template(self, prepared: str, kind: str, driver: str) -> Path:
        root = self.root / f"{driver}-{kind}-{prepared}"
        with self._lock:
            if not root.exists():
                root.mkdir()
                scene = self._make_scene(root, kind, driver)
                for _ in range(PREPARED.index(prepared)):
                    ended = scene.run()
                    assert not ended.fault, ended
        return root / "cache"

    def _make_scene(self, root: Path, kind: str, driver: str) -> Scene:
        cache = root / "cache"
        arguments = {"storage_path": str(cache)}
        if kind == "file":
            arguments = {"cache_full_path": str(cache / "all.mclp")}
        orders = Orders(
            platform=DRIVERS[driver].platform,
            cache=arguments,
            include=str(self.root / "include"),
            directory=str(root),
            # Two drivers in a process carry an LLVM each, and tear down badly after one another.
            abrupt=driver != "pocl-3.0",
        )
        return Scene(self, root, cache, kind, driver, orders)

    def end(self) -> None:
        """End the nurseries and remove everything."""
        for nursery in self._nurseries:
            nursery.close()
        _remove(self.root)


def _remove(directory: Path) -> None:
    """Remove a directory, whatever is mounted there and whatever rights were taken away."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if Path(line.split()[1]).is_relative_to(directory):
            subprocess.run(["umount", line.split()[1]], check=True)
    for path, _, _ in os.walk(directory):
        os.chmod(path, 0o700)
    shutil.rmtree(directory)
