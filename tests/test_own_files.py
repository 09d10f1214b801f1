"""What the library makes is private, and what it removes is its own: both done for real."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import ProgramCache, _locking
from mace_cache._filesystem import open_own_file
from mace_cache._program_locks import ProgramLocks
from mace_cache.container import encode
from mace_cache.flights import Flights
from mace_cache.rejections import Rejections
from mace_cache.statistics import Counts, StatisticsFile
from mace_cache.storage.directory import DirectoryStorageFactory
from tests.cli.conftest import run
from tests.helpers import make_source, run_child
from tests.storage.conformance import NAME, make_key, make_program, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyopencl as cl

_MAKE_EVERYTHING = """
import json, os, sys
from pathlib import Path
import filelock, hashlib
from mace_cache.container import inspection
from mace_cache.harvest import nvidia
from mace_cache.rejections import Rejections
from mace_cache.statistics import Counts, StatisticsFile
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.file import FileStorageFactory
from mace_cache.storage.recorded import RecordedStorageFactory
from tests.storage.conformance import NAME, make_program

root, umask = Path(sys.argv[1]), int(sys.argv[2])
if os.geteuid() == 0:  # who may do everything notices no missing bit
    os.chown(root, 65534, 65534)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)

temporaries = []
rename = os.replace

def watch(source, target, **directories):
    temporaries.append(os.stat(source, dir_fd=directories["src_dir_fd"]).st_mode)
    rename(source, target, **directories)

os.replace = watch
os.umask(umask)
size = 1 << 11
factories = {
    "directory": DirectoryStorageFactory(root / "cache", max_size=size),
    "files": FileStorageFactory(root / "files"),
    "file": FileStorageFactory.for_file(root / "one" / "all.mclp"),
    "record": RecordedStorageFactory(
        DirectoryStorageFactory(root / "record", max_size=0), str(root / "record")),
}
for factory in factories.values():
    for _ in range(2):  # anew, and beside what is there
        storage = factory.create_storage(NAME)
        storage.load()
        for number in range(4):
            storage.insert(make_program(number).key, make_program(number))
        storage.flush()
        assert list(storage.keys())
        place = factory.state_place()
        StatisticsFile(place).append(Counts(hits=1))
        Rejections(place, NAME).count()
    assert StatisticsFile(place).total().hits == 2
    assert Rejections(place, NAME).in_a_row == 2
os.mkdir(root / "nvidia", 0o700)
os.chmod(root / "nvidia", 0o700)
nvidia._write_task(str(root / "nvidia"), {b"ptx": ""}, [0, 1, 2])

found = {str(path.relative_to(root)): (path.is_dir(), path.stat().st_mode & 0o7777)
         for path in root.rglob("*")}
print(json.dumps([[mode & 0o7777 for mode in temporaries], found]))
"""


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_all_that_is_made_is_private(umask: int) -> None:
    """Programs, temporaries, ledger, locks, counts, notes, records and state: whatever the umask.

    Where this is root, it is done as a user whom the bits hold up.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # pytest's own is closed to others
        temporaries, found = json.loads(run_child(_MAKE_EVERYTHING, directory, umask))
    assert set(temporaries) == {0o600}
    wanted = {name: (is_directory, 0o700 if is_directory else 0o600)
              for name, (is_directory, _mode) in found.items()}  # fmt: skip
    assert {name: tuple(one) for name, one in found.items()} == wanted
    names = {Path(name).name for name in found}
    assert {"usage", "usage.lock", "statistics.jsonl", f"{NAME}.rejections"} <= names
    assert {"all.mclp", "all.mclp.lock", "all.mclp.state", "state", "notes", "task.json"} <= names


def test_a_real_cache_is_private(context: cl.Context, cache_directory: Path) -> None:
    """What a build, a harvest and a close leave, under the most open umask."""
    before = os.umask(0)
    try:
        with ProgramCache() as cache:
            cache.build(context, make_source("private"))
    finally:
        os.umask(before)
    made = [cache_directory, *cache_directory.rglob("*")]
    modes = {path.stat().st_mode & 0o7777 for path in made if path.is_file()}
    assert len(made) > 5
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o7777 for path in made if path.is_dir()} == {0o700}


_CLEAN_UP = """
import sys, tempfile
tempfile.gettempdir()  # which tries a file of its own
seen = []
sys.addaudithook(lambda event, arguments: event in (
    "os.remove", "os.rmdir", "os.rename", "os.truncate", "os.mkdir", "shutil.rmtree", "os.chmod",
) and seen.append((event, *map(str, arguments))))
from mace_cache.cli import main
for command in (["clear", "--yes"], ["gc", "--max-size", "1"], ["stats", "--zero"],
                ["verify", "--remove"], ["list"]):
    main([*command, "--cache-directory", sys.argv[1]])
assert not seen, seen
"""


@pytest.mark.parametrize("place", ["/", "~", "project", "v1 is a link"])
def test_nothing_is_removed_where_no_cache_is(tmp_path: Path, place: str) -> None:
    """The commands that remove are sent to the root of all files, to a home and to a project."""
    project = tmp_path / "project"
    (project / "v2" / NAME / "00").mkdir(parents=True)
    (project / "v2" / NAME / "00" / f"{make_key()}.mclp").write_text("mine")
    (project / "main.py").write_text("mine")
    if place == "v1 is a link":
        (tmp_path / "v1").symlink_to("project/v2")
    target = {"~": Path.home(), "project": project, "/": Path("/")}.get(place, tmp_path)
    run_child(_CLEAN_UP, target, XDG_CACHE_HOME=str(tmp_path / "user"))
    assert (project / "v2" / NAME / "00" / f"{make_key()}.mclp").read_text() == "mine"


def _directory(path: Path, _outside: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "thesis.txt")


def _link_to_a_directory(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _fifo(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def _snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, status.st_ino, content)
    return found


@pytest.mark.parametrize("plant", [_directory, _link, _link_to_a_directory, _fifo])
def test_what_is_only_named_like_ours_stays(
    tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    """Clear, eviction, collection, verification and zeroing leave what isn't a regular file."""
    root, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("mine")
    (outside / f"{make_key()}.mclp").write_bytes(encode([make_program()])[:-1])
    (outside / f".tmp-{'0' * 32}").write_text("mine")
    factory = DirectoryStorageFactory(root, max_size=3 * len(encode([make_program()])))
    storage = open_storage(factory)
    storage.insert(make_key(256), make_program(256))
    shard = root / "v1" / NAME / "00"
    for place in (
        shard / f"{make_key()}.mclp",
        shard / f".tmp-{'0' * 32}",
        root / "v1" / NAME / "0a",
        root / "v1" / "another-storage",
        root / "v1" / f".tmp-{'0' * 32}",
        root / "v1" / f"{NAME}.rejections",
        root / "v1" / "statistics.jsonl",
        root / "v1" / "x.rejections",
    ):
        plant(place, outside)
        os.utime(place, (0, 0), follow_symlinks=False)
    before = _snapshot(tmp_path)
    ours = {str(shard / f"{make_key(256)}.mclp"), *map(str, (root / "v1").glob("usage*"))}
    for number in range(1, 9):
        storage.insert(make_key(number), make_program(number))
    assert storage.evicted
    for command in (["gc"], ["verify", "--remove"], ["stats", "--zero"], ["clear", "--yes"]):
        run(*command, "--cache-directory", root)
    left = _snapshot(tmp_path)
    assert {path: left.get(path) for path in before if path not in ours} == {
        path: one for path, one in before.items() if path not in ours
    }
    assert not list(storage.keys())


@pytest.mark.parametrize("content", ["my own notes", '{"in_a_row": "many"}', "[]", ""])
def test_a_users_file_that_is_no_note_stays(cache_directory: Path, content: str) -> None:
    """Of what is named like a note of rejections only notes are removed."""
    own = cache_directory / "v1" / "thesis.rejections"
    open_storage(DirectoryStorageFactory(cache_directory)).insert(make_key(), make_program())
    own.write_text(content)
    assert run("clear", "--yes").code == 0
    assert own.read_text() == content


def test_counts_are_not_written_through_a_link(cache_directory: Path, tmp_path: Path) -> None:
    """Nor removed where the whole directory is one: the path is never trusted again."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "statistics.jsonl").write_text("mine")
    cache_directory.mkdir()
    (cache_directory / "v1").symlink_to(tmp_path / "outside")
    statistics = StatisticsFile(DirectoryStorageFactory(cache_directory).place)
    with pytest.raises(NotADirectoryError):
        statistics.append(Counts(hits=1))
    statistics.zero()
    assert statistics.total() == Counts()
    assert (tmp_path / "outside" / "statistics.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["usage", "usage.lock", "statistics.jsonl", "locks/*", "x"])
def test_hard_links_are_not_written_through(tmp_path: Path, name: str) -> None:
    """A file of the user's own that also stands under a name of ours stays as it is."""
    cache = tmp_path / "cache"
    _use(cache)
    place = next((cache / "v1").glob(name.replace("x", f"{NAME}.rejections")))
    mine = tmp_path / "thesis.txt"
    mine.write_text("0" * 200)
    os.utime(mine, (0, 0))
    place.unlink()
    place.hardlink_to(mine)
    before = _state(mine)
    _use(cache)
    assert _state(mine) == before
    assert DirectoryStorageFactory(cache).create_storage(NAME).find(make_key()) == make_program()


def _use(cache: Path) -> None:
    """Write each file that is written in place."""
    factory = DirectoryStorageFactory(cache)
    open_storage(factory).insert(make_key(), make_program())
    with suppress(PermissionError):
        StatisticsFile(factory.place).append(Counts(hits=1))
    Rejections(factory.place, NAME).count()
    wanted: Any = SimpleNamespace(
        identified=SimpleNamespace(identity="x"), tiers=(), source=SimpleNamespace(key="k")
    )
    Flights(ProgramLocks(factory.place, 0.0)).join(wanted).land()


def _state(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return path.read_bytes(), status.st_mode, status.st_mtime_ns


def test_an_entry_that_is_also_another_file(tmp_path: Path) -> None:
    """It is read, and neither counted as used nor proven: that would change the other one."""
    storage = open_storage(DirectoryStorageFactory(tmp_path / "cache"))
    storage.insert(make_key(), make_program())
    (entry,) = (tmp_path / "cache").rglob("*.mclp")
    mine = tmp_path / "mine.mclp"
    mine.hardlink_to(entry)
    mine.chmod(0o644)
    os.utime(mine, (0, 0))
    before = _state(mine)
    program = storage.find(make_key())
    assert program == make_program()
    assert storage.prove(program) is False, "the mark is to be kept elsewhere"
    assert _state(mine) == before
    mine.unlink()
    assert storage.prove(program) is True


def test_a_lock_is_made_in_the_directory_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its path leads to by then."""
    (tmp_path / "elsewhere").mkdir()
    checked = tmp_path / "checked"

    def exchange(*arguments: Any) -> int:
        if not checked.exists():
            (tmp_path / "cache" / "v1").rename(checked)
            (tmp_path / "cache" / "v1").symlink_to(tmp_path / "elsewhere")
        return open_own_file(*arguments)

    factory = DirectoryStorageFactory(tmp_path / "cache")
    storage = open_storage(factory)
    storage.insert(make_key(), make_program())
    (tmp_path / "cache" / "v1" / "usage.lock").unlink()
    monkeypatch.setattr(_locking, "open_own_file", exchange)
    with pytest.raises(NotADirectoryError):
        factory.collect_garbage()
    assert (checked / "usage.lock").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
