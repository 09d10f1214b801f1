"""Entries whose bytes are damaged, region by region, or are another file's."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mace_cache.container import annotate, decode_entry, encode
from mace_cache.container.structures import (
    DIGEST_SIZE,
    FORMAT_MAJOR,
    HEADER,
    INDEX_DIGEST_OFFSET,
    MAGIC,
    Header,
    digest_of,
)
from tests.faults.faults import After, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.world import Scene, World

__all__ = ["byte_faults", "swap_faults"]

_FLIPS_IN_A_LARGE_REGION = 8
_LARGE = 64  # bytes


def byte_faults(
    world: World, prepared: str, kind: str, driver: str = "pocl-3.0", each: int = 1
) -> Iterator[Fault]:
    """Give faults of every region of an entry; of all of them only one in *each*."""
    with world.scene(prepared, kind, driver) as scene:
        data = sign(scene.entry.read_bytes())
    chosen = random.Random(5)  # noqa: S311 (the same ones at every run)
    for number, (what, name, damaged) in enumerate(_damages(data, chosen)):
        if number % each == 0:
            yield Fault(
                f"{what} ({driver})" if driver != "pocl-3.0" else what,
                f"{name}, {prepared}, {kind}",
                partial(write_entry, data=damaged),
                prepared=prepared,
                kind=kind,
                driver=driver,
                after=After.BUILT if kind == "file" and _is_others(damaged) else After.HIT,
            )


def _damages(data: bytes, chosen: random.Random) -> Iterator[tuple[str, str, bytes]]:
    for field in annotate(data):
        start, end = field.offset, field.offset + field.size
        name = f"{field.name} at {start:#x}"
        many = _FLIPS_IN_A_LARGE_REGION if field.size > _LARGE else 1
        for _ in range(many):
            place = chosen.randrange(start, end)
            flipped = bytes([data[place] ^ 1 << chosen.randrange(8)])
            yield "entry: a bit flipped", name, data[:place] + flipped + data[place + 1 :]
        empty = bytes(field.size)
        filled = empty if any(data[start:end]) else b"\xff" * field.size
        yield "entry: a region zeroed", name, data[:start] + filled + data[end:]
        yield "entry: cut", name, data[:start]
        yield "entry: cut", f"in {name}", data[: (start + end) // 2]


def _is_others(data: bytes) -> bool:
    """Whether one file for all isn't ours by its first bytes, and so is left as it is."""
    magic, version = data[:4], data[4:8]
    return bool(data) and (
        magic != MAGIC or (len(version) == 4 and version[2:] != FORMAT_MAJOR.to_bytes(2, "little"))
    )


def sign(data: bytes, signature: bytes = b"signature of some kind, unverified") -> bytes:
    """Give an entry a signature, as a later release may, and digests that fit."""
    header = _header(data)._replace(
        total_size=len(data) + len(signature), signature_size=len(signature)
    )
    return _seal(header, data) + signature


def _with_version(data: bytes, major: int, minor: int) -> bytes:
    return _seal(_header(data)._replace(version=major << 16 | minor), data)


def _header(data: bytes) -> Header:
    return Header._make(HEADER.unpack(data[: HEADER.size]))


def _seal(header: Header, data: bytes) -> bytes:
    """Give an unsigned file another header, and digests that fit."""
    start = HEADER.pack(*header)[:INDEX_DIGEST_OFFSET]
    index = digest_of([start, data[HEADER.size : header.sections_offset]])
    sealed = start + index + data[HEADER.size : -DIGEST_SIZE]
    return sealed + digest_of([sealed])


def write_entry(scene: Scene, data: bytes) -> None:
    """Write into the entry's file: it stays proven if it was, as on a disk that goes bad."""
    with scene.entry.open("r+b") as file:
        file.write(data)
        file.truncate()


def _change(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    write_entry(scene, change(scene.entry.read_bytes()))


def swap_faults(prepared: str, driver: str = "pocl-3.0") -> Iterator[Fault]:
    """Give faults where a good file stands in an entry's place."""

    def replaced(data: bytes, **changes: Any) -> bytes:
        return encode([replace(decode_entry(data), **changes)])

    swaps: dict[str, Callable[[bytes], bytes]] = {
        "another program's": lambda data: replaced(data, key="5a" * 32),
        "another fingerprint's": lambda data: replaced(data, fingerprint="another device"),
        "the next major version's": lambda data: _with_version(data, 2, 0),
        "an older major version's": lambda data: _with_version(data, 0, 9),
        "the next minor version's": lambda data: _with_version(data, 1, 1),
        "a bundle": lambda data: encode(
            [decode_entry(data), replace(decode_entry(data), key="5a" * 32)]
        ),
        "a bundle of nothing": lambda _data: encode([]),
        "a signed one": sign,
        "twice the same": lambda data: data * 2,
        "more at its end": lambda data: data + b"\0",
        "an empty file": lambda _data: b"",
        "text": lambda _data: b"#!/bin/sh\nexit 1\n" * 1000,
    }
    for name, change in swaps.items():
        yield Fault(
            "entry: another file in its place" + ("" if driver == "pocl-3.0" else f" ({driver})"),
            f"{name}, {prepared}",
            partial(_change, change=change),
            prepared=prepared,
            driver=driver,
        )
