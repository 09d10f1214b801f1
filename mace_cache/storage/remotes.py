"""The URL of a remote to its storage factory, and a remote behind a local storage.

A new backend is made known by its scheme in `REMOTES`, other people's by an entry point of the
group ``mace_cache.storages``.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, cast

from mace_cache._report import warn_once
from mace_cache.errors import ConfigurationError, UnknownSchemeError
from mace_cache.signing import Verifier
from mace_cache.storage.remote import RemoteStorageFactory
from mace_cache.storage.remote_settings import (
    RemoteSettings,
    check_signing,
    redacted,
    shown,
    split_url,
)
from mace_cache.storage.tiered import TieredStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mace_cache.config import Settings
    from mace_cache.storage.base import KVStorageFactory

    RemoteMaker = Callable[[str, RemoteSettings], KVStorageFactory]

__all__ = ["REMOTES", "make_remote", "make_remote_behind", "put_behind", "with_remote"]

logger = logging.getLogger(__name__)

_ENTRY_POINTS = "mace_cache.storages"

# The factory class of each remote's scheme. Other people's, by their entry points, take the same.
REMOTES: dict[str, str] = {
    **dict.fromkeys(
        ("redis", "rediss", "redis+unix"), "mace_cache.storage.redis:RedisStorageFactory"
    ),
    **dict.fromkeys(
        ("s3", "gs", "az", "http", "https", "objects+file"),
        "mace_cache.storage.objects:ObjectStorageFactory",
    ),
}


def with_remote(
    local: KVStorageFactory,
    settings: Settings,
    remote: str | None,
) -> KVStorageFactory:
    """Put the remote of a URL behind a storage factory.

    Args:
        local: makes the local storages.
        settings: the cache's, with the URL of a remote.
        remote: the URL that goes before that.

    Returns:
        The factory of both; *local* itself where the URL of the settings can't be used.

    Raises:
        ConfigurationError: *remote* can't be used.
    """
    try:
        made, stated = make_remote_behind(remote or settings.remote or "", settings)
    except ConfigurationError as error:
        if remote is not None:
            raise
        warn_once(logger, "MACE_CACHE_REMOTE", "%s; no remote is used", error)
        return local
    return TieredStorageFactory(local, made, stated)


def put_behind(
    local: KVStorageFactory,
    remote: KVStorageFactory,
    settings: Settings,
    stated: RemoteSettings | None = None,
) -> KVStorageFactory:
    """Put a remote that is made already behind a storage factory.

    Args:
        local: makes the local storages.
        remote: makes those on the remote.
        settings: the cache's.
        stated: how the remote is used; as it says itself if None.

    Raises:
        ConfigurationError: nobody verifies what comes from there, or it is to be written to only,
            and the cache only reads.
    """
    if stated is None and isinstance(remote, RemoteStorageFactory):
        stated = remote.settings
    elif stated is None:
        stated = RemoteSettings(allow_unsigned=settings.allow_unsigned)
        check_signing(str(remote), stated)  # nobody verifies what it decodes itself
    return TieredStorageFactory(local, remote, _as_read(stated, str(remote), settings))


def make_remote_behind(url: str, settings: Settings) -> tuple[KVStorageFactory, RemoteSettings]:
    """Make a remote as `make_remote`, from the URL of what stands behind a local storage.

    One file for all, which ``file:`` means in a storage's URL, can't be shared by a fleet: here it
    is a directory of objects.
    """
    url = f"objects+{url}" if url.lower().startswith("file:") else url
    return make_remote(url, settings)


def make_remote(
    url: str, settings: Settings, *, local: Iterable[str] = ()
) -> tuple[KVStorageFactory, RemoteSettings]:
    """Make what a URL of a remote means, and tell how it is to be used.

    Args:
        url: the URL.
        settings: the cache's.
        local: what else could have been written as a scheme.

    Raises:
        UnknownSchemeError: no storage has the URL's scheme.
        ConfigurationError: the URL can't be used.
    """
    maker = _find_remote(url, local)
    stated = RemoteSettings(
        allow_unsigned=settings.allow_unsigned, signing_key=settings.signing_key
    )
    rest, stated = split_url(url, stated)
    if settings.trusted_keys is not None:
        verifier = Verifier(settings.trusted_keys, stated.allow_unsigned)
        stated = stated._replace(verifier=verifier)
    stated = _as_read(stated, url, settings)
    try:
        made = maker(rest, stated)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 (not chained: its text may hold a password)
        raise ConfigurationError(
            "remote", shown(url), f"what can be made ({redacted(str(error))})"
        ) from None
    if isinstance(made, RemoteStorageFactory):
        return made, made.settings
    check_signing(url, stated._replace(verifier=None))  # as above
    return made, stated


def _as_read(stated: RemoteSettings, place: str, settings: Settings) -> RemoteSettings:
    """Give how a remote is used by a cache, which may only read."""
    if not settings.read_only:
        return stated
    if not stated.reads:
        raise ConfigurationError("remote", shown(place), "a policy that reads: it is read-only")
    return stated._replace(policy="read-only")


def _find_remote(url: str, local: Iterable[str]) -> RemoteMaker:
    scheme, colon, _ = url.partition(":")
    module, _, name = REMOTES.get(scheme.lower() if colon else "", "").partition(":")
    if module:
        return cast("RemoteMaker", getattr(importlib.import_module(module), name))
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow, and few need it)

    found = {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
    if not colon or scheme.lower() not in found:
        known = tuple(sorted({*local, *REMOTES, *found}))
        raise UnknownSchemeError(shown(url), scheme if colon else "", known)
    point = found[scheme.lower()]
    try:
        return cast("RemoteMaker", point.load())
    except Exception as error:
        expected = f"the entry point {point.value} to load ({error})"
        raise ConfigurationError("url", scheme, expected) from error
