"""``keygen``, ``export`` and ``import``: programs on their way from one machine to another."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mace_cache import ProgramCache
from mace_cache._signing_keys import parse_key
from mace_cache.container import Bundle, decode_entry, encode
from mace_cache.explanation import Origin
from mace_cache.fingerprint import fingerprint, storage_name
from mace_cache.mace_file import (
    BUILD_OPTIONS,
    MaceFile,
    MaceProgram,
    read_mace_file,
    write_mace_file,
)
from tests.cli.conftest import (
    OTHER_FINGERPRINT,
    OTHER_STORAGE,
    STORAGE,
    Store,
    flip,
    make_program,
    one_line,
    run,
)
from tests.helpers import entries, make_source, run_child, scale

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

PROGRAMS = [make_program("add"), make_program("mul"), make_program("max", OTHER_FINGERPRINT)]


@pytest.fixture
def stored(store: Store) -> Store:
    """A cache of three programs for two devices."""
    for program in PROGRAMS:
        store.insert(program)
    return store


def test_keygen(tmp_path: Path) -> None:
    """A private key that nobody else can read, and a public one; no file is replaced."""
    private, public = tmp_path / "fleet", tmp_path / "fleet.pub"
    made = run("keygen", private, "--json").json
    key, half = parse_key(private.read_text()), parse_key(public.read_text())
    assert key is not None
    assert half == key.public()
    assert made["public"] == half.to_text()
    assert made["key"] == key.identifier.hex()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "never replaced" in one_line(run("keygen", private), code=1)
    private.unlink()
    assert str(public) in one_line(run("keygen", private), code=1)
    assert not private.exists()


def test_keygen_shared(tmp_path: Path) -> None:
    """One secret, which isn't printed."""
    made = run("keygen", tmp_path / "secret", "--shared")
    key = parse_key((tmp_path / "secret").read_text())
    assert key is not None
    assert key.material.hex() not in made.output
    assert not (tmp_path / "secret.pub").exists()


def test_export(stored: Store, tmp_path: Path) -> None:
    """All programs, in a file that anybody may read; the cache stays as it was."""
    before, output = stored.contents(), tmp_path / "all.mclp"
    told = run("export", "--output", output, "--json").json
    assert list(Bundle(output.read_bytes()).programs()) == sorted(
        PROGRAMS, key=lambda program: (program.fingerprint, program.key)
    )
    assert told == {
        "output": str(output),
        "bytes": output.stat().st_size,
        "entries": 3,
        "storages": sorted([STORAGE, OTHER_STORAGE]),
        "damaged": [],
    }
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert stored.contents() == before


@pytest.mark.usefixtures("stored")
def test_export_is_deterministic(tmp_path: Path) -> None:
    """The same programs give the same bytes, in whatever order they were stored; signed too."""
    run("keygen", tmp_path / "key")
    signing = ("--sign", tmp_path / "key")
    run("export", "--output", tmp_path / "one", *signing)
    other = Store(tmp_path / "other")
    for program in reversed(PROGRAMS):
        other.insert(program)
    arguments = ("--cache-directory", other.directory, *signing)
    assert "3 programs" in run("export", "--output", tmp_path / "two", *arguments).output
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_export_of_some(stored: Store, tmp_path: Path) -> None:
    """By device, by the beginnings of keys, or both."""
    add, mul, largest = PROGRAMS
    for arguments, wanted in (
        (["--device", STORAGE], [add, mul]),
        (["--device", STORAGE, "--device", OTHER_STORAGE[:-1]], PROGRAMS),
        (["--programs", add.key[:8], "--programs", largest.key], [add, largest]),
        (["--device", STORAGE, "--programs", mul.key[:8].upper()], [mul]),
    ):
        assert run("export", "--output", tmp_path / "some", *arguments).code == 0
        exported = Bundle((tmp_path / "some").read_bytes()).programs()
        assert {one.key for one in exported} == {one.key for one in wanted}
    (tmp_path / "some").unlink()
    for nothing in (["--programs", "0000"], ["--cache-directory", tmp_path / "empty"]):
        ran = run("export", "--output", tmp_path / "some", *nothing)
        assert "nothing to export" in one_line(ran, code=1)
    assert not (tmp_path / "some").exists()
    assert stored.directory.exists()


def test_export_leaves_damaged_programs_out(stored: Store, tmp_path: Path) -> None:
    """It says which, and that not all is in order by its exit code."""
    flip(stored.path(PROGRAMS[0]))
    ran = run("export", "--output", tmp_path / "rest")
    assert ran.code == 1
    assert PROGRAMS[0].key in ran.errors
    assert len(Bundle((tmp_path / "rest").read_bytes()).keys()) == 2


def test_inspect_tells_signatures(
    stored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which key, and whether it is trusted where keys are configured."""
    assert run("keygen", tmp_path / "key").code == 0
    assert run("keygen", tmp_path / "other").code == 0
    path = tmp_path / "signed"
    run("export", "--output", path, "--sign", tmp_path / "key", "--device", STORAGE)
    key = parse_key((tmp_path / "key.pub").read_text())
    assert key is not None
    told = run("inspect", path)
    assert (told.code, told.errors) == (0, "")
    assert f"signature: Ed25519, key {key.identifier.hex()} (not verified" in told.output
    shown = run("inspect", path, "--hex").output
    assert "signature.magic" in shown
    assert "signature.key" in shown
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "key.pub"))
    assert run("inspect", path, "--json").json["signature"] == {
        "algorithm": "Ed25519",
        "key": key.identifier.hex(),
        "trusted": True,
    }
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "other.pub"))
    told = run("inspect", path)
    assert told.code == 1
    assert "isn't trusted" in told.output
    assert stored.directory.exists()


def test_import_for_this_machine(device: cl.Device, cache_directory: Path, tmp_path: Path) -> None:
    """What is for its devices is stored; what isn't is named by its device, and skipped."""
    own = make_program("own", fingerprint(device).text)
    path = tmp_path / "bundle"
    path.write_bytes(encode([own, *PROGRAMS]))
    assert "no key is trusted" in one_line(run("import", path), code=1)
    assert entries(cache_directory) == []
    told = run("import", path, "--allow-unsigned")
    assert told.code == 0
    assert "imported 1 program " in told.output
    assert f"2 programs for {STORAGE}, no device here" in told.output
    assert f"1 program for {OTHER_STORAGE}" in told.output
    chosen = ("--device", storage_name(own.fingerprint))
    told = run("import", path, "--allow-unsigned", *chosen)
    assert f"2 programs for {STORAGE}, left out by --device" in told.output
    store = Store(cache_directory)
    (entry,) = entries(cache_directory)
    assert entry == store.path(own)
    entry.unlink()
    store.insert(replace(own, binary=b"more"))
    told = run("import", path, "--allow-unsigned", "--json")
    assert (told.json["imported"], told.json["present"]) == ([], 1)
    name = store.path(own).parents[1].name
    kept = store.factory.create_storage(name).find(own.key)
    assert kept is not None
    assert kept.binary == b"more"


def test_import_where_it_is_forbidden(
    cache_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variables that switch caching off, or make it read-only."""
    (tmp_path / "bundle").write_bytes(encode(PROGRAMS))
    for variable, said in (("MACE_CACHE_DISABLE", "is set"), ("MACE_CACHE_READ_ONLY", "read-only")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert said in one_line(run("import", tmp_path / "bundle", "--allow-unsigned"), code=1)
    assert not cache_directory.exists()


def test_import_of_nothing_for_this_machine(cache_directory: Path, tmp_path: Path) -> None:
    """It says which devices it is for; the exit code tells that nothing came of it."""
    path = tmp_path / "bundle"
    path.write_bytes(encode(PROGRAMS))
    told = run("import", path, "--allow-unsigned")
    assert told.code == 1
    assert "skipped: 2 programs for" in told.output
    assert entries(cache_directory) == []


def test_import_verifies_signatures(
    device: cl.Device, cache_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a key is trusted only what it has signed is imported."""
    for name in ("key", "other"):
        run("keygen", tmp_path / name)
    source = Store(tmp_path / "source")
    source.insert(make_program("own", fingerprint(device).text))
    from_there = ("--cache-directory", source.directory)
    for name, signing in (("unsigned", []), ("signed", ["--sign", tmp_path / "key"])):
        run("export", "--output", tmp_path / name, *signing, *from_there)
    trusted = ("--trusted-keys", tmp_path / "key.pub")
    assert "isn't signed" in one_line(run("import", tmp_path / "unsigned", *trusted), code=1)
    wrong = run("import", tmp_path / "signed", "--trusted-keys", tmp_path / "other.pub")
    assert "isn't trusted" in one_line(wrong, code=1)
    assert entries(cache_directory) == []
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "key.pub"))
    assert run("import", tmp_path / "signed").code == 0
    assert len(entries(cache_directory)) == 1


def test_import_by_keys_of_its_own(
    device: cl.Device, cache_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names keys at the import decides: applications need not trust them."""
    for name in ("vendor", "fleet"):
        run("keygen", "--shared", tmp_path / name)
    source = Store(tmp_path / "source")
    source.insert(make_program("shipped", fingerprint(device).text))
    bundle = ("--output", tmp_path / "app.mclp", "--sign", tmp_path / "vendor")
    assert run("export", *bundle, "--cache-directory", source.directory).code == 0
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "fleet"))
    assert run("import", tmp_path / "app.mclp", "--trusted-keys", tmp_path / "vendor").code == 0
    (entry,) = entries(cache_directory)
    assert decode_entry(entry.read_bytes()).signer == ""


def test_what_came_under_a_key_that_is_not_trusted_any_more(
    device: cl.Device, cache_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into no other file under a better key, and an import takes its place."""
    for name in ("stolen", "new"):
        run("keygen", "--shared", tmp_path / name)
    source, text = Store(tmp_path / "source"), fingerprint(device).text
    for name, binary in (("stolen", b"evil"), ("new", b"good")):
        source.insert(replace(make_program("shipped", text), binary=binary))
        bundle = ("--output", tmp_path / f"{name}.mclp", "--sign", tmp_path / name)
        assert run("export", *bundle, "--cache-directory", source.directory).code == 0
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "stolen"))
    assert run("import", tmp_path / "stolen.mclp").code == 0
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", str(tmp_path / "new"))
    again = ("--output", tmp_path / "again", "--sign", tmp_path / "new")
    assert "nothing to export" in run("export", *again).errors
    url = f"objects+file://{tmp_path}/remote"
    monkeypatch.setenv("MACE_CACHE_SIGNING_KEY", str(tmp_path / "new"))
    pushed = run("push", "--remote", url)
    assert pushed.code == 1
    assert "isn't trusted any more" in pushed.errors
    assert "pushed 0 programs" in pushed.output
    assert run("import", tmp_path / "new.mclp").code == 0
    (entry,) = entries(cache_directory)
    assert decode_entry(entry.read_bytes()).binary == b"good"
    assert "pushed 1 program " in run("push", "--remote", url).output


def test_import_of_a_damaged_bundle(device: cl.Device, tmp_path: Path) -> None:
    """What is sound is imported, what isn't is complained of."""
    text = fingerprint(device).text
    path = tmp_path / "bundle"
    data = encode([make_program("good", text), make_program("evil", text)])
    path.write_bytes(data.replace(b"evilevil", b"evilEVIL", 1))
    told = run("import", path, "--allow-unsigned")
    assert told.code == 1
    assert "digest is wrong" in told.errors
    assert "imported 1 program " in told.output
    path.write_bytes(data[:-1])
    assert "not a valid MCLP file" in one_line(run("import", path, "--allow-unsigned"), code=1)


def test_from_one_cache_to_another(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built here, exported, imported there: found in the storage, and it runs."""
    source = make_source("travels")
    with ProgramCache(storage_path=tmp_path / "here") as cache:
        scale(cache.build(context, source))
    bundle = tmp_path / "bundle"
    assert run("export", "--output", bundle, "--cache-directory", tmp_path / "here").code == 0
    with ProgramCache(url="memory:", precompiled=[bundle]) as cache:
        program = cache.build(context, source)
        assert (cache.explain(program).origin, scale(program)) == (Origin.PRECOMPILED, 2)
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "there"))
    assert run("import", bundle, "--allow-unsigned").code == 0
    with ProgramCache() as cache:
        program = cache.build(context, source)
        assert (cache.explain(program).origin, scale(program)) == (Origin.STORAGE, 2)


def test_through_a_file_of_maces(
    context: cl.Context, device: cl.Device, cache_directory: Path, tmp_path: Path
) -> None:
    """Exported as MACE writes it, told about, and imported under the key that its source has."""
    source, options = make_source("mace"), "-DFACTOR=3"
    (tmp_path / "scaling.cl").write_text(source)
    with ProgramCache() as cache:
        scale(cache.build(context, source, f"{options} {BUILD_OPTIONS}"))
    path = tmp_path / "mace_cl_compiled_program.bin"
    mace = ("--format", "mace", "--sources", tmp_path)
    assert run("export", "--output", path, *mace).code == 0
    (program,) = read_mace_file(path.read_bytes()).programs
    assert (program.name, program.options) == ("scaling", options)

    told = run("inspect", path)
    assert told.code == 0
    assert "a valid file of MACE's of 1 program" in told.output
    assert device.name in told.output
    shown = run("inspect", path, "--json").json
    assert shown["programs"] == [
        {"name": "scaling", "options": options, "binary_bytes": len(program.binary)}
    ]
    assert "--hex" in one_line(run("inspect", path, "--hex"), code=1)

    (entry,) = entries(cache_directory)
    entry.unlink()
    assert "--allow-unsigned" in one_line(run("import", path), code=1)
    assert "--sources" in one_line(run("import", path, "--allow-unsigned"), code=2)
    assert run("import", path, "--allow-unsigned", "--sources", tmp_path).code == 0
    with ProgramCache() as cache:
        found = cache.build(context, source, f"{options} {BUILD_OPTIONS}")
        assert (cache.explain(found).origin, scale(found)) == (Origin.STORAGE, 3)


def test_a_file_of_maces_for_another_device(
    device: cl.Device, cache_directory: Path, tmp_path: Path
) -> None:
    """It is named and skipped; so is a program whose source isn't there."""
    path = tmp_path / "mace.bin"
    programs = (MaceProgram("add", "-DX", b"binary"),)
    path.write_bytes(write_mace_file(MaceFile(programs, "Some platform, FULL, 1", "Some device")))
    told = run("import", path, "--allow-unsigned", "--sources", tmp_path)
    assert told.code == 1
    assert "skipped: 1 program for Some device, Some platform, FULL, 1" in told.output
    platform = device.platform
    here = f"{platform.name}, {platform.profile}, {platform.version}"
    path.write_bytes(write_mace_file(MaceFile(programs, here)))
    told = run("import", path, "--allow-unsigned", "--sources", tmp_path)
    assert told.code == 1
    assert "skipped: add: its source can't be read" in told.output
    assert entries(cache_directory) == []


def test_a_broken_file_of_maces(tmp_path: Path) -> None:
    """What is wrong with it is told as of a file of MACE's."""
    path = tmp_path / "mace.bin"
    data = write_mace_file(MaceFile((MaceProgram("add", "", b"binary"),)))
    path.write_bytes(data[:-1])
    told = run("inspect", path)
    assert told.code == 1
    assert "as a file of MACE's: the CRC32 is wrong" in told.output
    ran = run("import", path, "--allow-unsigned", "--sources", tmp_path)
    assert "CRC32" in one_line(ran, code=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "mace", "--sign", "x"], "can't be signed"),
        (["--sources", "x"], "for --format mace"),
        (["--format", "mace"], "programs of one device"),
        (["--sign", "absent"], "--sign="),
        (["--device", "nothing"], "no storage's name"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_exports_that_cannot_be(tmp_path: Path, arguments: list[str], said: str) -> None:
    """One line, and no file."""
    ran = run("export", "--output", tmp_path / "no", *arguments)
    assert said in ran.errors
    assert ran.code in (1, 2)
    assert not (tmp_path / "no").exists()


def test_export_replaces_no_device(stored: Store, tmp_path: Path) -> None:
    """Nor a FIFO, which any user can make; a file and a link it does replace."""
    fifo, link, file = tmp_path / "fifo", tmp_path / "link", tmp_path / "file"
    os.mkfifo(fifo)
    file.write_text("old")
    link.symlink_to(file)
    assert "not a regular file" in one_line(run("export", "--output", fifo), code=1)
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    run("export", "--output", link)
    assert file.read_text() == "old"
    run("export", "--output", file)
    assert link.read_bytes() == file.read_bytes()
    assert stored.contents()


CUT = """
import os, sys
from mace_cache.cli import importing
from mace_cache.container import Bundle
whole = Bundle.find
def cut(self, *arguments):
    os.truncate(sys.argv[1], 100)
    return whole(self, *arguments)
Bundle.find = cut
sys.exit(importing.import_programs([sys.argv[1], "--allow-unsigned"], standalone_mode=False))
"""


def test_import_of_a_file_that_is_cut_meanwhile(tmp_path: Path, device: cl.Device) -> None:
    """Another copy of it comes while it is read: what was there is taken."""
    bundle = tmp_path / "all.mclp"
    bundle.write_bytes(
        encode([make_program("cut", fingerprint(device).text, binary=b"b" * 100_000)])
    )
    bundle.chmod(0o644)
    assert "imported 1 program" in run_child(CUT, bundle)
