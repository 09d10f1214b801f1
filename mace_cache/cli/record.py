"""``record``: a rehearsal of an application, after which all that it launched lies in the cache."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mace_cache._signing_keys import read_signing_key
from mace_cache.cli.options import cache_directory_option, json_option
from mace_cache.cli.output import complain, print_json, spoken_number
from mace_cache.cli.rehearsal import CommandNotStartedError, rehearse
from mace_cache.cli.shipping import publish_readable
from mace_cache.config import read_settings
from mace_cache.container import encode
from mace_cache.errors import SignatureError
from mace_cache.signing import sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mace_cache._signing_keys import Key
    from mace_cache.cli.rehearsal import Recorded, Rehearsal
    from mace_cache.program import CompiledProgram

__all__ = ["record"]

_NOT_STARTED = 127  # as a shell has it
_STDERR = 2

_NEVER_USED = (
    ": the application built no program through mace_cache (mace-cache record -- mace-cache run "
    "app.py is for one that knows nothing of it), or it switches caching off"
)
_LOST = (
    "a process was killed before its programs were stored, which is done when a cache is closed or "
    "its process ends by itself: they are not recorded"
)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-m", "module", is_flag=True, help="COMMAND is a Python module and its arguments.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write the programs to this bundle instead of the application's cache.",
)
@click.option("--sign", "key_file", metavar="KEYFILE", help="Sign the bundle with this key.")
@cache_directory_option
@json_option
def record(
    *,
    command: tuple[str, ...],
    module: bool,
    output: str | None,
    key_file: str | None,
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Run an application so that all it builds and launches lies complete in its cache.

    COMMAND is a program and its arguments, such as -- python app.py; or -m and a Python module.
    Each program is built from source, and its binary taken when the application has launched what
    it launches. The exit code is the application's.
    """
    _check(output, cache_directory)
    if key_file is not None and output is None:
        raise click.UsageError("only a bundle is signed: give --output with --sign")
    key = None if key_file is None else read_signing_key(key_file, "--sign")
    if not module and command[0] == "-m":
        module, command = True, command[1:]
    if module:
        command = (sys.executable, "-m", *command)
    environment = _environment(output, cache_directory)
    try:
        rehearsal = rehearse(command, environment, stdout=_STDERR if as_json else None)
    except CommandNotStartedError as error:
        complain(str(error))
        return _NOT_STARTED
    code, recorded = rehearsal.code, rehearsal.recorded(output)
    warnings = list(_warnings(rehearsal, recorded))
    if output and rehearsal.programs and (problem := _write(rehearsal.programs, output, key)):
        warnings.append(problem)
        code, recorded = code or 1, []
    for line in (*map(str, recorded), *warnings):
        complain(line)
    if as_json:
        print_json(
            {
                "command": command,
                "exit_code": code,
                "signal": rehearsal.signal,
                "output": output if recorded else None,
                "recorded": [each._asdict() for each in recorded],
                "warnings": warnings,
            }
        )
    return code


def _check(output: str | None, cache_directory: str | None) -> None:
    """Refuse what can't come to anything before the application runs, perhaps for minutes."""
    settings = read_settings()
    if settings.disabled:
        raise click.ClickException("nothing can be recorded: MACE_CACHE_DISABLE is set")
    if output is None:
        if settings.read_only:
            raise click.ClickException(
                "nothing can be recorded in a cache: MACE_CACHE_READ_ONLY is set; give --output"
            )
        return
    if cache_directory is not None:
        raise click.UsageError("--output leaves the cache alone: give no --cache-directory with it")
    parent = os.path.dirname(os.path.abspath(output))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise click.ClickException(f"{output} can't be written: {parent} is no directory to write")


def _environment(output: str | None, cache_directory: str | None) -> dict[str, str]:
    environment = {**os.environ, "MACE_CACHE_RECORD_ONLY": "1" if output else ""}
    if cache_directory is not None:
        environment["MACE_CACHE_DIR"] = os.path.abspath(os.path.expanduser(cache_directory))
    return environment


def _warnings(rehearsal: Rehearsal, recorded: Iterable[Recorded]) -> Iterator[str]:
    """Say what isn't as it should be, a line each."""
    if rehearsal.signal:
        yield f"the application was killed by {rehearsal.signal}"
    elif rehearsal.code:
        yield f"the application ended with exit code {rehearsal.code}"
    if not recorded:
        yield "nothing was recorded" + (
            "" if rehearsal.notes or rehearsal.bypasses else _NEVER_USED
        )
    if any(note.writable and not note.flushed for note in rehearsal.notes):
        yield _LOST
    for place in {note.place for note in rehearsal.notes if not note.writable}:
        yield f"{place} is read-only: --output records in a bundle what isn't written there"
    if missing := sum(list(note.programs.values()).count(None) for note in rehearsal.notes):
        number = spoken_number(missing, "program")
        yield f"{number} could not be stored: a log line says why, or MACE_CACHE_MAX_SIZE is small"
    if rehearsal.bypasses:
        number = spoken_number(rehearsal.bypasses, "build")
        yield f"{number} could not be cached: cache.explain(program) says why"


def _write(programs: list[CompiledProgram], path: str, key: Key | None) -> str:
    """Write the bundle.

    Returns:
        What went wrong, or nothing.
    """
    try:
        data = encode(programs)
        publish_readable(path, data if key is None else sign(data, key))
    except (OSError, ValueError, SignatureError) as error:
        return f"{path} could not be written: {error}"
    return ""
