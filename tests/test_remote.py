"""What one machine builds the others fetch; a remote that fails costs its timeouts and no more."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

from mace_cache import Origin, ProgramCache, explain, opencl
from mace_cache._program_locks import ProgramLocks
from mace_cache._report import forget_reported
from mace_cache._signing_keys import PRIVATE, make_key
from mace_cache.config import Settings, read_settings
from mace_cache.container import decode_entry, encode
from mace_cache.errors import ConfigurationError, UnknownSchemeError
from mace_cache.fingerprint import fingerprint, storage_name
from mace_cache.harvest.pending import PendingHarvest
from mace_cache.signing import sign
from mace_cache.statistics import StatisticsFile
from mace_cache.storage import remote_settings, remotes
from mace_cache.storage._failing_open import FailingOpen
from mace_cache.storage.factory import ConfigKVStorageFactory
from mace_cache.storage.memory import MemoryStorage
from mace_cache.storage.redis import RedisStorageFactory
from mace_cache.storage.remote import RemoteStorageFactory
from mace_cache.storage.remote_settings import RemoteSettings
from mace_cache.storage.tiered import TieredStorageFactory
from tests.helpers import (
    GARBAGE,
    FakeFactory,
    FaultyStorage,
    entries,
    make_source,
    refuse_loads,
    run_child,
    scale,
    start_child,
    watch_loads,
)
from tests.servers import byte_by_byte, changing, free_port, listening, running_valkey, silent

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Valkey

SOURCE = make_source("remote")
UNSIGNED = RemoteSettings(allow_unsigned=True)

BUILD = """
import sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale
with ProgramCache(harvest="eager") as cache:
    program = cache.build(open_context(), make_source(sys.argv[1]))
    print(cache.explain(program).origin.value, scale(program), "redis" in sys.modules)
"""

EXIT = """
import sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale
cache = ProgramCache(harvest="eager", exit_timeout=0.1)
program = cache.build(open_context(), make_source(sys.argv[1]))
print(cache.explain(program).origin.value, scale(program))
"""


@pytest.fixture(autouse=True)
def _report_afresh() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def url(valkey: Valkey, tmp_path: Path) -> str:
    """A remote of the test's own that nobody need have signed."""
    return f"{valkey.url}?prefix={tmp_path}&allow_unsigned=1&timeout=30"


class Machine:
    """A cache with a directory of its own, as a machine of a fleet has it."""

    def __init__(self, directory: Path, remote: Any, **options: Any) -> None:
        self.directory = directory
        self.options = {"harvest": "eager", "allow_unsigned": True, "remote": remote} | options

    def build(self, context: cl.Context, source: str = SOURCE) -> tuple[Origin, int]:
        """Start anew, build and end: where the program came from, and its factor."""
        with ProgramCache(storage_path=self.directory, **self.options) as cache:
            program = cache.build(context, source)
            return cache.explain(program).origin, scale(program)


def test_what_one_builds_the_others_fetch(context: cl.Context, tmp_path: Path, url: str) -> None:
    """From then on it lies in their own directory; and ``explain`` tells the server."""
    first, second = Machine(tmp_path / "1", url), Machine(tmp_path / "2", url)
    assert first.build(context) == (Origin.SOURCE, 2)
    with ProgramCache(storage_path=second.directory, **second.options) as cache:
        explanation = cache.explain(cache.build(context, SOURCE))
        assert explanation.origin is Origin.REMOTE
        assert explanation.tier.startswith("redis://127.0.0.1:")
        assert explanation.seconds_saved >= 0
        assert explanation.tier in str(explanation)
        assert cache.factory.state_directory is not None
    counts = StatisticsFile(cache.factory.state_directory).total()
    assert (counts.hits, counts.fetched, counts.stored, counts.misses) == (1, 1, 1, 0)
    assert second.build(context) == (Origin.STORAGE, 2)
    assert entries(first.directory)[0].name == entries(second.directory)[0].name


def test_a_scheme_in_capitals(context: cl.Context, tmp_path: Path, url: str) -> None:
    """It is the same scheme, to the client too."""
    for number, capitals in enumerate((url.replace("redis", "REDIS"), f"FILE://{tmp_path}/x")):
        machines = [Machine(tmp_path / f"{number}{n}", capitals) for n in "12"]
        assert machines[0].build(context)[0] is Origin.SOURCE
        assert machines[1].build(context)[0] is Origin.REMOTE


def test_objects_do_as_well(context: cl.Context, tmp_path: Path, s3: str) -> None:
    """On S3, and in a directory that a URL of a remote names."""
    for number, url in enumerate(
        (f"s3://programs{tmp_path}?endpoint={s3}&timeout=30", f"file://{tmp_path}/shared")
    ):
        first, second = (Machine(tmp_path / f"{number}{n}", url) for n in "12")
        assert first.build(context) == (Origin.SOURCE, 2)
        assert second.build(context) == (Origin.REMOTE, 2)
    assert len(entries(tmp_path / "shared")) == 1


def test_without_a_local_storage(context: cl.Context, url: str, cache_directory: Path) -> None:
    """The remote's URL in the place of a directory's: nothing is written here."""
    for origin in (Origin.SOURCE, Origin.REMOTE):
        with ProgramCache(url=url, harvest="eager") as cache:
            assert cache.explain(cache.build(context, SOURCE)).origin is origin
    assert not cache_directory.exists()


@pytest.mark.parametrize("make", [RedisStorageFactory, ConfigKVStorageFactory])
@pytest.mark.parametrize("serve", [silent, byte_by_byte(b"$1000000\r\n" + b"x" * 100, 0.1)])
def test_a_factory_of_a_remote_fails_open(
    context: cl.Context, make: Any, serve: Callable[[socket.socket], None]
) -> None:
    """In the place of a local one it is what its URL would be: asked once, then left alone."""
    with counted(serve) as (port, times):
        factory = make(f"redis://127.0.0.1:{port}?timeout=0.3&allow_unsigned=1")
        with ProgramCache(storage_factory=factory, harvest="eager") as cache:
            for number in range(3):
                assert scale(cache.build(context, make_source(f"by itself {number}"))) == 2
        assert len(times) == 1
    with pytest.raises(ConfigurationError, match="there is a remote"):
        ProgramCache(storage_factory=factory, remote="redis://host", allow_unsigned=True)


def test_a_factory_as_a_remote_is_used_as_it_says(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey, signed: dict[str, Any]
) -> None:
    """By its policy, its keys and its timeouts; and nothing is written by who only reads."""
    makers = (RedisStorageFactory, ConfigKVStorageFactory)
    for number, make in enumerate(makers):
        for options, remote in (({}, url + "&policy=read-only"), ({"read_only": True}, url)):
            machine = Machine(tmp_path / f"{number}{len(options)}", make(remote), **options)
            assert machine.build(context)[0] is Origin.SOURCE
            with pytest.raises(ConfigurationError, match="a policy that reads"):
                ProgramCache(remote=make(url + "&policy=write-only"), read_only=True)
    assert valkey.client().keys(f"{tmp_path}*") == []
    settings = read_settings(**{name: signed[name] for name in ("trusted_keys", "signing_key")})
    strict = ConfigKVStorageFactory(url.replace("allow_unsigned=1", ""), settings)
    assert Machine(tmp_path / "a", strict, **signed).build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "b", strict, **signed).build(context)[0] is Origin.REMOTE


def test_it_is_asked_only_for_what_no_nearer_tier_has(context: cl.Context, tmp_path: Path) -> None:
    """Memory, local storage and precompiled programs come first."""
    remote = FaultyStorage()
    machine = Machine(tmp_path / "1", FakeFactory(remote))
    machine.build(context)
    asked = remote.calls.count("find")
    machine.build(context)
    with ProgramCache(storage_path=machine.directory, **machine.options) as cache:
        cache.build(context, SOURCE)
        cache.build(context, SOURCE)
    paths = entries(machine.directory)
    shipped = Machine(tmp_path / "2", FakeFactory(remote), binary_paths=paths)
    assert shipped.build(context) == (Origin.PRECOMPILED, 2)
    assert remote.calls.count("find") == asked == 1


def test_a_warm_start_does_not_even_import_the_client(tmp_path: Path) -> None:
    """Nor look whether anybody answers."""
    with listening(silent) as port:
        dead = {"MACE_CACHE_REMOTE": f"redis://127.0.0.1:{port}?allow_unsigned=1&timeout=0.2"}
        dead["MACE_CACHE_DIR"] = str(tmp_path / "cache")
        assert run_child(BUILD, "warm", **dead) == "source 2 True\n"
        assert run_child(BUILD, "warm", **dead) == "storage 2 False\n"


def test_a_warm_start_asks_nobody_for_tuned_sizes(context: cl.Context, tmp_path: Path) -> None:
    """They lie beside their program; who fetches the program fetches them."""
    remote = FaultyStorage()
    machines = [Machine(tmp_path / str(number), FakeFactory(remote)) for number in range(2)]
    sizes = {("scale", "4096"): 128}
    with ProgramCache(storage_path=tmp_path / "0", **machines[0].options) as cache:
        cache.keep_tuned_sizes(cache.build(context, SOURCE), sizes)
    for machine, found in ((machines[1], sizes), (machines[1], sizes), (machines[0], sizes)):
        asked = len(remote.calls)
        with ProgramCache(storage_path=machine.directory, **machine.options) as cache:
            program = cache.build(context, SOURCE)
            assert cache.tuned_sizes(program) == found
            warm = cache.explain(program).origin is Origin.STORAGE
        assert (len(remote.calls) == asked) is warm
    machines[1].build(context, make_source("untuned"))
    asked = len(remote.calls)
    with ProgramCache(storage_path=tmp_path / "1", **machines[1].options) as cache:
        assert cache.tuned_sizes(cache.build(context, make_source("untuned"))) == {}
    assert len(remote.calls) == asked


def test_a_rejected_program_is_replaced_there(
    context: cl.Context, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one that is built here; what else lies in the local storage stays."""
    first, second = Machine(tmp_path / "1", url), Machine(tmp_path / "2", url)
    first.build(context)
    second.build(context, make_source("another"))
    with monkeypatch.context() as patch:
        assert refuse_loads(patch) == []
        assert second.build(context)[0] is Origin.SOURCE
    assert len(entries(second.directory)) == 2
    assert Machine(tmp_path / "3", url).build(context) == (Origin.REMOTE, 2)


def test_a_lying_remote(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Damage, and a program of another device, never reach the driver."""
    Machine(tmp_path / "1", url).build(context)
    loads = watch_loads(monkeypatch)
    place, _, query = url.partition("?")
    port = int(place.rpartition(":")[2])

    def flip(data: bytes) -> bytes:
        return data[:-300] + bytes([data[-300] ^ 1]) + data[-299:] if len(data) > 1000 else data

    with changing(port, flip) as lying:
        liar = Machine(tmp_path / "2", f"redis://127.0.0.1:{lying}?{query}&policy=read-only")
        assert liar.build(context) == (Origin.SOURCE, 2)
    storage = MemoryStorage()
    (name,) = RedisStorageFactory(url).names()
    (key,) = RedisStorageFactory(url).create_storage(name).keys()
    program = RedisStorageFactory(url).create_storage(name).find(key)
    assert program is not None
    foreign = program.__class__(**{**vars(program), "fingerprint": "device name: another\n"})
    storage.insert(key, foreign)
    liar = Machine(tmp_path / "3", FakeFactory(storage))
    assert liar.build(context) == (Origin.SOURCE, 2)
    assert loads == []


def test_garbage_that_is_well_formed_heals(
    context: cl.Context, tmp_path: Path, url: str, device: cl.Device
) -> None:
    """The driver refuses it on every machine until one has written its own."""
    Machine(tmp_path / "1", url).build(context)
    storage = RedisStorageFactory(url).create_storage(storage_name(fingerprint(device).text))
    (key,) = storage.keys()
    program = storage.find(key)
    assert program is not None
    storage.insert(key, program.__class__(**{**vars(program), "binary": GARBAGE}))
    assert Machine(tmp_path / "2", url).build(context) == (Origin.SOURCE, 2)
    assert Machine(tmp_path / "3", url).build(context) == (Origin.REMOTE, 2)


def test_who_only_writes_mends_what_is_bad_there(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey
) -> None:
    """It hasn't looked: what it builds goes in the place of whatever is there."""
    Machine(tmp_path / "1", url).build(context)
    client = valkey.client()
    (entry,) = client.scan_iter(f"{tmp_path}*")
    client.set(entry, b"garbage")
    writer = Machine(tmp_path / "2", url + "&policy=write-only")
    assert writer.build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "3", url).build(context) == (Origin.REMOTE, 2)


@pytest.mark.parametrize("options", [{"read_only": True}, {"remote_policy": "read-only"}])
def test_who_only_reads_writes_nothing(
    context: cl.Context, tmp_path: Path, valkey: Valkey, url: str, options: dict[str, Any]
) -> None:
    """Neither programs nor leases."""
    if options.pop("remote_policy", None):
        url += "&policy=read-only"
    assert Machine(tmp_path / "1", url, **options).build(context)[0] is Origin.SOURCE
    assert list(valkey.client().scan_iter(f"{tmp_path}*")) == []


def test_what_is_built_anew_is_written_anew(
    context: cl.Context, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``MACE_CACHE_RECACHE`` passes the remote over too, and mends it."""
    Machine(tmp_path / "1", url).build(context)
    storage = RedisStorageFactory(url).create_storage(RedisStorageFactory(url).names()[0])
    (key,) = storage.keys()
    before = storage.find(key)
    monkeypatch.setenv("MACE_CACHE_RECACHE", "1")
    assert Machine(tmp_path / "2", url).build(context)[0] is Origin.SOURCE
    after = storage.find(key)
    assert before is not None
    assert after is not None
    assert after.created > before.created


def test_a_build_that_fails_keeps_nobody_waiting(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey
) -> None:
    """The error is the caller's, and the lease is nobody's: all who wait find out at once."""
    machine = Machine(tmp_path / "1", url)
    with pytest.raises(cl.RuntimeError):
        machine.build(context, "kernel void broken( {")
    (lease,) = list(valkey.client().scan_iter(f"{tmp_path}*"))
    assert valkey.client().get(lease) == b"nobody"


def test_one_machine_builds_for_all(tmp_path: Path, url: str) -> None:
    """Machines that start together on nothing: one build, and all are warm."""
    machines = [
        start_child(BUILD, "fleet", MACE_CACHE_REMOTE=url, MACE_CACHE_DIR=str(tmp_path / str(n)))
        for n in range(3)
    ]
    answers = [machine.communicate(timeout=120) for machine in machines]
    assert sorted(out for out, _ in answers) == ["remote 2 True\n"] * 2 + ["source 2 True\n"], (
        answers
    )


def leases(valkey: Valkey, tmp_path: Path) -> int:
    """How many leases the test's machines have."""
    return len(list(valkey.client().scan_iter(f"{tmp_path}*:lease")))


def test_who_is_waited_for_harvests_soon(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey
) -> None:
    """PoCL, by default: once others ask for one program, all that were built are stored."""
    options: dict[str, Any] = {"harvest": "auto", "harvest_after": 1e6}
    first, second = (Machine(tmp_path / name, url, **options) for name in "12")
    sources = [make_source(f"awaited {n}", f"#define FACTOR {11 + n}\n") for n in range(3)]
    with ProgramCache(storage_path=first.directory, **first.options) as cache:
        assert [scale(cache.build(context, source)) for source in sources[:2]] == [11, 12]
        assert entries(first.directory) == []
        assert leases(valkey, tmp_path) == 2
        assert second.build(context, sources[1]) == (Origin.REMOTE, 12)
        assert second.build(context, sources[0]) == (Origin.REMOTE, 11)
        stored = {entry: entry.read_bytes() for entry in entries(first.directory)}
        assert len(stored) == 2
        assert scale(cache.build(context, sources[2])) == 13
        assert cache.factory.wait(30)
        assert leases(valkey, tmp_path) == 1
    assert len(entries(first.directory)) == 3
    assert all(entry.read_bytes() == data for entry, data in stored.items())
    assert leases(valkey, tmp_path) == 0
    assert second.build(context, sources[2]) == (Origin.REMOTE, 13)


def test_what_this_machine_has_just_built_is_not_waited_for(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PoCL's own cache has it for processes that start together: the second one asks no server."""
    take, build, waits = ProgramLocks.take, opencl.build_from_source, threading.Event()

    def taken(locks: ProgramLocks, wanted: Any, seconds: float, purpose: str = "") -> Any:
        if seconds and not purpose:
            waits.set()
        return take(locks, wanted, seconds, purpose)

    def built(*arguments: Any, **options: Any) -> tuple[cl.Program, float]:
        assert waits.wait(30)
        return build(*arguments, **options)

    monkeypatch.setattr(ProgramLocks, "take", taken)
    monkeypatch.setattr(opencl, "build_from_source", built)
    options: dict[str, Any] = {"storage_path": tmp_path / "1", "remote": url, "harvest_after": 1e6}
    with ProgramCache(**options) as first, ProgramCache(**options) as second:
        with ThreadPoolExecutor(2) as pool:
            programs = pool.map(lambda cache: cache.build(context, SOURCE), (first, second))
        assert [explain(program).origin for program in programs] == [Origin.SOURCE] * 2
        assert leases(valkey, tmp_path) == 1


def test_who_has_nothing_to_give_lets_the_others_build(
    context: cl.Context,
    tmp_path: Path,
    url: str,
    *,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The driver doesn't hand its binary out, and nobody waits until patience is over."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "1e6")
    options: dict[str, Any] = {"harvest": "auto", "harvest_after": 1e6}
    first, second = (Machine(tmp_path / name, url, **options) for name in "12")

    def fail(*_arguments: object) -> None:
        raise cl.RuntimeError("no binary")

    monkeypatch.setattr(opencl, "fetch_binaries", fail)
    with ProgramCache(storage_path=first.directory, **first.options) as cache:
        cache.build(context, SOURCE)
        assert second.build(context) == (Origin.SOURCE, 2)
    assert leases(valkey, tmp_path) == 0
    assert "lease failed" not in caplog.text


def test_what_is_not_harvested_in_time_is_left_to_others(
    context: cl.Context, tmp_path: Path, url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that goes, in a process that stays, holds no lease any more."""
    monkeypatch.setattr(PendingHarvest, "flush", lambda *_: False)
    cache = ProgramCache(storage_path=tmp_path / "1", remote=url, exit_timeout=0.0)
    cache.build(context, SOURCE)
    assert leases(valkey, tmp_path) == 1
    factory = cache.factory
    del cache
    gc.collect()
    assert factory.wait(30)
    assert leases(valkey, tmp_path) == 0


@pytest.mark.parametrize("reason", ["deferred", "no leases"])
def test_what_is_stored_late_is_not_waited_for(
    context: cl.Context, tmp_path: Path, url: str, reason: str
) -> None:
    """Each machine builds until one has stored it."""
    options: dict[str, Any] = {"harvest": "deferred" if reason == "deferred" else "auto"}
    if reason == "no leases":
        url = f"file://{tmp_path}/shared"
    first = Machine(tmp_path / "1", url, **options)
    with ProgramCache(storage_path=first.directory, **first.options) as cache:
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.SOURCE
        assert Machine(tmp_path / "2", url, **options).build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "3", url, **options).build(context)[0] is Origin.REMOTE


def test_what_nobody_verifies_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """An argument is an error that says what to write; a variable is reported, and not followed."""
    for arguments in (
        {"remote": "redis://user:s3cret@host"},
        {"remote": "s3://bucket"},
        {"remote": FakeFactory()},
        {"url": "redis://user:s3cret@host"},
    ):
        with pytest.raises(ConfigurationError, match="allow_unsigned=True written") as error:
            ProgramCache(**arguments)
        assert "s3cret" not in str(error.value)
    monkeypatch.setenv("MACE_CACHE_REMOTE", "redis://user:s3cret@host")
    assert not isinstance(ProgramCache().factory, TieredStorageFactory)
    (record,) = caplog.records
    assert "allow_unsigned=True written" in record.getMessage()
    assert "no remote is used" in record.getMessage()
    assert "s3cret" not in record.getMessage()
    assert isinstance(ProgramCache(allow_unsigned=True).factory, TieredStorageFactory)
    monkeypatch.setenv("MACE_CACHE_REMOTE", "redis://host?allow_unsigned=1")
    assert isinstance(ProgramCache().factory, TieredStorageFactory)


def test_every_byte_passes_the_verifier(context: cl.Context, tmp_path: Path, url: str) -> None:
    """Before anything of it is decoded; what it refuses is a miss."""

    class Verifier:
        seen: list[bytes] = []  # noqa: RUF012 (one test has one)

        def verify(self, payload: bytes, tier: str) -> bytes:
            assert tier.startswith("redis://")
            self.seen.append(payload)
            raise ConfigurationError("signature", tier, "that of a friend")

    Machine(tmp_path / "1", url).build(context)
    settings = RemoteSettings(verifier=Verifier())
    strict = RedisStorageFactory(url.replace("allow_unsigned=1", ""), settings)
    machine = Machine(tmp_path / "2", strict, allow_unsigned=False)
    assert machine.build(context)[0] is Origin.SOURCE
    assert Verifier.seen
    assert all(payload[:4] == b"MCLP" for payload in Verifier.seen)
    with pytest.raises(ConfigurationError, match="allow_unsigned"):
        remote_settings.verified(b"", "redis://host", RemoteSettings())
    assert remote_settings.verified(b"x", "redis://host", UNSIGNED) == b"x"


@pytest.fixture
def signed(tmp_path: Path) -> dict[str, Any]:
    """Options of machines that trust one key and sign with it."""
    key = make_key(PRIVATE)
    path = tmp_path / "fleet.key"
    path.touch(0o600)
    path.write_text(key.to_text() + "\n")
    return {
        "allow_unsigned": False,
        "trusted_keys": key.public().to_text(),
        "signing_key": path,
    }


def test_a_signed_fleet(
    context: cl.Context, tmp_path: Path, valkey: Valkey, signed: dict[str, Any]
) -> None:
    """It shares what it signs; who can't sign reads, and writes nothing in its place."""
    url = f"{valkey.url}?prefix={tmp_path}&timeout=30"
    reader = {**signed, "signing_key": None}
    assert Machine(tmp_path / "0", url, **reader).build(context)[0] is Origin.SOURCE
    assert list(valkey.client().scan_iter(f"{tmp_path}*")) == []
    assert Machine(tmp_path / "1", url, **signed).build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "2", url, **signed).build(context)[0] is Origin.REMOTE
    assert Machine(tmp_path / "3", url, **reader).build(context)[0] is Origin.REMOTE


def test_a_key_that_is_not_trusted_any_more(
    context: cl.Context,
    tmp_path: Path,
    *,
    valkey: Valkey,
    signed: dict[str, Any],
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was fetched under it is loaded no more, though it lies here, and is built in its place.

    PoCL is asked so that it can't answer with what it has kept of it either. What was built here
    stays, whatever is trusted, and so does what was fetched under another key.
    """
    url = f"{valkey.url}?prefix={tmp_path}&timeout=30"
    reader = {**signed, "signing_key": None}
    later = {**reader, "trusted_keys": make_key(PRIVATE).public().to_text()}
    both = {**later, "trusted_keys": f"{later['trusted_keys']},{signed['trusted_keys']}"}
    assert Machine(tmp_path / "1", url, **signed).build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "2", url, **reader).build(context)[0] is Origin.REMOTE
    assert Machine(tmp_path / "2", url, **both).build(context)[0] is Origin.STORAGE
    built: list[str] = []
    real = opencl.build_from_source

    def build(*arguments: Any, **options: Any) -> Any:
        built.append(arguments[1])
        return real(*arguments, **options)

    monkeypatch.setattr(opencl, "build_from_source", build)
    assert Machine(tmp_path / "2", url, **later).build(context) == (Origin.SOURCE, 2)
    assert [source.startswith(SOURCE) and source != SOURCE for source in built] == [True]
    (line, *_) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "2") in line
    assert "isn't trusted any more" in line
    assert Machine(tmp_path / "2", url, **later).build(context)[0] is Origin.STORAGE
    assert Machine(tmp_path / "1", url, **later).build(context)[0] is Origin.STORAGE


def strip(payload: bytes) -> bytes:
    """Take the signature off, with all digests right."""
    return encode([decode_entry(payload)])


def sign_otherwise(payload: bytes) -> bytes:
    """Sign with a key of one's own."""
    return sign(payload, make_key(PRIVATE))


def forge(payload: bytes) -> bytes:
    """Put other code under an old signature, with all digests right."""
    forged = bytearray(sign_otherwise(encode([replace(decode_entry(payload), binary=GARBAGE)])))
    forged[-88:] = payload[-88:]
    return bytes(forged)


@pytest.mark.parametrize("attack", [strip, sign_otherwise, forge])
def test_who_can_write_to_the_server_runs_nothing(
    context: cl.Context,
    tmp_path: Path,
    *,
    valkey: Valkey,
    signed: dict[str, Any],
    attack: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a miss with one line that names the server, and is replaced by who may sign."""
    url = f"{valkey.url}?prefix={tmp_path}&timeout=30"
    Machine(tmp_path / "1", url, **signed).build(context)
    client = valkey.client()
    (entry,) = client.scan_iter(f"{tmp_path}*")
    payload = client.get(entry)
    assert isinstance(payload, bytes)
    attacked = attack(payload)
    client.set(entry, attacked)
    loads = watch_loads(monkeypatch)
    reader = {**signed, "signing_key": None}
    assert Machine(tmp_path / "2", url, **reader).build(context)[0] is Origin.SOURCE
    assert client.get(entry) == attacked  # it may be good for somebody else
    assert Machine(tmp_path / "3", url, **signed).build(context)[0] is Origin.SOURCE
    assert loads == []
    assert Machine(tmp_path / "4", url, **reader).build(context)[0] is Origin.REMOTE
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "redis://127.0.0.1" in record.getMessage()
    assert "sign" in record.getMessage()


def test_a_signed_program_is_not_replayed(
    context: cl.Context, tmp_path: Path, valkey: Valkey, signed: dict[str, Any]
) -> None:
    """Under another program's key, though its signature is right."""
    url = f"{valkey.url}?prefix={tmp_path}&timeout=30"
    others = make_source("another", "#define FACTOR 5\n")
    Machine(tmp_path / "1", url, **signed).build(context)
    (mine,) = valkey.client().scan_iter(f"{tmp_path}*")
    Machine(tmp_path / "1", url, **signed).build(context, others)
    (theirs,) = set(valkey.client().scan_iter(f"{tmp_path}*")) - {mine}
    payload = valkey.client().get(theirs)
    assert isinstance(payload, bytes)
    valkey.client().set(mine, payload)
    assert Machine(tmp_path / "2", url, **signed).build(context) == (Origin.SOURCE, 2)
    assert Machine(tmp_path / "3", url, **signed).build(context, others) == (Origin.REMOTE, 5)


@pytest.mark.parametrize(
    ("remote", "match"),
    [
        ("redis://host?policy=all", "read-write, read-only, write-only"),
        ("redis://host?timeout=0", "above 0"),
        ("redis://host?connect_timeout=soon", "seconds"),
        ("redis://host?max_retries=0", "1 or more"),
        ("redis://host?compression=1", "only the options db, prefix"),
        ("redis://host:port", "a port"),
        ("ftp://host", "redis:"),
        ("nonsense", "redis:"),
        ("dir:/tmp", "redis:"),
    ],
)
def test_what_cannot_be_used(remote: str, match: str) -> None:
    """It is an error when the cache is made, not later."""
    with pytest.raises(ConfigurationError, match=match):
        ProgramCache(remote=remote, allow_unsigned=True)
    with pytest.raises(ConfigurationError, match="there is a remote"):
        ProgramCache(url="redis://host", remote=remote, allow_unsigned=True)


@pytest.mark.parametrize(("scheme", "package"), [("redis", "redis"), ("s3", "obstore")])
def test_an_extra_that_is_missing(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mace-cache\["):
        ProgramCache(remote=f"{scheme}://host", allow_unsigned=True)


def test_other_peoples_storages(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package registers a scheme; as a remote it is asked as any other."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(
        "[mace_cache.storages]\ntheirs = theirs:make\nbroken = theirs:missing\n"
    )
    tmp_path.joinpath("theirs.py").write_text(
        "from mace_cache.storage.memory import MemoryStorageFactory\n"
        "made = MemoryStorageFactory()\nasked = []\n"
        "def make(url, settings):\n    asked.append((url, settings))\n    return made\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    url = "theirs://place/x?colour=red&policy=read-write&timeout=7"
    assert Machine(tmp_path / "1", url).build(context)[0] is Origin.SOURCE
    assert Machine(tmp_path / "2", url).build(context)[0] is Origin.REMOTE
    import theirs  # type: ignore[import-not-found] # noqa: PLC0415 (made above)

    (asked, *_) = theirs.asked
    assert asked == ("theirs://place/x?colour=red", UNSIGNED._replace(timeout=7.0))
    with pytest.raises(ConfigurationError, match="theirs:missing"):
        ProgramCache(remote="broken://", allow_unsigned=True)
    with pytest.raises(UnknownSchemeError, match="theirs:") as error:
        ProgramCache(remote="unknown://")
    assert "theirs" in error.value.known


def test_switched_off_it_is_absent(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10 holds for the network too."""
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    remote = FaultyStorage()
    assert Machine(tmp_path / "1", FakeFactory(remote)).build(context)[0] is Origin.SOURCE
    assert remote.calls == []


@contextmanager
def counted(serve: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[float]]]:
    """Serve, and note when somebody connects: the port, and the times."""
    times: list[float] = []

    def noted(connection: socket.socket) -> None:
        times.append(time.monotonic())
        serve(connection)

    with listening(noted) as port:
        yield port, times


def hang_up(connection: socket.socket) -> None:
    """Close at once, as a server that crashes at each request does."""


HARMS: dict[str, Callable[[socket.socket], None]] = {
    "hung": silent,
    "hanging up": hang_up,
    "a byte a second": byte_by_byte(b"$1000000\r\n" + b"x" * 1000),
    "garbage": byte_by_byte(b"\x00\xff" * 100, 0),
    "another protocol": byte_by_byte(b"HTTP/1.1 400 Bad Request\r\n\r\n", 0),
    "errors": byte_by_byte(b"-ERR no\r\n", 0),
}


@pytest.mark.parametrize("scheme", ["redis", "rediss", "s3", "http"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_remote_that_fails(
    context: cl.Context, tmp_path: Path, harm: str, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Programs are built, stored and loaded as without one; it is left alone after its timeouts."""
    with counted(HARMS[harm]) as (port, times):
        place = {"s3": f"s3://b?region=r&endpoint=http://127.0.0.1:{port}&"}
        remote = place.get(scheme, f"{scheme}://127.0.0.1:{port}?") + "timeout=0.3"
        machine = Machine(tmp_path / "1", remote)
        with ProgramCache(storage_path=machine.directory, **machine.options) as cache:
            for number in range(2):
                program = cache.build(context, make_source(f"failing {number}"))
                assert cache.explain(program).origin is Origin.SOURCE
            cache.flush()
            tries = len(times)
            cache.build(context, make_source("failing 2"))
        assert len(times) == tries
        assert len(entries(machine.directory)) == 3
        assert machine.build(context, make_source("failing 0")) == (Origin.STORAGE, 2)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 3
    assert all("\n" not in record.getMessage() for record in warnings)


def test_a_full_server(context: cl.Context, tmp_path: Path, caplog: Any) -> None:
    """It is read as before; what it doesn't take is stored here only."""
    with running_valkey(tmp_path) as full:
        remote = f"{full.url}?timeout=30"
        Machine(tmp_path / "1", remote).build(context)
        full.client().config_set("maxmemory", "1")
        machine = Machine(tmp_path / "2", remote)
        assert machine.build(context, make_source("too much"))[0] is Origin.SOURCE
        assert machine.build(context)[0] is Origin.REMOTE
        assert machine.build(context, make_source("too much"))[0] is Origin.STORAGE
    assert "maxmemory" in caplog.text


def test_a_server_that_is_restarted(context: cl.Context, tmp_path: Path, caplog: Any) -> None:
    """A connection that has broken is made anew, and nothing is lost but what it forgot."""
    port = free_port()
    remote = f"redis://127.0.0.1:{port}?timeout=30"
    machine = Machine(tmp_path / "1", remote)
    with ProgramCache(storage_path=machine.directory, **machine.options) as cache:
        for number in range(2):
            with running_valkey(tmp_path, port=port) as server:
                cache.build(context, make_source(f"restarted {number}"))
                cache.flush()
                assert len(list(server.client().scan_iter())) == 1
                server.end()
    assert not caplog.records


def test_the_exit_waits_no_longer_than_told(tmp_path: Path) -> None:
    """A server that doesn't take an upload holds the process up for ``exit_timeout`` at most."""
    with listening(silent) as port:
        remote = f"redis://127.0.0.1:{port}?allow_unsigned=1&timeout=100&policy=write-only"
        child = start_child(
            EXIT, "exit", MACE_CACHE_REMOTE=remote, MACE_CACHE_DIR=str(tmp_path / "1")
        )
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (0, "source 2\n"), err
    assert "not all stored within 0.1 s" in err
    assert len(entries(tmp_path / "1")) == 1


SECRETS = [
    "http://user:S3KRET@127.0.0.1:9/x",
    "s3://b/p?region=r&endpoint=http://user:S3KRET@127.0.0.1:9",
    "redis://user:S3KRET@127.0.0.1:9",
    "redis://user:S3KRET@127.0.0.1:port",
    "redis://user:S3KRET?x@127.0.0.1:9",
    "redis://user:S3KRET/x@127.0.0.1:9",
    "redis://user:S3KRET#x@127.0.0.1:9",
    "redis:/user:S3KRET@127.0.0.1:9",
    "redis:user:S3KRET@127.0.0.1:9",
    "https:/user:S3KRET@127.0.0.1:9/x",
    "reddis://user:S3KRET@127.0.0.1:9",
    "reddis:user:S3KRET@127.0.0.1:9",
    "user:S3KRET@127.0.0.1:9",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_message_shows_a_password(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what refuses a URL, with all that led to it, nor a warning of what failed there."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3KRET")
    said = ""
    try:
        factory, settings = remotes.make_remote(url, Settings(None, allow_unsigned=True))
        assert isinstance(factory, RemoteStorageFactory)
        storage = factory.create_storage("x")
        access = FailingOpen(str(factory), settings, factory.disconnect)
        assert access.ask("read", lambda: storage.find("ab" * 32), None) is None
        (record,) = caplog.records
        said = f"{record.getMessage()} {storage}"
    except ConfigurationError as error:
        said = "".join(traceback.format_exception(error))
    assert "127.0.0.1:9" in said or "can't be used" in said
    assert "S3KRET" not in said


def test_what_is_shown_of_a_url() -> None:
    """The place, where it can be told from a password; and so in a server's own words."""
    assert remote_settings.shown("redis://u:p@host:1/2?prefix=x") == "redis://host:1/2"
    assert remote_settings.shown("redis://host?prefix=a@b") == "redis://..."
    assert remote_settings.shown("nonsense") == "nonsense"
    message = "GET https://u:p@host/x?sig=secret failed (http://h/y)\nmore"
    assert remote_settings.redacted(message) == "GET https://host/x failed (http://h/y)"


def test_what_a_server_says_is_only_text(context: cl.Context, tmp_path: Path, caplog: Any) -> None:
    """A terminal obeys none of it, and there is an end of it."""
    said = b"-ERR \x1b]0;obey\x07\x1b[2J" + b"on and on " * 1000 + b"\r\n"

    def serve(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(said)

    with listening(serve) as port:
        remote = f"redis://127.0.0.1:{port}?timeout=30&max_retries=1"
        assert Machine(tmp_path / "1", remote).build(context)[0] is Origin.SOURCE
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert warnings
    assert all(warning.isprintable() and len(warning) < 1000 for warning in warnings)
    assert any(r"\x1b]0;obey\x07" in warning for warning in warnings)


def test_who_only_reads_does_not_only_write(
    context: cl.Context, valkey: Valkey, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a policy that contradicts ``read_only`` nothing is made: it is refused, or reported."""
    url += "&policy=write-only"
    places: tuple[dict[str, Any], ...] = ({"url": url}, {"remote": url})
    for place in places:
        with pytest.raises(ConfigurationError, match="a policy that reads"):
            ProgramCache(**place, read_only=True, allow_unsigned=True)
    monkeypatch.setenv("MACE_CACHE_REMOTE", url)
    assert Machine(tmp_path / "1", None, read_only=True).build(context)[0] is Origin.SOURCE
    assert list(valkey.client().scan_iter(f"{tmp_path}*")) == []
