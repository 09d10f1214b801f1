"""How a remote is used, as its URL says, and whether what comes from there may be decoded."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode

from mace_cache.config import parse_boolean, parse_seconds
from mace_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from mace_cache._signing_keys import Key

__all__ = [
    "RemoteSettings",
    "Verifier",
    "check_signing",
    "redacted",
    "shown",
    "split_url",
    "verified",
]

_LONGEST_MESSAGE = 500  # characters
_POLICIES = ("read-write", "read-only", "write-only")


class Verifier(Protocol):
    """Tells bytes that somebody trusted has signed from others."""

    def verify(self, payload: bytes, tier: str) -> bytes:
        """Verify an MCLP file.

        Args:
            payload: the file as it came.
            tier: where it came from, for the warning.

        Returns:
            The file that may be decoded.

        Raises:
            MaceCacheError: nobody trusted has signed it: it is a miss.
        """


class RemoteSettings(NamedTuple):
    """How a remote is used; each can be an option of its URL.

    Attributes:
        policy: ``read-write``, ``read-only`` or ``write-only``.
        connect_timeout: how long a connection may take, in seconds.
        timeout: how long a request may take, with all tries, in seconds.
        max_retries: how often a request is tried at most.
        ttl: for how long a program is kept that nobody asks for, in seconds; ``inf`` is for ever.
            A store that can't do it by itself has rules for that.
        lease: how long a machine that has died is waited for that was building, in seconds.
        allow_unsigned: whether what comes from there is loaded though nobody has signed it.
        verifier: verifies signatures.
        signing_key: signs what is written there.
    """

    policy: str = "read-write"
    connect_timeout: float = 1.0
    timeout: float = 3.0
    max_retries: int = 3
    ttl: float = 30 * 86400.0
    lease: float = 10.0
    allow_unsigned: bool = False
    verifier: Verifier | None = None
    signing_key: Key | None = None

    @property
    def ttl_milliseconds(self) -> int | None:
        """For how long a store keeps a program, or None where it is for ever."""
        return None if self.ttl == math.inf else max(1, int(self.ttl * 1000))

    @property
    def reads(self) -> bool:
        """Whether programs are looked for there."""
        return self.policy != "write-only"

    @property
    def writes(self) -> bool:
        """Whether programs are written there: not by who verifies what others sign and can't."""
        signs = self.verifier is None or self.signing_key is not None or self.allow_unsigned
        return self.policy != "read-only" and signs


def split_url(url: str, settings: RemoteSettings) -> tuple[str, RemoteSettings]:
    """Take the options that every remote has out of its URL.

    Args:
        url: the URL, with options after a ``?``.
        settings: what it doesn't say.

    Returns:
        The URL with the options that are left, and the settings.

    Raises:
        ConfigurationError: an option has a value that can't be used, or there is no ``://``.
    """
    if "://" not in url:
        raise ConfigurationError("remote", shown(url), "a URL with ://, as redis://host")
    place, _, query = url.partition("?")
    scheme, colon, place = place.partition(":")
    place = scheme.lower() + colon + place  # as every client wants it
    left = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("connect_timeout", "timeout", "ttl", "lease"):
            seconds = parse_seconds(value, name, bounded=name != "ttl")
            if not seconds:
                raise ConfigurationError(name, value, "a number of seconds above 0")
            settings = settings._replace(**{name: seconds})  # type: ignore[arg-type] # all four are numbers of seconds
        elif name == "max_retries":
            if not (value.isdecimal() and int(value)):
                raise ConfigurationError(name, value, "a number of tries, 1 or more")
            settings = settings._replace(max_retries=int(value))
        elif name == "policy":
            if value not in _POLICIES:
                raise ConfigurationError(name, value, ", ".join(_POLICIES))
            settings = settings._replace(policy=value)
        elif name == "allow_unsigned":
            settings = settings._replace(allow_unsigned=parse_boolean(value))
        else:
            left.append((name, value))
    return f"{place}?{urlencode(left)}" if left else place, settings


def shown(url: str) -> str:
    """Give a URL as it may be shown: without options, user and password.

    Where an ``@`` stands in what should be options, a password may have a ``?`` or ``#`` in it, and
    where there is no ``://`` anything may be one: nothing but the scheme is shown then.
    """
    scheme, separator, rest = url.partition("://")
    place, *options = re.split(r"[?#]", rest, maxsplit=1)
    if not separator and "@" in url:
        return f"{url.partition(':')[0].rpartition('@')[2]}:..."
    if any("@" in rest or "%40" in rest for rest in options):
        return f"{scheme}://..."
    return url if not separator else scheme + separator + place.rpartition("@")[2]


def redacted(message: str) -> str:
    """Give the first line of a message with its URLs as they may be shown.

    A server may have written it: what a terminal could obey is escaped, and it has an end.
    """
    line = message.strip().partition("\n")[0].rstrip()
    line = re.sub(r"\w[\w+.-]*://\S+", lambda url: shown(url[0]), line)[:_LONGEST_MESSAGE]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def check_signing(url: str, settings: RemoteSettings) -> None:
    """Refuse a remote whose programs nobody verifies, unless that is written out.

    Raises:
        ConfigurationError: there is no key, and ``allow_unsigned`` isn't set.
    """
    if settings.verifier is None and not settings.allow_unsigned:
        raise ConfigurationError(
            "remote",
            shown(url),
            "trusted_keys that its programs are verified with, or allow_unsigned=True written "
            "out: what comes from there is code",
        )


def verified(payload: bytes, tier: str, settings: RemoteSettings) -> bytes:
    """Verify what a remote has given; nothing of it is decoded before that.

    Args:
        payload: the bytes as they came.
        tier: where they came from, for messages.
        settings: those of the remote, with its verifier.

    Returns:
        The bytes that may be decoded.

    Raises:
        ConfigurationError: nobody verifies them, and that isn't written out.
        MaceCacheError: the verifier refuses them: it is a miss.
    """
    check_signing(tier, settings)
    if settings.verifier is None:
        return payload
    return settings.verifier.verify(payload, tier)
