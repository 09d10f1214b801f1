"""``list``, ``show`` and ``verify``: what is stored, and whether it is sound."""

from __future__ import annotations

import os
from itertools import groupby
from typing import TYPE_CHECKING

import click

from mace_cache.cli.entries import (
    SHORT_KEY,
    Entry,
    StoredFile,
    describe_program,
    files_of,
    kernels_of,
    load_entry,
    storage_names,
)
from mace_cache.cli.options import (
    cache_directory_option,
    device_option,
    json_option,
    open_factory,
    select,
)
from mace_cache.cli.output import (
    Column,
    complain,
    print_json,
    print_line,
    print_properties,
    print_table,
    spoken_age,
    spoken_moment,
    spoken_number,
    spoken_seconds,
    spoken_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mace_cache.storage.directory import DirectoryStorageFactory

__all__ = ["list_programs", "show", "verify"]

_MOST_CANDIDATES = 10
_COLUMNS = (
    Column("KEY"),
    Column("KERNELS", flexible=True),
    Column("OPTIONS", flexible=True),
    Column("SIZE", right=True),
    Column("AGE", right=True),
    Column("BUILD", right=True),
)


@click.command("list")
@device_option
@cache_directory_option
@json_option
def list_programs(device: str | None, cache_directory: str | None, as_json: bool) -> int:
    """List the stored programs, the damaged ones too."""
    factory = open_factory(cache_directory)
    entries = list(_entries(factory, _files(factory, device)))
    if as_json:
        listed = [entry.as_json() for entry in entries]
        print_json({"directory": str(factory.root), "entries": listed})
        return 0
    for storage, group in groupby(entries, key=lambda entry: entry.file.storage):
        _print_storage(storage, list(group))
    total = spoken_size(sum(entry.file.size for entry in entries))
    records = sum(bool(entry.program and entry.program.tuned) for entry in entries)
    number = spoken_number(len(entries) - records, "program")
    more = f", {spoken_number(records, 'record')} of local sizes" if records else ""
    print_line(f"{number}{more}, {total}, in {factory.root}")
    return 0


@click.command()
@click.argument("key")
@device_option
@cache_directory_option
@json_option
def show(key: str, device: str | None, cache_directory: str | None, as_json: bool) -> int:
    """Show all that is known of a program: KEY is its key's beginning."""
    factory = open_factory(cache_directory)
    found = [file for file in _files(factory, device) if file.key.startswith(key.lower())]
    if len(found) > 1:
        raise click.UsageError(f"{key!r} fits several programs: {_candidates(found)}")
    entry = load_entry(factory, found[0]) if found else None
    if entry is None:
        raise click.ClickException(f"no program's key in {factory.root} begins with {key!r}")
    if as_json:
        known = describe_program(entry.program) if entry.program else {}
        print_json({**entry.as_json(), "binary_bytes": entry.binary_size, **known})
    else:
        _print_entry(entry)
    if entry.problem:
        complain(f"{entry.file.path}: {entry.problem}")
    return int(bool(entry.problem))


@click.command()
@click.option("--remove", is_flag=True, help="Remove what is damaged.")
@device_option
@cache_directory_option
@json_option
def verify(remove: bool, device: str | None, cache_directory: str | None, as_json: bool) -> int:
    """Read every stored program whole and verify it.

    The exit code is 1 where one is damaged.
    """
    removing = open_factory(cache_directory, changing=True) if remove else None
    factory = open_factory(cache_directory)
    entries = list(_entries(factory, _files(factory, device)))
    damaged = [entry for entry in entries if entry.problem]
    removed = _remove(damaged, removing) if removing else []
    if as_json:
        listed = [{**entry.as_json(), "removed": entry in removed} for entry in damaged]
        print_json({"directory": str(factory.root), "verified": len(entries), "damaged": listed})
    else:
        for entry in damaged:
            mark = "removed " if entry in removed else ""
            print_line(f"{mark}{entry.file.path}: {entry.problem}", "red")
        number = spoken_number(len(entries), "program")
        end = f", {len(removed)} removed" if remove else ""
        print_line(f"{number} verified, {len(damaged)} damaged{end}")
    return int(bool(damaged))


def _files(factory: DirectoryStorageFactory, device: str | None) -> list[StoredFile]:
    if device is None:
        return files_of(factory)
    chosen = select(storage_names(factory), device)
    return [file for file in files_of(factory) if file.storage in chosen]


def _entries(factory: DirectoryStorageFactory, files: Iterable[StoredFile]) -> Iterator[Entry]:
    for file in files:
        entry = load_entry(factory, file)
        if entry is not None:
            yield entry


def _remove(damaged: list[Entry], factory: DirectoryStorageFactory) -> list[Entry]:
    """Let a storage that can be written to find them, which removes what can't be trusted."""
    for entry in damaged:
        load_entry(factory, entry.file)
    return [entry for entry in damaged if not os.path.lexists(entry.file.path)]


def _print_storage(storage: str, entries: list[Entry]) -> None:
    print_table(
        _COLUMNS,
        [_row(entry) for entry in entries],
        ["red" if entry.problem else "" for entry in entries],
        title=storage,
    )
    for entry in entries:
        if entry.problem:
            print_line(f"{entry.file.key[:SHORT_KEY]} is damaged: {entry.problem}", "red")
    print_line()


def _row(entry: Entry) -> list[str]:
    file, program = entry.file, entry.program
    return [
        file.key[:SHORT_KEY],
        kernels_of(program) if program and not entry.problem else "damaged",
        program.options if program else "",
        spoken_size(file.size),
        spoken_age(entry.created),
        spoken_seconds(program.build_seconds) if program else "",
    ]


def _candidates(files: list[StoredFile]) -> str:
    named = [f"{file.key[:SHORT_KEY]} of {file.storage}" for file in files[:_MOST_CANDIDATES]]
    more = len(files) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _print_entry(entry: Entry) -> None:
    file, program = entry.file, entry.program
    print_properties(
        [
            ("key", file.key),
            ("storage", file.storage),
            ("file", file.path),
            ("size", spoken_size(file.size)),
            ("last used", f"{spoken_moment(file.used)} or later"),
        ]
    )
    if program is None:
        return
    print_properties(
        [
            ("kernels", "\n".join(program.kernel_names)),
            ("options", program.options),
            ("binary", spoken_size(entry.binary_size)),
            (
                "built",
                f"{spoken_moment(program.created)}, in {spoken_seconds(program.build_seconds)}",
            ),
            ("build log", program.build_log.strip()),
        ]
        if not program.tuned
        else [
            ("holds", kernels_of(program)),
            ("options", program.options),
            ("tuned", spoken_moment(program.created)),
            *((kernel, f"{size} for {shape}") for kernel, shape, size in program.tuned),
        ]
    )
    print_line()
    print_line("what the key is made of", "bold")
    print_properties(program.components, indent=2)
    print_line()
    print_line("device fingerprint", "bold")
    print_properties(describe_program(program)["fingerprint"].items(), indent=2)
