"""When a program that was compiled for one fingerprint may be used for another: MACE's reuse rule.

Pure functions over the texts of fingerprints. Without a policy only an identical fingerprint does.
MACE's two policies are looser: they let a cache survive an update of the driver, and count on the
driver to reject what it can't run. The rule is MACE's (``OpenCLCacheReusePolicy``), but what would
make a binary impossible, or another program, isn't left to it: the driver's family, address bits,
the processor that the code is for, and the compiler's environment must be the same in any case.
"""

from __future__ import annotations

import datetime as dt
import enum
import re

from mace_cache._driver_family import family_of
from mace_cache.fingerprint import components

__all__ = ["ReusePolicy", "adreno_build_date", "adreno_remote_branch", "may_reuse"]

_REMOTE_BRANCH = r"Remote Branch:[ \t]*(\S*[0-9/._]\S*)"  # a word alone is a label
_BUILD_DATE = r"\bDate:\s*([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})(?![0-9])"
_CENTURY = 2000  # of a year of two digits: OpenCL is of 2008
_YEARS_IN_CENTURY = 100
_PROCESSOR = r"HSTR: .*|Adreno\(TM\) [0-9]+"  # PoCL's target, Adreno's model
_SAME_PLATFORM = ("platform name", "platform profile", "platform version")
_ALWAYS_SAME = ("device address bits", "compute capability")


class ReusePolicy(enum.Enum):
    """What must be the same for a compiled program to be used again, as in MACE."""

    REUSE_NONE = "none"
    """The platform's name, profile and version."""
    REUSE_SAME_GPU = "same_gpu"
    """The device's name and the platform's version; on Adreno see `may_reuse`."""


def may_reuse(policy: ReusePolicy | None, stored_fingerprint: str, own_fingerprint: str) -> bool:
    """Tell whether a stored program may be offered to this device's driver.

    On Adreno ``REUSE_SAME_GPU`` asks, instead of the same version, for the same remote branch in
    both versions, or for a driver built on the day of the one that compiled the program or later.

    Args:
        policy: MACE's policy, or None: only an identical fingerprint.
        stored_fingerprint: the text of the fingerprint that the program was compiled for.
        own_fingerprint: the text of this device's fingerprint.
    """
    if stored_fingerprint == own_fingerprint:
        return True
    stored, own = components(stored_fingerprint), components(own_fingerprint)
    if policy is None or not _is_possible(stored, own):
        return False
    if policy is ReusePolicy.REUSE_NONE:
        return all(_is_known_and_same(name, stored, own) for name in _SAME_PLATFORM)
    return _is_known_and_same("device name", stored, own) and _is_same_driver(stored, own)


def adreno_remote_branch(version: str) -> str:
    """Give the branch that an Adreno driver was built from, or nothing where it doesn't say.

    Args:
        version: ``CL_PLATFORM_VERSION`` or ``CL_DRIVER_VERSION``, such as ``OpenCL 2.0 QUALCOMM
            build: commit #3dad7f8ed7 changeid #I593c16c433 Date: 10/01/21 Fri Local Branch:
            Remote Branch: refs/tags/AU_LINUX_ANDROID_LA.UM.9.1.R1.11.00.00.604.073``.
    """
    found = re.search(_REMOTE_BRANCH, version)
    return found[1] if found else ""


def adreno_build_date(version: str) -> dt.date | None:
    """Give the day that an Adreno driver was built on, or None where it names no day that exists.

    Args:
        version: as for `adreno_remote_branch`; the date is month/day/year.
    """
    found = re.search(_BUILD_DATE, version)
    if found is None:
        return None
    month, day, year = (int(number) for number in found.groups())
    try:
        return dt.date(_CENTURY + year if year < _YEARS_IN_CENTURY else year, month, day)
    except ValueError:
        return None


def _is_possible(stored: dict[str, str], own: dict[str, str]) -> bool:
    return (
        all(stored.get(name) == own.get(name) for name in _ALWAYS_SAME)
        and _family(stored) == _family(own)
        and _processor(stored) == _processor(own)
        and _environment(stored) == _environment(own)
    )


def _is_known_and_same(name: str, stored: dict[str, str], own: dict[str, str]) -> bool:
    return name in own and stored.get(name) == own[name]


def _is_same_driver(stored: dict[str, str], own: dict[str, str]) -> bool:
    if _family(own) != "adreno":
        return _is_known_and_same("platform version", stored, own)
    stored_version = stored.get("platform version", "")
    own_version = own.get("platform version", "")
    branch = adreno_remote_branch(own_version)
    if branch and branch == adreno_remote_branch(stored_version):
        return True
    stored_date, own_date = adreno_build_date(stored_version), adreno_build_date(own_version)
    return stored_date is not None and own_date is not None and own_date >= stored_date


def _family(found: dict[str, str]) -> str:
    return family_of(found.get("platform name", ""), found.get("platform vendor", ""))


def _processor(found: dict[str, str]) -> str:
    shown = re.search(_PROCESSOR, found.get("device version", ""))
    return shown[0] if shown else ""


def _environment(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if name.startswith("environment ")}
