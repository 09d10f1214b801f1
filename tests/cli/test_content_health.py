"""``doctor`` on what lies in a cache directory: each harm is done to a file and has to be named."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from mace_cache._notebook import note_name
from mace_cache._notes import take_note
from mace_cache.cli import content_health, doctor
from mace_cache.cli.entries import load_entry
from mace_cache.container import encode
from mace_cache.errors import DamagedFileError
from mace_cache.rejections import Rejections
from mace_cache.statistics import Counts, StatisticsFile
from mace_cache.storage.directory import DirectoryStorageFactory
from tests.cli.conftest import STORAGE, Store, flip, make_program, run
from tests.cli.test_doctor import problems
from tests.helpers import run_child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mace_cache.cli.entries import Entry, StoredFile

PROGRAM = make_program("add")
STORED = f"v1/{STORAGE}"
SHARD = f"{STORED}/{PROGRAM.key[:2]}"
SIZE = len(encode([make_program("program 0")]))
ENTRY = f"{SHARD}/{PROGRAM.key}.mclp"
NOTE = note_name(STORAGE, PROGRAM)


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither drivers nor locks are tried."""
    monkeypatch.setattr(doctor, "examine_drivers", lambda _seconds: iter(()))
    monkeypatch.setattr(doctor, "examine_directory", lambda *_, **__: iter(()))


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _hard_link(path: Path) -> None:
    path.with_name("elsewhere").hardlink_to(path)


def _fifo(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    os.mkfifo(path)


def _file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _group(path: Path) -> None:
    path.chmod(0o660)


def _others(path: Path) -> None:
    path.chmod(0o777 if path.is_dir() else 0o666)


@pytest.mark.parametrize(
    ("about", "place", "harm", "why"),
    [
        ("cache directory", SHARD, _others, "any other user can write to it"),
        ("cache directory", SHARD, _link, "it is a link or no directory"),
        ("cache directory", "v1/locks", _link, "it is a link or no directory"),
        ("cache directory", "v1/locks", _file, "it is a link or no directory"),
        ("cache directory", "v1/guard/proven", _others, "any other user can write to it"),
        ("programs", ENTRY, _others, "any other user can write to it"),
        ("programs", ENTRY, _group, "can write to it"),
        ("programs", ENTRY, _link, "it is a link"),
        ("programs", ENTRY, _fifo, "it is no file"),
        ("programs", ENTRY, flip, "the digest is wrong"),
        ("programs", ENTRY, _empty, "it doesn't start with MCLP"),
        ("files", "v1/usage", _hard_link, "it has other names (hard links)"),
        ("files", "v1/usage.lock", _link, "it is a link"),
        ("files", "v1/statistics.jsonl", _hard_link, "it has other names (hard links)"),
        ("files", "v1/statistics.jsonl", _others, "any other user can write to it"),
        ("files", "v1/locks/abc.lock", _others, "any other user can write to it"),
        ("files", f"v1/{STORAGE}.rejections", _fifo, "it is no file"),
        ("cache directory", STORED, _file, "it is a link or no directory"),
        ("cache directory", STORED, _fifo, "it is a link or no directory"),
        ("files", f"v1/guard/{NOTE}", _hard_link, "it has other names (hard links)"),
        ("files", f"v1/guard/{NOTE}", _others, "any other user can write to it"),
    ],
)
def test_what_is_not_used(
    store: Store, about: str, place: str, harm: Callable[[Path], None], why: str
) -> None:
    """Which, why, and what can be done; a cache doesn't use it indeed."""
    _fill(store)
    assert problems() == []
    path = store.directory / place
    harm(path)
    (line,) = problems()
    assert line.startswith(f"{about}: {path}: ")
    assert why in line
    assert any(told in line for told in ("remove it", "mace-cache verify", "chmod o-w")), line
    assert _loads(store) is (place not in (STORED, SHARD, ENTRY))


def _fill(store: Store) -> None:
    """Make all that a cache makes."""
    store.insert(PROGRAM)
    place = store.factory.place
    StatisticsFile(place).append(Counts(hits=1))
    Rejections(place, STORAGE).count()
    for below in ("locks", "guard/proven"):
        (store.directory / "v1" / below).mkdir(0o700, parents=True)
    (store.directory / "v1/guard").chmod(0o700)
    (store.directory / "v1/locks/abc.lock").touch(0o600)
    take_note(place, NOTE, 1).end(1)


def _loads(store: Store) -> bool:
    factory = DirectoryStorageFactory(store.directory, read_only=True)
    try:
        return factory.create_storage(STORAGE).find(PROGRAM.key) is not None
    except (OSError, DamagedFileError):
        return False


_MODES = {
    STORED: 0o500,
    SHARD: 0o500,
    "v1/locks": 0o500,
    "v1/guard": 0o500,
    "v1/guard/proven": 0o500,
    "v1/usage": 0,
    "v1/usage.lock": 0,
    "v1/locks/abc.lock": 0,
    "v1/statistics.jsonl": 0o400,
    f"v1/guard/{NOTE}": 0,
}
_AS_NOBODY = """
import json, os, sys
from pathlib import Path
import filelock
from mace_cache.cli.content_health import examine_contents
from tests.cli.conftest import Store
from tests.cli.test_content_health import _MODES, _fill

root = Path(sys.argv[1])
if os.geteuid() == 0:  # who may do everything notices no missing bit
    os.chown(root, 65534, 65534)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
store = Store(root)
_fill(store)
found = []
for place, mode in _MODES.items():
    before = os.stat(root / place).st_mode
    os.chmod(root / place, mode)
    for read_only in (False, True):
        findings = examine_contents(store.factory.place, read_only=read_only)[1]
        found.append([f"{one.text}: {one.remedy}" for one in findings if one.state == "problem"])
    os.chmod(root / place, before)
print(json.dumps(found))
"""


def test_what_the_user_may_not_do() -> None:
    """Asked as a user whom modes hold up: where nothing can be stored, counted or locked.

    It is no matter where nothing is to be written.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # pytest's own is closed to others
        found = json.loads(run_child(_AS_NOBODY, root))
    assert found[1::2] == [[]] * len(_MODES)
    for place, lines in zip(_MODES, found[::2], strict=True):
        (line,) = lines
        assert line.startswith(f"{root}/{place}: it can't be ")
        assert "chmod u+rw" in line


def test_what_another_user_owns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root does after sudo: it is named with who it is."""
    path = store.insert(PROGRAM)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        told = os.stat_result((*list(path.stat())[:4], 12345, *list(path.stat())[5:]))
        monkeypatch.setattr(content_health, "_status", lambda _path: told)
    (line,) = problems()
    assert line.startswith(f"programs: {path}: another user (12345) owns it")
    monkeypatch.setenv("MACE_CACHE_TRUST", "uid:12345")
    assert problems() == []


def test_what_is_alike_is_told_once(store: Store) -> None:
    """A line a kind of fault, however many programs have it."""
    paths = [store.insert(make_program(f"program {number}")) for number in range(5)]
    for path in paths[:3]:
        path.chmod(0o666)
    flip(paths[3])
    writable, damaged = problems()
    assert " (and 2 more): any other user can write to it" in writable
    assert damaged.startswith(f"programs: {paths[3]}: the digest is wrong")
    assert "5 programs looked at, 2 of them read whole" in run("doctor").output
    command = damaged.partition("mace-cache verify names")
    assert command[1]
    run("verify", "--remove")
    assert not paths[3].exists()


def test_nothing_is_changed(store: Store) -> None:
    """What is damaged stays, and is no more used than it was."""
    path = store.insert(PROGRAM)
    store.insert(make_program("another"))
    flip(path)
    os.utime(path, (0, 0))
    before = store.contents()
    assert run("doctor").code == 1
    assert store.contents() == before


def test_the_work_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many programs some are looked at and fewer read, and it is said how many."""
    for number in range(12):
        store.insert(make_program(f"program {number}"))
    asked: list[str] = []
    read: list[StoredFile] = []
    real_status = content_health._status

    def ask(path: str) -> os.stat_result | None:
        asked.append(path)
        return real_status(path)

    def load(factory: DirectoryStorageFactory, file: StoredFile) -> Entry | None:
        read.append(file)
        return load_entry(factory, file)

    monkeypatch.setattr(content_health, "_status", ask)
    monkeypatch.setattr(content_health, "load_entry", load)
    monkeypatch.setattr(content_health, "_MOST_SEEN", 7)
    monkeypatch.setattr(content_health, "_MOST_READ", 3)
    assert "7 programs looked at (there are more), 3 of them read whole" in run("doctor").output
    assert len([path for path in asked if path.endswith(".mclp")]) <= 8
    assert len(read) == 3
    monkeypatch.setattr(content_health, "_MOST_BYTES_READ", 2 * SIZE)
    assert ", 2 of them read whole" in run("doctor").output


def test_no_program(store: Store) -> None:
    """Nothing is told of programs where there are none."""
    store.insert(PROGRAM).unlink()
    told = run("doctor")
    assert told.code == 0
    assert "programs:" not in told.output


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (100, "hardly a program fits within MACE_CACHE_MAX_SIZE (100 B)"),
        (40_000, "is larger than MACE_CACHE_MAX_SIZE (39.1 KiB)"),
        (120_000, "are stored, more than MACE_CACHE_MAX_SIZE (117.2 KiB)"),
        (10**6, ""),
        (0, ""),
    ],
)
def test_a_size_that_is_too_small(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: int, why: str
) -> None:
    """For any program, for one that is stored, for what is stored in all."""
    for number in range(3):
        store.insert(make_program(f"program {number}", binary=bytes(50_000)))
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", str(limit))
    lines = problems()
    assert len(lines) == (2 if limit == 100 else bool(why))
    assert all("raise it" in line for line in lines)
    assert why in "".join(lines[:1])


def test_a_size_that_one_run_fills(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left was all used just now, and others had to go: the next start misses them."""
    size = len(encode([make_program("program 0", binary=bytes(50_000))]))
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", str(4 * size))
    factory = DirectoryStorageFactory(store.directory, max_size=4 * size)
    storage = factory.create_storage(STORAGE)
    for number in range(9):
        program = make_program(f"program {number}", binary=bytes(50_000))
        storage.insert(program.key, program)
    assert problems() == []
    StatisticsFile(factory.place).append(Counts(stored=9, evictions=storage.evicted))
    (line,) = problems()
    assert f"{storage.evicted} programs had to be removed for others within" in line
    (oldest, *_) = store.directory.rglob("*.mclp")
    then = time.time() - 7200
    os.utime(oldest, (then, then))
    assert problems() == [], "what is seldom used makes room for what is"


def test_crashes_that_pocl_may_repeat(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own directory is named where there were crashes and something is in it: a note."""
    monkeypatch.setenv("POCL_CACHE_DIR", str(tmp_path / "pocl"))
    store.insert(PROGRAM)
    place = store.factory.place
    (tmp_path / "pocl" / "unpacked").mkdir(parents=True)
    assert "have died" not in run("doctor").output
    StatisticsFile(place).append(Counts(crashes=2))
    told = run("doctor")
    assert told.code == 0
    assert "note     PoCL's cache: processes have died of programs (2 in" in told.output
    assert f"into {tmp_path / 'pocl'}; empty that directory" in told.output
    (tmp_path / "pocl" / "unpacked").rmdir()
    assert "have died" not in run("doctor").output
