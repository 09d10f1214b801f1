"""Many hosts and one Valkey server, each host with a network, a cache and a driver of its own.

A host is a process in a network namespace, connected to the server's by a bridge; where namespaces
can't be made it is a plain process. Hosts are forked from one that has all imported, and start
when told.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyopencl as cl

from mace_cache import ProgramCache, opencl
from tests.helpers import make_source, open_context, scale
from tests.servers import Valkey, running_valkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SERVER = "10.77.0.1"


class Network(NamedTuple):
    """What hosts are connected by.

    Attributes:
        server: the server's address.
        namespaces: whether each host has a network of its own.
    """

    server: str
    namespaces: bool


class Host(NamedTuple):
    """A host that waits for its start.

    Attributes:
        number: which.
        process: its process.
        answer: where it writes what became of it.
    """

    number: int
    process: int
    answer: Path


@contextmanager
def network() -> Iterator[Network]:
    """Put this process in a network of its own with a bridge, where it may; it never comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK) or not shutil.which("ip"):
        yield Network("127.0.0.1", namespaces=False)
        return
    _ip("link set lo up")
    # An address of its own: else it takes one of its ports', and changes it when a host ends.
    _ip("link add fleet address 02:00:00:00:00:01 type bridge")
    _ip(f"addr add {_SERVER}/16 dev fleet")
    _ip("link set fleet up")
    yield Network(_SERVER, namespaces=True)


def _ip(command: str, *inside: str) -> None:
    subprocess.run([*inside, "ip", *command.split()], check=True)


def _connect(number: int, process: int) -> None:
    inside = ("nsenter", f"--net=/proc/{process}/ns/net")
    _ip(f"link add v{number} type veth peer name eth0 netns {process}")
    _ip(f"addr add 10.77.{1 + number // 250}.{1 + number % 250}/16 dev eth0", *inside)
    _ip("link set eth0 up", *inside)
    _ip(f"link set v{number} master fleet up")


def start_hosts(
    numbers: Sequence[int], where: Network, directory: Path, remote: str, programs: int
) -> tuple[list[Host], Callable[[], None]]:
    """Make hosts that wait.

    Args:
        numbers: which.
        where: what connects them.
        directory: where each has its files, under its number.
        remote: the URL that all have.
        programs: how many each builds.

    Returns:
        The hosts, and what lets all start at once.
    """
    gate, opener = os.pipe()
    hosts = []
    for number in numbers:
        ready, tell = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(opener)
            answer = partial(_start, directory / str(number), remote, programs)
            _be_host(answer, where, gate, tell)
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        if where.namespaces:
            _connect(number, process)
        hosts.append(Host(number, process, directory / str(number) / "answer"))
    os.close(gate)
    return hosts, lambda: os.close(opener)


def _be_host(answer: Callable[[], None], where: Network, gate: int, tell: int) -> None:
    status = 1
    try:
        if where.namespaces:
            ctypes.CDLL(None).unshare(_NEW_NETWORK)
        os.write(tell, b".")
        os.close(tell)
        os.read(gate, 1)
        answer()
        status = 0
    except BaseException as error:  # noqa: BLE001 (a host must not go on as its parent)
        print(f"a host: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 (a report)
    finally:
        os._exit(status)


def _start(directory: Path, remote: str, programs: int) -> None:
    """Start the application of a host, and write what it built and how long it took."""
    directory.mkdir(exist_ok=True)
    os.environ["POCL_CACHE_DIR"] = str(directory / "pocl")
    built: list[str] = []
    real = opencl.build_from_source

    def build(*arguments: Any, **options: Any) -> tuple[cl.Program, float]:
        built.append(str(arguments[1]).partition("\n")[0])
        return real(*arguments, **options)

    opencl.build_from_source = build
    started = time.monotonic()
    context = open_context()
    queue = cl.CommandQueue(context)
    seconds = []
    with ProgramCache(storage_path=directory / "cache", remote=remote) as cache:
        for number in range(programs):
            begun = time.monotonic()
            source = make_source(f"fleet {number}", f"#define FACTOR {number + 2}\n")
            program = cache.build(context, source)
            seconds.append(time.monotonic() - begun)
            assert scale(program, queue) == number + 2
    answer = {
        "built": built,
        "seconds": time.monotonic() - started,
        "slowest": max(seconds),
    }
    directory.joinpath("answer").write_text(json.dumps(answer))


def wait_for(hosts: Sequence[Host]) -> list[dict[str, Any]]:
    """Wait until hosts are done: what they answered; nothing of one that has died."""
    answers = []
    for host in hosts:
        os.waitpid(host.process, 0)
        if host.answer.exists():
            answers.append(json.loads(host.answer.read_text()))
            host.answer.unlink()
    return answers


def costs(server: Valkey) -> dict[str, float]:
    """Give what a server has done so far: requests, connections and bytes."""
    with server.client() as client:
        stats: dict[str, Any] = client.info("everything")
        commands = {
            name.removeprefix("cmdstat_"): value["calls"]
            for name, value in stats.items()
            if name.startswith("cmdstat_")
        }
        return {
            **commands,
            "connections": stats["total_connections_received"],
            "bytes in": stats["total_net_input_bytes"],
            "bytes out": stats["total_net_output_bytes"],
            "cpu ms": 1000 * (stats["used_cpu_user"] + stats["used_cpu_sys"]),
            "memory": stats["used_memory"],
            "keys": client.dbsize(),
        }


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Give what was done between two looks, less the looks themselves."""
    looks = {"info": 1.0, "dbsize": 1.0, "connections": 1.0}
    done = {name: after[name] - before.get(name, 0) - looks.get(name, 0) for name in after}
    return {name: amount for name, amount in done.items() if amount > 0}


@contextmanager
def fleet() -> Iterator[tuple[Network, Path, Valkey, str]]:
    """Run a server for hosts: their network, a directory, the server and its URL."""
    with tempfile.TemporaryDirectory(prefix="mace-cache-fleet-") as name, network() as where:
        directory = Path(name)
        options = ("--protected-mode", "no") if where.namespaces else ()
        bind = f"127.0.0.1 {where.server}" if where.namespaces else where.server
        with running_valkey(directory, *options, bind=bind) as server:
            url = f"redis://{where.server}:{server.port}?allow_unsigned=1"
            yield where, directory, server, url


def kill(host: Host) -> None:
    """End a host as a power failure does."""
    os.kill(host.process, signal.SIGKILL)
    os.waitpid(host.process, 0)


def name_of_this_machine() -> str:
    """Name the machine that figures were measured on."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "an unknown processor",
    )
    return f"{os.cpu_count()} cores of {model.partition(': ')[2]}"


def name_of(server: Valkey) -> str:
    """Name a server, with its version."""
    with server.client() as client:
        said: dict[str, Any] = client.info("server")
        name = said.get("server_name", "redis").capitalize()
        return f"{name} {said.get('valkey_version', said['redis_version'])}"
