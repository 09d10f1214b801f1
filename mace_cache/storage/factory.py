"""Settings or a URL to a storage factory.

A new backend is made known by its scheme in `MAKERS`, or in ``remotes.py``, and nowhere else.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from mace_cache._trust import elevated_rights
from mace_cache.config import Settings, parse_boolean, parse_size, read_settings
from mace_cache.errors import ConfigurationError
from mace_cache.storage.base import KVStorageFactory
from mace_cache.storage.memory import MemoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache._directories import Place
    from mace_cache.storage.base import KVStorage
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["MAKERS", "ConfigKVStorageFactory", "choose_factory"]

_OPTIONS = ("max_size", "read_only")


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
        remote: how it is used where it is a remote, else None.
    """

    def __init__(self, url: str | None = None, settings: Settings | None = None) -> None:
        settings = settings or read_settings()
        self.remote: RemoteSettings | None = None
        if url is None:
            self.made = _from_settings(settings)
        elif _is_local(url):
            self.made = _from_url(url, settings)
        else:
            from mace_cache.storage.remotes import make_remote  # noqa: PLC0415 (few starts have a remote)

            self.made, self.remote = make_remote(url, settings, local=MAKERS)
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


def _is_local(url: str) -> bool:
    scheme, colon, _ = url.partition(":")
    return bool(colon) and scheme.lower() in MAKERS


def _from_url(url: str, settings: Settings) -> KVStorageFactory:
    scheme, _, rest = url.partition(":")
    location, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    for name, value in options:
        if name not in _OPTIONS:
            raise ConfigurationError("url", url, "only the options " + ", ".join(_OPTIONS))
        if name == "max_size":
            settings = settings._replace(max_size=parse_size(value, name))
        else:
            settings = settings._replace(read_only=parse_boolean(value))
    return MAKERS[scheme.lower()](location, settings)


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


def choose_factory(
    settings: Settings,
    *,
    storage_path: str | os.PathLike[str] | None = None,
    cache_full_path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    storage_factory: KVStorageFactory | None = None,
    remote: str | KVStorageFactory | None = None,
) -> tuple[KVStorageFactory | None, str]:
    """Choose what a cache keeps its programs in.

    Args:
        settings: the cache's settings; their directory is used where no argument is given.
        storage_path: whether a directory was asked for: it has gone into *settings*.
        cache_full_path: one file for all programs.
        url: a storage URL.
        storage_factory: a factory that the caller has made.
        remote: what is behind the storages: a URL, or a factory; that of the settings if None.

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
    choose = partial(_choose, settings, cache_full_path, url, storage_factory, remote)
    if settings.record is None:
        return choose()
    from mace_cache.storage.recorded import RecordedStorageFactory  # noqa: PLC0415 (in a rehearsal only)

    if settings.record_only:
        made = _make_directory(settings.record, settings._replace(max_size=0))
        return RecordedStorageFactory(made, settings.record), ""
    factory, reason = choose()
    if factory is None:
        return None, reason
    return RecordedStorageFactory(factory, settings.record), ""


def _choose(
    settings: Settings,
    cache_full_path: str | os.PathLike[str] | None,
    url: str | None,
    storage_factory: KVStorageFactory | None,
    remote: str | KVStorageFactory | None,
) -> tuple[KVStorageFactory | None, str]:
    if url is not None and not _is_local(url):
        if remote is not None:
            scheme = url.partition(":")[0].lower()
            raise ConfigurationError("url", scheme, "a place on this machine: there is a remote")
        storage_factory, url = ConfigKVStorageFactory(url, settings), None
    if storage_factory is not None and _is_remote(storage_factory):
        if remote is not None:
            place = str(storage_factory)
            expected = "one on this machine: there is a remote"
            raise ConfigurationError("storage_factory", place, expected)
        # Asked by itself it would hold up each program that it hasn't got, or is slow to give.
        return _behind(MemoryStorageFactory(), storage_factory, settings), ""
    factory, reason = _choose_local(settings, cache_full_path, url, storage_factory)
    if factory is None or (remote is None and settings.remote is None):
        return factory, reason
    if remote is not None and not isinstance(remote, str):
        return _behind(factory, remote, settings), ""
    from mace_cache.storage.remotes import with_remote  # noqa: PLC0415 (few starts have a remote)

    return with_remote(factory, settings, remote), ""


def _is_remote(factory: KVStorageFactory) -> bool:
    if isinstance(factory, ConfigKVStorageFactory):
        return factory.remote is not None
    from mace_cache.storage.remote import RemoteStorageFactory  # noqa: PLC0415 (as above)

    return isinstance(factory, RemoteStorageFactory)


def _behind(
    local: KVStorageFactory, remote: KVStorageFactory, settings: Settings
) -> KVStorageFactory:
    from mace_cache.storage.remotes import put_behind  # noqa: PLC0415 (as above)

    if isinstance(remote, ConfigKVStorageFactory) and remote.remote is not None:
        return put_behind(local, remote.made, settings, remote.remote)
    return put_behind(local, remote, settings)


def _choose_local(
    settings: Settings,
    cache_full_path: str | os.PathLike[str] | None,
    url: str | None,
    storage_factory: KVStorageFactory | None,
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
    return ConfigKVStorageFactory(url, settings), ""
