"""Which file system a path lies on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mace_cache._mounts import Mount, mount_of, nearest_existing, parse_mounts

if TYPE_CHECKING:
    from pathlib import Path

TABLE = rb"""22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /home rw - nfs4 server:/home rw,vers=4.2
24 23 0:22 / /home/me\040and\134you rw master:3 propagate_from:2 - fuse.sshfs me@there:/ rw
25 22 0:23 / /twice rw - ext4 /dev/vdb rw
26 25 0:24 / /twice rw - tmpfs none rw
nonsense
27 22 0:25 / /cut rw -
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homes/me", "ext4"),
        ("/home", "nfs4"),
        ("/home/me", "nfs4"),
        ("/twice/below", "tmpfs"),
        ("/cut/x", ""),
    ],
)
def test_the_innermost_mount_counts(monkeypatch: pytest.MonkeyPatch, path: str, kind: str) -> None:
    """Names that only begin alike don't, and what is hidden by a later mount doesn't."""
    monkeypatch.setattr(os.path, "lexists", lambda _path: True)
    mount = mount_of(path, parse_mounts(TABLE))
    assert mount is not None
    assert mount.kind == kind


def test_escaped_names() -> None:
    """Blanks and backslashes in a mount point are written in octal."""
    assert Mount("/home/me and\\you", "fuse.sshfs") in parse_mounts(TABLE)


def test_this_process(tmp_path: Path) -> None:
    """The kernel's own table is understood, for what doesn't exist yet and through links too."""
    (tmp_path / "link").symlink_to("/proc")
    mount = mount_of(tmp_path / "link" / "self" / "nothing" / "here")
    assert mount == Mount("/proc", "proc")
    assert mount_of(tmp_path / "not" / "yet") == mount_of(tmp_path)
    assert nearest_existing(tmp_path / "not" / "yet") == str(tmp_path)
