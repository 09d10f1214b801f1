"""Keys that sign programs and keys that are trusted: one line of text each.

``ed25519:<digits>`` verifies, ``ed25519-private:<digits>`` signs, and ``hmac-sha256:<digits>``, a
secret that a fleet shares, does both. The digits are 64 hexadecimal ones.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from mace_cache._filesystem import read_regular_file
from mace_cache._trust import OWN_ONLY, Trust, check_private
from mace_cache.errors import ConfigurationError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "NO_KEY",
    "PRIVATE",
    "PUBLIC",
    "SHARED",
    "Key",
    "TrustedKeys",
    "make_key",
    "parse_key",
    "read_signing_key",
    "read_trusted_keys",
]

PUBLIC, PRIVATE, SHARED = "ed25519", "ed25519-private", "hmac-sha256"

_ED25519, _HMAC_SHA256 = 1, 2
_ALGORITHMS = {PUBLIC: _ED25519, PRIVATE: _ED25519, SHARED: _HMAC_SHA256}
_KEY = r"(ed25519|ed25519-private|hmac-sha256):([0-9a-f]{64})"
_SIZE = 32  # bytes of every key
_IDENTIFIER_SIZE = 16
_IDENTIFIER = b"mace-cache key identifier"
_LARGEST_FILE = 1 << 20
_EXPECTED = "keys as mace-cache keygen writes them, or files of them"


class Key(NamedTuple):
    """A key; what is secret of it is shown nowhere.

    Attributes:
        kind: `PUBLIC`, `PRIVATE` or `SHARED`.
        material: its 32 bytes.
    """

    kind: str
    material: bytes

    def __repr__(self) -> str:
        """Name its kind, and nothing that is secret."""
        return f"<Key {self.kind}>"

    def to_text(self) -> str:
        """Give the line that `parse_key` takes."""
        return f"{self.kind}:{self.material.hex()}"

    @property
    def algorithm(self) -> int:
        """The number of its algorithm: 1 is Ed25519, 2 HMAC-SHA256."""
        return _ALGORITHMS[self.kind]

    @property
    def identifier(self) -> bytes:
        """The 16 bytes by which a signature names it: those of a private key are its public one's.

        Raises:
            SignatureError: *cryptography*, which a private key needs, isn't installed.
        """
        if self.kind == SHARED:
            whole = hmac.digest(self.material, _IDENTIFIER, "sha256")
        else:
            whole = hashlib.sha256(_IDENTIFIER + self.public().material).digest()
        return whole[:_IDENTIFIER_SIZE]

    def public(self) -> Key:
        """Give what verifies its signatures; of a shared secret that is the secret itself.

        Raises:
            SignatureError: *cryptography*, which a private key needs, isn't installed.
        """
        if self.kind != PRIVATE:
            return self
        private = _ed25519().Ed25519PrivateKey.from_private_bytes(self.material)
        return Key(PUBLIC, private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Give the signature of *message*: 64 bytes of Ed25519, 32 of HMAC-SHA256.

        Raises:
            SignatureError: the key only verifies, or *cryptography* isn't installed.
        """
        if self.kind == SHARED:
            return hmac.digest(self.material, message, "sha256")
        if self.kind == PUBLIC:
            raise SignatureError("this key", "it is a public one, which signs nothing")
        signature: bytes = (
            _ed25519().Ed25519PrivateKey.from_private_bytes(self.material).sign(message)
        )
        return signature

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether *signature* is this key's of *message*.

        Raises:
            SignatureError: *cryptography*, which Ed25519 needs, isn't installed.
        """
        if self.kind == SHARED:
            return hmac.compare_digest(hmac.digest(self.material, message, "sha256"), signature)
        ed25519 = _ed25519()
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (as `_ed25519`)

        try:
            public = ed25519.Ed25519PublicKey.from_public_bytes(self.public().material)
            public.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class TrustedKeys(NamedTuple):
    """The keys whose signatures are believed; with none of them nothing is.

    Attributes:
        keys: public keys and shared secrets.
    """

    keys: tuple[Key, ...] = ()

    def __str__(self) -> str:
        """Name them by their identifiers."""
        return ", ".join(key.identifier.hex() for key in self.keys) or "no key"

    def find(self, identifier: bytes) -> Key | None:
        """Give the key that a signature names, or None."""
        return next((key for key in self.keys if key.identifier == identifier), None)


NO_KEY = TrustedKeys()


def make_key(kind: str) -> Key:
    """Make a new `PRIVATE` or `SHARED` key from the system's random numbers."""
    return Key(kind, os.urandom(_SIZE))


def parse_key(text: str) -> Key | None:
    """Give the key that a line is, or None where it is none."""
    match = re.fullmatch(_KEY, text.strip())
    return None if match is None else Key(match[1], bytes.fromhex(match[2]))


def read_trusted_keys(
    text: str, setting: str = "MACE_CACHE_TRUSTED_KEYS", trust: Trust = OWN_ONLY
) -> TrustedKeys:
    """Understand a list of public keys, and of files with public keys or shared secrets.

    Args:
        text: keys and files, with commas between them.
        setting: what it was given as, for the error.
        trust: who may own the files or write to them, beside this user and root.

    Raises:
        ConfigurationError: one of them is neither, can't be read, or could be written by others; a
            file with a secret can be read by others.
    """
    found: list[Key] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        key = parse_key(term)
        if key is not None and key.kind == PUBLIC:
            found.append(key)
        elif key is None:
            found += _read_keys(term, setting, trust)
        else:  # the environment of a process isn't secret: a file can be
            raise ConfigurationError(setting, key, "a file that a secret key is in")
    if any(key.kind == PRIVATE for key in found):
        raise ConfigurationError(setting, text, "public keys, not the private ones that sign")
    return TrustedKeys(tuple(found))


def read_signing_key(
    path: str | os.PathLike[str],
    setting: str = "MACE_CACHE_SIGNING_KEY",
    trust: Trust = OWN_ONLY,
) -> Key:
    """Read the key that signs what is written.

    Args:
        path: a file of one private key or shared secret.
        setting: what it was given as, for the error.
        trust: who may own the file or write to it, beside this user and root.

    Raises:
        ConfigurationError: it can't be read, holds anything else, or isn't secret.
    """
    keys = _read_keys(os.fspath(path), setting, trust)
    if len(keys) != 1 or keys[0].kind == PUBLIC:
        raise ConfigurationError(setting, path, "a file of one private key or shared secret")
    return keys[0]


def _read_keys(path: str, setting: str, trust: Trust) -> Sequence[Key]:
    try:
        real = os.path.realpath(os.path.expanduser(path))
        data, status = read_regular_file(real, largest=_LARGEST_FILE)
        check_private(status, real, trust=trust.with_root())
        lines = [line.strip() for line in data.decode("ascii").splitlines()]
    except OSError as error:
        reason = f"{_EXPECTED} ({error.strerror or error})"
        raise ConfigurationError(setting, path, reason) from error
    except ValueError as error:  # not text, or no path at all
        raise ConfigurationError(setting, path, _EXPECTED) from error
    keys = [parse_key(line) for line in lines if line and not line.startswith("#")]
    found = [key for key in keys if key is not None]
    if not found or len(found) < len(keys):
        raise ConfigurationError(setting, path, _EXPECTED)
    readers = stat.S_IROTH | (0 if status.st_gid in trust.groups else stat.S_IRGRP)
    if status.st_mode & readers and any(key.kind != PUBLIC for key in found):
        expected = "a file that others can't read, for a secret is in it (chmod go-r)"
        raise ConfigurationError(setting, path, expected)
    return found


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 (an extra, and slow)
            ed25519,
        )
    except ImportError as error:
        message = "it needs the package cryptography: pip install 'mace-cache[signing]'"
        raise SignatureError("Ed25519", message) from error
    return ed25519
