"""``hook``: switches caching on and off for every program of a virtual environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from contextlib import suppress

import click

from mace_cache import _on_import
from mace_cache._filesystem import publish
from mace_cache.cli.options import json_option
from mace_cache.cli.output import print_json, print_line

__all__ = ["hook"]

_NAME = "mace_cache_hook.pth"
_MARK = "# Written by mace-cache hook enable; mace-cache hook disable removes it.\n"
_NOT_OURS = "{} isn't ours: it is left as it is"

_anywhere_option = click.option(
    "--anywhere", is_flag=True, help="Also where Python isn't that of a virtual environment."
)


@click.group()
def hook() -> None:
    """Cache what every Python program of this virtual environment builds with pyopencl.

    It is a small file among the installed packages, which Python runs at each start. Without it
    nothing is cached but what programs, or mace-cache run, ask for.
    """


@hook.command()
@_anywhere_option
@json_option
def enable(*, anywhere: bool, as_json: bool) -> None:
    """Switch it on."""
    path = _path(anywhere=anywhere)
    _check_ours(path)
    publish(path, _text().encode())
    umask = os.umask(0o077)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)  # as other installed files are
    _tell(path, as_json=as_json)


@hook.command()
@json_option
def disable(*, as_json: bool) -> None:
    """Switch it off."""
    path = _path(anywhere=True)
    _check_ours(path)
    with suppress(FileNotFoundError):
        os.unlink(path)
    _tell(path, as_json=as_json)


@hook.command()
@json_option
def status(*, as_json: bool) -> None:
    """Tell whether it is on."""
    _tell(_path(anywhere=True), as_json=as_json)


def _path(*, anywhere: bool) -> str:
    """Give where the file is, or is to be.

    Raises:
        ClickException: this Python isn't that of a virtual environment.
    """
    if sys.prefix == sys.base_prefix and not anywhere:
        raise click.ClickException(
            f"{sys.prefix} isn't a virtual environment: all programs of this Python would be "
            f"cached; give --anywhere if that is meant"
        )
    return os.path.join(sysconfig.get_path("purelib"), _NAME)


def _text() -> str:
    with open(_on_import.__file__, encoding="utf-8") as file:
        code = file.read()
    return f"{_MARK}import sys; exec({code!r}, {{'__name__': 'mace_cache_hook'}})\n"


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _check_ours(path: str) -> None:
    text = _read(path)
    if text is not None and not text.startswith(_MARK):
        raise click.ClickException(_NOT_OURS.format(path))


def _tell(path: str, *, as_json: bool) -> None:
    text = _read(path)
    state = "disabled"
    if text is not None:
        state = "enabled" if text == _text() else "enabled by another release; enable it again"
    if as_json:
        print_json({"enabled": text is not None, "current": text == _text(), "path": path})
    else:
        print_line(f"{state}: {path}")
