"""Whether what lies in a cache directory will be used: whose it is, and whether it is sound.

The work is bounded however much is stored: of so many programs the status is asked for, and a
sample of these is read.
"""

from __future__ import annotations

import errno
import os
import random
import re
import stat
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mace_cache._notes import MARKS, NOTES
from mace_cache._trust import check_own, check_private
from mace_cache.cli.entries import StoredFile, load_entry, may_be_storage
from mace_cache.cli.findings import Finding, ok, problem
from mace_cache.cli.output import spoken_number, spoken_seconds, spoken_size
from mace_cache.storage._layout import is_entry, is_shard, key_of
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mace_cache._directories import Place

__all__ = ["examine_contents", "examine_room"]

_DIRECTORY, _PROGRAMS, _FILES = "cache directory", "programs", "files"
_LOCKS = "locks"
_WRITTEN_IN_PLACE = re.compile(r"usage|usage\.lock|statistics\.jsonl|.+\.rejections")
_DIRECTORIES = re.compile(r"locks|guard|.+-[0-9a-f]{16}")  # the last are storages
_NOTE = re.compile(r"[0-9a-f]{80}(\..+)?")
_MOST_SEEN = 100_000
_MOST_READ = 1000
_MOST_BYTES_READ = 256 << 20
_HARDLY_A_PROGRAM = 32 << 10  # bytes
_ONE_RUN = 3600.0  # seconds: no finer are programs marked as used
_MADE_AGAIN = "remove it: it is made again"
_OR_READ = "or set MACE_CACHE_READ_ONLY=1 where it is only to be read"
_IN_DOUBT = "where others may have written to it, remove it: it is made again"


class _Fault(NamedTuple):
    about: str
    path: str
    text: str
    remedy: str = ""


def examine_contents(place: Place, *, read_only: bool) -> tuple[list[StoredFile], list[Finding]]:
    """Look at what lies in a cache directory.

    Args:
        place: the directory of the format version; where there is none, or it isn't used, nothing
            is found.
        read_only: whether nothing is to be written there.

    Returns:
        The programs that were looked at, and what was found.
    """
    try:
        with place.open():
            pass
    except OSError:
        return [], []
    access = os.R_OK if read_only else os.R_OK | os.W_OK
    walk = _walk(place, access)
    seen = list(islice(walk, _MOST_SEEN))
    programs = [one for one in seen if isinstance(one, StoredFile)]
    sample = _sample(programs)
    faults = [one for one in seen if isinstance(one, _Fault)]
    number = len(programs) + sum(fault.about == _PROGRAMS for fault in faults)
    faults += [*_state_faults(place, access), *_damage(place, sample)]
    more = " (there are more)" if next(walk, None) else ""
    text = f"{spoken_number(number, 'program')} looked at{more}, {len(sample)} of them read whole"
    return programs, [*([ok(_PROGRAMS, text)] if number else []), *_findings(faults)]


def examine_room(programs: list[StoredFile], max_size: int, evictions: int) -> Iterator[Finding]:
    """Tell whether the size that programs are kept within is too small for them.

    Args:
        programs: what is stored.
        max_size: that size in bytes; 0 is no limit.
        evictions: how many programs were removed to keep within it, by all processes.
    """
    about, limit = "size", f"MACE_CACHE_MAX_SIZE ({spoken_size(max_size)})"
    raise_it = "raise it to more than an application stores"
    if not max_size:
        return
    if max_size < _HARDLY_A_PROGRAM:
        yield problem(about, f"hardly a program fits within {limit}", raise_it)
    if not programs:
        return
    largest = max(programs, key=lambda program: program.size)
    size = sum(program.size for program in programs)
    oldest = min(program.used for program in programs)
    period = max(program.used for program in programs) - oldest
    if largest.size > max_size:
        text = f"{largest.path} is larger than {limit}: the like of it isn't stored any more"
        yield problem(about, text, raise_it)
    elif size > max_size:
        text = f"{spoken_size(size)} are stored, more than {limit}: the next start removes the rest"
        yield problem(about, text, f"{raise_it}, or have it removed now: mace-cache gc")
    elif evictions and size > max_size / 2 and period < _ONE_RUN:
        yield problem(
            about,
            f"{spoken_number(evictions, 'program')} had to be removed for others within {limit}, "
            f"and what is left was all used within {spoken_seconds(period)}",
            raise_it,
        )


def _walk(place: Place, access: int) -> Iterator[StoredFile | _Fault]:
    """Give programs and what isn't used of them, in any order: the first stand for them all."""
    for storage in _names(place, lambda name: name not in (_LOCKS, NOTES)):
        for shard in _names(place, is_shard, storage):
            yield from _directory_fault(place, access, storage, shard)
            for name in _names(place, is_entry, storage, shard):
                path = os.path.join(place, storage, shard, name)
                status = _status(path)
                if status is None:  # removed just now
                    continue
                faults = list(_file_fault(_PROGRAMS, path, status, place, check_private))
                yield from faults
                if not faults:
                    key, used = key_of(name), status.st_mtime
                    yield StoredFile(storage, key, path, status.st_size, used)


def _state_faults(place: Place, access: int) -> Iterator[_Fault]:
    """Say which directories aren't used, and which files beside the programs."""
    for name in _names(place, may_be_storage):
        path = os.path.join(place, name)
        if _WRITTEN_IN_PLACE.fullmatch(name):
            yield from _own_file_fault(path, place, access)
        elif _DIRECTORIES.fullmatch(name) or os.path.isdir(path) or os.path.islink(path):
            yield from _directory_fault(place, access, name)
    yield from _directory_fault(place, access, NOTES, MARKS)
    for name in _names(place, lambda name: name.endswith(".lock"), _LOCKS):
        yield from _own_file_fault(os.path.join(place, _LOCKS, name), place, access)
    for name in _names(place, _NOTE.fullmatch, NOTES):
        yield from _own_file_fault(os.path.join(place, NOTES, name), place, access)


def _damage(place: Place, sample: Iterable[StoredFile]) -> Iterator[_Fault]:
    """Read programs as a cache would, without changing them, and say what is wrong with each."""
    factory = DirectoryStorageFactory(place.root, read_only=True, trust=place.trust)
    for program in sample:
        entry = load_entry(factory, program)
        if entry is not None and entry.problem:
            remedy = "mace-cache verify names all of them, and --remove removes them"
            yield _Fault(_PROGRAMS, program.path, entry.problem, remedy)


def _sample(programs: list[StoredFile]) -> list[StoredFile]:
    """Choose programs at random, of which all can be read in a bounded time."""
    sample, left = [], _MOST_BYTES_READ
    for program in random.sample(programs, min(len(programs), _MOST_READ)):
        if program.size <= left:
            left -= program.size
            sample.append(program)
    return sample


def _findings(faults: Iterable[_Fault]) -> Iterator[Finding]:
    """Give a line a kind of fault, with the path of one that has it."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for fault in faults:
        kinds.setdefault((fault.about, fault.text, fault.remedy), []).append(fault.path)
    for (about, text, remedy), paths in kinds.items():
        others = f" (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
        yield problem(about, f"{paths[0]}{others}: {text}", remedy)


def _names(place: Place, wanted: Callable[[str], object], *below: str) -> list[str]:
    """Give the names in a directory, in no order; none where it isn't used."""
    try:
        with place.open(*below) as directory, os.scandir(directory) as listing:
            names = (item.name for item in listing)
            found = list(islice(filter(wanted, names), _MOST_SEEN + 1))
    except OSError:
        return []
    random.shuffle(found)
    return found


def _directory_fault(place: Place, access: int, *below: str) -> Iterator[_Fault]:
    path = os.path.join(place, *below)
    try:
        with place.open(*below) as directory:
            if not _may(".", access, directory):
                what = "written" if access & os.W_OK else "searched"
                yield _Fault(_DIRECTORY, path, f"it can't be {what}", f"chmod u+rwx, {_OR_READ}")
            return
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield _Fault(
            _DIRECTORY, path, "it is a link or no directory, so it isn't used", _MADE_AGAIN
        )
    except OSError as error:
        if error.errno == errno.EPERM:  # it says all that is to be said
            yield _Fault(_DIRECTORY, path, str(error.strerror))
        else:
            yield _Fault(_DIRECTORY, path, f"it can't be opened ({error.strerror})", "chmod u+rwx")


def _own_file_fault(path: str, place: Place, access: int) -> Iterator[_Fault]:
    status = _status(path)
    if status is None:
        return
    faults = list(_file_fault(_FILES, path, status, place, check_own))
    yield from faults
    is_used = access & os.W_OK and not faults
    if is_used and not _may(path, access) and os.path.lexists(path):
        yield _Fault(_FILES, path, "it can't be read and written", f"chmod u+rw, {_OR_READ}")


def _may(path: str, access: int, directory: int | None = None) -> bool:
    """Whether this user has that access; not only by owner and mode."""
    return os.access(path, access, dir_fd=directory, effective_ids=True)


def _file_fault(
    about: str, path: str, status: os.stat_result, place: Place, check: Callable[..., None]
) -> Iterator[_Fault]:
    if not stat.S_ISREG(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no file"
        yield _Fault(about, path, f"it is {what}, so it isn't used", _MADE_AGAIN)
        return
    try:
        check(status, path, trust=place.trust)
    except PermissionError as error:
        yield _Fault(about, path, str(error.strerror), _IN_DOUBT)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
