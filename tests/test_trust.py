"""Whose files and directories are used, and what becomes of a cache that isn't."""

from __future__ import annotations

import ctypes
import grp
import logging
import os
import pwd
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache import Origin, ProgramCache
from mace_cache import _trust as trust_room
from mace_cache._directories import open_directory, private_directory
from mace_cache._report import forget_reported
from mace_cache._trust import (
    OWN_ONLY,
    Trust,
    check_private,
    elevated_rights,
    parse_trust,
    with_own_group,
)
from mace_cache.errors import ConfigurationError
from mace_cache.rejections import Rejections
from mace_cache.statistics import Counts, StatisticsFile
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.file import FileStorageFactory
from tests.cli.conftest import one_line, run
from tests.helpers import make_source, run_child, scale
from tests.storage.conformance import NAME, insert_all, make_key, make_program, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyopencl as cl

OTHER = 12345
_NUMBERS = st.frozensets(st.integers(0, 2**32 - 1), max_size=4)

_AS_NOBODY = """
import os, sys
from mace_cache._trust import Trust
from mace_cache.storage.directory import DirectoryStorageFactory
from tests.storage.conformance import NAME, make_key

def find(**arguments):
    storage = DirectoryStorageFactory(sys.argv[1], **arguments).create_storage(NAME)
    try:
        return storage.find(make_key()) is not None
    except PermissionError as error:
        return error.strerror

assert find() is True  # and now all is imported
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
print(find(read_only=True), find(), find(trust=Trust(owners=frozenset({0}))), sep="\\n")
"""

_SET_USER_ID = """
import os
if os.geteuid() == 0:
    os.setresuid(65534, 0, 0)
else:
    os.getresuid = lambda: (12345, os.geteuid(), os.geteuid())
from mace_cache import ProgramCache
with ProgramCache() as cache:
    print(cache.disabled_by)
"""


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Make a path another user's, for real where this is root; give that user's number."""
    if os.geteuid() == 0:
        os.chown(path, OTHER, -1)
        return OTHER
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    return owner


def status(owner: int = OTHER, group: int = OTHER, mode: int = 0o700) -> os.stat_result:
    """What the kernel would say of a directory."""
    return os.stat_result((0o040000 | mode, 1, 1, 2, owner, group, 0, 0, 0, 0))


@given(_NUMBERS, _NUMBERS, st.booleans())
def test_a_list_is_understood_as_it_is_written(
    owners: frozenset[int],
    groups: frozenset[int],
    links: bool,
) -> None:
    """What a cache was told can be told to another process."""
    trust = Trust(owners, groups, links)
    assert parse_trust(str(trust)) == trust


@pytest.mark.parametrize("text", ["", " ", ","])
def test_nobody(text: str) -> None:
    """An empty list is nobody."""
    assert parse_trust(text) == OWN_ONLY


@pytest.mark.parametrize(
    "text", ["1000", "uid:", "uid:-1", "uid:alice", "gid=5", "uid:1;gid:2", "link", "uid:*", "all"]
)
def test_what_is_no_list(text: str) -> None:
    """Nobody is trusted by mistake: a wrong argument is an error."""
    with pytest.raises(ConfigurationError, match="uid:1000"):
        ProgramCache(trust=text)


@pytest.mark.parametrize(
    ("told", "trust", "problem"),
    [
        (status(), "", ""),
        (status(mode=0o755), "", ""),
        (status(owner=7), "", "another user (7) owns it"),
        (status(owner=0), "", "another user (0) owns it"),
        (status(owner=7), "uid:7", ""),
        (status(owner=7), "uid:8,gid:7", "another user (7) owns it"),
        (status(mode=0o770), "", f"its group ({OTHER}) can write to it"),
        (status(mode=0o770), f"gid:{OTHER}", ""),
        (status(mode=0o770), f"uid:{OTHER},gid:7", "its group"),
        (status(mode=0o707), "", "any other user can write to it"),
        (status(mode=0o1777), f"uid:{OTHER},gid:{OTHER},links", "any other user can write to it"),
        (status(owner=7, mode=0o770), "uid:7", "its group"),
        (status(owner=7, mode=0o770), f"uid:7,gid:{OTHER}", ""),
    ],
)
def test_who_is_trusted(
    told: os.stat_result, trust: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owner, group and others, each with the exception that there is for it, if any."""
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    if not problem:
        check_private(told, "/place", trust=parse_trust(trust))
        return
    with pytest.raises(PermissionError, match=re.escape(problem)) as caught:
        check_private(told, "/place", "below", trust=parse_trust(trust))
    assert caught.value.filename == "/place/below"


@pytest.mark.parametrize(
    ("group", "name", "members", "primary", "lists", "trusted"),
    [
        (OTHER, "alice", [], OTHER, [], True),
        (OTHER, "alice", ["alice"], OTHER, ["user.note"], True),
        (OTHER, "users", [], OTHER, [], False),  # the names of others may be kept elsewhere
        (OTHER, "alice", ["bob"], OTHER, [], False),
        (OTHER, "alice", [], 7, [], False),
        (7, "alice", [], OTHER, [], False),
        (OTHER, "alice", [], OTHER, ["system.posix_acl_access"], False),
        (0, "alice", [], 0, [], False),
    ],
)
def test_a_group_of_ones_own(  # noqa: PLR0917 (pytest passes them by name)
    group: int,
    name: str,
    members: list[str],
    primary: int,
    lists: list[str],
    trusted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may write, as a umask of 002 has it, if it has this user's name and nobody else in it."""
    alice = SimpleNamespace(pw_uid=OTHER, pw_gid=primary, pw_name="alice")
    carol = SimpleNamespace(pw_uid=9, pw_gid=9, pw_name="carol")
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    monkeypatch.setattr(os, "fstat", lambda _directory: status(mode=0o775, group=group))
    monkeypatch.setattr(os, "listxattr", lambda _directory: lists)
    monkeypatch.setattr(pwd, "getpwuid", lambda _user: alice)
    monkeypatch.setattr(pwd, "getpwall", lambda: [alice, carol])
    known = SimpleNamespace(gr_name=name, gr_mem=members)
    monkeypatch.setattr(grp, "getgrgid", lambda _group: known)
    assert with_own_group(5, OWN_ONLY) == Trust(groups=frozenset({group} if trusted else ()))
    carol.pw_gid = group
    assert with_own_group(5, OWN_ONLY) == OWN_ONLY


def test_what_is_only_read_may_be_roots() -> None:
    """And only root's beside those who were named."""
    assert parse_trust("uid:5,links").with_root() == parse_trust("uid:0,uid:5,links")


def _has_another_owner(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return f"uid:{give_away(directory, monkeypatch)}"


def _is_writable_for_its_group(directory: Path, _: pytest.MonkeyPatch) -> str:
    directory.chmod(0o770)
    return f"gid:{directory.stat().st_gid}"


def _is_a_link(directory: Path, _: pytest.MonkeyPatch) -> str:
    directory.rename(directory.with_name("disk"))
    directory.symlink_to("disk")
    return "links"


@pytest.mark.parametrize("harm", [_has_another_owner, _is_writable_for_its_group, _is_a_link])
def test_a_cache_that_is_not_the_users_own(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path, pytest.MonkeyPatch], str],
) -> None:
    """It steps aside, with one warning that says why, and touches nothing; unless it is trusted."""
    with ProgramCache() as cache:
        cache.build(context, make_source("trust"))
    exception = harm(cache_directory, monkeypatch)
    before = {path: path.lstat().st_mtime_ns for path in cache_directory.parent.rglob("*")}
    for number in range(2):
        with ProgramCache() as cache:
            program = cache.build(context, make_source("trust"))
            assert scale(program) == 2
            assert cache.explain(program).origin is Origin.SOURCE, number
            assert f"MACE_CACHE_TRUST={exception}" in cache.explain(program).reason
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"{cache_directory}: " in warning.getMessage()
    assert {path: path.lstat().st_mtime_ns for path in cache_directory.parent.rglob("*")} == before
    with ProgramCache(trust=exception) as cache:
        assert cache.explain(cache.build(context, make_source("trust"))).origin is Origin.STORAGE
    monkeypatch.setenv("MACE_CACHE_TRUST", exception)
    with ProgramCache() as cache:
        assert cache.explain(cache.build(context, make_source("trust"))).origin is Origin.STORAGE
        assert cache.reopening_arguments()["trust"] == exception


def test_a_link_below_is_never_followed(tmp_path: Path) -> None:
    """The exception is for the cache directory alone."""
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real" / "b").symlink_to("a")
    trust = Trust(links=True)
    with open_directory(tmp_path / "root", "a", trust=trust):
        pass
    with pytest.raises(NotADirectoryError), open_directory(tmp_path / "root", "b", trust=trust):
        pass


@pytest.mark.parametrize("program", [False, True])
def test_a_program_that_is_not_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, program: bool
) -> None:
    """Not only its directory is asked for the owner; nor is a single file another user's."""
    factory = (
        DirectoryStorageFactory(tmp_path)
        if program
        else FileStorageFactory.for_file(tmp_path / "one.mclp")
    )
    insert_all(open_storage(factory), [make_program()])
    (path,) = tmp_path.rglob("*.mclp")
    storage = factory.create_storage(NAME)
    storage.load()
    if os.geteuid() == 0:
        give_away(path, monkeypatch)
    else:
        path.chmod(0o620)
    with pytest.raises(PermissionError, match="isn't used"):
        storage.find(make_key()) if program else factory.create_storage(NAME).load()
    assert path.exists()


def test_counts_that_are_not_the_users_own(tmp_path: Path) -> None:
    """What others could have written isn't read, whether it stops the cache or only shows."""
    place = DirectoryStorageFactory(tmp_path).place
    StatisticsFile(place).append(Counts(hits=1))
    Rejections(place, NAME).count()
    assert (StatisticsFile(place).total().hits, Rejections(place, NAME).in_a_row) == (1, 1)
    for path in (tmp_path / "v1").iterdir():
        path.chmod(0o622)
    assert (StatisticsFile(place).total().hits, Rejections(place, NAME).in_a_row) == (0, 0)
    with pytest.raises(PermissionError, match="any other user can write to it"):
        StatisticsFile(place).append(Counts(hits=1))


def test_root_makes_nothing_in_a_users_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lock the user out of their own cache, as with sudo."""
    home = tmp_path / "home"
    home.mkdir()
    owner = give_away(home, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PermissionError, match=f"root makes nothing .* another user \\({owner}\\)"):
        private_directory(home / ".cache" / "mace_cache")
    assert list(home.iterdir()) == []
    private_directory(home / ".cache", Trust(owners=frozenset({owner})))
    assert (home / ".cache").is_dir()
    one = open_storage(FileStorageFactory.for_file(home / "one.mclp"))
    one.insert(make_key(), make_program())
    with pytest.raises(PermissionError, match="root makes nothing"):
        one.flush()
    assert [path.name for path in home.iterdir()] == [".cache"]


def test_a_real_other_user() -> None:
    """What root wrote is another user's only to read; where this isn't root, it is their own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # pytest's own is closed to others
        insert_all(open_storage(DirectoryStorageFactory(directory)), [make_program()])
        for path in [Path(directory), *Path(directory).rglob("*")]:
            path.chmod(0o755)
        read_only, own, trusted = run_child(_AS_NOBODY, directory).splitlines()
    assert read_only == trusted == "True"
    if os.geteuid() == 0:
        assert own.startswith("another user (0) owns it, so it isn't used")
    else:
        assert own == "True"


def test_a_process_for_another_user(cache_directory: Path) -> None:
    """A set-user-ID process has no cache, whoever owns what its environment names."""
    assert run_child(_SET_USER_ID) == (
        "this process runs for another user (set-user-ID): caching is off\n"
    )
    assert not cache_directory.exists()


@pytest.mark.parametrize("kind", ["user", "group", "capabilities"])
def test_elevated_rights(monkeypatch: pytest.MonkeyPatch, cache_directory: Path, kind: str) -> None:
    """Each way to have them is seen, also by the command; without them all is in order."""
    assert elevated_rights() == ""
    if kind == "user":
        monkeypatch.setattr(os, "getresuid", lambda: (1, 1, 0))
    elif kind == "group":
        monkeypatch.setattr(os, "getresgid", lambda: (1, 0, 0))
    else:
        library = SimpleNamespace(getauxval=_auxiliary_value)
        monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    assert kind in elevated_rights().replace("more rights", "capabilities")
    assert ProgramCache(storage_path=cache_directory).disabled_by.endswith(": caching is off")
    assert "it uses no cache" in one_line(run("clear", "--yes"), code=1)
    monkeypatch.undo()
    assert trust_room.elevated_rights() == ""


def _auxiliary_value(kind: int) -> int:
    assert kind == 23
    return 1
