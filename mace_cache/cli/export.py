"""``export``: programs of a cache in one file, to be shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mace_cache._signing_keys import read_signing_key
from mace_cache.cli.options import (
    cache_directory_option,
    json_option,
    open_factory,
    required_settings,
)
from mace_cache.cli.output import complain, print_json, print_line, spoken_number, spoken_size
from mace_cache.cli.shipping import chosen_programs, publish_readable, to_mace
from mace_cache.container import encode
from mace_cache.fingerprint import storage_name
from mace_cache.mace_file import write_mace_file
from mace_cache.signing import sign

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram

__all__ = ["export"]


@click.command()
@click.option("--output", metavar="FILE", required=True, type=click.Path(dir_okay=False))
@click.option("--device", "devices", metavar="STORAGE", multiple=True, help="Only this device.")
@click.option("--programs", "keys", metavar="KEY", multiple=True, help="Only these: KEY begins it.")
@click.option("--sign", "key_file", metavar="KEYFILE", help="Sign it with this private key.")
@click.option("--format", "form", type=click.Choice(["mclp", "mace"]), default="mclp")
@click.option("--sources", metavar="DIR", help="For MACE: where the sources are, NAME.cl each.")
@cache_directory_option
@json_option
def export(
    *,
    output: str,
    devices: tuple[str, ...],
    keys: tuple[str, ...],
    key_file: str | None,
    form: str,
    sources: str | None,
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Write programs of a cache to one file.

    The same programs give the same bytes. A file as MACE writes it holds the programs of one device
    and can't be signed.
    """
    if form == "mace" and key_file is not None:
        raise click.UsageError("a file of MACE's can't be signed: give no --sign with it")
    if form != "mace" and sources is not None:
        raise click.UsageError("--sources is for --format mace")
    key = None if key_file is None else read_signing_key(key_file, "--sign")
    factory = open_factory(cache_directory)
    trusted = required_settings(cache_directory).trusted_keys
    programs, damaged = chosen_programs(factory, devices, keys, trusted)
    if not programs:
        raise click.ClickException(f"nothing to export: no such program in {factory.root}")
    try:
        if form == "mace":
            programs = [program for program in programs if not program.tuned]
            data = write_mace_file(to_mace(programs, sources))
        else:
            data = encode(programs)
            data = data if key is None else sign(data, key)
    except ValueError as error:
        raise click.ClickException(f"{output} can't be written: {error}") from error
    publish_readable(output, data)
    _report(output, len(data), programs, damaged, as_json=as_json)
    return int(bool(damaged))


def _report(
    output: str, size: int, programs: list[CompiledProgram], damaged: list[str], *, as_json: bool
) -> None:
    storages = sorted({storage_name(program.fingerprint) for program in programs})
    for problem in damaged:
        complain(f"{problem}; it was left out")
    if as_json:
        print_json(
            {
                "output": output,
                "bytes": size,
                "entries": len(programs),
                "storages": storages,
                "damaged": damaged,
            }
        )
        return
    number = spoken_number(len(programs), "program")
    print_line(f"{output}: {number}, {spoken_size(size)}, for {', '.join(storages)}")
