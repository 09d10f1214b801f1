"""``tune``: find the best local sizes for typical calls of the bundled kernels' operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mace_cache.cache import ProgramCache
from mace_cache.cli.options import cache_directory_option, json_option, required_settings
from mace_cache.cli.output import Column, complain, print_line, print_table
from mace_cache.local_sizes import LOCAL_SIZE
from mace_cache.tune import tune_library

if TYPE_CHECKING:
    from mace_cache.tune import TuneResult

__all__ = ["tune"]

_COLUMNS = (
    Column("PROGRAM"),
    Column("KERNEL"),
    Column("SHAPE", flexible=True),
    Column(f"BEFORE ({LOCAL_SIZE})", right=True),
    Column("BEST", right=True),
    Column("SIZE", right=True),
    Column("GAIN", right=True),
)


@click.command()
@click.option("--program", "programs", metavar="NAME", multiple=True, help="Only this program.")
@click.option(
    "--device",
    "devices",
    metavar="STORAGE",
    multiple=True,
    help="Only this device: its storage's name or its beginning; may be given again.",
)
@click.option("--quiet", is_flag=True, help="Print nothing unless something is wrong.")
@cache_directory_option
@json_option
def tune(
    *,
    programs: tuple[str, ...],
    devices: tuple[str, ...],
    quiet: bool,
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Find the best local sizes for the bundled kernels, and keep them.

    Typical calls of their operators are run with several local sizes each; nothing else should run
    on the machine meanwhile. The exit code is 1 where a program failed, nothing could be tuned, or
    what was found could not be kept.
    """
    directory = required_settings(cache_directory).directory
    with ProgramCache(storage_path=directory) as cache:
        report = tune_library(
            programs, devices or None, cache=cache, progress=not (quiet or as_json)
        )
    if as_json:
        click.echo(report.to_json())
        return report.exit_code
    for note in report.notes:
        complain(note)
    if not quiet:
        for device in dict.fromkeys(result.device for result in report.results):
            rows = [_row(result) for result in report.results if result.device == device]
            print_table(_COLUMNS, rows, title=device)
            print_line()
        better = sum(result.local_size != LOCAL_SIZE for result in report.results)
        number = len(report.results)
        print_line(f"{better} of {number} launches are faster with another size than {LOCAL_SIZE}")
    return report.exit_code


def _row(result: TuneResult) -> list[str]:
    return [
        f"{result.program} [{result.variant}]",
        result.kernel,
        result.shape,
        f"{result.before * 1e6:.1f} us",
        f"{result.seconds * 1e6:.1f} us",
        str(result.local_size),
        f"{result.gain:.2f}x",
    ]
