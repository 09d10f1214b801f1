"""Whether the remote of the settings will do: it is asked for a program that nobody has.

Where programs are to be written something is, as a program would be, and removed again.
"""

from __future__ import annotations

import ipaddress
import os
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from mace_cache.cli.findings import Finding, note, ok, problem
from mace_cache.errors import ConfigurationError, SignatureError
from mace_cache.storage._failing_open import access_to
from mace_cache.storage.remote import RemoteStorageFactory
from mace_cache.storage.remote_settings import redacted
from mace_cache.storage.remotes import make_remote_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache.config import Settings
    from mace_cache.storage.base import KVStorageFactory
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["examine_remote"]

_REMOTE = "remote"
_STORAGE, _NOBODYS = "doctor", "0" * 64
_ENCRYPTED = {"redis": "rediss", "http": "https"}


def examine_remote(settings: Settings) -> Iterator[Finding]:
    """Look at the remote that ``MACE_CACHE_REMOTE`` names, where there is one.

    Args:
        settings: the settings; no password of theirs is told.
    """
    if not settings.remote:
        return
    try:
        factory, stated = make_remote_behind(settings.remote, settings)
    except ConfigurationError as error:
        yield problem(_REMOTE, f"{error}; no remote is used", "docs/fleet.md says what it takes")
        return
    answer = _ask(factory, stated)
    yield answer
    yield from _examine_trust(factory, stated, settings)
    if stated.writes and answer.state == "ok":
        yield _try_to_write(factory, stated)
    yield from _examine_connection(settings.remote, factory)


def _ask(factory: KVStorageFactory, stated: RemoteSettings) -> Finding:
    began = time.monotonic()
    try:
        access_to(factory, stated).in_time(partial(_look, factory))
    except Exception as error:  # noqa: BLE001 (other people's clients raise anything)
        reason = redacted(str(error) or repr(error))
        remedy = "mend it, or unset MACE_CACHE_REMOTE: until then a start can wait for its timeout"
        return problem(_REMOTE, f"{factory} doesn't answer as it should ({reason})", remedy)
    taken = 1000 * (time.monotonic() - began)
    return ok(_REMOTE, f"{factory} answered in {taken:.0f} ms; it may take {stated.timeout:g} s")


def _look(factory: KVStorageFactory) -> None:
    storage = factory.create_storage(_STORAGE)
    storage.load()
    storage.find(_NOBODYS)


def _try_to_write(factory: KVStorageFactory, stated: RemoteSettings) -> Finding:
    if not isinstance(factory, RemoteStorageFactory):
        return ok(_REMOTE, "what is built here goes there")
    try:
        access_to(factory, stated).in_time(partial(_write, factory))
    except Exception as error:  # noqa: BLE001 (as above)
        reason = redacted(str(error) or repr(error))
        text = f"{factory} doesn't take what is built here ({reason}): other machines build it too"
        return problem(_REMOTE, text, "docs/fleet.md says what an account has to be allowed")
    return ok(_REMOTE, "what is built here goes there: something was written, and removed")


def _write(factory: RemoteStorageFactory) -> None:
    storage, key = factory.create_storage(_STORAGE), os.urandom(32).hex()
    storage.turn(key)
    storage.put_built(key, b"written by mace-cache doctor")
    storage.release(key)
    storage.delete([key])


def _examine_trust(
    factory: KVStorageFactory, stated: RemoteSettings, settings: Settings
) -> Iterator[Finding]:
    if stated.allow_unsigned:
        yield note(
            _REMOTE,
            f"programs of {factory} are loaded though nobody has signed them: whoever can write "
            "there runs code on this machine",
            "trust keys by MACE_CACHE_TRUSTED_KEYS, and unset MACE_CACHE_ALLOW_UNSIGNED",
        )
    else:
        yield ok(_REMOTE, "only programs that a trusted key has signed are loaded from there")
    try:
        yield from _examine_keys(settings)
    except SignatureError as error:
        yield problem(_REMOTE, f"signatures can't be made or verified: {error.reason}")
    if stated.writes:
        return
    if stated.policy == "read-only":
        yield ok(_REMOTE, "nothing is written there: it is read-only")
    else:
        text = "nothing is written there: there is no key to sign with"
        yield note(_REMOTE, text, "MACE_CACHE_SIGNING_KEY names one, where machines are to write")


def _examine_keys(settings: Settings) -> Iterator[Finding]:
    key, trusted = settings.signing_key, settings.trusted_keys
    for each in trusted.keys if trusted is not None else ():
        each.verifies(b"", b"")
    if key is None:
        return
    name = key.identifier.hex()
    if trusted is None or trusted.find(key.identifier) is not None:
        yield ok(_REMOTE, f"what is built here is signed with the key {name}")
    else:
        text = f"what is built here is signed with the key {name}, which isn't trusted here"
        yield problem(_REMOTE, text, "add its public key to MACE_CACHE_TRUSTED_KEYS, everywhere")


def _examine_connection(url: str, factory: KVStorageFactory) -> Iterator[Finding]:
    place, _, query = url.partition("?")
    parts = urlsplit(dict(parse_qsl(query)).get("endpoint", place))
    if parts.scheme in _ENCRYPTED and not _is_here(parts.hostname):
        text = f"the connection to {factory} isn't encrypted: others on the way can read and answer"
        yield note(_REMOTE, text, f"use {_ENCRYPTED[parts.scheme]}:")


def _is_here(host: str | None) -> bool:
    try:
        return host in (None, "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
