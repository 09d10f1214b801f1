"""``doctor``: what is wrong on this machine, and what to do about it."""

from __future__ import annotations

import inspect
import logging
import os
from typing import TYPE_CHECKING

import click

from mace_cache._directories import Place
from mace_cache._trust import elevated_rights
from mace_cache.cache import ProgramCache
from mace_cache.cli.content_health import examine_contents, examine_room
from mace_cache.cli.driver_health import examine_drivers, examine_leftovers
from mace_cache.cli.findings import Finding, note, ok, problem
from mace_cache.cli.guard_health import examine_guard
from mace_cache.cli.options import cache_directory_option, json_option
from mace_cache.cli.output import print_json, print_line, spoken_number, spoken_size
from mace_cache.cli.place_health import examine_directory
from mace_cache.cli.remote_health import examine_remote
from mace_cache.config import Settings, read_settings
from mace_cache.statistics import StatisticsFile
from mace_cache.storage._layout import FORMAT_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["doctor"]

_ARGUMENTS = ("guard", "harvest", "harvest_after", "exit_timeout", "max_retries")
_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command()
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long a device may take.",
)
@cache_directory_option
@json_option
def doctor(timeout: float, cache_directory: str | None, as_json: bool) -> int:
    """Tell what is wrong on this machine, and what to do about it.

    It looks at the settings and the cache directory, and tries locks and every driver, these in
    processes of their own. The exit code is 1 where there is a problem.
    """
    settings, complaints = _read_settings(cache_directory)
    findings = []
    for finding in _examine(settings, complaints, timeout):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        told = [{**finding._asdict(), "remedy": finding.remedy or None} for finding in findings]
        print_json({"directory": settings.directory, "healthy": not problems, "findings": told})
    else:
        print_line(spoken_number(problems, "problem") if problems else "all is well")
    return int(bool(problems))


def _examine(settings: Settings, complaints: list[str], timeout: float) -> Iterator[Finding]:
    yield from _examine_settings(settings, complaints)
    yield from _tell_settings(settings, complaints)
    if settings.directory is not None:
        yield from _examine_cache(settings, settings.directory)
    yield from examine_remote(settings)
    yield from examine_guard(_state_place(settings))
    yield from examine_drivers(timeout)


def _examine_cache(settings: Settings, directory: str) -> Iterator[Finding]:
    yield from examine_directory(directory, settings.trust, read_only=settings.read_only)
    trust = settings.trust.with_root() if settings.read_only else settings.trust
    place = Place(directory, (FORMAT_DIRECTORY,), trust)
    programs, findings = examine_contents(place, read_only=settings.read_only)
    counts = StatisticsFile(place).total()
    yield from findings
    yield from examine_room(programs, settings.max_size, counts.evictions)
    yield from examine_leftovers(counts.crashes)


def _state_place(settings: Settings) -> Place | None:
    """Give the directory of the format version, where anything may be written there."""
    if settings.directory is None or settings.read_only:
        return None
    return Place(settings.directory, (FORMAT_DIRECTORY,), settings.trust)


def _examine_settings(settings: Settings, complaints: list[str]) -> Iterator[Finding]:
    about = "settings"
    for complaint in complaints:
        yield problem(about, complaint, "docs/configuration.md lists what it takes")
    if settings.disabled:
        yield problem(about, "caching is off: MACE_CACHE_DISABLE is set", "unset it")
    if elevated := elevated_rights():
        yield problem(about, f"caching is off: {elevated}")
    if settings.directory is None:
        yield problem(about, "there is no home to keep a cache in", "set MACE_CACHE_DIR")
    if settings.read_only:
        yield note(about, "nothing is written: MACE_CACHE_READ_ONLY is set")
    if settings.recache:
        text = "every program is built from source again: MACE_CACHE_RECACHE is set"
        yield note(about, text, "unset it")
    if settings.record is not None:
        yield note(about, "every program is built from source: MACE_CACHE_RECORD is set")
    if trusted := str(settings.trust):
        text = f"beside this user others are trusted: MACE_CACHE_TRUST is {trusted}"
        yield note(about, text)


def _tell_settings(settings: Settings, complaints: list[str]) -> Iterator[Finding]:
    """Tell what is in force, and what has set it."""

    def by(variable: str) -> str:
        is_used = os.environ.get(variable) and not any(variable in one for one in complaints)
        return f"({variable})" if is_used else "(the default)"

    size = f"up to {spoken_size(settings.max_size)}" if settings.max_size else "without a limit"
    waits = f"{settings.lock_timeout:g} s"
    yield ok(
        "settings",
        f"programs are stored {size} {by('MACE_CACHE_MAX_SIZE')}, and other processes waited for "
        f"{waits} {by('MACE_CACHE_LOCK_TIMEOUT')}",
    )
    arguments = inspect.signature(ProgramCache).parameters
    told = {name: arguments[name].default for name in _ARGUMENTS}
    if settings.record is not None:
        told["harvest"] = "deferred by MACE_CACHE_RECORD"
    text = ", ".join(f"{name} is {value}" for name, value in told.items())
    yield ok("settings", f"{text} (no variable sets these, only an application's arguments)")


def _read_settings(cache_directory: str | None) -> tuple[Settings, list[str]]:
    """Read the settings, and what is reported of variables that can't be used."""
    reported = _Reported()
    logger = logging.getLogger("mace_cache.config")
    logger.addHandler(reported)
    try:
        return read_settings(cache_directory), reported.messages
    finally:
        logger.removeHandler(reported)


class _Reported(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _print(finding: Finding) -> None:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    print_line(f"{finding.state:8} {finding.about}: {finding.text}{remedy}", _STYLES[finding.state])
