"""``stats``, ``clear`` and ``gc``."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import pytest

from mace_cache._directories import Place
from mace_cache._notebook import mark, note_name
from mace_cache._notes import take_note
from mace_cache.rejections import Rejections
from mace_cache.statistics import Counts, StatisticsFile
from tests.cli.conftest import (
    OTHER_FINGERPRINT,
    OTHER_STORAGE,
    STORAGE,
    Store,
    make_program,
    one_line,
    run,
)

COUNTS = Counts(hits=1234, misses=5, rebuilds=2, evictions=3, seconds_saved=98.5)


def count(store: Store) -> StatisticsFile:
    """Append counts as a cache does."""
    statistics = StatisticsFile(store.directory / "v1")
    statistics.append(COUNTS)
    return statistics


def test_stats_print_counts_and_size(store: Store) -> None:
    """What was counted, and what is stored against which limit."""
    count(store)
    path = store.insert(make_program("add"))
    printed = {
        name.rstrip(): value
        for name, _, value in (line.partition("  ") for line in run("stats").output.splitlines())
    }
    values = {name: value.strip() for name, value in printed.items()}
    assert values["hits"] == "1,234"
    assert values["misses"] == "5"
    assert values["rebuilds"] == "2"
    assert values["evictions"] == "3"
    assert values["seconds saved"] == "98.50 s"
    assert values["programs stored"] == "1"
    assert values["size"] == f"{path.stat().st_size} B of 1.0 GiB"


def test_stats_as_json(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented members."""
    count(store)
    path = store.insert(make_program("add"))
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", "2M")
    assert run("stats", "--json").json == {
        "directory": str(store.directory),
        "counts": asdict(COUNTS),
        "entries": 1,
        "bytes": path.stat().st_size,
        "max_size": 2 << 20,
    }


def test_stats_without_a_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of 0 is none."""
    store.insert(make_program("add"))
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", "0")
    assert "of any size" in run("stats").output


def test_zero_prints_the_counts_and_starts_anew(store: Store) -> None:
    """The counts are printed a last time; the programs stay."""
    statistics = count(store)
    path = store.insert(make_program("add"))
    assert run("stats", "--zero", "--json").json["counts"] == asdict(COUNTS)
    assert statistics.total() == Counts()
    assert path.exists()
    assert "counting starts anew" in run("stats", "--zero").output


def test_zero_says_where_it_fails(store: Store) -> None:
    """Counts that can't be removed are an error, not a silence."""
    os.makedirs(store.directory / "v1" / "statistics.jsonl", 0o700)
    assert "statistics.jsonl" in one_line(run("stats", "--zero"), code=1)


def test_clear_refuses_when_nobody_can_be_asked(store: Store) -> None:
    """Without ``--yes`` and a terminal nothing is removed."""
    path = store.insert(make_program("add"))
    assert "--yes" in one_line(run("clear"), code=2)
    assert path.exists()


def test_clear_removes_programs_and_says_how_many(store: Store) -> None:
    """All storages, their notes of rejections and deaths, and nothing else."""
    paths = [store.insert(make_program("add")), store.insert(make_program("mul"))]
    size = sum(path.stat().st_size for path in paths)
    foreign = paths[0].parent / "mine.txt"
    foreign.write_text("mine")
    Rejections(store.factory.place, STORAGE).count()
    mark(store.factory.place, note_name(STORAGE, make_program("add")))
    statistics = count(store)
    cleared = run("clear", "--yes")
    assert cleared.code == 0
    assert list((store.directory / "v1" / "guard" / "proven").iterdir()) == []
    assert cleared.output.startswith(f"removed 2 programs, {size / 1024:.1f} KiB, from ")
    assert not any(path.exists() for path in paths)
    assert not (store.directory / "v1" / f"{STORAGE}.rejections").exists()
    assert foreign.read_text() == "mine"
    assert statistics.total() == COUNTS


def test_clear_of_one_device(store: Store) -> None:
    """Others stay, with their notes."""
    path = store.insert(make_program("add"))
    other = store.insert(make_program("mul", OTHER_FINGERPRINT))
    for name in (STORAGE, OTHER_STORAGE):
        Rejections(store.factory.place, name).count()
    size = other.stat().st_size
    cleared = run("clear", "--device", OTHER_STORAGE[:-3], "--yes", "--json")
    assert cleared.json == {
        "directory": str(store.directory),
        "storages": [OTHER_STORAGE],
        "removed_entries": 1,
        "removed_bytes": size,
    }
    assert path.exists()
    assert not other.exists()
    assert (store.directory / "v1" / f"{STORAGE}.rejections").exists()
    assert not (store.directory / "v1" / f"{OTHER_STORAGE}.rejections").exists()


@pytest.mark.parametrize("place", ["cache", "home", "temporary"])
def test_clear_forgets_what_is_noted_elsewhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """For a cache that only reads, notes lie among the user's caches or temporary files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    where = {
        "cache": store.factory.place,
        "home": Place(str(tmp_path / "home" / "mace_cache_state")),
        "temporary": Place(str(tmp_path / f"mace_cache_state-{os.getuid()}")),
    }[place]
    store.insert(make_program("add"))
    names = [note_name(storage, make_program("add")) for storage in (STORAGE, OTHER_STORAGE)]
    for name in names:
        take_note(where, name, 1).end(3)
    notes = [Path(where) / "guard" / name for name in names]
    assert run("clear", "--device", STORAGE, "--yes").code == 0
    assert [note.exists() for note in notes] == [False, True]
    assert run("clear", "--yes").code == 0
    assert not notes[1].exists(), "of a storage that has no programs here"


def test_clear_ends_a_step_aside_without_programs(store: Store) -> None:
    """A driver that rejected everything has an empty storage: its note goes all the same."""
    note = store.directory / "v1" / f"{STORAGE}.rejections"
    Rejections(store.factory.place, STORAGE).count()
    assert run("clear", "--device", STORAGE, "--yes").code == 0
    assert not note.exists()


def test_clear_keeps_notes_of_no_storage(store: Store) -> None:
    """A file whose name no storage can have isn't ours."""
    store.insert(make_program("add"))
    strange = [store.directory / "v1" / name for name in ("back\\slash.rejections", ".rejections")]
    for path in strange:
        path.write_text("mine")
    assert run("clear", "--yes").code == 0
    assert all(path.exists() for path in strange)


def test_clear_follows_no_link(store: Store, tmp_path: Path) -> None:
    """What a link in the cache directory points at is not removed."""
    path = store.insert(make_program("add"))
    elsewhere = tmp_path / "elsewhere"
    os.rename(path.parent, elsewhere)
    os.symlink(elsewhere, path.parent)
    assert run("clear", "--yes").code == 0
    assert (elsewhere / path.name).exists()


def test_clear_of_a_read_only_cache(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MACE_CACHE_READ_ONLY`` holds for commands as well."""
    path = store.insert(make_program("add"))
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    for command in (["clear", "--yes"], ["gc"], ["stats", "--zero"], ["verify", "--remove"]):
        assert "is read-only" in one_line(run(*command), code=1)
    assert path.exists()


def test_clear_of_what_can_not_be_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unwritable directory is one line with the system's reason."""
    path = store.insert(make_program("add"))

    def refuse(name: str, **_options: int) -> NoReturn:
        raise PermissionError(13, "Permission denied", name)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        assert "Permission denied" in one_line(run("clear", "--yes"), code=1)
    assert path.exists()


def test_gc_removes_the_longest_unused(store: Store) -> None:
    """What is over ``--max-size`` goes, and what was removed is told."""
    old, new = store.insert(make_program("add")), store.insert(make_program("mul"))
    os.utime(old, (1_600_000_000, 1_600_000_000))
    size = old.stat().st_size
    told = run("gc", "--max-size", new.stat().st_size + 10)
    assert told.code == 0
    assert "removed 1 program and 0 abandoned files" in told.output
    assert f"{size} B; 1 program" in told.output
    assert new.exists()
    assert not old.exists()


def test_gc_removes_abandoned_files(store: Store) -> None:
    """What a process that died left half written goes after an hour."""
    path = store.insert(make_program("add"))
    abandoned = path.parent / f".tmp-{'0' * 32}"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (1_600_000_000, 1_600_000_000))
    assert run("gc", "--json").json == {
        "directory": str(store.directory),
        "removed_files": 1,
        "removed_bytes": 4,
        "entries": 1,
        "bytes": path.stat().st_size,
        "evicted": 0,
    }
    assert not abandoned.exists()


def test_gc_of_an_absent_cache(cache_directory: Path) -> None:
    """Nothing is removed and nothing made."""
    assert run("gc").code == 0
    assert not cache_directory.exists()


def test_gc_refuses_what_is_no_size(store: Store) -> None:
    """A wrong argument is exit code 2, and nothing is removed."""
    path = store.insert(make_program("add"))
    assert "'lots'" in one_line(run("gc", "--max-size", "lots"), code=2)
    assert path.exists()
