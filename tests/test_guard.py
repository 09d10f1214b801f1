"""The crash guard: notes that show who died, and what becomes of binaries until they are proven."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import Origin, ProgramCache, _notebook, _notes, guard, opencl
from mace_cache._directories import Place
from mace_cache._notebook import forget_notes, is_marked, mark, note_name
from mace_cache._notes import UNCLEAR, NoteBusyError, take_note
from mace_cache._report import forget_reported
from mace_cache._trial_process import TrialProcess
from mace_cache._warm_process import WorkerProcess
from mace_cache.errors import ConfigurationError
from mace_cache.fingerprint import fingerprint
from mace_cache.program import CompiledProgram
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.warm import warm_cache
from tests.helpers import (
    FakeFactory,
    entries,
    halve,
    make_source,
    plant,
    read_entry,
    run_child,
    scale,
    watch_loads,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyopencl as cl

SOURCE = make_source("guard")
NAME = "0123" * 20


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where notes are kept, once there are some."""
    return Place(str(tmp_path / "place"))


@pytest.fixture
def entry(context: cl.Context, cache_directory: Path) -> Path:
    """The file of SOURCE's program, written and not loaded yet."""
    assert build(context) == (Origin.SOURCE, "no tier has it")
    (path,) = entries(cache_directory)
    return path


def build(context: cl.Context, **arguments: Any) -> tuple[Origin, str]:
    """Build SOURCE through a new cache, see that the result is right, and tell where from."""
    with ProgramCache(**arguments) as cache:
        program = cache.build(context, SOURCE)
        assert scale(program) == 2
        told = cache.explain(program)
    return told.origin, told.reason


def is_proven(entry: Path) -> bool:
    """Whether an entry's file has the bit that says so."""
    return bool(entry.stat().st_mode & stat.S_ISVTX)


def wait_for_the_look() -> None:
    """Until it is seen that what was launched first has run."""
    for thread in threading.enumerate():
        if thread.name == "mace-cache first launches":
            thread.join(10)


def notes(place: Path | Place) -> list[str]:
    """The notes that lie in a place."""
    directory = Path(place) / "guard"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def die(code: str, *arguments: object) -> None:
    """Run code in a child that then dies at once, without an orderly end."""
    child = os.fork()
    if not child:
        try:
            exec(code, {"arguments": arguments, "take_note": take_note})  # noqa: S102 (our own)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


# Notes.


def test_a_note_shows_that_its_owner_died(place: Place) -> None:
    """In the middle of loading: that is found once, and remembered for good."""
    die("take_note(arguments[0], arguments[1], 1).begin()", place, NAME)
    note = take_note(place, NAME, 1)
    assert (note.died, note.deaths) == ("loading", UNCLEAR)
    note.end(note.deaths)
    note = take_note(place, NAME, 1)
    assert (note.died, note.deaths) == ("", UNCLEAR)
    note.end()
    assert notes(place) == []


def test_who_died_at_a_launch_is_counted(place: Place) -> None:
    """Each of those that died in one; one success forgets them all."""
    for deaths in (1, 2, 3, 3):
        code = "n = take_note(arguments[0], arguments[1], 1); n.begin(); n.watch(); n.launch()"
        die(code, place, NAME)
        note = take_note(place, NAME, 1)
        assert (note.died, note.deaths) == ("launching", deaths)
        note.end(note.deaths)
    take_note(place, NAME, 1).end()
    assert take_note(place, NAME, 1).deaths == 0


@pytest.mark.parametrize("last", ["n.watch(); n.rest()", "n.watch(); n.launch(); n.rest()"])
def test_who_died_with_nothing_under_way(place: Place, last: str) -> None:
    """It may have been killed as any process may be: the binary is not to blame."""
    die(f"n = take_note(arguments[0], arguments[1], 1); n.begin(); {last}", place, NAME)
    assert len(notes(place)) == 1
    note = take_note(place, NAME, 1)
    assert (note.died, note.deaths) == ("", 0)
    note.end()
    assert notes(place) == []


def test_who_loads_at_the_same_time_as_others_is_seen_to_die(place: Place) -> None:
    """Its note has a name of its own already, and tells as much."""
    die("n = take_note(arguments[0], arguments[1], 1); n.watch(); n.begin()", place, NAME)
    note = take_note(place, NAME, 1)
    assert (note.died, note.deaths) == ("loading", UNCLEAR)


def test_a_note_that_was_never_begun(place: Place) -> None:
    """Who dies between making a note and beginning has tried nothing."""
    die("take_note(arguments[0], arguments[1], 1)", place, NAME)
    assert notes(place) == [NAME]
    assert take_note(place, NAME, 1).died == ""


def test_threads_that_end_a_note(place: Place) -> None:
    """Whoever comes later does nothing, even to a file that has the descriptor by then."""
    for _ in range(200):
        note = take_note(place, NAME, 1)
        errors: list[BaseException] = []

        def end(note: _notes.Note = note, errors: list[BaseException] = errors) -> None:
            try:
                note.rest()
                note.end()
            except OSError as error:
                errors.append(error)

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        for thread in threads:
            thread.join()
        for descriptor in opened:
            os.close(descriptor)  # nobody else has
        assert errors == []


@pytest.mark.parametrize(
    "content", [b"nonsense", b"9", b"xL", b"1l", bytes(5000), b"1L" + b"0" * 17]
)
def test_a_garbled_note_counts_as_none(place: Place, content: bytes) -> None:
    """What no process has written says nothing."""
    take_note(place, NAME, 1).end(1)
    Path(place, "guard", NAME).write_bytes(content)
    note = take_note(place, NAME, 1)
    assert (note.died, note.deaths) == ("", 0)


def test_a_note_is_waited_for(place: Place) -> None:
    """For as long as told; then it is ours, or it is busy."""
    first = take_note(place, NAME, 1)
    with pytest.raises(NoteBusyError):
        take_note(place, NAME, 0.02)
    timer = threading.Timer(0.05, first.end)
    timer.start()
    second = take_note(place, NAME, 10)
    timer.join()
    assert second.died == ""
    second.begin()
    second.watch()
    third = take_note(place, NAME, 0)
    assert (third.died, third.in_use) == ("", True), "others may try it"
    second.end()


def test_a_forked_child_neither_holds_nor_ends_a_note(place: Place) -> None:
    """The lock is the parent's alone: with its death it is free, whatever children live on."""
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        note = take_note(place, NAME, 1)
        note.begin()
        child = os.fork()
        if not child:
            note.end()  # as if it were its own
            os.read(reading, 1)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        assert take_note(place, NAME, 1).died == "loading"
    finally:
        os.write(writing, b"x")
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "hard link"])
def test_what_stands_in_the_place_of_a_note(place: Place, tmp_path: Path, kind: str) -> None:
    """Nothing is waited for, followed or written through: no note can be made there."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    outside.chmod(0o640)
    take_note(place, "00", 1).end(1)
    path = Path(place, "guard", NAME)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(outside)
    else:
        path.hardlink_to(outside)
    with pytest.raises(OSError, match=r"."):
        take_note(place, NAME, 5)
    assert outside.read_bytes() == b"precious"
    assert outside.stat().st_mode & 0o777 == 0o640


def test_notes_are_private(place: Place) -> None:
    """Directories 0700 and files 0600, whatever the umask."""
    for umask in (0, 0o777):
        before = os.umask(umask)
        try:
            take_note(place, f"{umask:x}", 1).end(1)
            mark(place, NAME)
        finally:
            os.umask(before)
    found = list(Path(place).rglob("*"))
    assert {path.stat().st_mode & 0o7777 for path in found if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o7777 for path in found if path.is_file()} == {0o600}


def test_notes_are_forgotten_storage_by_storage(place: Place) -> None:
    """`clear` starts anew: with the notes and marks of its storage, and no other file."""
    program = CompiledProgram("a" * 64, "", b"binary")
    mine, other = note_name("mine", program), note_name("other", program)
    for name in (mine, other, f"{mine}.bak"):
        take_note(place, name, 1).end(1)
        mark(place, name)
    forget_notes(place, "mine")
    assert notes(place) == sorted([other, f"{mine}.bak", "proven"])
    assert [is_marked(place, name) for name in (mine, other)] == [False, True]


def test_notes_and_marks_are_kept_within_bounds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes for the newest."""
    monkeypatch.setattr(_notes, "_MOST", 3)
    for number in range(6):
        name = f"{number:080x}"
        mark(place, name)
        os.utime(Path(place, "guard", "proven", name), (number, number))
        take_note(place, name, 1).end(1)
        os.utime(Path(place, "guard", name), (number, number))
        for directory in (Path(place, "guard"), Path(place, "guard", "proven")):
            (directory / "my thesis.tex").write_bytes(b"precious")
            os.utime(directory / "my thesis.tex", (0, 0))
    names = [f"{number:080x}" for number in range(6)]
    assert [is_marked(place, name) for name in names] == [False] * 3 + [True] * 3
    assert notes(place) == [*names[3:], "my thesis.tex", "proven"]
    assert Path(place, "guard", "proven", "my thesis.tex").exists()


# Binaries until they are proven.


def test_what_was_loaded_is_proven(context: cl.Context, entry: Path, cache_directory: Path) -> None:
    """By the first load and the flush after it; no note stays."""
    assert not is_proven(entry)
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        assert not is_proven(entry), "its first launch is still to come"
        assert len(notes(cache_directory / "v1")) == 1
        assert scale(program) == 2
        cache.flush()
        assert is_proven(entry)
    assert notes(cache_directory / "v1") == []
    assert entry.stat().st_mode & 0o777 == 0o600


def test_a_proven_entry_pays_nothing(
    context: cl.Context, entry: Path, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No note is made or looked for, and no thread started."""
    build(context)
    shutil.rmtree(cache_directory / "v1" / "guard")
    monkeypatch.setattr(guard.Guard, "load", None)
    wait_for_the_look()
    threads = set(threading.enumerate())
    with ProgramCache() as cache:
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.STORAGE
        assert set(threading.enumerate()) <= threads
    assert not (cache_directory / "v1" / "guard").exists()
    assert is_proven(entry)


def test_it_is_proven_in_a_quiet_moment(context: cl.Context, entry: Path) -> None:
    """A process without an orderly end proves what it has launched by then, or launches later."""
    cache = ProgramCache(harvest_after=0.01)
    program = cache.build(context, SOURCE)
    cache._unwritten._quiet.finish(10)
    assert not is_proven(entry)
    assert scale(program) == 2
    wait_for_the_look()
    assert is_proven(entry)


def test_another_program_is_not_proven_by_it(
    context: cl.Context, entry: Path, cache_directory: Path
) -> None:
    """What takes an entry's place while it is used has to be loaded for itself."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        stored = read_entry(entry)
        name = fingerprint(context.devices[0]).storage_name
        storage = DirectoryStorageFactory(cache_directory).create_storage(name)
        storage.insert(stored.key, replace(stored, binary=bytes(stored.binary) + b"\0"))
    assert not is_proven(entry)


def test_threads_load_it_one_after_the_other(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is left waiting, none takes another for dead."""
    loads = watch_loads(monkeypatch)
    origins = []

    def run() -> None:
        origins.append(build(context))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert origins == [(Origin.STORAGE, "it was stored")] * 4
    assert len(loads) == 4
    assert is_proven(entry)


def test_who_loads_it_too_long_is_not_waited_for(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the lock's timeout the program is built from source."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "0.05")
    real, inner = opencl.load_from_binaries, []

    def load(*arguments: Any) -> cl.Program:
        monkeypatch.setattr(opencl, "load_from_binaries", real)
        inner.append(build(context))
        return real(*arguments)

    monkeypatch.setattr(opencl, "load_from_binaries", load)
    assert build(context)[0] is Origin.STORAGE
    assert inner == [
        (Origin.SOURCE, "another process was still loading its binary after 0.05 s"),
    ]
    assert entry.exists()


def test_an_entry_that_goes_meanwhile(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What isn't stored any more when the note is ours is looked for again."""
    real = take_note

    def take(*arguments: Any) -> _notes.Note:
        entry.unlink(missing_ok=True)
        return real(*arguments)

    monkeypatch.setattr(_notebook, "take_note", take)
    assert build(context) == (Origin.SOURCE, "no tier has it")


def test_a_forked_child_is_guarded_too(entry: Path, cache_directory: Path) -> None:
    """It loads through a cache that its parent has made, and proves what it has launched."""
    run_child(
        """
import os
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

cache = ProgramCache()
child = os.fork()
if not child:
    assert scale(cache.build(open_context(), make_source("guard"))) == 2
    cache.flush()
    cache._unwritten.guard.settle()  # the flush of a forked child writes nothing
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert is_proven(entry)
    assert notes(cache_directory / "v1") == []


def test_a_rejected_binary_did_not_crash(
    context: cl.Context, entry: Path, cache_directory: Path
) -> None:
    """A driver that says no leaves no note behind."""
    plant(entry)
    assert "rejected" in build(context)[1]
    assert notes(cache_directory / "v1") == []
    assert build(context) == (Origin.STORAGE, "it was stored")


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.ESTALE])
def test_where_locks_do_not_work(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int
) -> None:
    """It goes on without the guard."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert build(context) == (Origin.STORAGE, "it was stored")
    assert is_proven(entry)


def test_where_nothing_can_be_written(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beside the programs: in the user's own place. Nowhere: without the guard."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (entry.parents[2] / "guard").write_bytes(b"in the way")
    with ProgramCache() as cache:
        assert scale(cache.build(context, SOURCE)) == 2
        assert len(notes(tmp_path / "xdg" / "mace_cache_state")) == 1
    assert is_proven(entry)
    entry.chmod(0o600)
    for place in ("xdg", "tmp"):
        shutil.rmtree(tmp_path / place, ignore_errors=True)
        (tmp_path / place).write_bytes(b"in the way")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert build(context) == (Origin.STORAGE, "it was stored")


def test_what_cannot_say_that_it_is_proven(
    context: cl.Context, entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file for all, a storage that only reads, shipped programs: a mark remembers it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    one_file = str(tmp_path / "all.mclp")
    build(context, cache_full_path=one_file)
    own = tmp_path / "xdg" / "mace_cache_state"
    for arguments, place in (
        ({"cache_full_path": one_file}, Path(f"{one_file}.state")),
        ({"read_only": True}, own),
        ({"url": "memory:", "binary_paths": [entry]}, own),
    ):
        shutil.rmtree(place / "guard", ignore_errors=True)
        assert build(context, **arguments)[1] == "it was stored"
        assert notes(place) == ["proven"]
        with monkeypatch.context() as patch:
            patch.setattr(_notebook, "take_note", None)
            assert build(context, **arguments)[1] == "it was stored"
    assert not is_proven(entry)


def test_a_shipped_program_is_proven_where_it_is_written(
    context: cl.Context, entry: Path, tmp_path: Path
) -> None:
    """It was loaded: its entry in the local storage is proven at once."""
    assert build(context, binary_paths=[entry], storage_path=tmp_path / "own")[0] is (
        Origin.PRECOMPILED
    )
    (written,) = entries(tmp_path / "own")
    assert is_proven(written)


def test_what_is_in_memory_needs_no_guard(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should it take the process down, the memory goes too."""
    factory = FakeFactory()
    build(context, storage_factory=factory)
    monkeypatch.setattr(guard.Guard, "load", None)
    assert build(context, storage_factory=factory)[0] is Origin.STORAGE


def test_kernels_are_created_where_a_driver_compiles_early(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the program is proven when `build` returns."""
    created: list[tuple[str, ...]] = []
    monkeypatch.setattr(guard, "_COMPILE_LATE", frozenset())
    monkeypatch.setattr(opencl, "create_kernels", lambda _, names: created.append(names))
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        assert is_proven(entry)
    assert created == [("scale",)]


def test_a_process_of_multiprocessing_has_an_orderly_end(entry: Path) -> None:
    """It ends without `atexit`, and yet proves what it has used."""
    run_child(
        """
import multiprocessing
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def work():
    global cache
    cache = ProgramCache()
    assert scale(cache.build(open_context(), make_source("guard"))) == 2

child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
assert child.exitcode == 0
"""
    )
    assert is_proven(entry)


def test_a_choice_that_there_is_not() -> None:
    """It is an error of its own."""
    with pytest.raises(ConfigurationError, match="journal, subprocess or off"):
        ProgramCache(guard="on")  # type: ignore[arg-type] # that is the point


# A child loads first.


def test_one_child_tries_them_all(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts with the first binary that isn't proven, and ends with the cache."""
    started: list[WorkerProcess] = []

    class Counted(WorkerProcess):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    with ProgramCache() as cache:
        cache.build(context, make_source("another"))
    monkeypatch.setattr("mace_cache._trial_process.WorkerProcess", Counted)
    with ProgramCache(guard="subprocess") as cache:
        for source in (SOURCE, make_source("another")):
            program = cache.build(context, source)
            assert cache.explain(program).origin is Origin.STORAGE
            assert scale(program) == 2
    assert len(started) == 1
    assert started[0]._process.returncode is not None
    assert is_proven(entry)
    assert build(context, guard="subprocess")[0] is Origin.STORAGE
    assert len(started) == 1, "what is proven needs no child"


def test_what_a_child_rejects_is_rejected(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never loaded here."""
    plant(entry)
    loads = watch_loads(monkeypatch)
    assert "rejected the binary: clCreateProgramWithBinary" in build(context, guard="subprocess")[1]
    assert loads == []


@pytest.mark.parametrize("how", ["no interpreter", "cannot start", "dies at once", "no device"])
def test_where_no_child_can_try_them(
    context: cl.Context, entry: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The journal alone guards then; that is no crash."""
    if how == "no interpreter":
        monkeypatch.setattr(sys, "executable", "/opt/application")
    elif how == "cannot start":
        monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    elif how == "dies at once":
        monkeypatch.setattr("mace_cache._warm_process._START", "import os; os.abort()")
    else:
        monkeypatch.setattr(TrialProcess, "_ask", lambda _self, message: "open" not in message)
    assert build(context, guard="subprocess") == (Origin.STORAGE, "it was stored")
    assert is_proven(entry)


# Install time.


def test_what_was_warmed_is_proven(cache_directory: Path, tmp_path: Path) -> None:
    """Where it was launched: the application's first start pays nothing."""
    launch = {"kernel": "scale", "global_size": [4], "local_size": [4]}
    launch["arguments"] = [{"buffer": 16}]
    default = [{"name": "default", "options": []}]
    program = {"name": "guard", "source": "guard.cl", "variants": default, "launches": [launch]}
    (tmp_path / "guard.cl").write_text(SOURCE)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"version": 1, "programs": [program]}))
    report = warm_cache(manifest, jobs=1, progress=False)
    assert report.count("built") == 1, str(report)
    (entry,) = entries(cache_directory)
    assert is_proven(entry)
    entry.chmod(0o600)
    assert warm_cache(manifest, jobs=1, progress=False).count("present") == 1
    assert is_proven(entry)


def test_what_kills_a_worker_fails(entry: Path) -> None:
    """The report says so, and the next run heals it."""
    halve(entry)
    report = warm_cache([SOURCE], jobs=1, progress=False)
    assert report.count("failed") == 1
    assert "SIGSEGV" in str(report)
    assert warm_cache([SOURCE], jobs=1, progress=False).count("built") == 1
    assert warm_cache([SOURCE], jobs=1, progress=False).count("present") == 1
