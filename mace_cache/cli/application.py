"""All commands under one name, and what becomes of an error: one line and an exit code."""

from __future__ import annotations

import io
import os
import sys

import click

import mace_cache
from mace_cache.cli import (
    devices,
    doctor,
    explain_miss,
    export,
    hook,
    importing,
    inspect,
    keygen,
    maintenance,
    programs,
    record,
    tune,
    warm,
)
from mace_cache.cli import run as running
from mace_cache.cli.output import complain
from mace_cache.errors import ConfigurationError, MaceCacheError

__all__ = ["commands", "run"]

_EXPECTED = (click.ClickException, OSError, MaceCacheError)
_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mace_cache.__version__, prog_name="mace-cache")
def commands() -> None:
    """Look into a cache of compiled OpenCL programs, fill it and clean it up.

    The cache directory is --cache-directory, else MACE_CACHE_DIR, else the user's own.
    """


for _command in (
    devices.devices,
    warm.warm,
    tune.tune,
    record.record,
    running.run,
    hook.hook,
    programs.list_programs,
    programs.show,
    programs.verify,
    maintenance.stats,
    maintenance.clear,
    maintenance.gc,
    explain_miss.explain_miss,
    export.export,
    importing.import_programs,
    inspect.inspect,
    keygen.keygen,
    doctor.doctor,
):
    commands.add_command(_command)


def run(arguments: list[str]) -> int:
    """Run a command.

    Args:
        arguments: what follows ``mace-cache``; its help is shown where there is nothing.

    Returns:
        The exit code.
    """
    _print_anything()
    try:
        code = _run(arguments or ["--help"])
    finally:
        dropped = _drop_unwritable()
    return code or int(dropped)


def _run(arguments: list[str]) -> int:
    try:
        # Commands return their exit code.
        return int(commands.main(arguments, prog_name="mace-cache", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except SystemExit:  # click and rich end so where the reader of a pipe has gone
        return 1
    except Exception as error:
        if sys.flags.dev_mode and not isinstance(error, _EXPECTED):
            raise
        complain(_explain(error))
        return 2 if isinstance(error, click.UsageError | ConfigurationError) else 1


def _explain(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        return error.format_message().rstrip(".") + where
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return where + (error.strerror or str(error))
    if isinstance(error, MaceCacheError):
        return str(error)
    return f"{error!r} is a fault of mace-cache itself; python -X dev -m mace_cache says more"


def _print_anything() -> None:
    """Escape what the output's encoding has no characters for, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_unwritable() -> bool:
    """Drop what the standard output doesn't take, of which Python would complain at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False
