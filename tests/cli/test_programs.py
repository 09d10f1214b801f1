"""``list``, ``show`` and ``verify``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mace_cache.tuning import tuning_key
from tests.cli.conftest import (
    FINGERPRINT,
    OTHER_FINGERPRINT,
    OTHER_STORAGE,
    STORAGE,
    Store,
    flip,
    make_program,
    one_line,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_an_absent_cache_lists_as_empty_and_stays_absent(cache_directory: Path) -> None:
    """Looking into a cache that isn't there is no error, and makes nothing."""
    for command in ("list", "verify", "stats"):
        assert run(command).code == 0
        assert run(command, "--json").code == 0
    assert run("list", "--json").json == {"directory": str(cache_directory), "entries": []}
    assert not cache_directory.exists()


def test_list_shows_every_program_under_its_storage(store: Store) -> None:
    """A line a program: key, kernels, options, size, build time."""
    program, other = make_program("add"), make_program("mul", OTHER_FINGERPRINT)
    store.insert(program)
    store.insert(other)
    lines = run("list").output.splitlines()
    (line,) = [line for line in lines if line.startswith(program.key[:12])]
    for part in ("add_one, add_two", "-DNAME=add", " B ", "1.25 s"):
        assert part in line
    assert lines.index(STORAGE) < lines.index(line)
    assert OTHER_STORAGE in lines
    assert lines[-1].startswith("2 programs, ")


def test_list_as_json(store: Store) -> None:
    """Each entry has the documented members."""
    program = make_program("add")
    path = store.insert(program)
    listed = run("list", "--json").json
    assert listed["directory"] == str(store.directory)
    status = path.stat()
    assert listed["entries"] == [
        {
            "storage": STORAGE,
            "key": program.key,
            "path": str(path),
            "bytes": status.st_size,
            "used": status.st_mtime_ns / 1e9,
            "created": program.created,
            "problem": None,
            "kernels": ["add_one", "add_two"],
            "options": "-DNAME=add",
            "build_seconds": 1.25,
            "tuned": [],
        }
    ]


def test_list_shows_damaged_entries_and_goes_on(store: Store) -> None:
    """A damaged entry is neither hidden nor the end of the list."""
    flip(store.insert(make_program("add")))
    store.insert(make_program("mul"))
    listed = run("list")
    assert listed.code == 0
    assert f"{make_program('add').key[:12]} is damaged: the digest is wrong at" in listed.output
    assert "mul_one" in listed.output
    problems = {entry["key"]: entry["problem"] for entry in run("list", "--json").json["entries"]}
    assert "digest is wrong" in problems[make_program("add").key]
    assert problems[make_program("mul").key] is None


@pytest.mark.parametrize("command", ["list", "verify", "stats", "devices", "show"])
def test_looking_changes_nothing(store: Store, command: str) -> None:
    """Neither a damaged entry nor the time of the last use is touched, nor a file added."""
    damaged = store.insert(make_program("add"))
    flip(damaged)
    old = store.insert(make_program("mul"))
    os.utime(old, (1_600_000_000, 1_600_000_000))
    before = store.contents()
    run(command, *([make_program("mul").key] if command == "show" else []))
    assert store.contents() == before


def test_list_of_one_device(store: Store) -> None:
    """``--device`` takes a storage's name or its beginning, and refuses what fits none."""
    store.insert(make_program("add"))
    store.insert(make_program("mul", OTHER_FINGERPRINT))
    entries = run("list", "--device", OTHER_STORAGE[:-8], "--json").json["entries"]
    assert [entry["storage"] for entry in entries] == [OTHER_STORAGE]
    assert STORAGE in one_line(run("list", "--device", "nothing"), code=2)


def test_text_from_files_is_printed_safely(store: Store) -> None:
    """A terminal isn't made to obey what stands in a file; rich's markup means nothing."""
    program = make_program(
        "add",
        options="[bold red]-DX=\x1b[2J\x9b\r\n",
        kernel_names=("\x1b]0;title\x07", "\udc80", "\u202eevil", ":smile:"),
        build_log="\x1b[31mred\x1b[0m\nnext [/] line",
        components=(("sou\x1brce", "\x1b[1m"),),
        fingerprint="device name: \\x1b[2J\n",
    )
    path = store.insert(program)
    for arguments in (["list"], ["show", program.key], ["inspect", path], ["verify"]):
        output = run(*arguments).output
        assert not set(output) - {"\n"} & set(map(chr, [*range(32), 127, 0x9B, 0x202E]))
    shown = run("show", program.key).output
    assert "[bold red]-DX=\\x1b[2J\\x9b" in shown
    assert "\\x1b[31mred" in shown
    assert "next [/] line" in shown
    assert "\\udc80" in shown
    assert ":smile:" in shown


def test_show_tells_everything(store: Store) -> None:
    """Key, storage, file, kernels, options, log, what the key is made of, and the fingerprint."""
    program = make_program("add")
    path = store.insert(program)
    shown = run("show", program.key[:6].upper())
    assert shown.code == 0
    for part in (
        program.key,
        STORAGE,
        str(path),
        "add_two",
        "-DNAME=add",
        "2023-11-14 22:13:20 UTC, in 1.25 s",
        "add was compiled",
        "with a warning",
        "5" * 64,
        "a first device",
    ):
        assert part in shown.output


def test_show_as_json(store: Store) -> None:
    """The members of ``list``, and those that only a whole program has."""
    program = make_program("add")
    store.insert(program)
    shown = run("show", program.key, "--json").json
    (listed,) = run("list", "--json").json["entries"]
    assert {name: shown[name] for name in listed} == listed
    assert shown["binary_bytes"] == len(program.binary)
    assert shown["build_log"] == program.build_log
    assert shown["components"] == [["source", "5" * 64]]
    assert shown["fingerprint"]["device name"] == "a first device"


def test_records_of_local_sizes(store: Store, tmp_path: Path) -> None:
    """They are told from programs, and go where their program goes, but into no file of MACE's."""
    program, rows = make_program("add"), (("add_one", "4096 3", 128), ("add_one", "16 3", 16))
    key = tuning_key(program.key)
    components = (("tuned program", program.key),)
    for other in (program, make_program("mul")):
        store.insert(other)
    store.insert(
        replace(program, key=key, binary=b"", kernel_names=(), components=components, tuned=rows)
    )
    listed = run("list")
    assert f"local sizes of {program.key[:12]}: add_one  " in listed.output
    assert "\n2 programs, 1 record of local sizes, " in listed.output
    assert "add_one  128 for 4096 3\nadd_one  16 for 16 3\n" in run("show", key).output
    assert run("show", key, "--json").json["tuned"] == [
        {"kernel": "add_one", "shape": "4096 3", "local_size": 128},
        {"kernel": "add_one", "shape": "16 3", "local_size": 16},
    ]
    assert run("verify").code == 0
    arguments = ("export", "--programs", program.key, "--output", tmp_path / "out", "--json")
    assert run(*arguments).json["entries"] == 2
    assert f"local sizes of {program.key[:12]}" in run("inspect", tmp_path / "out").output
    run(*arguments, "--format", "mace")
    assert len(run("inspect", tmp_path / "out", "--json").json["programs"]) == 1


def test_show_of_a_moment_beyond_the_calendar(store: Store) -> None:
    """Any number may stand in a file."""
    program = make_program("add", created=1e300, build_seconds=-1e300)
    store.insert(program)
    assert "1e+300 s since 1970" in run("show", program.key).output
    assert run("list").code == 0


def test_show_of_an_unknown_key(store: Store) -> None:
    """One line and exit code 1."""
    store.insert(make_program("add"))
    assert "begins with 'zz'" in one_line(run("show", "zz"), code=1)


def test_show_of_several_lists_the_candidates(store: Store) -> None:
    """An ambiguous key is answered with what it could be; the device tells them apart."""
    program = make_program("add")
    store.insert(program)
    store.insert(make_program("add", OTHER_FINGERPRINT))
    complaint = one_line(run("show", program.key), code=2)
    assert f"{program.key[:12]} of {STORAGE}" in complaint
    assert f"{program.key[:12]} of {OTHER_STORAGE}" in complaint
    assert run("show", program.key, "--device", STORAGE).code == 0


def test_show_of_a_damaged_entry(store: Store) -> None:
    """What is known is shown, the damage told, and the exit code is 1."""
    program = make_program("add")
    flip(store.insert(program))
    shown = run("show", program.key)
    assert shown.code == 1
    assert program.key in shown.output
    assert "the digest is wrong" in shown.errors
    assert "the digest is wrong" in run("show", program.key, "--json").json["problem"]


def test_verify_of_sound_entries(store: Store) -> None:
    """Exit code 0."""
    store.insert(make_program("add"))
    verified = run("verify")
    assert (verified.code, verified.output) == (0, "1 program verified, 0 damaged\n")


def damage(store: Store, kind: str) -> Path:
    """Harm the entry of ``add`` in one way."""
    path = store.insert(make_program("add"))
    data = path.read_bytes()
    harms = {
        "empty": b"",
        "garbage": b"garbage" * 100,
        "truncated": data[:-1],
        "extended": data + b"\0",
        "flipped": data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
        "newer version": data[:6] + b"\x02" + data[7:],
        "another program": store.insert(make_program("mul")).read_bytes(),
        "another device": store.insert(make_program("add", OTHER_FINGERPRINT)).read_bytes(),
    }
    path.write_bytes(harms[kind])
    return path


KINDS = {
    "empty": "doesn't start with MCLP",
    "garbage": "doesn't start with MCLP",
    "truncated": "bytes where",
    "extended": "bytes where",
    "flipped": "digest is wrong",
    "newer version": "a newer release wrote it",
    "another program": "another program than its name says",
    "another device": f"belongs in the storage {OTHER_STORAGE}",
}


@pytest.mark.parametrize(("kind", "reason"), KINDS.items())
def test_verify_finds_every_kind_of_damage(store: Store, kind: str, reason: str) -> None:
    """The file and the reason are told, the file stays, and the exit code is 1."""
    path = damage(store, kind)
    before = store.contents()
    verified = run("verify")
    assert verified.code == 1
    (line,) = [line for line in verified.output.splitlines() if line.startswith(str(path))]
    assert reason in line
    (told,) = run("verify", "--json").json["damaged"]
    assert (told["path"], told["removed"]) == (str(path), False)
    assert reason in told["problem"]
    assert store.contents() == before


def test_verify_removes_damaged_entries_only(store: Store) -> None:
    """``--remove`` takes away what is damaged, and what it doesn't understand stays."""
    sound = store.insert(make_program("mul"))
    newer = store.insert(make_program("max"))
    newer.write_bytes(b"MCLP\0\0\x09\0" + newer.read_bytes()[8:])
    damaged = store.insert(make_program("add"))
    flip(damaged)
    told = run("verify", "--remove", "--json")
    assert told.code == 1
    removed = {entry["path"]: entry["removed"] for entry in told.json["damaged"]}
    assert removed == {str(damaged): True, str(newer): False}
    assert sound.exists()
    assert newer.exists()
    assert not damaged.exists()


def test_verify_says_what_it_removed(store: Store) -> None:
    """And the next time all is sound."""
    path = store.insert(make_program("add"))
    flip(path)
    assert f"removed {path}: the digest" in run("verify", "--remove").output
    assert run("verify").code == 0


def test_strange_files_and_directories_are_left_out(store: Store) -> None:
    """Names that the library doesn't give, and links, are neither listed nor followed."""
    path = store.insert(make_program("add", FINGERPRINT))
    shard = path.parent
    (shard / "notes.txt").write_text("mine")
    (shard / f"{'0' * 64}.mclp").symlink_to(path)
    hidden = store.directory / "v1" / ".hidden" / "ab"
    hidden.mkdir(parents=True, mode=0o700)
    (hidden / f"ab{'0' * 62}.mclp").write_bytes(b"")
    for directory in (hidden, hidden.parent):
        directory.chmod(0o700)
    assert [entry["path"] for entry in run("list", "--json").json["entries"]] == [str(path)]
    assert run("verify").code == 0
    assert run("clear", "--yes").code == 0
    assert (hidden / f"ab{'0' * 62}.mclp").exists()
