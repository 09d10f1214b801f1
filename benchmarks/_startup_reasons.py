"""Why a start may miss an aim: what is known of each driver, docs/drivers.md."""

from __future__ import annotations

__all__ = ["reason_of"]

_REASONS = {
    ("rusticl", "mace_cache", "pyopencl"): (
        "rusticl hands out SPIR-V only and makes the native code when kernels are created and "
        "launched: a cache saves no more than the front end, and this one verifies what it loads."
    ),
    ("oclgrind", "mace_cache", "pyopencl"): (
        "Oclgrind interprets: nearly all of the time goes into the launches, which no cache "
        "shortens, and this one verifies what it loads."
    ),
    ("", "mace_cache", "pyopencl"): (
        "the driver's binaries save as much with either cache; this one verifies what it loads."
    ),
    ("pocl", "mace_cache", "source"): (
        "data to the device, launches, and what the cache does before its first build take as long "
        "whatever is compiled, and these programs are few."
    ),
    ("pocl", "mace_cache", "early"): (
        "an early binary lacks the code of the launches, and few kernels are launched here; the "
        "rest takes as long whatever is compiled."
    ),
    ("", "mace_cache", "source"): (
        "opening the cache and its first build have a price that doesn't depend on the programs, "
        "and these are few."
    ),
    ("nvidia", "mace_cache", "early"): (
        "the driver compiles the PTX of an early binary again at its load; beside programs as few "
        "as these, what the cache does at its first build weighs as much as their native code."
    ),
    ("", "mace_cache", "early"): "what an early binary lacks is made fast by this driver.",
    ("", "mace_cache", "floor"): (
        "before the first program the cache imports what it needs, opens its directory and tells "
        "the driver's build; for each it makes the key with every header, checks owner and mode of "
        "the file, and verifies a SHA-256. The floor does nothing of that."
    ),
    ("pocl", "cold", "source"): (
        "the cache imports what it needs, tells the driver's build and makes the keys before it "
        "builds; nothing is fetched or written before the first result."
    ),
    ("", "cold", "source"): (
        "binaries are fetched and written right after each build, which shows beside short builds; "
        "before the first one, the cache imports what it needs and tells the driver's build."
    ),
}


def reason_of(family: str, way: str, against: str) -> str:
    """Say in a sentence why a ratio may be larger than its aim.

    Args:
        family: the driver family.
        way: what takes longer than was aimed at.
        against: what it is compared with.
    """
    return _REASONS.get((family, way, against)) or _REASONS["", way, against]
