"""Settings or a URL to a storage factory.

A new backend is made known by its scheme in `MAKERS` or `REMOTES`, and nowhere else; other people's
by an entry point of the group ``mace_cache.storages``.
"""

from __future__ import annotations

import importlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, unquote_to_bytes

from mace_cache._report import warn_once
from mace_cache._trust import elevated_rights
from mace_cache.config import Settings, parse_boolean, parse_size, read_settings
from mace_cache.errors import ConfigurationError, UnknownSchemeError
from mace_cache.storage.base import KVStorageFactory
from mace_cache.storage.memory import MemoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mace_cache._directories import Place
    from mace_cache.storage.base import KVStorage
    from mace_cache.storage.remote import RemoteSettings

    RemoteMaker = Callable[[str, RemoteSettings], KVStorageFactory]

__all__ = ["MAKERS", "REMOTES", "ConfigKVStorageFactory", "choose_factory"]

logger = logging.getLogger(__name__)

_OPTIONS = ("max_size", "read_only")
_ENTRY_POINTS = "mace_cache.storages"


class ConfigKVStorageFactory(KVStorageFactory):
    """A storage factory made from a URL, or from the settings alone.

    ======================  =====================================================================
    ``dir:PATH``            a file a program (`DirectoryStorageFactory`)
    ``file:PATH``           one file for all (`FileStorageFactory.for_file`)
    ``file:PATH/``          one file a fingerprint (`FileStorageFactory`)
    ``memory:``             nothing on disk (`MemoryStorageFactory`)
    ``redis:``, ``s3:`` ... a server (`RedisStorageFactory`, `ObjectStorageFactory`)
    ======================  =====================================================================

    A path may be relative, begin with ``~`` or ``//``, and have ``%xx`` for any byte. After it may
    come ``?max_size=500M&read_only=1``, which go before the settings. A scheme that isn't known is
    looked for among the entry points ``mace_cache.storages`` of the installed packages: each is
    called with the URL and the `RemoteSettings` that it states.

    Args:
        url: the URL; None for a `DirectoryStorageFactory` in the settings' directory.
        settings: what the URL doesn't say; read from the environment if None.

    Raises:
        UnknownSchemeError: no storage has the URL's scheme.
        ConfigurationError: the URL or the settings can't be used.

    Attributes:
        made: the factory that does the work.
    """

    def __init__(self, url: str | None = None, settings: Settings | None = None) -> None:
        settings = settings or read_settings()
        self.made = _from_settings(settings) if url is None else _from_url(url, settings)
        self.state_directory = self.made.state_directory

    def __str__(self) -> str:
        """Name the place."""
        return str(self.made)

    def state_place(self) -> Place | None:
        """Give where state is kept; see `KVStorageFactory.state_place`."""
        return self.made.state_place()

    def create_storage(self, name: str) -> KVStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        return self.made.create_storage(name)

    def names(self) -> list[str]:
        """Give the names of the storages that have been written to, sorted."""
        return self.made.names()


def _from_settings(settings: Settings) -> KVStorageFactory:
    if settings.directory is None:
        raise ConfigurationError("MACE_CACHE_DIR", None, "a directory, since there is no home")
    return _make_directory(settings.directory, settings)


def _from_url(url: str, settings: Settings) -> KVStorageFactory:
    scheme, colon, rest = url.partition(":")
    maker = MAKERS.get(scheme.lower()) if colon else None
    if maker is None:
        return _make_remote(url, settings, local=MAKERS)[0]
    location, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    for name, value in options:
        if name not in _OPTIONS:
            raise ConfigurationError("url", url, "only the options " + ", ".join(_OPTIONS))
        if name == "max_size":
            settings = settings._replace(max_size=parse_size(value, name))
        else:
            settings = settings._replace(read_only=parse_boolean(value))
    return maker(location, settings)


def _make_remote(
    url: str,
    settings: Settings,
    *,
    local: Iterable[str] = (),
    allow_unsigned: bool = False,
) -> tuple[KVStorageFactory, RemoteSettings]:
    """Make what a URL of a remote means, and tell how it is to be used.

    Args:
        url: the URL.
        settings: the cache's.
        local: what else could have been written as a scheme.
        allow_unsigned: whether nobody need have signed what comes from there.

    Raises:
        UnknownSchemeError: no storage has the URL's scheme.
        ConfigurationError: the URL can't be used.
    """
    from mace_cache.storage.remote import (  # noqa: PLC0415 (few starts have a remote)
        RemoteSettings,
        RemoteStorageFactory,
        check_signing,
        shown,
        split_url,
    )

    rest, stated = split_url(url, RemoteSettings(allow_unsigned=allow_unsigned))
    if settings.read_only and stated.reads:
        stated = stated._replace(policy="read-only")
    maker = _find_remote(rest, local)
    try:
        made = maker(rest, stated)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError("remote", shown(url), f"what can be made ({error})") from error
    if isinstance(made, RemoteStorageFactory):
        return made, made.settings
    check_signing(url, stated._replace(verifier=None))  # nobody verifies what it decodes itself
    return made, stated


def _find_remote(url: str, local: Iterable[str]) -> RemoteMaker:
    scheme, colon, _ = url.partition(":")
    module, _, name = REMOTES.get(scheme.lower() if colon else "", "").partition(":")
    if module:
        return cast("RemoteMaker", getattr(importlib.import_module(module), name))
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow, and few need it)

    found = {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
    if not colon or scheme.lower() not in found:
        known = tuple(sorted({*local, *REMOTES, *found}))
        from mace_cache.storage.remote import shown  # noqa: PLC0415 (as above)

        raise UnknownSchemeError(shown(url), scheme if colon else "", known)
    point = found[scheme.lower()]
    try:
        return cast("RemoteMaker", point.load())
    except Exception as error:
        expected = f"the entry point {point.value} to load ({error})"
        raise ConfigurationError("url", scheme, expected) from error


def _path(location: str) -> str:
    if location.startswith("//"):
        host, slash, path = location[2:].partition("/")
        if host not in ("", "localhost"):
            raise ConfigurationError("url", location, "a path on this machine, as dir:/path")
        location = slash + path
    path = os.path.expanduser(os.fsdecode(unquote_to_bytes(location)))
    if not path or "\0" in path:
        raise ConfigurationError("url", location, "a path after the scheme, as dir:/path")
    return path


def _make_directory(path: str, settings: Settings) -> KVStorageFactory:
    from mace_cache.storage.directory import DirectoryStorageFactory  # noqa: PLC0415 (the first cache imports it, and no import)

    return DirectoryStorageFactory(
        path,
        settings.max_size,
        read_only=settings.read_only,
        lock_timeout=settings.lock_timeout,
        trust=settings.trust,
    )


def _make_file(path: str, settings: Settings) -> KVStorageFactory:
    from mace_cache.storage.file import FileStorageFactory  # noqa: PLC0415 (few starts need it)

    make = FileStorageFactory if path.endswith("/") else FileStorageFactory.for_file
    return make(
        path,
        read_only=settings.read_only,
        lock_timeout=settings.lock_timeout,
        trust=settings.trust,
    )


def _make_memory(location: str, settings: Settings) -> KVStorageFactory:  # noqa: ARG001 (as others)
    if location.strip("/"):
        raise ConfigurationError("url", f"memory:{location}", "memory: without a path")
    return MemoryStorageFactory()


# What makes the factory of each scheme, from what stands between the scheme and a "?".
MAKERS: dict[str, Callable[[str, Settings], KVStorageFactory]] = {
    "dir": lambda location, settings: _make_directory(_path(location), settings),
    "file": lambda location, settings: _make_file(_path(location), settings),
    "memory": _make_memory,
}

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


def choose_factory(
    settings: Settings,
    *,
    storage_path: str | os.PathLike[str] | None = None,
    cache_full_path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    storage_factory: KVStorageFactory | None = None,
    remote: str | KVStorageFactory | None = None,
    allow_unsigned: bool = False,
) -> tuple[KVStorageFactory | None, str]:
    """Choose what a cache keeps its programs in.

    Args:
        settings: the cache's settings; their directory is used where no argument is given.
        storage_path: whether a directory was asked for: it has gone into *settings*.
        cache_full_path: one file for all programs.
        url: a storage URL.
        storage_factory: a factory that the caller has made.
        remote: what is behind the storages: a URL, or a factory; that of the settings if None.
        allow_unsigned: whether what comes from there is loaded though nobody has signed it.

    Returns:
        The factory and an empty text, or None and the reason why nothing is cached.

    Raises:
        ConfigurationError: one of the arguments can't be used, or more than one is given.
    """
    places = {
        "storage_path": storage_path,
        "cache_full_path": cache_full_path,
        "url": url,
        "storage_factory": storage_factory,
    }
    given = [name for name, place in places.items() if place is not None]
    if len(given) > 1:
        raise ConfigurationError(given[1], places[given[1]], f"one place, and {given[0]} is given")
    if settings.disabled:
        return None, "caching is switched off (MACE_CACHE_DISABLE)"
    if elevated := elevated_rights():
        return None, f"{elevated}: caching is off"
    choose = partial(_choose, settings, cache_full_path, url, storage_factory)
    if settings.record is None:
        return _with_remote(*choose(allow_unsigned), settings, remote, allow_unsigned)
    from mace_cache.storage.recorded import RecordedStorageFactory  # noqa: PLC0415 (in a rehearsal only)

    if settings.record_only:
        made = _make_directory(settings.record, settings._replace(max_size=0))
        return RecordedStorageFactory(made, settings.record), ""
    factory, reason = _with_remote(*choose(allow_unsigned), settings, remote, allow_unsigned)
    if factory is None:
        return None, reason
    return RecordedStorageFactory(factory, settings.record), ""


def _choose(
    settings: Settings,
    cache_full_path: str | os.PathLike[str] | None,
    url: str | None,
    storage_factory: KVStorageFactory | None,
    allow_unsigned: bool,
) -> tuple[KVStorageFactory | None, str]:
    if storage_factory is not None:
        return storage_factory, ""
    if cache_full_path is not None:
        from mace_cache.storage.file import FileStorageFactory  # noqa: PLC0415 (few starts need it)

        factory = FileStorageFactory.for_file(
            cache_full_path,
            read_only=settings.read_only,
            lock_timeout=settings.lock_timeout,
            trust=settings.trust,
        )
        return factory, ""
    if url is None and settings.directory is None:
        return None, "there is no home to keep a cache in, and MACE_CACHE_DIR isn't set"
    if url is not None and url.partition(":")[0].lower() not in MAKERS:
        made, stated = _make_remote(url, settings, local=MAKERS, allow_unsigned=allow_unsigned)
        return _tiered(MemoryStorageFactory(), made, stated), ""
    return ConfigKVStorageFactory(url, settings), ""


def _with_remote(
    factory: KVStorageFactory | None,
    reason: str,
    settings: Settings,
    remote: str | KVStorageFactory | None,
    allow_unsigned: bool,
) -> tuple[KVStorageFactory | None, str]:
    """Put the remote behind a storage factory where there are both."""
    if factory is None or (remote is None and settings.remote is None):
        return factory, reason
    if remote is None or isinstance(remote, str):
        url = str(remote or settings.remote)
        # One file for all, which a storage URL means by it, can't be shared by a fleet.
        url = f"objects+{url}" if url.lower().startswith("file:") else url
        try:
            made, stated = _make_remote(url, settings, allow_unsigned=allow_unsigned)
        except ConfigurationError as error:
            if remote is not None:
                raise
            warn_once(logger, "MACE_CACHE_REMOTE", "%s; no remote is used", error)
            return factory, reason
        return _tiered(factory, made, stated), reason
    from mace_cache.storage.remote import (  # noqa: PLC0415 (few starts have a remote)
        RemoteSettings,
        RemoteStorageFactory,
        check_signing,
    )

    if isinstance(remote, RemoteStorageFactory):
        return _tiered(factory, remote, remote.settings), reason
    stated = RemoteSettings(allow_unsigned=allow_unsigned)
    check_signing(str(remote), stated)
    return _tiered(factory, remote, stated), reason


def _tiered(
    local: KVStorageFactory, remote: KVStorageFactory, settings: RemoteSettings
) -> KVStorageFactory:
    from mace_cache.storage.tiered import TieredStorageFactory  # noqa: PLC0415 (few starts have a remote)

    return TieredStorageFactory(local, remote, settings)
