"""What a host's start takes beside a remote that fails: no more than its timeouts, once.

Servers are real, and so are the sockets. Each start is a new cache on an empty directory.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache import Origin, ProgramCache
from mace_cache.storage.remote import Turn
from tests.fleet.hosts import name_of_this_machine
from tests.helpers import make_source, open_context, scale
from tests.servers import (
    byte_by_byte,
    changing,
    free_port,
    listening,
    running_s3,
    running_valkey,
    silent,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    import pyopencl as cl

    from tests.servers import Valkey

TIMEOUT = 2.0  # seconds
PROGRAMS = 8
SLACK = 1.5  # seconds, fewer than TIMEOUT: the machine has other things to do
LATE = 0.3  # seconds after which a server that is only slow answers

_ALONE = "no remote"
_LIES = "it changes what it was given, Redis"
_LATE = f"it has them, and answers {LATE:g} s late"


class Taken(NamedTuple):
    """How long a start took, in seconds.

    Attributes:
        builds: until the last program was there.
        close: from then until the cache was closed.
    """

    builds: float
    close: float


def _start(context: cl.Context, remote: str | None, tag: str) -> Taken:
    """Start an application on an empty directory; it has to be right in any case."""
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        options = {"remote": remote, "allow_unsigned": True} if remote else {}
        cache = ProgramCache(storage_path=directory, harvest="eager", **options)  # type: ignore[arg-type] # each fits
        for number in range(PROGRAMS):
            program = cache.build(context, make_source(f"{tag} {number}"))
            assert scale(program) == 2
        built = time.monotonic()
        cache.close()
        closed = time.monotonic()
        cache = ProgramCache(storage_path=directory, **options)  # type: ignore[arg-type] # as above
        again = cache.explain(cache.build(context, make_source(f"{tag} 0")))
        assert again.origin is Origin.STORAGE, again
        return Taken(built - started, closed - built)


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}?timeout={TIMEOUT}"


def _s3(port: int) -> str:
    return f"s3://programs?region=us-east-1&endpoint=http://127.0.0.1:{port}&timeout={TIMEOUT}"


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _late(data: bytes) -> bytes:
    time.sleep(LATE)
    return data


def _requests(connection: socket.socket) -> Iterator[list[bytes]]:
    """Give what a client of Redis asks, each request as its words."""
    with connection.makefile("rb") as asked:
        while line := asked.readline():
            sizes = (int(asked.readline()[1:]) for _ in range(int(line[1:])))
            yield [asked.read(size + 2)[:size] for size in sizes]


_HELLO = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"STRLEN": b":0\r\n"}


def _lease_is_a_number(connection: socket.socket) -> None:
    """Answer to each question for a lease with a number, which is no length."""
    for name, *_ in _requests(connection):
        connection.sendall((_HELLO | {b"EVALSHA": b":2000000000\r\n"}).get(name, b"+OK\r\n"))


def _waits_in_vain() -> Callable[[socket.socket], None]:
    """Say of each program that it is being built, and then that it is there; it never is."""
    wait, fetch = (
        b"$%d\r\n%s\r\n" % (len(turn.value), turn.value.encode())
        for turn in (Turn.WAIT, Turn.FETCH)
    )
    began: dict[bytes, float] = {}

    def serve(connection: socket.socket) -> None:
        for name, *words in _requests(connection):
            answer = _HELLO.get(name, b"+OK\r\n")
            if name == b"EVALSHA":
                now = time.monotonic()
                waited = now - began.setdefault(words[2], now)  # of this lease
                answer = fetch if waited > TIMEOUT - 2 * LATE else wait
            connection.sendall(answer)

    return serve


def _page(status: str) -> Callable[[socket.socket], None]:
    """Answer every request with an error whose body is said to be larger than any memory."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: 100000000000\r\n\r\n".encode()

    def serve(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(head)

    return serve


@contextmanager
def _frozen(server: Valkey) -> Iterator[None]:
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@contextmanager
def _harmed(server: Valkey, s3: str) -> Iterator[list[tuple[str, str]]]:
    """Give remotes that fail, each with how."""
    trickle = byte_by_byte(b"$1000000\r\n" + b"x" * 100)
    page = byte_by_byte(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100)
    with (
        listening(silent) as hung,
        listening(trickle) as slow,
        listening(page) as slow_page,
        listening(lambda _connection: None) as closing,
        listening(byte_by_byte(b"\x00\xff" * 100, 0)) as garbage,
        changing(server.port, _flip) as lying,
        changing(int(s3.rpartition(":")[2]), _flip) as lying_s3,
        changing(server.port, _late) as late,
        listening(_lease_is_a_number) as number,
        listening(_waits_in_vain()) as waiting,
        listening(_page("404 Not Found")) as page_404,
    ):
        yield [
            ("nobody listens, Redis", _url(free_port())),
            ("nobody listens, S3", _s3(free_port())),
            ("no such host", f"redis://nowhere.invalid?timeout={TIMEOUT}"),
            ("it never answers, Redis", _url(hung)),
            ("it never answers, TLS", _url(hung).replace("redis:", "rediss:")),
            ("it never answers, S3", _s3(hung)),
            ("it sends a byte a second, Redis", _url(slow)),
            ("it sends a byte a second, S3", _s3(slow_page)),
            ("it hangs up, Redis", _url(closing)),
            ("it hangs up, S3", _s3(closing)),
            ("it sends garbage, Redis", _url(garbage)),
            ("it sends garbage, S3", _s3(garbage)),
            (_LIES, _url(lying)),
            ("it changes what it was given, S3", _s3(lying_s3)),
            (_LATE, _url(late)),
            ("it answers with a number for a lease", _url(number)),
            ("it lets wait for nothing", _url(waiting)),
            ("an error of 100 GB, S3", _s3(page_404) + "&policy=read-only"),
            ("an error of 100 GB, HTTP", f"http://127.0.0.1:{page_404}/x?timeout={TIMEOUT}"),
        ]


def run() -> dict[str, Any]:
    """Start beside each, and see that a start without a remote takes about as long.

    Returns:
        How long each start took until all programs were there, with what that depends on.
    """
    seconds: dict[str, float] = {}
    for harm, taken in _starts():
        print(f"{harm:40} builds {taken.builds:5.2f} s, close {taken.close:5.2f} s", flush=True)  # noqa: T201 (a report)
        seconds[harm] = taken.builds
        assert taken.builds <= seconds[_ALONE] + TIMEOUT + SLACK, f"{harm}: the start was held up"
        assert taken.close <= TIMEOUT + SLACK, f"{harm}: the end was held up"
    machine = name_of_this_machine()
    return {"machine": machine, "timeout": TIMEOUT, "programs": PROGRAMS, "seconds": seconds}


def _starts() -> Iterator[tuple[str, Taken]]:
    os.environ["MACE_CACHE_LOCK_TIMEOUT"] = str(TIMEOUT)  # for leases as well
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")  # noqa: S106 (what moto takes)
    context = open_context()
    _start(context, None, "first")  # the driver's own first build
    yield _ALONE, max(_start(context, None, f"alone {number}") for number in range(3))
    with (
        tempfile.TemporaryDirectory() as name,
        running_valkey(Path(name)) as server,
        running_s3() as s3,
    ):
        url = _url(server.port)
        yield "one that works", _start(context, url, "works")
        for harm in (_LIES, _LATE):  # so that there is something to give
            _start(context, url, harm)
        with _harmed(server, s3) as remotes:
            for harm, remote in remotes:
                yield harm, _start(context, remote, harm)
        with _frozen(server):
            yield "the server is stopped (`SIGSTOP`)", _start(context, url, "stopped")
        with server.client() as client:
            client.config_set("maxmemory", "1")
        yield "it is full", _start(context, url, "full")
