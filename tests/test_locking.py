"""Locks between processes and threads."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mace_cache._locking import file_lock, take_lock
from mace_cache._trust import Trust
from tests.helpers import opened_below, run_child

if TYPE_CHECKING:
    import pytest


def test_a_lock_excludes_until_it_is_released(tmp_path: Path) -> None:
    """A second holder waits, or goes on without after its timeout."""
    path = tmp_path / "lock"
    order: list[str] = []
    with file_lock(path, 0) as held:
        assert held
        with file_lock(path, 0.02) as second:
            assert not second
        waiting = threading.Thread(target=lambda: _append_locked(path, order))
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def _append_locked(path: Path, order: list[str]) -> None:
    with file_lock(path, 30) as held:
        order.append("second" if held else "not held")


def test_where_locks_do_not_work_it_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file system without locks nor a path that can't be opened stops anybody."""
    with file_lock(tmp_path / "missing" / "lock", 1) as held:
        assert not held

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with file_lock(tmp_path / "lock", 1) as held:
        assert not held


def test_a_lock_that_cannot_be_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is gone doesn't reach who held it; the lock ends with its file."""
    real = fcntl.flock

    def fail(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        release = take_lock(tmp_path / "lock", 1)
        assert release is not None
        release()
        with file_lock(tmp_path / "another", 1) as held:
            assert held


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    """Promise 7: the kernel gives a dead holder's lock back."""
    path = tmp_path / "lock"
    holder = (
        "import sys, time; from mace_cache._locking import file_lock\n"
        "with file_lock(sys.argv[1], 1) as held: print(held, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "True\n"
            with file_lock(path, 0) as held:
                assert not held
        finally:
            process.send_signal(signal.SIGKILL)
    with file_lock(path, 0) as held:
        assert held


def test_descriptors_are_closed(tmp_path: Path) -> None:
    """Neither a lock that is held nor one that isn't leaves its file open."""
    with file_lock(tmp_path / "lock", 0) as first, file_lock(tmp_path / "lock", 0) as second:
        assert (first, second) == (True, False)
        assert opened_below(tmp_path)
    assert not opened_below(tmp_path)


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    """What a link points at is neither made nor touched."""
    (tmp_path / "lock").symlink_to("elsewhere")
    with file_lock(tmp_path / "lock", 0) as held:
        assert not held
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_not_taken_on_a_file_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on one that has another name, nor on one that others can write to, nor on theirs."""
    (tmp_path / "mine").touch(0o600)
    (tmp_path / "lock").hardlink_to(tmp_path / "mine")
    with file_lock(tmp_path / "lock", 0) as held:
        assert not held
    (tmp_path / "mine").unlink()
    with file_lock(tmp_path / "lock", 0) as held:
        assert held
    (tmp_path / "lock").chmod(0o666)
    with file_lock(tmp_path / "lock", 0) as held:
        assert not held
    (tmp_path / "lock").chmod(0o600)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with file_lock(tmp_path / "lock", 0) as held:
        assert not held
    with file_lock(tmp_path / "lock", 0, trust=Trust(frozenset({owner}))) as held:
        assert held


def test_a_forked_child_holds_no_lock() -> None:
    """It neither keeps its dead parent's lock nor gives a living one's back."""
    with TemporaryDirectory() as directory:
        lock = Path(directory, "lock")
        release = take_lock(lock, 0)
        assert release is not None
        child = os.fork()
        if not child:
            release()
            os._exit(0)
        os.waitpid(child, 0)
        assert take_lock(lock, 0) is None
        release()
        child = int(run_child(_DIES_BEFORE_ITS_CHILD, lock))
        try:
            with file_lock(lock, 0) as held:
                assert held
        finally:
            os.kill(child, signal.SIGKILL)


_DIES_BEFORE_ITS_CHILD = """
import os, sys, time
from mace_cache._locking import take_lock
assert take_lock(sys.argv[1], 0)
ready, told = os.pipe()
child = os.fork()
if not child:
    os.write(told, b"here")
    for stream in (0, 1, 2):
        os.close(stream)
    time.sleep(600)
os.read(ready, 4)
print(child, flush=True)
os._exit(0)
"""
