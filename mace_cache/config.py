"""Frozen settings: an argument decides, then the environment (``MACE_CACHE_*``), then a default.

They are read when a cache is made, never at import. A variable that can't be understood is reported
once and its default taken; an argument that can't is a `ConfigurationError`.
"""

from __future__ import annotations

import logging
import math
import os
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mace_cache._report import warn_once
from mace_cache._trust import OWN_ONLY, Trust, parse_trust
from mace_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache._signing_keys import Key, TrustedKeys

__all__ = [
    "DEFAULT_MAX_SIZE",
    "RUN_VARIABLE",
    "Settings",
    "parse_boolean",
    "parse_seconds",
    "parse_size",
    "read_settings",
    "user_cache_directory",
]

logger = logging.getLogger(__name__)

DEFAULT_MAX_SIZE = 1 << 30
DEFAULT_LOCK_TIMEOUT = 30.0
RUN_VARIABLE = "MACE_CACHE_RUN"  # a name, of which processes count as one run: see `missed`

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = r"(?i)\s*(\d{1,30})(\.\d{1,30})?\s*(?:([KMGT])i?)?B?\s*"
_FALSE = frozenset({"", "0", "false", "off", "no"})

Value = TypeVar("Value")


class Settings(NamedTuple):
    """What a cache was told.

    Attributes:
        directory: the cache directory, or None where the machine has no place for one.
        disabled: whether nothing is cached and no file touched.
        max_size: the size in bytes that the programs on disk are kept within; 0 is unlimited.
        read_only: whether nothing is written.
        recache: whether every program is built from source and written again.
        lock_timeout: how long another process is waited for that writes, or builds what this one
            wants too, in seconds.
        record: the record directory of a rehearsal, or None where there is none.
        record_only: whether a rehearsal's programs are kept in the record directory only.
        trust: who may own what is kept on disk, or write to it, beside this user.
        remote: the URL of what other machines share with this one, or None where there is none.
        trusted_keys: the keys one of which must have signed what comes from elsewhere; None where
            no signature is asked for.
        signing_key: the key that signs what goes elsewhere, or None.
        allow_unsigned: whether what comes from elsewhere without a signature is used.
        trace: whether a line is printed for every build.
    """

    directory: str | None
    disabled: bool = False
    max_size: int = DEFAULT_MAX_SIZE
    read_only: bool = False
    recache: bool = False
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT
    record: str | None = None
    record_only: bool = False
    trust: Trust = OWN_ONLY
    remote: str | None = None
    trusted_keys: TrustedKeys | None = None
    signing_key: Key | None = None
    allow_unsigned: bool = False
    trace: bool = False

    @property
    def rebuilding(self) -> str:
        """Why every program is built from source and written again, or an empty text."""
        if self.record is not None:
            return "a rehearsal is recorded"  # only what the driver compiled itself is complete
        return "MACE_CACHE_RECACHE is set" if self.recache else ""


def read_settings(
    directory: str | os.PathLike[str] | None = None,
    max_size: int | str | None = None,
    read_only: bool | None = None,
    trust: str | None = None,
    *,
    trusted_keys: str | None = None,
    signing_key: str | os.PathLike[str] | None = None,
    allow_unsigned: bool | None = None,
) -> Settings:
    """Put together the settings of a cache that is being made.

    Args:
        directory: the cache directory.
        max_size: the size that the programs on disk are kept within: bytes, or text as ``500M``.
        read_only: whether nothing may be written.
        trust: who is trusted beside this user, as `parse_trust` takes it.
        trusted_keys: public keys, and files of keys, with commas between them.
        signing_key: the file of the key that signs what goes elsewhere.
        allow_unsigned: whether what comes from elsewhere without a signature is used.

    Raises:
        ConfigurationError: an argument can't be used.
    """
    if max_size is None:
        max_size = _variable("MACE_CACHE_MAX_SIZE", parse_size, DEFAULT_MAX_SIZE)
    if read_only is None:
        read_only = _variable("MACE_CACHE_READ_ONLY", parse_boolean, False)
    record = os.environ.get("MACE_CACHE_RECORD")
    record_only = bool(record) and _variable("MACE_CACHE_RECORD_ONLY", parse_boolean, False)
    if allow_unsigned is None:
        allow_unsigned = _variable("MACE_CACHE_ALLOW_UNSIGNED", parse_boolean, False)
    settings = Settings(
        directory=_cache_directory(directory),
        disabled=_variable("MACE_CACHE_DISABLE", parse_boolean, False),
        max_size=parse_size(max_size, setting="max_size"),
        read_only=read_only and not record_only,
        recache=_variable("MACE_CACHE_RECACHE", parse_boolean, False),
        lock_timeout=_variable("MACE_CACHE_LOCK_TIMEOUT", parse_seconds, DEFAULT_LOCK_TIMEOUT),
        record=os.path.abspath(record) if record else None,
        record_only=record_only,
        trust=_variable("MACE_CACHE_TRUST", parse_trust, OWN_ONLY)
        if trust is None
        else parse_trust(trust, "trust"),
        remote=os.environ.get("MACE_CACHE_REMOTE") or None,
        allow_unsigned=allow_unsigned,
        trace=_variable("MACE_CACHE_TRACE", parse_boolean, False),
    )
    return settings if settings.disabled else _with_keys(settings, trusted_keys, signing_key)


def _with_keys(
    settings: Settings, trusted_keys: str | None, signing_key: str | os.PathLike[str] | None
) -> Settings:
    names = "MACE_CACHE_TRUSTED_KEYS", "MACE_CACHE_SIGNING_KEY"
    given = trusted_keys, signing_key, *map(os.environ.get, names)
    if not any(given):
        return settings
    from mace_cache import _signing_keys as keys  # noqa: PLC0415 (few have any)

    trust = settings.trust
    if trusted_keys:
        settings = settings._replace(
            trusted_keys=keys.read_trusted_keys(trusted_keys, "trusted_keys", trust)
        )
    elif os.environ.get(names[0]):  # one that can't be used must not mean that all is believed
        parse = partial(keys.read_trusted_keys, trust=trust)
        settings = settings._replace(trusted_keys=_variable(names[0], parse, keys.NO_KEY))
    if signing_key:
        settings = settings._replace(
            signing_key=keys.read_signing_key(signing_key, "signing_key", trust)
        )
    elif os.environ.get(names[1]):
        read = partial(keys.read_signing_key, trust=trust)
        settings = settings._replace(signing_key=_variable(names[1], read, None))
    return settings


def parse_size(text: str | int, setting: str = "MACE_CACHE_MAX_SIZE") -> int:
    """Understand a size: ``500M``, ``2G``, ``1.5 GiB``, ``0``; a unit is a power of 1024.

    Args:
        text: the size.
        setting: what it was given as, for the error.

    Returns:
        The size in bytes.

    Raises:
        ConfigurationError: it is no size.
    """
    match = re.fullmatch(_SIZE, str(text))
    if match is None:
        raise ConfigurationError(setting, text, "a size such as 500M or 2G, or 0 for no limit")
    whole, fraction, unit = match.groups()
    factor = _UNITS[(unit or "").upper()]
    return int(whole) * factor + int(float(fraction or 0) * factor)


def parse_boolean(text: str, setting: str = "") -> bool:  # noqa: ARG001 (as the other parsers)
    """Understand a switch: nothing, ``0``, ``false``, ``off`` and ``no`` are false."""
    return text.strip().lower() not in _FALSE


def parse_seconds(text: str | float, setting: str, *, bounded: bool = True) -> float:
    """Understand a time.

    Args:
        text: the seconds, a number or text.
        setting: what they were given as, for the error.
        bounded: whether ``inf`` is refused.

    Raises:
        ConfigurationError: it is no number of seconds.
    """
    try:
        seconds = float(text)
    except (ValueError, TypeError):
        seconds = math.nan
    if not seconds >= 0 or (bounded and seconds == math.inf):
        raise ConfigurationError(setting, text, "a number of seconds")
    return seconds


def _variable(name: str, parse: Callable[[str, str], Value], default: Value) -> Value:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return parse(text, name)
    except ConfigurationError as error:
        warn_once(logger, name, "%s; %s is used instead", error, default)
        return default


def _cache_directory(argument: str | os.PathLike[str] | None) -> str | None:
    directory = os.fspath(argument) if argument is not None else os.environ.get("MACE_CACHE_DIR")
    if directory:
        return os.path.abspath(os.path.expanduser(directory))
    return user_cache_directory("mace_cache")


def user_cache_directory(name: str) -> str | None:
    """Give the directory of that name among the user's caches, or None where there is no home."""
    import platformdirs  # noqa: PLC0415 (kept out of the import of the package)

    # Without a home there is no absolute answer, and a relative one would litter any directory:
    # older releases of platformdirs give one, newer ones raise.
    try:
        found = platformdirs.user_cache_dir(name, appauthor=False)
    except RuntimeError:
        return None
    return found if os.path.isabs(found) else None
