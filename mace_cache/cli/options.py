"""The options that commands share, and the cache directory that they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mace_cache._trust import elevated_rights
from mace_cache.config import Settings, read_settings
from mace_cache.errors import StorageReadOnlyError
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    Decorated = TypeVar("Decorated", bound=Callable[..., Any])

__all__ = [
    "cache_directory_option",
    "device_option",
    "json_option",
    "open_factory",
    "required_settings",
    "select",
]


def cache_directory_option(command: Decorated) -> Decorated:
    """Add ``--cache-directory``."""
    return click.option(
        "--cache-directory",
        metavar="DIR",
        help="The cache directory; else MACE_CACHE_DIR, else the user's own.",
    )(command)


def device_option(command: Decorated) -> Decorated:
    """Add ``--device``, once."""
    return click.option(
        "--device", metavar="STORAGE", help="Only this device: its storage's name or its beginning."
    )(command)


def json_option(command: Decorated) -> Decorated:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def required_settings(directory: str | None, max_size: str | None = None) -> Settings:
    """Read the settings of a command that needs a cache directory.

    Raises:
        ClickException: there is none, or this process must not believe its environment.
        ConfigurationError: *max_size* is no size.
    """
    if elevated := elevated_rights():
        raise click.ClickException(f"{elevated}: it uses no cache")
    settings = read_settings(directory, max_size)
    if settings.directory is None:
        raise click.ClickException(
            "there is no home to keep a cache in: give --cache-directory or set MACE_CACHE_DIR"
        )
    return settings


def open_factory(
    directory: str | None, max_size: str | None = None, *, changing: bool = False
) -> DirectoryStorageFactory:
    """Open the cache directory.

    Args:
        directory: what ``--cache-directory`` says.
        max_size: what ``--max-size`` says.
        changing: whether the command is to change what is stored: any other must not.

    Raises:
        ClickException: there is no cache directory.
        ConfigurationError: *max_size* is no size.
        StorageReadOnlyError: it is to be changed, and ``MACE_CACHE_READ_ONLY`` forbids it.
    """
    settings = required_settings(directory, max_size)
    assert settings.directory is not None  # noqa: S101 (required_settings has seen to it)
    if changing and settings.read_only:
        raise StorageReadOnlyError(settings.directory)
    return DirectoryStorageFactory(
        settings.directory,
        settings.max_size,
        read_only=not changing,
        lock_timeout=settings.lock_timeout,
        trust=settings.trust,
    )


def select(names: Iterable[str], beginning: str | None) -> list[str]:
    """Choose storages by ``--device``.

    Args:
        names: the storages that there are.
        beginning: a name, or the beginning of names; all if None.

    Raises:
        UsageError: no name begins like that.
    """
    names = sorted(names)
    if beginning is None:
        return names
    if beginning in names:
        return [beginning]
    chosen = [name for name in names if name.startswith(beginning)]
    if not chosen:
        known = ", ".join(names) or "none"
        raise click.UsageError(f"no storage's name begins with {beginning!r}; there are: {known}")
    return chosen
