"""``run``: a Python program as it is, with the cache installed."""

from __future__ import annotations

import os
import sys
import time

import click

from mace_cache.cli.options import cache_directory_option
from mace_cache.config import RUN_VARIABLE

__all__ = ["run", "with_hook"]

_STARTUP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "startup")


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-m", "module", is_flag=True, help="COMMAND is a Python module and its arguments.")
@cache_directory_option
def run(*, command: tuple[str, ...], module: bool, cache_directory: str | None) -> None:
    """Run a Python program that uses pyopencl, with its programs cached.

    COMMAND is a Python file and its arguments, or -m and a module. Nothing of it is changed: it
    takes the place of this command. Processes that it starts are cached as well.
    """
    if not module and command[0] == "-m" and len(command) > 1:
        module, command = True, command[1:]
    environment = with_hook(os.environ)
    # Its processes are one run, and one of what has given them a name already.
    environment.setdefault(RUN_VARIABLE, f"{os.getpid()} {time.time()}")
    if cache_directory is not None:
        environment["MACE_CACHE_DIR"] = os.path.abspath(os.path.expanduser(cache_directory))
    _become([sys.executable, *(["-m"] if module else []), *command], environment)


def with_hook(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """Give an environment in which Python programs have the cache installed.

    Args:
        environment: what they have beside that.
    """
    paths = environment.get("PYTHONPATH", "")
    if _STARTUP not in paths.split(os.pathsep):
        # As it is, behind ours: an empty entry means the current directory.
        paths = f"{_STARTUP}{os.pathsep}{paths}" if paths else _STARTUP
    return {**environment, "PYTHONPATH": paths}


def _become(command: list[str], environment: dict[str, str]) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execve(command[0], command, environment)  # noqa: S606 (the user's own program)
