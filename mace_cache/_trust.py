"""Whose files and directories are used: this user's own, and those that the settings name beside.

Who can write to a cache decides what a driver is handed, which is code: so nothing is read from a
place that anybody else may have written to.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.errors import ConfigurationError

if TYPE_CHECKING:
    Path = str | os.PathLike[str]

__all__ = [
    "OWN_ONLY",
    "Trust",
    "check_own",
    "check_private",
    "elevated_rights",
    "parse_trust",
    "with_own_group",
]

_ROOT = 0
_TERM = r"(uid|gid):(\d{1,10})"
_LINKS = "links"
_AT_SECURE = 23  # elf.h: the kernel asks for caution, as after a set-user-ID or capabilities


class Trust(NamedTuple):
    """Who is trusted beside this user.

    Attributes:
        owners: users who may own files and directories.
        groups: groups that may be able to write to them.
        links: whether the cache directory itself may be a link.
    """

    owners: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    links: bool = False

    def __str__(self) -> str:
        """Give it as `parse_trust` takes it."""
        users = [f"uid:{number}" for number in sorted(self.owners)]
        groups = [f"gid:{number}" for number in sorted(self.groups)]
        return ",".join([*users, *groups, *([_LINKS] if self.links else [])])

    def with_root(self) -> Trust:
        """Give the trust in what is only read, which may be root's."""
        return self._replace(owners=self.owners | {_ROOT})


OWN_ONLY = Trust()


def parse_trust(text: str, setting: str = "MACE_CACHE_TRUST") -> Trust:
    """Understand a list of users, groups and links: ``uid:1000,gid:100,links``.

    Args:
        text: the list; nothing in it is nobody.
        setting: what it was given as, for the error.

    Raises:
        ConfigurationError: it is no such list.
    """
    terms = [term for term in text.replace(" ", "").split(",") if term]
    found: dict[str, set[int]] = {"uid": set(), "gid": set()}
    for term in terms:
        match = re.fullmatch(_TERM, term)
        if match:
            found[match[1]].add(int(match[2]))
        elif term != _LINKS:
            raise ConfigurationError(setting, text, "a list such as uid:1000,gid:100,links")
    return Trust(frozenset(found["uid"]), frozenset(found["gid"]), _LINKS in terms)


def check_private(status: os.stat_result, *path: Path, trust: Trust = OWN_ONLY) -> None:
    """Refuse a file or directory that somebody who isn't trusted may have written.

    Args:
        status: what ``os.fstat`` says of it: of what is open, not of what its path leads to now.
        path: where it is, in parts, for the error.
        trust: who is trusted beside this user.

    Raises:
        PermissionError: another user owns it or can write to it.
    """
    owner, group, mode = status.st_uid, status.st_gid, status.st_mode
    if owner != os.geteuid() and owner not in trust.owners:
        problem = f"another user ({owner}) owns it"
        remedy = f"MACE_CACHE_TRUST=uid:{owner} trusts that user"
    elif mode & stat.S_IWOTH:
        problem, remedy = "any other user can write to it", "chmod o-w mends that"
    elif mode & stat.S_IWGRP and group not in trust.groups:
        problem = f"its group ({group}) can write to it"
        remedy = f"chmod g-w mends that, or MACE_CACHE_TRUST=gid:{group} trusts them"
    else:
        return
    message = f"{problem}, so it isn't used ({remedy})"
    raise PermissionError(errno.EPERM, message, os.path.join(*path))


def with_own_group(directory: int, trust: Trust) -> Trust:
    """Trust the group of a directory too that is this user's alone: a umask of 002 lets it write.

    Args:
        directory: its descriptor.
        trust: who is trusted beside this user.
    """
    status = os.fstat(directory)
    if not status.st_mode & stat.S_IWGRP or status.st_gid in trust.groups:
        return trust
    if not _is_own_group(status.st_gid) or _has_access_list(directory):
        return trust
    return trust._replace(groups=trust.groups | {status.st_gid})


def _is_own_group(group: int) -> bool:
    """Whether a group has this user's name, and nobody else in it; root's never is."""
    try:
        import grp  # noqa: PLC0415 (few need it)
        import pwd  # noqa: PLC0415 (as above)

        user, its = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    if group == _ROOT or (user.pw_gid, user.pw_name) != (group, its.gr_name):
        return False
    members = {*its.gr_mem, *[one.pw_name for one in pwd.getpwall() if one.pw_gid == group]}
    return members == {user.pw_name}


def _has_access_list(directory: int) -> bool:
    """Whether others than the group may be meant by what its mode says of the group."""
    try:
        return any("acl" in name for name in os.listxattr(directory))
    except (AttributeError, OSError):  # nobody knows
        return True


def check_own(status: os.stat_result, *path: Path, trust: Trust = OWN_ONLY) -> None:
    """Refuse a file to be written in place that isn't ours alone.

    A hard link to a user's file, in the place of one of ours, would have that file overwritten.

    Args:
        status: as for `check_private`.
        path: as for `check_private`.
        trust: who is trusted beside this user.

    Raises:
        PermissionError: another user owns it or can write to it, or it has other names.
    """
    check_private(status, *path, trust=trust)
    if status.st_nlink > 1:
        message = "it has other names (hard links), so it isn't used (removing this one mends that)"
        raise PermissionError(errno.EPERM, message, os.path.join(*path))


def elevated_rights() -> str:
    """Why this process has rights that whoever started it may not have, or an empty text.

    Such a process must not believe what its environment says, and everything here begins with it.
    """
    if len(set(os.getresuid())) > 1:
        return "this process runs for another user (set-user-ID)"
    if len(set(os.getresgid())) > 1:
        return "this process runs for another group (set-group-ID)"
    return "this process was given more rights than its user has" if _is_secure() else ""


def _is_secure() -> bool:
    import ctypes  # noqa: PLC0415 (pyopencl has imported it by the time of a call)

    try:
        ask = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):  # not Linux
        return False
    ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(ask(_AT_SECURE))
