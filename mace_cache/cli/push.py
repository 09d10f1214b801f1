"""``push``: programs of a cache to a remote, for machines that are to fetch them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from mace_cache.cli.options import (
    cache_directory_option,
    json_option,
    open_factory,
    required_settings,
)
from mace_cache.cli.output import complain, print_json, print_line, spoken_number
from mace_cache.cli.shipping import chosen_programs
from mace_cache.errors import DamagedFileError, SignatureError
from mace_cache.fingerprint import storage_name
from mace_cache.storage._failing_open import access_to
from mace_cache.storage.remote_settings import redacted
from mace_cache.storage.remotes import make_remote_behind

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram
    from mace_cache.storage.base import KVStorage, KVStorageFactory
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["push"]


@click.command()
@click.option("--remote", "url", metavar="URL", help="The remote; else MACE_CACHE_REMOTE.")
@click.option("--device", "devices", metavar="STORAGE", multiple=True, help="Only this device.")
@click.option("--programs", "keys", metavar="KEY", multiple=True, help="Only these: KEY begins it.")
@cache_directory_option
@json_option
def push(
    *,
    url: str | None,
    devices: tuple[str, ...],
    keys: tuple[str, ...],
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Write programs of a cache to a remote, where it hasn't got them.

    They are signed with MACE_CACHE_SIGNING_KEY. What is there stays, unless it is damaged or nobody
    trusted has signed it. The exit code is 1 where something here is damaged.
    """
    settings = required_settings(cache_directory)
    url = url or settings.remote
    if not url:
        raise click.UsageError("there is no remote: give --remote, or set MACE_CACHE_REMOTE")
    remote, stated = make_remote_behind(url, settings)
    if not stated.writes:
        raise click.ClickException(
            f"nothing may be written to {remote}: it is read-only, or MACE_CACHE_SIGNING_KEY isn't "
            "set"
        )
    factory = open_factory(cache_directory)
    programs, damaged = chosen_programs(factory, devices, keys, settings.trusted_keys)
    pushed = _push_all(remote, stated, programs)
    for problem in damaged:
        complain(f"{problem}; it was left out")
    present = len(programs) - len(pushed)
    if as_json:
        told = {"remote": str(remote), "pushed": pushed, "present": present, "damaged": damaged}
        print_json(told)
    else:
        print_line(
            f"pushed {spoken_number(len(pushed), 'program')} to {remote}; "
            f"{spoken_number(present, 'program')} were there"
        )
    return int(bool(damaged))


def _push_all(
    remote: KVStorageFactory, stated: RemoteSettings, programs: list[CompiledProgram]
) -> list[str]:
    """Write what isn't there; the keys of what was written."""
    access, pushed = access_to(remote, stated), list[str]()
    storages = {name: remote.create_storage(name) for name in map(_storage_of, programs)}
    try:
        for storage in storages.values():
            access.in_time(storage.load)
        for program in programs:
            storage = storages[_storage_of(program)]
            if stated.reads and access.in_time(partial(_is_there, storage, program.key)):
                continue
            access.in_time(partial(storage.insert, program.key, program))
            pushed.append(program.key)
        for storage in storages.values():
            access.in_time(storage.flush)
    except Exception as error:
        reason = redacted(str(error) or repr(error))
        done = f"{spoken_number(len(pushed), 'program')} were pushed before"
        raise click.ClickException(f"{remote} failed ({reason}); {done}") from error
    return pushed


def _is_there(storage: KVStorage, key: str) -> bool:
    try:
        return storage.find(key) is not None
    except (DamagedFileError, SignatureError):
        return False


def _storage_of(program: CompiledProgram) -> str:
    return storage_name(program.fingerprint)
