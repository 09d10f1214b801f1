"""``doctor`` on the crash guard: where it notes things, and what it loads no more."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from mace_cache._notebook import note_name, note_places
from mace_cache._notes import CONVICTED, MOST_DEATHS, UNCLEAR, take_note
from mace_cache.cli import doctor
from tests.cli.conftest import STORAGE, Store, make_program, run
from tests.cli.test_doctor import problems


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver is tried."""
    monkeypatch.setattr(doctor, "examine_drivers", lambda _seconds: iter(()))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's caches are; files for a while lie beside it."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return directory


def told_of_guard() -> list[str]:
    """Run the command, and give what it says of the guard, with the state."""
    findings = run("doctor", "--json").json["findings"]
    return [f"{one['state']} {one['text']}" for one in findings if one["about"] == "guard"]


def test_where_it_notes(store: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the programs, or where nothing is written there in a place of the user's own."""
    store.insert(make_program("add"))
    beside = f"ok what is loaded for the first time is noted in {store.directory}/v1/guard"
    assert told_of_guard() == [beside]
    take_note(store.factory.place, "a" * 80, 1).end()
    before = sorted(store.directory.rglob("*"))
    assert told_of_guard() == [beside], "tried in a directory that is there"
    assert sorted(store.directory.rglob("*")) == before
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    (line,) = told_of_guard()
    assert line.endswith(f" is noted in {home}/mace_cache_state/guard")
    assert list(home.iterdir()) == [], "nothing is made"


def test_a_place_that_is_passed_over(store: Store, home: Path) -> None:
    """It is said which, and why."""
    store.insert(make_program("add"))
    (store.directory / "v1" / "guard").mkdir()
    (store.directory / "v1" / "guard").chmod(0o777)
    (line,) = told_of_guard()
    assert line.startswith(f"ok what is loaded for the first time is noted in {home}/mace_cache_s")
    assert f"(not in {store.directory}/v1: any other user can write to it" in line


@pytest.mark.parametrize("harm", ["owner", "file", "link", "mode"])
def test_nothing_can_be_noted(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: str
) -> None:
    """A stranger made the last resort first; home and cache can't be written: no guard."""
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    home.rmdir()
    home.touch()
    last = tmp_path / f"mace_cache_state-{os.getuid()}"
    if harm == "file":
        last.touch()
    elif harm == "link":
        last.symlink_to(tmp_path)
    else:
        last.mkdir(mode=0o700)
        if harm == "owner" and os.geteuid() == 0:
            os.chown(last, 12345, -1)
        else:
            last.chmod(0o777)
    (line,) = problems()
    assert line.startswith(f"guard: nothing can be noted ({home}/mace_cache_state: Not a dir")
    assert f"; {last}: " in line
    assert "so binaries aren't guarded" in line
    assert "MACE_CACHE_TRUST" not in line, "whom others may trust is no remedy"
    assert 'guard="subprocess"' in line


def test_locks_that_do_not_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems: nothing is noted there, and nothing left behind."""
    store.insert(make_program("add"))
    take_note(store.factory.place, "a" * 80, 1).end()

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert f"(not in {store.directory}/v1: No locks available)" in told_of_guard()[0]


@pytest.mark.parametrize("number", range(3))
def test_what_is_loaded_no_more(store: Store, number: int) -> None:
    """In each place: how many, where that stands, and the command that has it tried again."""
    store.insert(make_program("add"))
    place = list(note_places(store.factory.place))[number]
    deaths = [1, MOST_DEATHS, CONVICTED, 2]
    for count in deaths:
        name = note_name(STORAGE, make_program(f"program {count}"))
        take_note(place, name, 1).end(count)
    (line,) = problems()
    assert line.startswith("guard: processes died of the binaries of 2 programs (noted in ")
    assert f"{place}/guard" in line
    assert "built from source" in line
    assert "mace-cache clear" in line
    assert run("clear", "--yes").code == 0
    assert problems() == []


def test_what_was_perhaps_just_killed(store: Store) -> None:
    """It is tried again: worth knowing, and no fault."""
    take_note(store.factory.place, note_name(STORAGE, make_program("add")), 1).end(UNCLEAR)
    assert problems() == []
    _where, line = told_of_guard()
    assert line.startswith("note processes died while they loaded the binaries of 1 program")


def test_notes_that_are_none(store: Store) -> None:
    """Whatever lies among the notes is only data."""
    guard = Path(store.factory.place) / "guard"
    take_note(store.factory.place, "a" * 80, 1).end()
    (guard / ("b" * 80)).write_bytes(b"9" * 100)
    (guard / ("c" * 80)).write_bytes(b"")
    (guard / ("d" * 80)).write_bytes(b"\xb99R")
    assert problems() == []


def test_no_directory_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one place less."""

    def fail() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    assert len(list(note_places(None))) == 1
