"""What a program that was missed differs in from the nearest one that is stored."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.fingerprint import components
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mace_cache.missed import Missed
    from mace_cache.storage.base import KVStorageFactory

__all__ = ["Nearest", "Traits", "find_nearest", "read_traits"]

_MOST = 2_000  # entries
_SHOWN = 4  # differences
_LONGEST_VALUE = 60  # characters
_SOURCES = frozenset({"source", "IL"})
_OTHER_SOURCE = 1_000  # any number of other differences is nearer


class Traits(NamedTuple):
    """What tells a program from others.

    Attributes:
        key: its key.
        fingerprint: the text of the device fingerprint.
        components: what the key is made of.
        kernel_names: its kernels.
        created: when it was built, in seconds since 1970.
    """

    key: str
    fingerprint: str
    components: tuple[tuple[str, str], ...]
    kernel_names: tuple[str, ...]
    created: float = 0.0


class Nearest(NamedTuple):
    """The stored program that is most like the missed one.

    Attributes:
        key: its key.
        differences: what the missed one differs in, the telling first, as a person would say it.
    """

    key: str
    differences: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        more = len(self.differences) - _SHOWN
        shown = ", ".join(self.differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"it differs from {self.key[:12]} in {shown}"


def read_traits(factory: KVStorageFactory) -> Iterator[Traits]:
    """Give those of the programs that are stored, of whatever device; no more than 2,000.

    What can't be read is passed over.

    Args:
        factory: makes their storages. Nothing is changed there, not even when they were used.
    """
    if isinstance(factory, DirectoryStorageFactory):
        trust = factory.place.trust
        factory = DirectoryStorageFactory(factory.root, read_only=True, trust=trust)
    return islice(_read(factory), _MOST)


def _read(factory: KVStorageFactory) -> Iterator[Traits]:
    for name in factory.names():
        try:
            storage = factory.create_storage(name)
            storage.load()
            keys = list(storage.keys())
        except Exception:  # noqa: BLE001, S112 (a storage can raise anything; others are read)
            continue
        for key in keys:
            try:
                found = storage.find(key)
            except Exception:  # noqa: BLE001, S112 (as above)
                continue
            if found is not None:
                yield Traits(
                    key, found.fingerprint, found.components, found.kernel_names, found.created
                )


def find_nearest(missed: Missed, known: Iterable[Traits]) -> Nearest | None:
    """Find what a missed program is most like.

    That is one of the same source, or else one that has the same kernels.

    Args:
        missed: the program.
        known: those that are stored.

    Returns:
        The nearest one, or None where none is like it.
    """
    best: tuple[int, float, Nearest] | None = None
    for fingerprint in missed.fingerprints:
        for other in known:
            differing = _differing(missed, fingerprint, other)
            if not differing:
                continue
            distance = len(differing)
            if not _SOURCES.isdisjoint(differing):
                if not missed.kernel_names or other.kernel_names != missed.kernel_names:
                    continue
                distance += _OTHER_SOURCE
            if best is None or (distance, -other.created) < best[:2]:
                spoken = tuple(_spoken(name, *values) for name, values in differing.items())
                best = (distance, -other.created, Nearest(other.key, spoken))
    return best[2] if best else None


def _differing(missed: Missed, fingerprint: str, other: Traits) -> dict[str, tuple[str, str]]:
    """Give by its name each part that differs: as it is now, and as it was stored."""
    now = {**_joined(missed.components), **components(fingerprint)}
    then = {**_joined(other.components), **components(other.fingerprint)}
    names = [*now, *[name for name in then if name not in now]]
    return {
        name: (now.get(name, ""), then.get(name, ""))
        for name in names
        if now.get(name) != then.get(name)
    }


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]} {value}" if name in joined else value
    return joined


def _spoken(name: str, now: str, then: str) -> str:
    if name in _SOURCES:
        return f"the {name}"
    if name.startswith(("header ", "directory ")):  # digests and places say nothing to a person
        return name
    if name == "options":
        now, then = _without(now, then), _without(then, now)
        if not (now or then):
            return "the order of the options"
    if name.startswith("environment "):
        name = name.replace("environment ", "environment variable ", 1)
    return f"{name.removeprefix('device ')} ({_short(then)} before, {_short(now)} now)"


def _without(options: str, others: str) -> str:
    return " ".join(option for option in options.split() if option not in others.split())


def _short(value: str) -> str:
    if len(value) > _LONGEST_VALUE:
        value = value[:_LONGEST_VALUE] + "..."
    return value or "none"
