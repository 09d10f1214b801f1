"""``stats``, ``clear`` and ``gc``: what the cache did, and how it is made smaller."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mace_cache._notebook import forget_notes, note_places
from mace_cache.cli.entries import files_of, may_be_storage, storage_names
from mace_cache.cli.options import (
    cache_directory_option,
    device_option,
    json_option,
    open_factory,
    required_settings,
    select,
)
from mace_cache.cli.output import (
    confirm,
    print_json,
    print_line,
    print_properties,
    spoken_number,
    spoken_seconds,
    spoken_size,
)
from mace_cache.rejections import NOTE_SUFFIX, forget_rejections
from mace_cache.statistics import Counts, StatisticsFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mace_cache.storage.directory import DirectoryStorageFactory

__all__ = ["clear", "gc", "stats"]


@click.command()
@click.option("--zero", is_flag=True, help="Print the counts, then count anew from nothing.")
@cache_directory_option
@json_option
def stats(zero: bool, cache_directory: str | None, as_json: bool) -> int:
    """Print what the cache did in all processes, and what it takes."""
    factory = open_factory(cache_directory, changing=zero)
    files = files_of(factory)
    size = sum(file.size for file in files)
    limit = required_settings(cache_directory).max_size
    statistics = StatisticsFile(factory.place)
    counts = statistics.total()
    if zero:
        _zero(statistics)
    if as_json:
        print_json(
            {
                "directory": str(factory.root),
                "counts": asdict(counts),
                "entries": len(files),
                "bytes": size,
                "max_size": limit,
            }
        )
        return 0
    print_properties(
        [
            *_spoken_counts(counts),
            ("programs stored", str(len(files))),
            ("size", f"{spoken_size(size)} of {spoken_size(limit) if limit else 'any size'}"),
            ("directory", str(factory.root)),
        ]
    )
    if zero:
        print_line("counting starts anew")
    return 0


@click.command()
@device_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@cache_directory_option
@json_option
def clear(device: str | None, yes: bool, cache_directory: str | None, as_json: bool) -> int:
    """Remove the stored programs.

    What is remembered of binaries that a driver rejected, or that processes died of, goes with
    them, also what is noted elsewhere for caches that can't be written. Only files that the library
    wrote are removed.
    """
    factory = open_factory(cache_directory, changing=True)
    names = select({*storage_names(factory), *_noted(factory)}, device)
    before = _sizes(factory, names)
    if not yes and not _agreed(f"Remove {_spoken_sizes(before)} from {factory.root}?"):
        print_line("nothing was removed")
        return 1
    for name in names:
        factory.create_storage(name).clear()
    forget_rejections(factory.place, names)
    _forget_notes(factory, names if device is not None else [None])
    after = _sizes(factory, names)
    removed = [size for path, size in before.items() if path not in after]
    if as_json:
        print_json(
            {
                "directory": str(factory.root),
                "storages": names,
                "removed_entries": len(removed),
                "removed_bytes": sum(removed),
            }
        )
    else:
        number = spoken_number(len(removed), "program")
        print_line(f"removed {number}, {spoken_size(sum(removed))}, from {factory.root}")
    return 0


@click.command()
@click.option("--max-size", metavar="SIZE", help="Such as 500M; else MACE_CACHE_MAX_SIZE, 1G.")
@cache_directory_option
@json_option
def gc(max_size: str | None, cache_directory: str | None, as_json: bool) -> int:
    """Remove what is over the size limit.

    The programs that were not used for the longest time go first, and files that a process which
    died left half written.
    """
    factory = open_factory(cache_directory, max_size, changing=True)
    report = factory.collect_garbage()
    if as_json:
        print_json({"directory": str(factory.root), **report._asdict()})
        return 0
    abandoned = report.removed_files - report.evicted
    print_line(
        f"removed {spoken_number(report.evicted, 'program')} and "
        f"{spoken_number(abandoned, 'abandoned file')}, {spoken_size(report.removed_bytes)}; "
        f"{spoken_number(report.entries, 'program')}, {spoken_size(report.bytes)}, stay"
    )
    return 0


def _spoken_counts(counts: Counts) -> Iterable[tuple[str, str]]:
    for name, value in asdict(counts).items():
        spoken = spoken_seconds(value) if name.startswith("seconds") else f"{value:,}"
        yield name.replace("_", " "), spoken


def _zero(statistics: StatisticsFile) -> None:
    statistics.zero()
    if os.path.lexists(statistics.path):
        raise click.ClickException(f"{statistics.path} can't be removed: the counts stay")


def _noted(factory: DirectoryStorageFactory) -> list[str]:
    """Give the storages of which rejections are noted: they may be empty."""
    names: list[str] = []
    with suppress(FileNotFoundError), factory.place.open() as directory:
        names = os.listdir(directory)
    noted = [name.removesuffix(NOTE_SUFFIX) for name in names if name.endswith(NOTE_SUFFIX)]
    return [name for name in noted if may_be_storage(name)]


def _forget_notes(factory: DirectoryStorageFactory, storages: Iterable[str | None]) -> None:
    for place in note_places(factory.place):
        for storage in storages:
            forget_notes(place, storage)


def _sizes(factory: DirectoryStorageFactory, names: list[str]) -> dict[str, int]:
    return {file.path: file.size for file in files_of(factory) if file.storage in names}


def _spoken_sizes(sizes: dict[str, int]) -> str:
    return f"{spoken_number(len(sizes), 'program')} ({spoken_size(sum(sizes.values()))})"


def _agreed(question: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked: give --yes to remove the programs")
    return confirm(question)
