"""``explain-miss``: why the last run had to build programs, and what they differ in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mace_cache.cli.options import cache_directory_option, json_option, open_factory
from mace_cache.cli.output import (
    print_json,
    print_line,
    print_properties,
    spoken_moment,
    spoken_number,
)
from mace_cache.explanation import Outcome
from mace_cache.missed import MissedFile
from mace_cache.nearest import find_nearest, read_traits, say_nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache.missed import Missed, Run
    from mace_cache.nearest import Known, Nearest

__all__ = ["explain_miss"]

_SHOWN_OF_KEY = 16  # digits
_NOT_NOTED = (
    "runs that only read or had caching disabled are noted nowhere, "
    "builds with a cache_dir= of their own there"
)


@click.command("explain-miss")
@cache_directory_option
@json_option
def explain_miss(*, cache_directory: str | None, as_json: bool) -> None:
    """Tell why the last run had to build programs from source.

    A program that no tier had is compared with what was stored before that run.
    """
    factory = open_factory(cache_directory)
    last = MissedFile(factory.place).last()
    if last is None:
        message = f"nothing is known of a last run in {factory.place} ({_NOT_NOTED})"
        raise click.ClickException(message)
    stored = read_traits(factory)
    missed = tuple(_completed(missed, stored) for missed in last.missed)
    last = last._replace(missed=missed)
    before = tuple(traits for traits in stored.traits if traits.created < last.started)
    known = stored._replace(traits=before)
    nearest = [_nearest(missed, known) for missed in last.missed]
    if as_json:
        print_json(_as_json(last, nearest))
    else:
        _print(last, nearest, known)


def _completed(missed: Missed, stored: Known) -> Missed:
    """Give with its components what was too much to be noted, where it was stored since."""
    if not missed.components:
        for traits in stored.traits:
            if traits.key == missed.key and traits.fingerprint in missed.fingerprints:
                return missed._replace(components=traits.components, options=traits.options)
    return missed


def _nearest(missed: Missed, known: Known) -> Nearest | None:
    return find_nearest(missed, known.traits) if missed.outcome == Outcome.MISS else None


def _as_json(last: Run, nearest: Sequence[Nearest | None]) -> dict[str, object]:
    return {
        "command": last.command,
        "started": last.started,
        "processes": len(last.processes),
        "hits": last.hits,
        "left_out": last.left_out,
        "missed": [
            {
                "outcome": missed.outcome,
                "reason": missed.reason,
                "seconds": missed.seconds,
                "key": missed.key or None,
                "kernels": missed.kernel_names,
                "nearest": near.key if near else None,
                "differences": near.differences if near else [],
            }
            for missed, near in zip(last.missed, nearest, strict=True)
        ],
    }


def _print(last: Run, nearest: Sequence[Nearest | None], known: Known) -> None:
    built = len(last.missed) + last.left_out
    name = " ".join(os.path.basename(argument) for argument in last.command)
    print_line(
        f"{name}, {spoken_moment(last.started)}, {_spoken_processes(len(last.processes))}: "
        f"{spoken_number(last.hits, 'hit')}, {spoken_number(built, 'build')} from source"
    )
    for missed, near in zip(last.missed, nearest, strict=True):
        why = missed.reason
        if missed.outcome == Outcome.MISS:
            why += f"\n{say_nearest(missed, near, known)}"
        print_line()
        print_properties(
            [
                (missed.outcome, missed.key[:_SHOWN_OF_KEY] or "not cached"),
                ("kernels", ", ".join(missed.kernel_names) or "not known"),
                ("seconds", f"{missed.seconds:.3f}"),
                ("why", why),
            ]
        )
    if last.left_out:
        print_line(f"and {last.left_out} more, which are not noted")
    print_line()
    print_line(f"({_NOT_NOTED})")


def _spoken_processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"
