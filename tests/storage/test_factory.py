"""URLs and settings to storage factories."""

from __future__ import annotations

from pathlib import Path

import pytest

from mace_cache.config import Settings
from mace_cache.errors import ConfigurationError, StorageReadOnlyError, UnknownSchemeError
from mace_cache.storage.directory import DirectoryStorage, DirectoryStorageFactory
from mace_cache.storage.factory import (
    MAKERS,
    ConfigKVStorageFactory,
    choose_factory,
)
from mace_cache.storage.file import FileStorage, FileStorageFactory, OneFileStorageFactory
from mace_cache.storage.memory import MemoryStorage, MemoryStorageFactory
from mace_cache.storage.remote import RemoteStorageFactory
from mace_cache.storage.remotes import REMOTES
from tests.storage.conformance import (
    NAME,
    PersistentConformance,
    insert_all,
    make_key,
    make_program,
    open_storage,
)

SETTINGS = Settings(directory="/nowhere/cache")


class TestConfigKVStorageFactory(PersistentConformance):
    """The storages that a URL leads to do what every storage does."""

    def make_factory(self, directory: Path) -> ConfigKVStorageFactory:
        """Name the directory by a URL."""
        return ConfigKVStorageFactory(f"dir:{directory}")

    def make_read_only_factory(self, directory: Path) -> ConfigKVStorageFactory:
        """Name the directory by a URL with an option."""
        return ConfigKVStorageFactory(f"dir:{directory}?read_only=1")


def _made(url: str) -> object:
    return ConfigKVStorageFactory(url, SETTINGS).made


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("dir:/a/b", "/a/b"),
        ("dir:///a/b", "/a/b"),
        ("dir://localhost/a/b", "/a/b"),
        ("DIR:/a/b/", "/a/b"),
        ("dir:/a%20b/%C3%B6", "/a b/ö"),
        ("dir:/a#b", "/a#b"),
        ("dir:/a%3Fb", "/a?b"),
        ("dir:a/b", str(Path.cwd() / "a/b")),
        ("dir:~/a", str(Path.home() / "a")),
    ],
)
def test_the_path_of_a_directory(url: str, root: str) -> None:
    """Every way to write a path leads to it."""
    made = _made(url)
    assert isinstance(made, DirectoryStorageFactory)
    assert str(made.root) == root


def test_a_file_url_names_a_file_or_with_a_slash_a_directory_of_files(tmp_path: Path) -> None:
    """As MACE has both: one file by its full path, or a file a name."""
    one, many = _made(f"file:{tmp_path}/x.mclp"), _made(f"file:{tmp_path}/x/")
    assert isinstance(one, OneFileStorageFactory)
    assert one.path == tmp_path / "x.mclp"
    assert isinstance(many, FileStorageFactory)
    assert many.directory == tmp_path / "x"


def test_memory_needs_no_place() -> None:
    """``memory:`` gives a factory without state on disk."""
    factory = ConfigKVStorageFactory("memory:", SETTINGS)
    assert isinstance(factory.made, MemoryStorageFactory)
    assert factory.state_directory is None
    assert isinstance(factory.create_storage(NAME), MemoryStorage)


def test_it_delegates_to_what_it_made(tmp_path: Path) -> None:
    """Storages, names, state and text are those of the factory that the URL means."""
    factory = ConfigKVStorageFactory(f"dir:{tmp_path}", SETTINGS)
    insert_all(open_storage(factory), [make_program()])
    assert isinstance(factory.create_storage(NAME), DirectoryStorage)
    assert factory.names() == [NAME]
    assert factory.state_directory == tmp_path / "v1"
    assert str(factory) == str(tmp_path / "v1")


def test_without_a_url_the_settings_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is that of the settings given, or of the environment."""
    made = ConfigKVStorageFactory(settings=Settings(directory=str(tmp_path / "a"))).made
    assert isinstance(made, DirectoryStorageFactory)
    assert made.root == tmp_path / "a"
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "b"))
    made = ConfigKVStorageFactory().made
    assert isinstance(made, DirectoryStorageFactory)
    assert made.root == tmp_path / "b"
    with pytest.raises(ConfigurationError, match="MACE_CACHE_DIR"):
        ConfigKVStorageFactory(settings=Settings(directory=None))


def test_options_go_before_the_settings(tmp_path: Path) -> None:
    """What the URL says holds; what it doesn't say comes from the settings."""
    strict = SETTINGS._replace(max_size=100, read_only=True)
    for url, settings, stored in (
        (f"dir:{tmp_path}/a", SETTINGS._replace(max_size=100), False),
        (f"dir:{tmp_path}/b?max_size=1K", SETTINGS._replace(max_size=100), True),
        (f"dir:{tmp_path}/c?max_size=0&read_only=no", strict, True),
        (f"dir:{tmp_path}/d?max_size=100", SETTINGS, False),
    ):
        storage = open_storage(ConfigKVStorageFactory(url, settings))
        storage.insert(make_key(), make_program())
        assert (storage.find(make_key()) is not None) is stored, url
    for url in (f"dir:{tmp_path}/e", f"file:{tmp_path}/e", f"file:{tmp_path}/e/"):
        for factory in (
            ConfigKVStorageFactory(url, strict),
            ConfigKVStorageFactory(f"{url}?read_only=1", SETTINGS),
        ):
            with pytest.raises(StorageReadOnlyError):
                factory.create_storage(NAME).insert(make_key(), make_program())


def test_a_file_has_the_conduct_of_a_file(tmp_path: Path) -> None:
    """A ``file:`` storage is written by ``flush`` to exactly the path in the URL."""
    factory = ConfigKVStorageFactory(f"file:{tmp_path}/my%20cache.bin", SETTINGS)
    storage = open_storage(factory)
    assert isinstance(storage, FileStorage)
    insert_all(storage, [make_program()])
    assert (tmp_path / "my cache.bin").is_file()


@pytest.mark.parametrize(
    "url", ["ftp://host", "", "/just/a/path", "dir", ":x", "sql://x/y", "c:\\x"]
)
def test_an_unknown_scheme_lists_the_known_ones(url: str) -> None:
    """The error tells what could have been written instead."""
    with pytest.raises(UnknownSchemeError, match="az:, dir:, file:") as raised:
        ConfigKVStorageFactory(url, SETTINGS)
    assert raised.value.known == tuple(sorted({*MAKERS, *REMOTES}))


@pytest.mark.parametrize("scheme", REMOTES)
def test_a_remote_is_a_storage_too(scheme: str) -> None:
    """Its URL makes what connects to it, and nobody is asked yet."""
    url = f"{scheme}:///x" if scheme.endswith(("unix", "file")) else f"{scheme}://host/x"
    factory = ConfigKVStorageFactory(f"{url}?allow_unsigned=1", SETTINGS)
    assert isinstance(factory.made, RemoteStorageFactory)
    assert factory.create_storage(NAME).writable is (not scheme.startswith("http"))
    assert factory.state_directory is None
    with pytest.raises(ConfigurationError, match="allow_unsigned=True"):
        ConfigKVStorageFactory(url, SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "dir:",
        "dir://",
        "dir://elsewhere/a",
        "dir:/a%00b",
        "file:",
        "memory:/a",
        "dir:/a?max_size=much",
        "dir:/a?max_size=-1",
        "dir:/a?compression=zstd",
        "dir:/a?read_only=1&unknown",
    ],
)
def test_what_cannot_be_used_is_a_configuration_error(url: str) -> None:
    """A URL is used as it stands or not at all."""
    with pytest.raises(ConfigurationError):
        ConfigKVStorageFactory(url, SETTINGS)


def test_a_scheme_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later backend needs an entry in the table, nothing else."""
    places = []

    def make(location: str, _: Settings) -> MemoryStorageFactory:
        places.append(location)
        return MemoryStorageFactory()

    monkeypatch.setitem(MAKERS, "test", make)
    ConfigKVStorageFactory("test://host:1/x?read_only=1", SETTINGS)
    assert places == ["//host:1/x"]


def test_a_cache_is_told_one_place(tmp_path: Path) -> None:
    """One argument decides where programs are kept, or else the settings; two are too many."""
    memory = MemoryStorageFactory()
    assert choose_factory(SETTINGS, storage_factory=memory) == (memory, "")
    one, _ = choose_factory(SETTINGS, cache_full_path=tmp_path / "cache.bin")
    assert isinstance(one, OneFileStorageFactory)
    by_url, _ = choose_factory(SETTINGS, url="memory:")
    assert isinstance(by_url, ConfigKVStorageFactory)
    default, reason = choose_factory(SETTINGS, storage_path=SETTINGS.directory)
    assert (str(default), reason) == ("/nowhere/cache/v1", "")
    with pytest.raises(ConfigurationError, match="one place"):
        choose_factory(SETTINGS, url="memory:", storage_factory=memory)


def test_a_cache_without_a_place_is_told_why() -> None:
    """Switched off, or with nowhere to write, there is no factory but a reason."""
    off = choose_factory(SETTINGS._replace(disabled=True), storage_factory=MemoryStorageFactory())
    nowhere = choose_factory(SETTINGS._replace(directory=None))
    assert off[0] is None
    assert "MACE_CACHE_DISABLE" in off[1]
    assert nowhere[0] is None
    assert "MACE_CACHE_DIR" in nowhere[1]
