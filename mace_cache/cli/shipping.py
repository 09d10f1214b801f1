"""What ``export``, ``push``, ``import`` and ``inspect`` share: what is shipped, MACE's among it."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import click
import pyopencl as cl

from mace_cache._filesystem import NotRegularFileError, publish, read_regular_file
from mace_cache.cli.entries import storage_names
from mace_cache.cli.options import select
from mace_cache.errors import DamagedFileError, SignatureError, UncacheableError
from mace_cache.fingerprint import components, fingerprint
from mace_cache.mace_file import BUILD_OPTIONS, MaceFile, MaceProgram
from mace_cache.program import CompiledProgram
from mace_cache.request import identify, make_request
from mace_cache.signing import check_signer
from mace_cache.tuning import tuning_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_cache._signing_keys import TrustedKeys
    from mace_cache.storage.directory import DirectoryStorageFactory

__all__ = ["chosen_programs", "from_mace", "mace_platform", "publish_readable", "to_mace"]

_SUFFIX = ".cl"
_OPTION = r'(?:[^ "]|"[^"]*")+'
_ADDED = frozenset(BUILD_OPTIONS.split())


def chosen_programs(
    factory: DirectoryStorageFactory,
    devices: Sequence[str],
    keys: Sequence[str],
    trusted: TrustedKeys | None,
) -> tuple[list[CompiledProgram], list[str]]:
    """Give the programs that are asked for, and what is wrong with those that can't be shipped.

    Args:
        factory: the cache directory.
        devices: names of storages, or their beginnings; all if there are none.
        keys: program keys, or their beginnings; all if there are none.
        trusted: the keys that are believed: what came signed by another isn't passed on.

    Raises:
        UsageError: no storage's name begins like that.
    """
    names = storage_names(factory)
    if devices:
        names = sorted({name for device in devices for name in select(names, device)})
    beginnings = tuple(key.lower() for key in keys) or ("",)
    programs, damaged = [], []
    for name in names:
        storage = factory.create_storage(name)
        stored = {*storage.keys()}
        chosen = {key for key in stored if key.startswith(beginnings)}
        chosen |= stored.intersection(map(tuning_key, chosen))
        for key in sorted(chosen):
            try:
                program = storage.find(key)
                if program is not None:
                    check_signer(program, trusted, str(storage))
                    programs.append(replace(program, signer=""))
            except (DamagedFileError, SignatureError) as error:
                damaged.append(str(error))
    return programs, damaged


def publish_readable(path: str, data: bytes) -> None:
    """Write a file that is to be shipped: whole or not at all, readable as other files are.

    It takes the place of a file or of a link, never of a device, a FIFO or whatever else.

    Raises:
        NotRegularFileError: such a thing stands there.
        OSError: it can't be written.
    """
    with suppress(FileNotFoundError):
        kind = os.lstat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            raise NotRegularFileError(path)
    umask = os.umask(0o077)
    os.umask(umask)
    publish(path, data)
    os.chmod(path, 0o666 & ~umask)


def mace_platform(fingerprint_text: str) -> tuple[str, str]:
    """Give the platform's information and the device's name as a file of MACE's has them."""
    known = components(fingerprint_text)
    parts = (known.get(f"platform {part}", "") for part in ("name", "profile", "version"))
    return ", ".join(parts), known.get("device name", "")


def to_mace(programs: Sequence[CompiledProgram], sources: str | None) -> MaceFile:
    """Give programs of one device as MACE keeps them.

    A program's name is that of its source; where that isn't known, of its first kernel.

    Args:
        programs: the programs.
        sources: a directory of the sources, as ``<name>.cl``.

    Raises:
        ClickException: they are for several devices.
        OSError: a source can't be read.
    """
    fingerprints = {program.fingerprint for program in programs}
    if len(fingerprints) > 1:
        raise click.ClickException(
            f"a file of MACE's holds the programs of one device, and these are for "
            f"{len(fingerprints)}: choose one by --device"
        )
    platform, device = mace_platform(fingerprints.pop()) if fingerprints else ("", "")
    names = {} if sources is None else _names(sources)
    converted = [
        MaceProgram(
            names.get(dict(program.components).get("source", ""))
            or next(iter(program.kernel_names), program.key),
            " ".join(_own_options(program.options)),
            program.binary,
        )
        for program in programs
    ]
    return MaceFile(tuple(converted), platform, device)


def from_mace(
    file: MaceFile, device: cl.Device, sources: str
) -> tuple[list[CompiledProgram], list[str]]:
    """Give the programs of a file of MACE's under the keys that their sources have here.

    Args:
        file: the file.
        device: the device that it is for.
        sources: a directory of the sources, as ``<name>.cl``.

    Returns:
        The programs, and a line for each that has no key here.
    """
    context, found, missing = cl.Context([device]), [], []
    for program in file.programs:
        try:
            path = os.path.join(sources, os.path.basename(program.name) + _SUFFIX)
            source, _status = read_regular_file(os.path.realpath(path))
            options = f"{program.options} {BUILD_OPTIONS}"
            identified = identify(make_request(context, source, options, None))
            described = identified.describe()
        except OSError as error:
            missing.append(f"{program.name}: its source can't be read ({error.strerror})")
        except (UncacheableError, ValueError) as error:  # ValueError: options that can't be split
            missing.append(f"{program.name}: {error}")
        else:
            found.append(
                CompiledProgram(
                    key=described.key,
                    fingerprint=fingerprint(device).text,
                    binary=program.binary,
                    options=identified.options_text,
                    components=described.components,
                )
            )
    return found, missing


def _names(sources: str) -> dict[str, str]:
    """Give the name of each source in a directory by its digest in a program's components."""
    names = {}
    for file in sorted(os.listdir(sources)):
        if file.endswith(_SUFFIX):
            source, _status = read_regular_file(os.path.realpath(os.path.join(sources, file)))
            names[sha256(source).hexdigest()] = file.removesuffix(_SUFFIX)
    return names


def _own_options(options: str) -> list[str]:
    """Give the options without include directories, which aren't MACE's, and those that it adds."""
    words = iter(re.findall(_OPTION, options))
    own = []
    for word in words:
        if word == "-I":
            next(words, None)
        elif not word.startswith("-I") and word not in _ADDED:
            own.append(word)
    return own
