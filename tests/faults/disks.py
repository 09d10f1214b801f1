"""Disks that are full or read-only, mounted for it, and processes that may open no more files."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.faults import After, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.world import Scene, World

__all__ = ["descriptor_faults", "disk_faults"]

_PAGES = range(14)  # of 4 KiB: an entry takes some five
_INODES = range(2, 16)
_DESCRIPTORS = range(8)


def disk_faults() -> Iterator[Fault]:
    """Give small disks, full after ever more bytes or files, and one that is read-only."""
    for group, option, sizes in (
        ("disk: full", "size={}k", [4 * pages or 1 for pages in _PAGES]),
        ("disk: no inode left", "nr_inodes={}", list(_INODES)),
    ):
        for size in sizes:
            yield Fault(
                group,
                option.format(size),
                partial(_mount, options=option.format(size)),
                prepared="empty",
                mend=partial(_remount, options="size=8m,nr_inodes=1000"),
                after=After.HEALED,
                lasting=True,
            )
    for prepared, after in (("empty", After.BUILT), ("written", After.HIT), ("proven", After.HIT)):
        yield Fault(
            "disk: mounted read-only",
            prepared,
            _mount_read_only,
            prepared=prepared,
            mend=_unmount,
            after=After.HEALED,
            lasting=True,
        )
        yield Fault(
            "disk: mounted read-only, the next process too",
            prepared,
            _mount_read_only,
            prepared=prepared,
            after=after,
            lasting=True,
        )


def _mount(scene: Scene, options: str) -> None:
    scene.cache.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "none", scene.cache], check=True
    )


def _mount_read_only(scene: Scene) -> None:
    scene.cache.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", scene.cache, scene.cache], check=True)
    _remount(scene, "ro,bind")


def _remount(scene: Scene, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", scene.cache], check=True)


def _unmount(scene: Scene) -> None:
    subprocess.run(["umount", scene.cache], check=True)


def descriptor_faults(world: World) -> Iterator[Fault]:
    """Give ever fewer files that may be opened, from what the driver itself needs."""
    for prepared in ("empty", "written", "proven"):
        needed = _descriptors_of_driver(world, prepared)
        for more in _DESCRIPTORS[1:]:  # the build lock takes one
            yield Fault(
                "files: no more may be opened (RLIMIT_NOFILE)",
                f"{more} more than the driver needs, {prepared}",
                prepared=prepared,
                harm=(["lower_descriptors", needed + more, "opened"],),
                after=After.HEALED,
            )
        for more in _DESCRIPTORS:
            yield Fault(
                "files: no more may be opened (RLIMIT_NOFILE)",
                f"{more} more than after the launch, {prepared}",
                prepared=prepared,
                harm=(["lower_descriptors", more, "launched"],),
                after=After.HEALED,
            )


def _descriptors_of_driver(world: World, prepared: str) -> int:
    """With how many more files the program can be built and launched where there is no cache."""
    with world.scene(prepared) as scene:
        for more in range(40):
            off = {"MACE_CACHE_DISABLE": "1"}
            if not scene.run(["lower_descriptors", more, "opened"], environment=off).fault:
                return more
    raise AssertionError("the driver doesn't work with 40 files")
