"""``import``: the programs of a shipped file into the cache, for the devices of this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

from mace_cache._filesystem import read_regular_file
from mace_cache.cli.devices import list_devices
from mace_cache.cli.options import cache_directory_option, device_option, json_option, open_factory
from mace_cache.cli.output import complain, print_json, print_line, spoken_number
from mace_cache.cli.shipping import from_mace, mace_platform
from mace_cache.config import read_settings
from mace_cache.container import Bundle
from mace_cache.errors import DamagedFileError, FingerprintError, SignatureError
from mace_cache.fingerprint import fingerprint, storage_name
from mace_cache.mace_file import START, read_mace_file
from mace_cache.signing import check_signature, check_signer, signer_of

if TYPE_CHECKING:
    import pyopencl as cl

    from mace_cache._signing_keys import TrustedKeys
    from mace_cache.config import Settings
    from mace_cache.program import CompiledProgram
    from mace_cache.storage.directory import DirectoryStorageFactory

__all__ = ["import_programs"]


class _Contents(NamedTuple):
    """What a file holds for this machine: programs, what was skipped with why, and damage."""

    programs: list[CompiledProgram]
    skipped: list[str]
    damaged: list[str]


@click.command("import")
@click.argument("file", type=click.Path())
@click.option("--trusted-keys", metavar="KEYS", help="Else MACE_CACHE_TRUSTED_KEYS.")
@click.option("--allow-unsigned", is_flag=True, help="Import what nobody has signed.")
@click.option("--sources", metavar="DIR", help="For a file of MACE's: where NAME.cl are.")
@device_option
@cache_directory_option
@json_option
def import_programs(
    *,
    file: str,
    trusted_keys: str | None,
    allow_unsigned: bool,
    sources: str | None,
    device: str | None,
    cache_directory: str | None,
    as_json: bool,
) -> int:
    """Put the programs of a file into the cache.

    FILE is a bundle, an entry, or a file as MACE writes it. What is for other devices than those of
    this machine is named and skipped; what is stored already stays. The exit code is 1 where
    something is damaged, or nothing is for this machine.
    """
    settings = read_settings(
        cache_directory, trusted_keys=trusted_keys, allow_unsigned=allow_unsigned or None
    )
    # Keys that are named here are for this import, whatever keys applications trust.
    trusted = None if trusted_keys else settings.trusted_keys
    if settings.disabled:
        raise click.ClickException("nothing can be imported: MACE_CACHE_DISABLE is set")
    factory = open_factory(cache_directory, changing=True)
    devices = _devices(device)
    # Not mapped: to read what somebody cuts off meanwhile would end the process.
    data, _status = read_regular_file(os.path.realpath(file))
    if data[: len(START)] == START:
        contents = _of_mace(file, data, settings, devices, sources)
    else:
        bundle = _verified(file, data, settings)
        signer = "" if trusted is None else signer_of(bundle)
        contents = _of_bundle(bundle, signer, devices, device or "")
    imported = [program for program in contents.programs if _insert(factory, program, trusted)]
    for problem in contents.damaged:
        complain(problem)
    present = len(contents.programs) - len(imported)
    if as_json:
        print_json(
            {
                "file": file,
                "directory": str(factory.root),
                "imported": [_shown(program) for program in imported],
                "present": present,
                "skipped": contents.skipped,
                "damaged": contents.damaged,
            }
        )
    else:
        for line in contents.skipped:
            print_line(f"skipped: {line}")
        print_line(
            f"imported {spoken_number(len(imported), 'program')} into {factory.root}; "
            f"{spoken_number(present, 'program')} were there"
        )
    return int(bool(contents.damaged) or not contents.programs)


def _devices(beginning: str | None) -> dict[str, cl.Device]:
    """Give the devices of this machine by their fingerprints' texts."""
    found = {}
    for device in list_devices():
        try:
            identity = fingerprint(device)
        except FingerprintError as error:
            complain(str(error))
        else:
            if identity.storage_name.startswith(beginning or ""):
                found[identity.text] = device
    if not found:
        raise click.ClickException("there is no such device: mace-cache devices shows them")
    return found


def _verified(file: str, data: bytes, settings: Settings) -> Bundle:
    bundle = Bundle(data, file)
    _ask_for_trust(settings)
    check_signature(bundle, settings.trusted_keys, file, allow_unsigned=settings.allow_unsigned)
    return bundle


def _of_bundle(
    bundle: Bundle, signer: str, devices: dict[str, cl.Device], beginning: str
) -> _Contents:
    contents, others = _Contents([], [], []), dict.fromkeys(bundle.fingerprints, 0)
    for text, key in bundle.keys():  # noqa: SIM118 (a bundle is no mapping)
        if text not in devices:
            others[text] += 1
            continue
        try:
            program = bundle.find(text, key)
        except DamagedFileError as error:
            contents.damaged.append(str(error))
        else:
            found = [] if program is None else [replace(program, signer=signer)]
            contents.programs.extend(found)
    for text, count in others.items():
        if count:
            name = storage_name(text)
            why = "no device here" if name.startswith(beginning) else "left out by --device"
            contents.skipped.append(f"{spoken_number(count, 'program')} for {name}, {why}")
    return contents


def _of_mace(
    file: str,
    data: bytes,
    settings: Settings,
    devices: dict[str, cl.Device],
    sources: str | None,
) -> _Contents:
    if not settings.allow_unsigned:
        raise click.ClickException(f"{file}: a file of MACE's isn't signed: give --allow-unsigned")
    if sources is None:
        raise click.UsageError("a file of MACE's needs --sources: keys are made of the sources")
    found = read_mace_file(memoryview(data))
    contents = _Contents([], [], [])
    for text, device in devices.items():
        platform, name = mace_platform(text)
        if found.platform == platform and found.device in ("", name):
            programs, missing = from_mace(found, device, sources)
            contents.programs.extend(programs)
            contents.skipped.extend(missing)
    if not contents.programs and not contents.skipped:
        number = spoken_number(len(found.programs), "program")
        where = ", ".join(filter(None, (found.device, found.platform))) or "an unnamed device"
        contents.skipped.append(f"{number} for {where}, no device here")
    return contents


def _ask_for_trust(settings: Settings) -> None:
    if settings.trusted_keys is None and not settings.allow_unsigned:
        raise click.ClickException(
            "no key is trusted: give --trusted-keys or MACE_CACHE_TRUSTED_KEYS, or "
            "--allow-unsigned if you know where the file is from"
        )


def _insert(
    factory: DirectoryStorageFactory, program: CompiledProgram, trusted: TrustedKeys | None
) -> bool:
    """Store a program; what is there is left: it may hold more than what was shipped."""
    storage = factory.create_storage(storage_name(program.fingerprint))
    storage.load()
    try:
        stored = storage.find(program.key)
        if stored is not None:
            check_signer(stored, trusted, str(storage))
            return False
    except (DamagedFileError, SignatureError) as error:
        complain(f"{error}; it is replaced")
    storage.insert(program.key, program)
    return True


def _shown(program: CompiledProgram) -> dict[str, object]:
    return {
        "storage": storage_name(program.fingerprint),
        "key": program.key,
        "kernels": list(program.kernel_names),
        "options": program.options,
        "binary_bytes": len(program.binary),
    }
