"""Programs as objects: on a real S3 server, in a directory, on a web server."""

from __future__ import annotations

import functools
import http.server
import threading
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import S3Store

from mace_cache.errors import ConfigurationError, StorageReadOnlyError
from mace_cache.storage.objects import ObjectStorageFactory
from mace_cache.storage.remote_settings import RemoteSettings
from tests.storage.conformance import (
    NAME,
    ReadOnlyConformance,
    SharedConformance,
    insert_all,
    make_key,
    make_program,
    open_storage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mace_cache.program import CompiledProgram
    from mace_cache.storage.base import KVStorage

UNSIGNED = RemoteSettings(allow_unsigned=True, timeout=30.0)
OBJECT = f"v1/{NAME}/{make_key()[:2]}/{make_key()}.mclp"


class TestS3(SharedConformance):
    """`ObjectStorage` on S3 does what every storage does; each directory of a test is a path."""

    @pytest.fixture(autouse=True)
    def _server(self, s3: str) -> None:
        self.endpoint = s3

    def make_factory(self, directory: Path, options: str = "") -> ObjectStorageFactory:
        """Use the directory's name in the bucket."""
        place = f"s3://programs{directory}"
        return ObjectStorageFactory(f"{place}?endpoint={self.endpoint}{options}", UNSIGNED)

    def make_read_only_factory(self, directory: Path) -> ObjectStorageFactory:
        """The same, with the policy of readers."""
        return self.make_factory(directory, "&policy=read-only")

    def bucket(self, directory: Path) -> S3Store:
        """A client for the test itself."""
        return S3Store(
            "programs",
            prefix=str(directory).strip("/"),
            endpoint=self.endpoint,
            client_options={"allow_http": True},
        )

    def stored(self, directory: Path) -> bytes:
        """Ask the server itself."""
        return bytes(obstore.get(self.bucket(directory), OBJECT).bytes())

    def replace(self, directory: Path, data: bytes) -> None:
        """Tell the server itself."""
        obstore.put(self.bucket(directory), OBJECT, data)


class TestDirectory(SharedConformance):
    """`ObjectStorage` in a directory that machines share does what every storage does."""

    def make_factory(self, directory: Path) -> ObjectStorageFactory:
        """Use the directory."""
        return ObjectStorageFactory(f"objects+file://{directory}", UNSIGNED)

    def make_read_only_factory(self, directory: Path) -> ObjectStorageFactory:
        """The same, with the policy of readers."""
        return ObjectStorageFactory(f"file://{directory}?policy=read-only", UNSIGNED)

    def stored(self, directory: Path) -> bytes:
        """Read the file."""
        return directory.joinpath(OBJECT).read_bytes()

    def replace(self, directory: Path, data: bytes) -> None:
        """Write the file."""
        directory.joinpath(OBJECT).write_bytes(data)


class TestReadOnlyDirectory(ReadOnlyConformance):
    """An `ObjectStorage` that only reads does what every such storage does."""

    def holding(self, directory: Path, programs: Sequence[CompiledProgram]) -> KVStorage:
        """Write with one that may."""
        insert_all(open_storage(ObjectStorageFactory(f"file://{directory}", UNSIGNED)), programs)
        url = f"file://{directory}?policy=read-only"
        return open_storage(ObjectStorageFactory(url, UNSIGNED))


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A web server that gives out a directory: its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as the base)
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_server_is_read(website: str, tmp_path: Path) -> None:
    """What lies in its directory as a bucket would hold it; nothing is written there."""
    filled = open_storage(ObjectStorageFactory(f"file://{tmp_path}/fleet", UNSIGNED))
    insert_all(filled, [make_program()])
    storage = open_storage(ObjectStorageFactory(f"{website}/fleet", UNSIGNED))
    assert storage.find(make_key()) == make_program()
    assert storage.find(make_key(1)) is None
    assert not storage.writable
    with pytest.raises(StorageReadOnlyError):
        storage.insert(make_key(1), make_program(1))
    with pytest.raises(OSError, match="HTTP"):
        list(storage.keys())


def test_a_place_that_does_not_answer(tmp_path: Path) -> None:
    """It is an ``OSError``, of those that set the whole remote aside; a disk's fault isn't."""
    dead = open_storage(ObjectStorageFactory("https://127.0.0.1:9/x", UNSIGNED))
    with pytest.raises(ConnectionError, match="error sending request"):
        dead.find(make_key())
    tmp_path.joinpath("v1").write_text("in the way")
    full = open_storage(ObjectStorageFactory(f"file://{tmp_path}", UNSIGNED))
    with pytest.raises(OSError, match="v1") as error:
        full.insert(make_key(), make_program())
    assert not isinstance(error.value, ConnectionError)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket?colour=red",
        "gs://bucket?endpoint=x",
        "https://host/path?token=x",
        "https://host/path?policy=write-only",
        "file://elsewhere/path",
        "file:",
    ],
)
def test_what_cannot_be_used(url: str) -> None:
    """A URL is used as it stands or not at all."""
    with pytest.raises(ConfigurationError):
        ObjectStorageFactory(url, UNSIGNED)


def test_what_nobody_verifies_is_refused() -> None:
    """Unless that is written out, in the settings or the URL."""
    with pytest.raises(ConfigurationError, match="allow_unsigned=True written"):
        ObjectStorageFactory("s3://bucket")
    assert str(ObjectStorageFactory("s3://bucket/x?allow_unsigned=1")) == "s3://bucket/x"
