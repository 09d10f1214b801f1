"""Programs on disk are kept within a size, the least recently used go first."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from mace_cache._locking import file_lock
from mace_cache.container import encode
from mace_cache.storage._layout import walk
from mace_cache.storage.directory import DirectoryStorageFactory, GarbageReport
from tests.storage.conformance import (
    OTHER_FINGERPRINT,
    OTHER_NAME,
    insert_all,
    make_key,
    make_program,
    open_storage,
)
from tests.storage.test_directory import entry_of, run_processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mace_cache._directories import Place

SIZE = len(encode([make_program()]))


def _age(root: Path, number: int, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(entry_of(root, make_key(number)), (then, then))


def _ledger(root: Path) -> int:
    return int((root / "v1" / "usage").read_text())


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    """A program that was hit outlives an older insert that wasn't."""
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=4 * SIZE))
    insert_all(storage, [make_program(n) for n in range(4)])
    for number, hours in enumerate([9, 8, 7, 6]):
        _age(tmp_path, number, hours)
    storage.find(make_key(0))
    storage.insert(make_key(4), make_program(4))  # five are over it; 90 % of four are three
    assert sorted(storage.keys()) == [make_key(0), make_key(3), make_key(4)]
    assert storage.evicted == 2


def test_eviction_goes_over_all_fingerprints(tmp_path: Path) -> None:
    """The limit holds for the whole root: an unused device's programs make room."""
    factory = DirectoryStorageFactory(tmp_path, max_size=4 * SIZE + 100)
    old = [make_program(n, fingerprint=OTHER_FINGERPRINT) for n in range(3)]
    insert_all(open_storage(factory, OTHER_NAME), old)
    for number in range(3):
        os.utime(entry_of(tmp_path, make_key(number), OTHER_NAME), (number, number))
    insert_all(open_storage(factory), [make_program(n) for n in range(2)])
    assert len(list(open_storage(factory).keys())) == 2
    assert len(list(open_storage(factory, OTHER_NAME).keys())) == 1


def test_an_insert_never_evicts_itself(tmp_path: Path) -> None:
    """A program that alone takes nearly all of the limit is stored and found."""
    large = make_program(9, bytes(9 * SIZE))
    limit = len(encode([large])) + 10
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=limit))
    insert_all(storage, [make_program(n) for n in range(3)])
    storage.insert(large.key, large)
    assert list(storage.keys()) == [large.key]


def test_without_a_limit_nothing_goes(tmp_path: Path) -> None:
    """``max_size=0`` keeps everything, and the ledger all the same."""
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=0))
    insert_all(storage, [make_program(n) for n in range(20)])
    assert len(list(storage.keys())) == 20
    assert _ledger(tmp_path) == 20 * SIZE


@pytest.mark.parametrize("garbage", [None, b"", b"garbage", b"0" * 500, b"-0000000000000000001\n"])
def test_a_lost_or_garbled_ledger_is_counted_afresh(tmp_path: Path, garbage: bytes | None) -> None:
    """The next insert lists the files, and keeps to the limit."""
    factory = DirectoryStorageFactory(tmp_path, max_size=0)
    insert_all(open_storage(factory), [make_program(n) for n in range(10)])
    ledger = tmp_path / "v1" / "usage"
    ledger.unlink()
    if garbage is not None:
        ledger.write_bytes(garbage)
    limited = DirectoryStorageFactory(tmp_path, max_size=8 * SIZE)
    open_storage(limited).insert(make_key(10), make_program(10))
    assert limited.total_size() == _ledger(tmp_path) == 8 * SIZE


def test_a_ledger_that_is_too_high_costs_a_count_and_no_more(tmp_path: Path) -> None:
    """What crashes leave in the ledger is put right before anything is evicted for it."""
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=10 * SIZE))
    insert_all(storage, [make_program(n) for n in range(3)])
    (tmp_path / "v1" / "usage").write_bytes(b"%020d\n" % 10**15)
    storage.insert(make_key(3), make_program(3))
    assert len(list(storage.keys())) == 4
    assert _ledger(tmp_path) == 4 * SIZE


def test_most_inserts_list_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are listed once for many inserts, so the cost doesn't grow with their number."""
    sweeps = 0

    def counting(place: Place) -> object:
        nonlocal sweeps
        sweeps += 1
        return walk(place)

    monkeypatch.setattr("mace_cache.storage._usage.walk", counting)
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=100 * SIZE))
    insert_all(storage, [make_program(n) for n in range(200)])
    assert storage.evicted == 110  # 10 sweeps of 11 each: the new one and a tenth of the limit
    assert sweeps == 1 + 10  # and the first insert, which finds no ledger


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("how", ["collect", "insert", "clear"])
def test_abandoned_temporaries_go_and_fresh_ones_stay(
    tmp_path: Path, how: str, *, beside: bool
) -> None:
    """What a dead process left half written is removed an hour later, not under a live one.

    In a shard, and beside the storages, where counts and notes are published; by name and age only.
    """
    factory = DirectoryStorageFactory(tmp_path)
    storage = open_storage(factory)
    storage.insert(make_key(), make_program())
    shard = entry_of(tmp_path, make_key()).parent
    place = tmp_path / "v1" if beside else shard
    stale, fresh = place / f".tmp-{'a' * 32}", place / f".tmp-{'b' * 32}"
    others = [place / f".tmp-{'a' * 31}", place / "thesis.tmp", place / f".tmp-{'A' * 32}"]
    for path in (stale, fresh, *others):
        path.write_bytes(bytes(100))
        os.utime(path, (0, 0) if path is not fresh else None)
    if how == "collect":
        assert factory.collect_garbage() == GarbageReport(
            removed_files=1, removed_bytes=100, entries=1, bytes=SIZE, evicted=0
        )
    elif how == "insert":
        (tmp_path / "v1" / "usage").unlink()  # so that it counts
        storage.insert(make_key(1), make_program(1))
    else:
        storage.clear()
    assert not stale.exists()
    assert all(path.exists() for path in (fresh, *others))


def test_collecting_brings_it_within_the_limit(tmp_path: Path) -> None:
    """``collect_garbage`` evicts what a smaller limit has no room for, and no more than that."""
    insert_all(open_storage(DirectoryStorageFactory(tmp_path)), [make_program(n) for n in range(6)])
    for number in range(6):
        _age(tmp_path, number, 10 - number)
    smaller = DirectoryStorageFactory(tmp_path, max_size=4 * SIZE)
    report = smaller.collect_garbage()
    assert (report.evicted, report.entries, report.bytes) == (2, 4, 4 * SIZE)
    assert sorted(open_storage(smaller).keys()) == [make_key(n) for n in range(2, 6)]
    assert smaller.collect_garbage() == GarbageReport(entries=4, bytes=4 * SIZE)


def test_collecting_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    """An empty place stays empty."""
    assert DirectoryStorageFactory(tmp_path / "none").collect_garbage() == GarbageReport()
    assert list(tmp_path.iterdir()) == []


def test_many_processes_keep_within_the_limit(tmp_path: Path) -> None:
    """Ten processes that insert at once stay under it, and evict no more than they must."""
    limit = 40 * len(encode([make_program(0, bytes(4096))]))
    run_processes("crowd", tmp_path, 10, 20, limit)
    total = DirectoryStorageFactory(tmp_path).total_size()
    assert 0.85 * limit < total <= limit
    assert _ledger(tmp_path) == total


def test_many_processes_lose_nothing_of_each_others(tmp_path: Path) -> None:
    """Where there is room, every program of every process is there, and the ledger is exact."""
    run_processes("crowd", tmp_path, 10, 10, 0)
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    found = [storage.find(make_key(number)) for number in range(100)]
    assert found == [make_program(number, bytes(4096)) for number in range(100)]
    assert _ledger(tmp_path) == DirectoryStorageFactory(tmp_path).total_size()


def test_an_insert_goes_on_without_a_lock_that_others_hold(tmp_path: Path) -> None:
    """A process that holds the ledger for ever costs the others a bounded wait."""
    factory = DirectoryStorageFactory(tmp_path, lock_timeout=0.05)
    storage = open_storage(factory)
    storage.insert(make_key(0), make_program(0))
    with file_lock(tmp_path / "v1" / "usage.lock", 1) as held:
        assert held
        storage.insert(make_key(1), make_program(1))
    assert storage.find(make_key(1)) == make_program(1)
    assert _ledger(tmp_path) == 2 * SIZE


@pytest.mark.parametrize("name", ["usage", "usage.lock"])
def test_links_for_the_ledger_are_not_written_through(tmp_path: Path, name: str) -> None:
    """Promise 8: neither the ledger nor its lock touches a file that a link points at."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    storage = open_storage(DirectoryStorageFactory(tmp_path / "cache"))
    storage.insert(make_key(0), make_program(0))
    place = tmp_path / "cache" / "v1" / name
    place.unlink()
    place.symlink_to(outside)
    try:
        storage.insert(make_key(1), make_program(1))
    except OSError:
        assert name == "usage"
    assert outside.read_text() == "mine"


def test_a_storage_that_is_refused_does_not_stop_the_others(tmp_path: Path) -> None:
    """A directory that others can write to is passed over by the count, not an error for all."""
    factory = DirectoryStorageFactory(tmp_path, max_size=2 * SIZE)
    insert_all(open_storage(factory, OTHER_NAME), [make_program(0, fingerprint=OTHER_FINGERPRINT)])
    (tmp_path / "v1" / OTHER_NAME).chmod(0o777)
    insert_all(open_storage(factory), [make_program(n) for n in range(4)])
    assert entry_of(tmp_path, make_key(0), OTHER_NAME).exists()
    assert factory.total_size() <= 2 * SIZE


def test_a_process_that_dies_publishing_leaves_the_ledger_too_high(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger knows of a program before it is there, so a crash can't make it too low."""
    storage = open_storage(DirectoryStorageFactory(tmp_path))
    storage.insert(make_key(0), make_program(0))
    at_publishing = []

    def die(*_: object, **__: object) -> None:
        at_publishing.append(_ledger(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        storage.insert(make_key(1), make_program(1))
    assert at_publishing == [2 * SIZE]
    assert list(storage.keys()) == [make_key(0)]


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_stranger_in_the_ledgers_place(tmp_path: Path, kind: str) -> None:
    """Programs are stored and kept within the limit whatever stands there; nobody waits."""
    (tmp_path / "v1").mkdir(mode=0o700)
    victim, place = tmp_path / "victim", tmp_path / "v1" / "usage"
    victim.write_text("mine")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: place.symlink_to(victim),
        "fifo": lambda: os.mkfifo(place),
        "directory": place.mkdir,
    }
    make[kind]()
    storage = open_storage(DirectoryStorageFactory(tmp_path, max_size=4 * SIZE))
    insert_all(storage, [make_program(n) for n in range(9)])
    assert 3 <= len(list(storage.keys())) <= 4
    assert victim.read_text() == "mine"
