"""Whether a directory will do for a cache: who owns it, what it lies on, whether locks work there.

What can be tried is tried: a file is written and a lock is taken, by two processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from mace_cache._directories import Place
from mace_cache._filesystem import TEMPORARY_PREFIX, temporary_file, unlink_own_file
from mace_cache._locking import file_lock
from mace_cache._mounts import mount_of, nearest_existing
from mace_cache.cli.findings import Finding, note, ok, problem
from mace_cache.cli.output import spoken_number, spoken_size
from mace_cache.rejections import NOTE_SUFFIX, Rejections
from mace_cache.storage._layout import FORMAT_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache._trust import Trust

__all__ = ["examine_directory", "examine_file_system", "write_fault"]

_DIRECTORY, _LOCKS, _SPACE = "cache directory", "locks", "space"
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.cephfs", "fuse.glusterfs", "fuse.s3fs",
    "fuse.sshfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "pvfs2", "smb3", "smbfs", "virtiofs",
})  # fmt: skip
_LITTLE_SPACE = 64 << 20  # bytes: a handful of programs
_FEW_FILES = 1000
_REJECTIONS = 3  # ProgramCache(max_retries=), unless said
_TRIES_LOCK = """
import sys
sys.path[:] = {path!r}
from mace_cache._locking import file_lock
with file_lock(sys.argv[1], 0) as held:
    print(held)
"""


def examine_directory(path: str, trust: Trust, *, read_only: bool) -> Iterator[Finding]:
    """Look at a cache directory, and at what it lies on.

    Args:
        path: the cache directory; it need not exist.
        trust: who is trusted there beside this user.
        read_only: whether nothing is to be written there.
    """
    if not os.path.lexists(path):
        yield _to_be_made(path, read_only=read_only)
    else:
        trust = trust.with_root() if read_only else trust
        root = Place(path, (), trust)
        place = Place(path, (FORMAT_DIRECTORY,), trust)
        if refused := _refusal(root, place):
            yield refused
        else:
            yield ok(_DIRECTORY, f"{path} is this user's own, or trusted")
            inside = place if os.path.isdir(place) else root
            if not read_only:
                yield from _try_to_write(inside)
            yield from _stepped_aside(place)
    yield from examine_file_system(path, "MACE_CACHE_DIR")


def examine_file_system(path: str, setting: str) -> Iterator[Finding]:
    """Look at what a directory lies on.

    Args:
        path: the directory, which need not exist.
        setting: the variable that names another one.
    """
    existing = nearest_existing(path)
    try:
        status = os.statvfs(existing)
    except OSError as error:
        yield problem(_SPACE, f"{existing}: {error.strerror}", f"name another with {setting}")
        return
    mount = mount_of(existing)
    if mount is not None and mount.kind in _NETWORK:
        yield note(
            "file system",
            f"{existing} is on a network ({mount.kind}): every start reads over it, and where "
            "locks don't work a program may be compiled more than once",
            f"a local disk in {setting} is faster",
        )
    elif mount is not None:
        yield ok("file system", f"{existing} is on {mount.kind}, mounted at {mount.point}")
    free = status.f_bavail * status.f_frsize
    remedy = f"make room, or name another disk with {setting}"
    if status.f_blocks and free < _LITTLE_SPACE:
        yield problem(_SPACE, f"only {spoken_size(free)} are free at {existing}", remedy)
    elif status.f_files and status.f_favail < _FEW_FILES:
        left = spoken_number(status.f_favail, "more file")
        yield problem(_SPACE, f"only {left} can be made at {existing} (inodes)", remedy)
    else:
        yield ok(_SPACE, f"{spoken_size(free)} are free at {existing}")


def _to_be_made(path: str, *, read_only: bool) -> Finding:
    if read_only:
        return note(_DIRECTORY, f"{path} doesn't exist, and nothing is to be written")
    above = nearest_existing(path)
    if fault := write_fault(above):
        text = f"{path} can't be made: nothing can be written in {above} ({fault})"
        return problem(_DIRECTORY, text, "name another with MACE_CACHE_DIR")
    owner = os.stat(above).st_uid
    if os.geteuid() == 0 != owner:
        return problem(
            _DIRECTORY,
            f"{path} isn't made: this is root, and {above} is another user's ({owner})",
            "set HOME or MACE_CACHE_DIR to a directory of root's",
        )
    return ok(_DIRECTORY, f"{path} doesn't exist yet: the first program that is stored makes it")


def write_fault(directory: str) -> str:
    """Write a file, which is gone afterwards, and say what went wrong."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with temporary_file(descriptor, bytes(1 << 16)):
                return ""
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.strerror or str(error)


def _refusal(root: Place, place: Place) -> Finding | None:
    """Say why the directory isn't used: the error says what can be done."""
    try:
        with root.open():
            pass
        with place.open():
            pass
    except FileNotFoundError:
        return None
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else "it"
        return problem(_DIRECTORY, f"{where}: {error.strerror}")
    return None


def _try_to_write(place: Place) -> Iterator[Finding]:
    if fault := write_fault(os.fspath(place)):
        text = f"{place} can't be written: {fault}"
        yield problem(_DIRECTORY, text, "make it writable, or set MACE_CACHE_READ_ONLY=1")
        return
    yield ok(_DIRECTORY, f"{place} can be written")
    yield _try_to_lock(place)


def _try_to_lock(place: Place) -> Finding:
    name = TEMPORARY_PREFIX + os.urandom(16).hex()  # if this process is killed it is collected
    path = os.path.join(place, name)
    try:
        with file_lock(path, 0) as held:
            seen_as_free = held and _another_process_locks(path)
        worked = held and not seen_as_free and _another_process_locks(path)
    except (OSError, subprocess.SubprocessError) as error:
        return problem(_LOCKS, f"locks could not be tried ({error})")
    finally:
        with place.open() as directory:
            unlink_own_file(name, directory)
    if worked:
        return ok(_LOCKS, f"a lock in {place} keeps another process out")
    return problem(
        _LOCKS,
        f"locks don't work in {place}: programs may be compiled more than once, and the size limit "
        "be passed",
        "put the cache on a local disk",
    )


def _another_process_locks(path: str) -> bool:
    command = [sys.executable, "-c", _TRIES_LOCK.format(path=sys.path), path]
    done = subprocess.run(  # noqa: S603 (our own code, and no shell)
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True
    )
    return done.stdout == b"True\n"


def _stepped_aside(place: Place) -> Iterator[Finding]:
    try:
        with place.open() as directory:
            files = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    for storage in [file[: -len(NOTE_SUFFIX)] for file in files if file.endswith(NOTE_SUFFIX)]:
        in_a_row = Rejections(place, storage).in_a_row
        if in_a_row >= _REJECTIONS:
            yield problem(
                "rejections",
                f"the cache has stepped aside for {storage}: its driver rejected {in_a_row} "
                "binaries in a row",
                f"after the driver was mended: mace-cache clear --device {storage}",
            )
