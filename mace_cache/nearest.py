"""What a program that was missed differs in from the nearest one that is stored."""

from __future__ import annotations

import re
from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from mace_cache.errors import UncacheableError
from mace_cache.fingerprint import components, storage_name
from mace_cache.source import include_directories
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mace_cache.missed import Missed
    from mace_cache.storage.base import KVStorage, KVStorageFactory

__all__ = ["Known", "Nearest", "Traits", "find_nearest", "read_traits", "say_nearest"]

_MOST = 2_000  # entries
_SHOWN = 4  # differences
_LONGEST_VALUE = 60  # characters
_BEFORE_DIFFERENCE = 10  # characters
_SOURCES = frozenset({"source", "IL"})
_PLACE = "-I <"  # how the key's options name an include directory, with its number
_OTHER_SOURCE = 1_000  # any number of other differences is nearer


class Traits(NamedTuple):
    """What tells a program from others.

    Attributes:
        key: its key.
        fingerprint: the text of the device fingerprint.
        components: what the key is made of.
        kernel_names: its kernels.
        created: when it was built, in seconds since 1970.
        options: the build options, as the driver gets them.
    """

    key: str
    fingerprint: str
    components: tuple[tuple[str, str], ...]
    kernel_names: tuple[str, ...]
    created: float = 0.0
    options: str = ""


class Known(NamedTuple):
    """The programs that are stored.

    Attributes:
        traits: those that were read.
        complete: whether these are all.
    """

    traits: tuple[Traits, ...]
    complete: bool


class Nearest(NamedTuple):
    """The stored program that is most like the missed one.

    Attributes:
        key: its key.
        differences: what the missed one differs in, the telling first, as a person would say it.
        stored_for: where it is the same program, the storage of its device and environment.
    """

    key: str
    differences: tuple[str, ...]
    stored_for: str = ""

    def __str__(self) -> str:
        """Say it in a line."""
        more = len(self.differences) - _SHOWN
        shown = ", ".join(self.differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        other = f"the one stored for {self.stored_for}" if self.stored_for else self.key[:12]
        return f"it differs from {other} in {shown}"


def read_traits(factory: KVStorageFactory) -> Known:
    """Give those of the programs that are stored, of whatever device; no more than 2,000.

    What can't be read is passed over.

    Args:
        factory: makes their storages. Nothing is changed there, not even when they were used.
    """
    if isinstance(factory, DirectoryStorageFactory):
        trust = factory.place.trust
        factory = DirectoryStorageFactory(factory.root, read_only=True, trust=trust)
    known: list[Traits] = []
    complete = True
    for traits in _read(factory):
        if traits is None or len(known) == _MOST:
            complete = False
        if len(known) == _MOST:
            break
        if traits is not None:
            known.append(traits)
    return Known(tuple(known), complete)


def _read(factory: KVStorageFactory) -> Iterator[Traits | None]:
    """Give the traits of each program, or None in the place of what can't be read."""
    try:
        names = list(factory.names())
    except Exception:  # noqa: BLE001 (a storage is other people's code on other people's disks)
        yield None
        return
    for name in names:
        try:
            storage = factory.create_storage(name)
            storage.load()
            keys = list(storage.keys())
        except Exception:  # noqa: BLE001 (as above)
            yield None
            continue
        for key in keys:
            yield _traits(storage, key)


def _traits(storage: KVStorage, key: str) -> Traits | None:
    try:
        found = storage.find(key)
    except Exception:  # noqa: BLE001 (as above)
        return None
    if found is None:
        return None
    return Traits(
        key,
        found.fingerprint,
        found.components,
        found.kernel_names,
        found.created,
        found.options,
    )


def find_nearest(missed: Missed, known: Iterable[Traits]) -> Nearest | None:
    """Find what a missed program is most like.

    That is one of the same source, or else one that has the same kernels; of several the one that
    differs in the fewest parts, each word of the options being one more.

    Args:
        missed: the program.
        known: those that are stored.

    Returns:
        The nearest one, or None where none is like it, or what it is made of isn't known.
    """
    best: tuple[int, float, Nearest] | None = None
    for fingerprint in missed.fingerprints if missed.components else ():
        for other in known:
            differing = _differing(missed, fingerprint, other)
            if not differing:
                continue
            distance = len(differing) + _number_of_words(*differing.get("options", ("", "")))
            if not _SOURCES.isdisjoint(differing):
                if not missed.kernel_names or other.kernel_names != missed.kernel_names:
                    continue
                distance += _OTHER_SOURCE
            if best is None or (distance, -other.created) < best[:2]:
                best = (distance, -other.created, _told(missed, other, differing))
    return best[2] if best else None


def say_nearest(missed: Missed, nearest: Nearest | None, known: Known) -> str:
    """Say what a missed program differs in, in a line.

    Args:
        missed: the program.
        nearest: what `find_nearest` has found.
        known: where it was looked for.
    """
    if nearest is not None:
        return str(nearest)
    if not missed.components:
        return "what it is made of is too much to be noted"
    if known.complete:
        return "nothing like it was stored before"
    return f"nothing like it is among the {len(known.traits)} programs that could be compared"


def _told(missed: Missed, other: Traits, differing: dict[str, tuple[str, str]]) -> Nearest:
    now, then = differing.get("options", ("", ""))
    if now.count(_PLACE) != then.count(_PLACE):  # else places are all that differs in them
        differing["options"] = _named(now, missed.options), _named(then, other.options)
    spoken = tuple(_spoken(name, *values) for name, values in differing.items())
    is_same = other.key == missed.key
    return Nearest(other.key, spoken, storage_name(other.fingerprint) if is_same else "")


def _named(placed: str, options: str) -> str:
    """Give a key's options with the include directories, which it knows by their positions."""
    try:
        directories = dict(enumerate(include_directories(options), 1))
    except UncacheableError:  # it was noted by somebody else
        return placed
    return re.sub(rf"{_PLACE}(\d+)>", lambda i: f"-I{directories.get(int(i[1]), i[0][3:])}", placed)


def _number_of_words(now: str, then: str) -> int:
    return len(_without(now, then).split()) + len(_without(then, now).split())


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
    before = _shown(then, now)
    return f"{name.removeprefix('device ')} ({before} before, {_shown(now, then)} now)"


def _without(options: str, others: str) -> str:
    """Give the options that aren't among the others, or not as often."""
    more = Counter(_words(options)) - Counter(_words(others))
    return " ".join(more.elements())


def _words(options: str) -> list[str]:
    return options.replace(_PLACE, _PLACE.replace(" ", "")).split()


def _shown(value: str, other: str) -> str:
    """Give a value, or of two long ones where they begin to differ."""
    begin = 0
    if max(len(value), len(other)) > _LONGEST_VALUE:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(value, other)))  # noqa: B905 (one may be longer)
        begin = max(0, same - _BEFORE_DIFFERENCE)
    end = begin + _LONGEST_VALUE
    cut = f"{'...' if begin else ''}{value[begin:end]}{'...' if value[end:] else ''}"
    return cut or "none"
