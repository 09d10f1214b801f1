"""``inspect``: files of every kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cache.cli import examination
from mace_cache.container import annotate, encode
from tests.cli.conftest import OTHER_FINGERPRINT, Store, make_program, one_line, run

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = [make_program("add"), make_program("mul"), make_program("max", OTHER_FINGERPRINT)]
BUNDLE = encode(PROGRAMS)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A file of three programs for two devices."""
    path = tmp_path / "bundle.mclp"
    path.write_bytes(BUNDLE)
    return path


def test_a_bundle(bundle: Path) -> None:
    """Header, fingerprints and programs are told."""
    told = run("inspect", bundle)
    assert told.code == 0
    assert f"{bundle}: a valid MCLP file of 3 programs" in told.output
    for part in ("kernel count", "a first device", "a second device", "mul_one, mul_two"):
        assert part in told.output
    for program in PROGRAMS:
        assert program.key[:12] in told.output


def test_an_entry_of_a_cache(store: Store) -> None:
    """The file that ``list`` names, or a link to it."""
    path = store.insert(make_program("add"))
    assert "a valid MCLP file of 1 program" in run("inspect", path).output
    link = store.directory / "link"
    link.symlink_to(path)
    assert run("inspect", link).code == 0


def test_json(bundle: Path) -> None:
    """The documented members."""
    told = run("inspect", bundle, "--json").json
    assert told["file"] == str(bundle)
    assert told["bytes"] == len(BUNDLE)
    assert told["valid"] is True
    assert told["header"]["version"] == "1.0"
    assert told["header"]["section_count"] == "3"
    assert {one["device name"] for one in told["fingerprints"]} == {
        "a first device",
        "a second device",
    }
    assert {one["key"] for one in told["programs"]} == {one.key for one in PROGRAMS}
    (program,) = [one for one in told["programs"] if one["key"] == PROGRAMS[0].key]
    assert program["kernels"] == ["add_one", "add_two"]
    assert program["binary_bytes"] == len(PROGRAMS[0].binary)
    assert told["problems"] == []
    assert "fields" not in told


def test_hex_annotates_every_field(bundle: Path) -> None:
    """Offset, bytes, name and value of each; long ones are shortened and counted."""
    lines = run("inspect", bundle, "--hex").output.splitlines()
    assert "00000000  4d 43 4c 50              header.magic  b'MCLP'" in lines
    for field in annotate(BUNDLE):
        shown = BUNDLE[field.offset : field.offset + min(8, field.size)].hex(" ")
        start = f"{field.offset:08x}  {shown}"
        (line,) = [line for line in lines if line.startswith(start)]
        assert field.name in line
    assert f"{len(PROGRAMS[0].binary) - 32:,} bytes more" in "\n".join(lines)


def test_hex_as_json(bundle: Path) -> None:
    """Every field, with its first bytes."""
    fields = run("inspect", bundle, "--hex", "--json").json["fields"]
    assert [field["offset"] for field in fields] == [one.offset for one in annotate(BUNDLE)]
    assert fields[0] == {
        "offset": 0,
        "size": 4,
        "name": "header.magic",
        "value": "b'MCLP'",
        "problem": None,
        "hex": "4d434c50",
    }
    assert max(len(field["hex"]) for field in fields) == 64


def test_a_damaged_section_leaves_the_others(bundle: Path) -> None:
    """What is sound is still listed, beside what is wrong and where."""
    damaged = bytearray(BUNDLE)
    offset = BUNDLE.index(PROGRAMS[1].binary)
    damaged[offset + 3] ^= 1
    bundle.write_bytes(damaged)
    told = run("inspect", bundle)
    assert told.code == 1
    assert "not a valid MCLP file" in told.output
    assert "digest: should be" in told.output
    keys = {one["key"] for one in run("inspect", bundle, "--json").json["programs"]}
    assert keys == {PROGRAMS[0].key, PROGRAMS[2].key}


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "doesn't start with MCLP"),
        (b"MC", 0, "cut off"),
        (b"garbage!" * 100, 0, "should be b'MCLP'"),
        (BUNDLE[:200], 0x0C, "should be 200"),
        (BUNDLE[:-5], len(BUNDLE) - 32, "cut off"),
        (b"MCLP\0\0\x09\0" + BUNDLE[8:], 4, "isn't known to this release"),
        (BUNDLE[:0x18] + b"\xff" + BUNDLE[0x19:], 0x18, "should be 0x50"),
    ],
)
def test_broken_files(tmp_path: Path, data: bytes, offset: int, reason: str) -> None:
    """Each fault is told with its offset, as text and as JSON, and the exit code is 1."""
    path = tmp_path / "broken"
    path.write_bytes(data)
    told = run("inspect", path)
    assert told.code == 1
    lines = [line for line in told.output.splitlines() if line.startswith(f"  {offset:#010x}  ")]
    assert any(reason in line for line in lines)
    problems = run("inspect", path, "--json").json["problems"]
    assert any(reason in one["problem"] for one in problems if one["offset"] == offset)
    assert f"^ {reason}" in run("inspect", path, "--hex").output or reason in lines[0]


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(b"MCLP\0\0\x01\0".__add__),
        st.tuples(st.integers(0, len(BUNDLE) - 1), st.binary(min_size=1, max_size=8)).map(
            lambda harm: BUNDLE[: harm[0]] + harm[1] + BUNDLE[harm[0] + len(harm[1]) :]
        ),
    )
)
def test_any_bytes_are_told_about(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No bytes whatever lead to anything but a verdict."""
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(data)
    code = 0 if data == BUNDLE else 1
    for arguments in ([], ["--hex"], ["--json"], ["--hex", "--json"]):
        told = run("inspect", path, *arguments)
        assert (told.code, told.errors) == (code, "")
        if "--json" in arguments:
            assert bool(told.json["problems"]) == bool(code)


def test_what_is_no_file(tmp_path: Path) -> None:
    """One line, and no waiting."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, "/dev/zero"):
        assert "not a regular file" in one_line(run("inspect", path), code=1)
    assert "No such file" in one_line(run("inspect", tmp_path / "absent"), code=1)


def test_a_name_that_commands_terminals(tmp_path: Path) -> None:
    """A file's name is escaped like its contents, in output and complaints."""
    path = tmp_path / "a\x1b[31m\nb"
    assert "a\\x1b[31m b: No such" in one_line(run("inspect", path), code=1)
    path.write_bytes(BUNDLE)
    assert "a\\x1b[31m\\nb: a valid" in run("inspect", path).output


def test_a_large_sound_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit a file is read through a mapping, and only --hex is refused."""
    monkeypatch.setattr(examination, "LARGEST_ANNOTATED", 1000)
    told = run("inspect", bundle)
    assert told.code == 0
    assert "3 programs" in told.output
    assert "kernel count" in told.output
    assert "--hex" in one_line(run("inspect", bundle, "--hex"), code=1)


def test_a_large_broken_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first fault is told."""
    monkeypatch.setattr(examination, "LARGEST_ANNOTATED", 1000)
    bundle.write_bytes(BUNDLE[:-1])
    told = run("inspect", bundle)
    assert told.code == 1
    assert "the first problem" in told.output
    (problem,) = run("inspect", bundle, "--json").json["problems"]
    assert problem["offset"] == 0x0C


@pytest.mark.parametrize("start", [b"", b"MCLP\0\0\x01\0"])
def test_a_gibibyte_of_nothing(tmp_path: Path, start: bytes) -> None:
    """A huge file of zeros (sparse on disk) is told about at once."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(1 << 30)
    told = run("inspect", path)
    assert told.code == 1
    assert "1.0 GiB" in told.output
