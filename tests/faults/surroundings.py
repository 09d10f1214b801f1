"""Surroundings that an application isn't made for: clocks, homes, users, locales, paths."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.anew import run_anew
from tests.faults.faults import After, Fault
from tests.faults.nursery import UNPRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.nursery import Ended
    from tests.faults.world import Scene, World

__all__ = ["clock_faults", "locale_faults", "path_faults", "removal_faults", "user_faults"]

_YEAR = 365 * 24 * 3600.0
_UNKNOWN_USER = "54321"
# What isn't the campaign's own place can't be written, by a superuser's process either.
_READ_ONLY_MACHINE = (
    *("unshare", "--mount", "sh", "-c", 'mount -o remount,ro,bind / && exec "$@"', "sh"),
    *UNPRIVILEGED,
)
_NO_COERCION = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
_LOCALES = {
    "C": {"LC_ALL": "C", **_NO_COERCION},
    "POSIX": {"LC_ALL": "POSIX", **_NO_COERCION},
    "ISO-8859-1": {"LC_ALL": "en_US.ISO-8859-1", **_NO_COERCION},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
}
_NAMES = {
    "spaces": b" a  b ",
    "a newline": b"a\nb",
    "bytes that are no text": b"caf\xe9\xff",
    "quotes": b"a\"b'c",
    "a percent sign": b"100%s%20",
    "UTF-8": "\u732b\u00e9".encode(),
    "surrogate bytes": b"\xed\xa0\x80",
    "200 bytes": b"x" * 200,
}
# With the others pyopencl or PoCL doesn't build, whether there is a cache or not.
_PATHS_FOR_COMPILERS = ("a percent sign", "UTF-8", "200 bytes")


def clock_faults() -> Iterator[Fault]:
    """Give clocks that were set, for the process or since the files were written."""
    for prepared in ("empty", "written", "proven"):
        for years in (-60, -30, -1, 1, 30, 200):
            yield Fault(
                "clock: set while the process runs",
                f"{years} years, {prepared}",
                prepared=prepared,
                harm=(["shift_clock", years * _YEAR],),
            )
        for years in (-10, 10):
            yield Fault(
                "clock: set for the process (libfaketime)",
                f"{years} years, {prepared}",
                prepared=prepared,
                run=partial(run_anew, prefix=("faketime", "-f", f"{years:+}y")),
            )
    for prepared in ("written", "proven"):
        for when in (0.0, 1.0, 2.0**31, 2.0**33):
            yield Fault(
                "clock: files of another time",
                f"{when:.0f} s, {prepared}",
                partial(_set_times, when=when),
                prepared=prepared,
            )


def _set_times(scene: Scene, when: float) -> None:
    for path in sorted(scene.cache.rglob("*"), reverse=True):
        os.utime(path, (when, when))


def removal_faults() -> Iterator[Fault]:
    """Give directories that are removed while a process uses them."""
    for prepared in ("empty", "written", "proven"):
        for moment in ("opened", "built", "launched", "closed"):
            for name in ("", "/v1", "/v1/guard", "/v1/locks"):
                yield Fault(
                    "cache: removed while in use",
                    f"{name or 'all'} when {moment}, {prepared}",
                    partial(_remove_at, name=name, moment=moment),
                    prepared=prepared,
                    run=_run_removing,
                    after=After.HEALED,
                )


def _remove_at(scene: Scene, name: str, moment: str) -> None:
    scene.orders["directory"] = str(scene.root)
    scene.orders["harm"] = [["remove_tree", f"{scene.cache}{name}", moment]]


def _run_removing(scene: Scene) -> Ended:
    return scene.run(*scene.orders.pop("harm"))


def user_faults() -> Iterator[Fault]:
    """Give homes that there aren't, and a user that the system doesn't know."""
    nowhere: dict[str, str | None] = {"XDG_CACHE_HOME": None, "MACE_CACHE_DIR": None}
    homes: dict[str, tuple[str | None, After]] = {
        "unset": (None, After.EITHER),  # the user's entry in passwd says where it is
        "/": ("/", After.BUILT),
        "relative": ("home", After.EITHER),
        "/nonexistent": ("/nonexistent", After.BUILT),
        "/dev/null": ("/dev/null", After.BUILT),
        "/proc": ("/proc", After.BUILT),
        "empty": ("", After.EITHER),
    }
    for name, (home, after) in homes.items():
        yield Fault(
            "user: HOME",
            name,
            partial(_set_environment, environment={**nowhere, "HOME": home}),
            prepared="empty",
            run=partial(run_anew, prefix=_READ_ONLY_MACHINE),
            after=after,
            lasting=True,
        )
    unknown = ("unshare", "--user", f"--map-user={_UNKNOWN_USER}", "--map-group=54321")
    for name, environment, after in (
        ("with a home", {}, After.HIT),
        ("HOME unset", {"HOME": None, **nowhere}, After.BUILT),
        ("HOME=/", {"HOME": "/", **nowhere}, After.BUILT),
        ("a cache directory", {"HOME": None, **nowhere}, After.HIT),
    ):
        yield Fault(
            "user: without a passwd entry",
            name,
            partial(_set_environment, environment=environment, own=name == "a cache directory"),
            prepared="empty",
            run=partial(run_anew, prefix=(*_READ_ONLY_MACHINE[: -len(UNPRIVILEGED)], *unknown)),
            lasting=True,
            after=after,
        )


def _set_environment(
    scene: Scene, environment: dict[str, str | None], *, own: bool = False
) -> None:
    if not own:
        scene.orders["cache"] = {}
    scene.orders["environment"] = {
        "XDG_CACHE_HOME": str(scene.root / "caches"),
        **environment,
    }


def locale_faults(world: World) -> Iterator[Fault]:
    """Give locales, some not UTF-8, with cache directories of any name."""
    locales = world.root / "locales"
    locales.mkdir()
    made = locales / "en_US.ISO-8859-1"
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", made], check=True)
    for locale, variables in _LOCALES.items():
        for name in ("spaces", "bytes that are no text", "UTF-8"):
            yield Fault(
                "locale",
                f"{locale}, a cache directory of {name}",
                partial(_rename_cache, name=_NAMES[name]),
                prepared="written",
                run=partial(run_anew, environment={"LOCPATH": str(locales), **variables}),
                lasting=True,
            )


def _rename_cache(scene: Scene, name: bytes) -> None:
    """Move the cache to a directory of that name, named by the variable."""
    moved = os.fsdecode(os.path.join(os.fsencode(scene.root), name))
    if scene.cache.exists():
        os.rename(scene.cache, moved)
    scene.orders["cache"] = {}
    scene.orders["environment"] = {"MACE_CACHE_DIR": moved}


def path_faults() -> Iterator[Fault]:
    """Give paths of any bytes: of the cache, of the working directory, of headers."""
    for name, content in _NAMES.items():
        places: dict[str, Callable[..., Any]] = {
            "cache directory": _rename_cache,
            "working directory": _move_working_directory,
            "one file for all": _name_file,
            "include directory": _move_headers,
        }
        for place, change in places.items():
            if place == "include directory" and name not in _PATHS_FOR_COMPILERS:
                continue
            yield Fault(
                "paths of any bytes",
                f"{place}: {name}",
                partial(change, name=content),
                prepared="empty",
                lasting=True,
            )


def _move_working_directory(scene: Scene, name: bytes) -> None:
    """Let the cache be relative to a working directory of that name."""
    directory = os.fsdecode(os.path.join(os.fsencode(scene.root), name))
    os.mkdir(directory)
    scene.orders["directory"] = directory
    scene.orders["cache"] = {"storage_path": "cache"}


def _name_file(scene: Scene, name: bytes) -> None:
    scene.orders["cache"] = {"cache_full_path": str(scene.root / os.fsdecode(name))}


def _move_headers(scene: Scene, name: bytes) -> None:
    moved = os.fsdecode(os.path.join(os.fsencode(scene.root), name))
    shutil.copytree(scene.orders["include"], Path(moved))
    scene.orders["include"] = moved
