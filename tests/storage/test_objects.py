"""Programs as objects: on a real S3 server, in a directory, on a web server."""

from __future__ import annotations

import functools
import http.server
import os
import threading
import time
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import S3Store

from mace_cache.errors import ConfigurationError, DamagedFileError, StorageReadOnlyError
from mace_cache.storage import remote
from mace_cache.storage.objects import ObjectStorageFactory
from mace_cache.storage.remote_settings import RemoteSettings
from tests.helpers import run_child
from tests.servers import listening
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
    import socket
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


CLAIM = """
import os
from mace_cache.errors import DamagedFileError
from mace_cache.storage.objects import ObjectStorageFactory
factory = ObjectStorageFactory(os.environ["URL"])
try:
    factory.create_storage(os.environ["NAME"]).find(os.environ["KEY"])
except DamagedFileError as error:
    print("refused:", "larger than" in str(error))
"""


@pytest.mark.parametrize("size", [1 << 45, (1 << 63) - 1])
def test_a_server_that_claims_too_much(size: int) -> None:
    """No memory is taken for it: a process that gets none is aborted, and not by an exception."""
    date = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(1 << 16):
            length = 10 if asked.startswith(b"HEAD") else size
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{date}\r\n\r\n"
            connection.sendall(head.encode())
            if asked.startswith(b"GET"):
                for _ in range(10):  # of one piece no copy is made
                    connection.sendall(b"x" * 1000)
                    time.sleep(0.05)

    with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/x?allow_unsigned=1&timeout=30"
        assert run_child(CLAIM, URL=url, NAME=NAME, KEY=make_key()) == "refused: True\n"


MISS = """
import os, sys
from mace_cache.storage.objects import ObjectStorageFactory
for url in sys.argv[1:]:
    storage = ObjectStorageFactory(url).create_storage(os.environ["NAME"])
    try:
        print(storage.find(os.environ["KEY"]))
    except OSError as error:
        print("refused")
"""


@pytest.mark.parametrize(("status", "answer"), [(404, "None"), (403, "refused"), (500, "refused")])
def test_an_error_that_claims_too_much(status: int, answer: str) -> None:
    """Nor for that, as a broken proxy may send it: the body isn't asked for."""
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 100000000000\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(1 << 16):
            connection.sendall(head.encode())
            for _ in range(2 * asked.startswith(b"GET")):
                connection.sendall(b"no")
                time.sleep(0.1)

    with listening(serve) as port:
        place, options = f"http://127.0.0.1:{port}", "allow_unsigned=1&policy=read-only"
        urls = (f"{place}/x?{options}", f"s3://b?region=r&endpoint={place}&{options}")
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        told = run_child(MISS, *urls, NAME=NAME, KEY=make_key(), **keys)
    assert told == f"{answer}\n{answer}\n"


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A file of a shared directory can have any size without taking any room."""
    storage = open_storage(ObjectStorageFactory(f"file://{tmp_path}", UNSIGNED))
    path = tmp_path / OBJECT
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(remote.LARGEST_PROGRAM + 1)
    with pytest.raises(DamagedFileError, match="larger than 268435456"):
        storage.find(make_key())
    assert not path.exists()  # as whatever is damaged


def test_what_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could read it; and no more is read than may be, whatever a size was said to be."""
    storage = open_storage(ObjectStorageFactory(f"file://{tmp_path}", UNSIGNED))
    storage.insert(make_key(), make_program())
    size = len(tmp_path.joinpath(OBJECT).read_bytes())
    monkeypatch.setattr(remote, "LARGEST_PROGRAM", size)
    assert storage.find(make_key()) == make_program()
    monkeypatch.setattr(remote, "LARGEST_PROGRAM", size - 1)
    with pytest.raises(DamagedFileError, match="larger"):
        storage.insert(make_key(1), make_program(1))
    assert list(storage.keys()) == [make_key()]


FORK = """
import os, warnings
from mace_cache.storage.objects import ObjectStorageFactory
warnings.simplefilter("ignore")  # of threads and forks: they are what is tried
def ask():
    factory = ObjectStorageFactory(os.environ["URL"])
    return factory.create_storage(os.environ["NAME"]).find(os.environ["KEY"])
def ask_in_child():
    child = os.fork()
    if child == 0:
        try:
            ask()
        except ConnectionError as error:
            os._exit(3 if "forked child" in str(error) else 4)
        except BaseException:
            os._exit(5)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(ask_in_child(), ask(), ask_in_child(), ask())
"""


def test_a_forked_child_with_a_remote_of_its_own(website: str) -> None:
    """It works where no ancestor has used the client, and leaves it alone where one has."""
    url = f"{website}/x?allow_unsigned=1&timeout=5"
    assert run_child(FORK, URL=url, NAME=NAME, KEY=make_key()) == "0 None 3 None\n"


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container comes first; the account is the environment's, and one that lacks is told."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16).split()[1])
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with listening(serve) as port:
        url = f"az://container/path?endpoint=http://127.0.0.1:{port}"
        with pytest.raises(OSError, match=r"(?i)account"):
            ObjectStorageFactory(url, UNSIGNED).create_storage(NAME).get(make_key())
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x")
        assert ObjectStorageFactory(url, UNSIGNED).create_storage(NAME).get(make_key()) is None
    assert asked[0].startswith(f"/container/path/{OBJECT}".encode())


def test_where_a_server_redirects_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is followed, and what comes from there is read as any; secrets and passwords stay here."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3KRET")
    elsewhere: list[bytes] = []
    close = b"Connection: close\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        elsewhere.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n" + close + b"MCLP")

    with listening(serve) as other:

        def redirect(connection: socket.socket) -> None:
            connection.recv(1 << 16)
            place = f"http://127.0.0.1:{other}/x".encode()
            connection.sendall(b"HTTP/1.1 307 Elsewhere\r\nContent-Length: 0\r\n")
            connection.sendall(b"Location: " + place + b"\r\n" + close)

        with listening(redirect) as port:
            for url in (
                f"s3://bucket?region=r&policy=read-only&endpoint=http://127.0.0.1:{port}",
                f"http://user:S3KRET@127.0.0.1:{port}/x?policy=read-only",
            ):
                with pytest.raises(DamagedFileError):
                    ObjectStorageFactory(url, UNSIGNED).create_storage(NAME).find(make_key())
    assert len(elsewhere) == 4  # of each the size, then the bytes
    assert not any(b"S3KRET" in asked or b"\nauthorization" in asked.lower() for asked in elsewhere)
