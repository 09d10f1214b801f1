"""``inspect``: what a file holds, or what is wrong with it and where, down to its bytes."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from mace_cache.cli.entries import SHORT_KEY, describe_program, kernels_of
from mace_cache.cli.examination import (
    LARGEST_ANNOTATED,
    Examination,
    examine,
    examine_mace,
    read_any_file,
)
from mace_cache.cli.options import json_option
from mace_cache.cli.output import (
    Column,
    print_json,
    print_line,
    print_lines,
    print_properties,
    print_table,
    spoken_number,
    spoken_seconds,
    spoken_size,
)
from mace_cache.config import read_settings
from mace_cache.fingerprint import components
from mace_cache.mace_file import MaceFile

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from mace_cache.container import Field

__all__ = ["inspect"]

_ROW = 8  # bytes: their field's name and value then fit beside them
_MOST_ROWS = 4  # a digest is shown whole
_LONGEST_VALUE = 40
_MOST_PROBLEMS = 100
_COLUMNS = (
    Column("KEY"),
    Column("KERNELS", flexible=True),
    Column("OPTIONS", flexible=True),
    Column("BINARY", right=True),
    Column("BUILD", right=True),
)

_MACE_COLUMNS = (
    Column("PROGRAM"),
    Column("OPTIONS", flexible=True),
    Column("BINARY", right=True),
)


@click.command()
@click.argument("file", type=click.Path())
@click.option("--hex", "as_hex", is_flag=True, help="Annotate the bytes, field by field.")
@json_option
def inspect(file: str, as_hex: bool, as_json: bool) -> int:
    """Tell what a file holds, or what is wrong with it and where.

    FILE may be an entry of a cache, a bundle of many programs, a file as MACE writes it, or
    anything else. The exit code is 1 where something is wrong.
    """
    data = read_any_file(os.path.realpath(file))
    mace = examine_mace(data)
    if isinstance(mace, MaceFile):
        if as_hex:
            raise click.ClickException(f"{file}: of a file of MACE's --hex can't tell the bytes")
        _tell_mace(file, len(data), mace, as_json=as_json)
        return 0
    found = examine(data, read_settings().trusted_keys)
    if mace is not None:
        found = replace(found, problems=[mace, *found.problems])
    if as_hex and found.fields is None:
        raise click.ClickException(
            f"{file}: of {len(data)} bytes, more than {LARGEST_ANNOTATED}, --hex can't tell each"
        )
    if as_json:
        print_json(_as_json(file, data, found, as_hex=as_hex))
    else:
        _print_verdict(file, len(data), found)
        if as_hex:
            print_lines(_annotated(data, found.fields or []))
        else:
            _print_contents(found)
    return int(bool(found.problems))


def _as_json(
    file: str, data: bytes | mmap.mmap, found: Examination, *, as_hex: bool
) -> dict[str, Any]:
    report = {
        "file": file,
        "bytes": len(data),
        "format": "mclp",
        "valid": not found.problems,
        "header": found.header,
        "fingerprints": [components(text) for text in found.fingerprints],
        "programs": [
            {"key": program.key, "binary_bytes": size, **describe_program(program)}
            for program, size in found.programs
        ],
        "signature": None
        if found.signature is None
        else {
            "algorithm": str(found.signature).partition(",")[0],
            "key": found.signature.identifier.hex(),
            "trusted": found.trusted,
        },
        "problems": [asdict(problem) for problem in found.problems],
    }
    if as_hex:
        report["fields"] = [
            {**field._asdict(), "hex": _shown_bytes(data, field).hex()}
            for field in found.fields or []
        ]
    return report


def _print_verdict(file: str, size: int, found: Examination) -> None:
    if not found.problems:
        number = spoken_number(len(found.programs), "program")
        print_line(f"{file}: a valid MCLP file of {number}, {spoken_size(size)}", "green")
        return
    number = spoken_number(len(found.problems), "problem")
    shown = "the first problem" if found.fields is None else number
    print_line(f"{file}: not a valid MCLP file, {spoken_size(size)}; {shown}:", "red")
    print_lines(
        (f"  {problem.offset:#010x}  {problem.field or 'file'}: {problem.problem}", "")
        for problem in found.problems[:_MOST_PROBLEMS]
    )
    if len(found.problems) > _MOST_PROBLEMS:
        print_line(f"  and {len(found.problems) - _MOST_PROBLEMS} more")


def _print_contents(found: Examination) -> None:
    print_line()
    print_line("header", "bold")
    print_properties(((_spoken(name), value) for name, value in found.header.items()), indent=2)
    if found.signature is not None:
        trust = {None: "not verified: no key is trusted", True: "trusted", False: "not trusted"}
        print_line(f"  signature: {found.signature} ({trust[found.trusted]})")
    for fingerprint in found.fingerprints:
        programs = [one for one in found.programs if one[0].fingerprint == fingerprint]
        print_line()
        print_line("device fingerprint", "bold")
        print_properties(components(fingerprint).items(), indent=2)
        print_line()
        rows = [
            [
                program.key[:SHORT_KEY],
                kernels_of(program),
                program.options,
                spoken_size(size),
                spoken_seconds(program.build_seconds),
            ]
            for program, size in programs
        ]
        print_table(_COLUMNS, rows)


def _tell_mace(file: str, size: int, found: MaceFile, *, as_json: bool) -> None:
    if as_json:
        programs = [
            {"name": one.name, "options": one.options, "binary_bytes": len(one.binary)}
            for one in found.programs
        ]
        about = {"platform": found.platform, "device": found.device, "programs": programs}
        print_json({"file": file, "bytes": size, "format": "mace", "valid": True, **about})
        return
    number = spoken_number(len(found.programs), "program")
    print_line(f"{file}: a valid file of MACE's of {number}, {spoken_size(size)}", "green")
    unknown = "it isn't said"
    print_properties(
        [("platform", found.platform or unknown), ("device", found.device or unknown)], indent=2
    )
    rows = [[one.name, one.options, spoken_size(len(one.binary))] for one in found.programs]
    print_table(_MACE_COLUMNS, rows)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _annotated(data: bytes | mmap.mmap, fields: list[Field]) -> Iterator[tuple[str, str]]:
    for field in fields:
        shown = _shown_bytes(data, field)
        rows = [shown[start : start + _ROW] for start in range(0, len(shown), _ROW)] or [b""]
        # A digest is its own bytes: to say them twice would only widen the line.
        value = "" if field.value == shown.hex() else _shortened(field.value)
        name = f"{field.name}  {value}"
        for number, row in enumerate(rows):
            offset = field.offset + number * _ROW
            yield f"{offset:08x}  {row.hex(' '):{3 * _ROW - 1}}  {name}".rstrip(), ""
            name = ""
        if field.size > len(shown):
            yield f"          {field.size - len(shown):,} bytes more", "dim"
        if field.problem is not None:
            yield f"          ^ {field.problem}", "red"


def _shown_bytes(data: bytes | mmap.mmap, field: Field) -> bytes:
    return data[field.offset : field.offset + min(field.size, _ROW * _MOST_ROWS)]


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 3] + "..."
