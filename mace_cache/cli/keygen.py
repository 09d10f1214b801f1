"""``keygen``: a new key to sign programs with."""

from __future__ import annotations

import errno
import os

import click

from mace_cache._filesystem import write_all
from mace_cache._signing_keys import PRIVATE, SHARED, Key, make_key
from mace_cache.cli.options import json_option
from mace_cache.cli.output import print_json, print_line

__all__ = ["keygen"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@click.command()
@click.argument("file", type=click.Path())
@click.option("--shared", is_flag=True, help="A secret that signs and verifies (HMAC-SHA256).")
@json_option
def keygen(file: str, shared: bool, as_json: bool) -> int:
    """Make a key to sign programs with.

    FILE gets the private key, which signs, and FILE.pub the public one, which verifies (Ed25519).
    No file is ever replaced.
    """
    key = make_key(SHARED if shared else PRIVATE)
    identifier = key.identifier.hex()  # before any file: it needs the extra
    public = None if shared else f"{file}.pub"
    for path in filter(None, (file, public)):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "it exists, and keys are never replaced", path)
    _write(file, key, 0o600)
    if public is not None:
        _write(public, key.public(), 0o644)
    text = None if shared else key.public().to_text()
    if as_json:
        print_json({"file": file, "public_file": public, "public": text, "key": identifier})
        return 0
    print_line(f"{file}: the {'shared secret' if shared else 'private key'} {identifier}; keep it")
    if public is not None:
        print_line(f"{public}: its public key, for MACE_CACHE_TRUSTED_KEYS: {text}")
    return 0


def _write(path: str, key: Key, mode: int) -> None:
    descriptor = os.open(path, _CREATE, mode)
    try:
        write_all(descriptor, f"{key.to_text()}\n".encode())
    finally:
        os.close(descriptor)
