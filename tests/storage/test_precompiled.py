"""Precompiled programs: what arguments name and installed packages ship, opened when needed."""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mace_cache._filesystem import publish
from mace_cache._report import forget_reported
from mace_cache._signing_keys import SHARED, TrustedKeys, make_key
from mace_cache.config import Settings
from mace_cache.container import encode
from mace_cache.errors import DamagedFileError
from mace_cache.signing import sign
from mace_cache.storage._installed import GROUP, installed_bundles
from mace_cache.storage.precompiled import Precompiled
from tests.helpers import opened_below, run_child
from tests.storage.conformance import OTHER_FINGERPRINT, make_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = Settings(None)
OURS = make_program(0, b"ours")
THEIRS = make_program(0, b"theirs", OTHER_FINGERPRINT)


@pytest.fixture(autouse=True)
def _report_afresh() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that packages can be put into, as if they were installed."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return directory


def install(packages: Path, name: str, entry: str, bundles: str) -> Path:
    """Install a package that mustn't be imported, and give its directory of bundles."""
    (packages / name).mkdir()
    (packages / name / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    directory = packages / name / bundles
    directory.mkdir(exist_ok=True)
    information = packages / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\nmain = {entry}\n")
    return directory


def test_the_first_file_that_exists_is_used(tmp_path: Path) -> None:
    """As in MACE: later paths aren't looked at; the bytes come after the file, then the others."""
    for name, program in (("b", OURS), ("c", THEIRS)):
        (tmp_path / name).write_bytes(encode([program]))
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    shipped = Precompiled(SETTINGS, [tmp_path / "c"], paths, encode([THEIRS]))
    from_file, from_bytes, more = shipped
    assert str(from_file) == str(tmp_path / "b")
    assert list(from_file.candidates(OURS.key)) == [OURS]
    assert list(from_bytes.candidates(OURS.key)) == [THEIRS]
    assert str(more) == str(tmp_path / "c")
    assert list(Precompiled(SETTINGS, first_of=[tmp_path / "a"])) == []


def test_nothing_is_opened_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only once; a relative path is that of the time when the cache was made."""
    monkeypatch.chdir(tmp_path)
    shipped = Precompiled(SETTINGS, ["late"])
    (tmp_path / "late").write_bytes(encode([OURS]))
    monkeypatch.chdir("/")
    (first,) = shipped
    (tmp_path / "late").unlink()
    (again,) = shipped
    assert first is again


def test_what_cannot_be_used_is_reported_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 1: a broken precompiled file costs a warning, not the application."""
    (tmp_path / "damaged").write_bytes(encode([OURS])[:-1])
    (tmp_path / "empty").touch()
    (tmp_path / "sound").write_bytes(encode([OURS]))
    os.mkfifo(tmp_path / "fifo")
    names = ("damaged", "empty", "fifo", ".", "missing", "sound")
    paths = [tmp_path / name for name in names]
    with caplog.at_level(logging.WARNING):
        (sound,) = Precompiled(SETTINGS, paths)
        assert len(list(Precompiled(SETTINGS, paths))) == 1
    assert sound.find(OURS.key) == OURS
    assert len(caplog.records) == 5
    assert all("isn't used" in record.getMessage() for record in caplog.records)


def test_a_link_is_followed(tmp_path: Path) -> None:
    """Where an application's link points is its own business."""
    (tmp_path / "bundle").write_bytes(encode([OURS]))
    (tmp_path / "link").symlink_to("bundle")
    (storage,) = Precompiled(SETTINGS, first_of=[tmp_path / "missing", tmp_path / "link"])
    assert storage.find(OURS.key) == OURS


CUT = """
import os, sys
from mace_cache.config import Settings
from mace_cache.container import Bundle
from mace_cache.errors import DamagedFileError
from mace_cache.storage.precompiled import Precompiled
path, *keys = sys.argv[1:]
(storage,) = Precompiled(Settings(None), [path])
program = storage.find(keys[0])
real = Bundle.find
def find(*arguments):  # cut off after it was looked whether it is whole
    os.truncate(path, 4096)
    return real(*arguments)
Bundle.find = find
try:
    storage.find(keys[1])
except DamagedFileError as error:
    print(error)
print(bytes(program.binary) == b"A" * 100_000)
"""


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    """The process lives, the program is a damaged one, and what was read before stays whole."""
    programs = [make_program(number, b"A" * 100_000) for number in range(2)]
    path = tmp_path / "bundle"
    path.write_bytes(encode(programs))
    said, whole = run_child(CUT, path, *[program.key for program in programs]).splitlines()
    assert str(path) in said
    assert "cut off while it was in use" in said
    assert whole == "True"


def test_what_is_verified_is_what_is_used(tmp_path: Path) -> None:
    """Who writes into the file afterwards changes no program, and none is read of a new file."""
    path = tmp_path / "bundle"
    path.write_bytes(encode([OURS]))
    (storage,) = Precompiled(SETTINGS, [path])
    found = storage.find(OURS.key)
    path.write_bytes(encode([make_program(0, b"evil")]))
    with pytest.raises(DamagedFileError):
        storage.find(OURS.key)
    assert found == OURS


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """As installers do it: what is open stays as it was, and its descriptor goes with it."""
    path = tmp_path / "bundle"
    path.write_bytes(encode([OURS]))
    (storage,) = Precompiled(SETTINGS, [path])
    publish(path, encode([THEIRS]))
    assert storage.find(OURS.key) == OURS
    assert opened_below(tmp_path)
    del storage
    gc.collect()
    assert not opened_below(tmp_path)


def test_a_bundle_that_no_trusted_key_has_signed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where keys are configured it isn't used, with one warning that names it and the key."""
    ours, other = make_key(SHARED), make_key(SHARED)
    for name, data in (
        ("unsigned", encode([OURS])),
        ("other", sign(encode([OURS]), other)),
        ("signed", sign(encode([OURS]), ours)),
    ):
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in ("unsigned", "other", "signed")]
    careful = SETTINGS._replace(trusted_keys=TrustedKeys((ours,)))
    with caplog.at_level(logging.WARNING):
        assert [str(one) for one in Precompiled(careful, paths)] == [str(paths[2])]
        assert len(list(Precompiled(careful, paths))) == 1
    unsigned, foreign = [record.getMessage() for record in caplog.records]
    assert f"{paths[0]}: the program {OURS.key[:12]}... isn't signed" in unsigned
    assert str(paths[1]) in foreign
    assert other.identifier.hex() in foreign
    allowing = careful._replace(allow_unsigned=True)
    assert len(list(Precompiled(allowing, paths))) == 2
    assert len(list(Precompiled(SETTINGS, paths))) == 3


def test_bundles_of_installed_packages(packages: Path) -> None:
    """They are found, in the order of names, and no code of the package is run."""
    directory = install(packages, "shipping_app", "shipping_app.bundles", "bundles")
    for name in ("b.mclp", "a.mclp"):
        (directory / name).write_bytes(encode([OURS]))
    (directory / "read.me").touch()
    paths = [str(directory / name) for name in ("a.mclp", "b.mclp")]
    assert installed_bundles() == paths
    assert [str(storage) for storage in Precompiled(SETTINGS, None)] == paths
    assert list(Precompiled(SETTINGS, [])) == []
    assert "shipping_app" not in sys.modules


@pytest.mark.parametrize(
    "entry", ["absent", "absent.inner", "", ".", "..", "odd_app./etc", "sys", "__main__", "a b"]
)
def test_entry_points_that_name_nothing(packages: Path, entry: str) -> None:
    """A package that isn't there, or no package's name, is passed over."""
    (install(packages, "odd_app", entry, "bundles") / "a.mclp").write_bytes(b"")
    assert installed_bundles() == []


def test_an_import_hook_that_fails(
    packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other people's code that raises costs one warning."""
    install(packages, "hooked_app", "hooked_app", ".")

    def fail(_name: str) -> None:
        raise RuntimeError("this finder is broken")

    monkeypatch.setattr("mace_cache.storage._installed.find_spec", fail)
    with caplog.at_level(logging.WARNING):
        assert list(Precompiled(SETTINGS, None)) == []
        assert list(Precompiled(SETTINGS, None)) == []
    (record,) = caplog.records
    assert "this finder is broken" in record.getMessage()
