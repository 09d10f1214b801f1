"""``warm``: build programs before an application's first start."""

from __future__ import annotations

import click

from mace_cache.cache import ProgramCache
from mace_cache.cli.options import cache_directory_option, json_option, required_settings
from mace_cache.cli.output import print_lines
from mace_cache.warm import warm_cache

__all__ = ["warm"]


@click.command()
@click.argument("programs", nargs=-1, type=click.Path(exists=True))
@click.option(
    "--device",
    "devices",
    metavar="STORAGE",
    multiple=True,
    help="Only this device: its storage's name or its beginning; may be given again.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="How many processes work at once.")
@click.option("--no-launch", is_flag=True, help="Build the programs, but launch no kernel.")
@click.option("--quiet", is_flag=True, help="Print nothing unless something is wrong.")
@cache_directory_option
@json_option
def warm(
    *,
    programs: tuple[str, ...],
    devices: tuple[str, ...],
    jobs: int | None,
    no_launch: bool,
    quiet: bool,
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Build, launch and store PROGRAMS for every device.

    PROGRAMS are a manifest (.json), a directory or .cl files; without them, the bundled kernels.
    The exit code is 1 where a program failed or there was nothing to be warmed.
    """
    directory = required_settings(cache_directory).directory
    with ProgramCache(storage_path=directory) as cache:
        report = warm_cache(
            _chosen(programs),
            devices=devices or None,
            cache=cache,
            jobs=jobs,
            launch=not no_launch,
            progress=not (quiet or as_json),
        )
    if as_json:
        click.echo(report.to_json())
    elif report.exit_code or not quiet:
        print_lines((line, "") for line in str(report).split("\n"))
    return report.exit_code


def _chosen(programs: tuple[str, ...]) -> str | tuple[str, ...] | None:
    if len(programs) == 1 and not programs[0].endswith(".cl"):
        return programs[0]
    return programs or None
