"""What happens to a fleet: it starts together, its builder dies, its server comes and goes."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fleet.hosts import (
    Network,
    costs,
    fleet,
    kill,
    name_of,
    name_of_this_machine,
    spent,
    start_hosts,
    wait_for,
)
from tests.servers import free_port, make_certificates, running_valkey

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCENES", "measure"]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (a report)


def together(count: int, programs: int) -> None:
    """All hosts start at once on nothing: each program is built once in the fleet."""
    with fleet() as (where, directory, server, url):
        hosts, start = start_hosts(range(count), where, directory, url, programs)
        before = costs(server)
        started = time.monotonic()
        start()
        answers = wait_for(hosts)
        seconds = time.monotonic() - started
        done = spent(before, costs(server))
        built = Counter(program for answer in answers for program in answer["built"])
        kind = "network namespaces" if where.namespaces else "processes"
        _say(
            f"{len(answers)} hosts ({kind}), {programs} programs: {sum(built.values())} builds "
            f"in {seconds:.1f} s; the slowest build took {max(a['slowest'] for a in answers):.1f} s"
        )
        _say(f"  the server: {done}")
        assert len(answers) == count, "a host has died"
        assert built == {f"// fleet {number}": 1 for number in range(programs)}, built
        late, start = start_hosts([count], where, directory, url, programs)
        start()
        (answer,) = wait_for(late)
        assert not answer["built"], answer
        _say(f"  one that comes later built none, in {answer['seconds']:.2f} s")


def dead_builder(count: int, programs: int) -> None:
    """The host that builds loses its power: after its lease another one builds."""
    count = min(count, 8)
    with fleet() as (where, directory, server, url):
        hosts, start = start_hosts(range(count), where, directory, url + "&lease=1", programs)
        start()
        with server.client() as client:
            while not (leases := list(client.scan_iter("*:lease"))):
                time.sleep(0.001)
            holder = client.get(leases[0])
        assert isinstance(holder, bytes)
        process = int(holder.split(b":")[-2])
        (builder,) = [host for host in hosts if host.process == process]
        kill(builder)
        survivors = [host for host in hosts if host is not builder]
        answers = wait_for(survivors)
        built = Counter(program for answer in answers for program in answer["built"])
        _say(f"the builder of {count} hosts was killed: the others made {dict(built)}")
        assert len(answers) == count - 1
        assert set(built.values()) <= {1}, built


def restarted_server(count: int, programs: int) -> None:
    """The server dies while the hosts start: all are done nevertheless."""
    count = min(count, 8)
    with fleet() as (where, directory, server, url):
        hosts, start = start_hosts(range(count), where, directory, url + "&timeout=1", programs)
        start()
        with server.client() as client:
            while not list(client.scan_iter("*:lease")):
                time.sleep(0.001)
        server.end()
        answers = wait_for(hosts)
        builds = sum(len(answer["built"]) for answer in answers)
        _say(f"the server of {count} hosts died: {builds} builds, none was held up")
        assert len(answers) == count


def tls(_count: int, programs: int) -> None:
    """Hosts with client certificates and a server that speaks TLS itself: not all are built so."""
    with tempfile.TemporaryDirectory(prefix="mace-cache-fleet-") as name:
        directory = Path(name)
        authority, ca, cert, key = make_certificates(directory)
        server = authority.issue_cert("127.0.0.1")
        server.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
        port = free_port()
        options = ["--tls-port", str(port), "--tls-ca-cert-file", str(ca)]
        for option in ("--tls-cert-file", "--tls-key-file"):
            options += [option, str(directory / "server.pem")]
        where = Network("127.0.0.1", namespaces=False)
        url = f"rediss://127.0.0.1:{port}?allow_unsigned=1&ca={ca}"
        with running_valkey(directory, *options):
            for query, builds in (
                (f"&cert={cert}&key={key}", programs),
                (f"&cert={cert}&key={key}", 0),
                ("", programs),  # the server refuses it
            ):
                number = len(list(directory.glob("*/pocl")))
                hosts, start = start_hosts([number], where, directory, url + query, programs)
                start()
                (answer,) = wait_for(hosts)
                assert len(answer["built"]) == builds, answer
        _say("over the server's own TLS: one host built, the next fetched, a stranger was refused")


def measure(count: int, programs: int) -> dict[str, Any]:
    """Measure what a host costs the server, by what it finds there."""
    figures: dict[str, Any] = {
        "machine": name_of_this_machine(),
        "programs": programs,
        "hosts": count,
    }
    with fleet() as (where, directory, server, url):
        figures["server"] = name_of(server)

        def start(*numbers: int, options: str = "") -> dict[str, float]:
            patient = f"{url}&timeout=30{options}"  # the hosts share one machine here
            hosts, go = start_hosts(numbers, where, directory, patient, programs)
            before = costs(server)
            go()
            wait_for(hosts)
            return spent(before, costs(server))

        figures["a host that builds all"] = start(0)
        figures["a host that fetches all"] = start(1)
        figures["a host that has all"] = start(1)
        with server.client() as client:
            (name, *_) = entries = list(client.scan_iter("mace:*}"))
            figures["bytes of a program"] = client.strlen(name)
            figures["memory of a program"] = client.memory_usage(name)
            assert len(entries) == programs
            figures["memory of a connection"] = int(client.client_list()[0]["tot-mem"])
        figures["all at once, on all"] = start(*range(2, 2 + count))
        numbers = range(2 + count, 2 + 2 * count)
        figures["all at once, on nothing"] = start(*numbers, options="&prefix=nothing")
    return figures


SCENES: dict[str, Callable[[int, int], None]] = {
    "together": together,
    "dead-builder": dead_builder,
    "restarted-server": restarted_server,
}
