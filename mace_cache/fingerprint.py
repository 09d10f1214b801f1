"""A device to its fingerprint: all about device, driver and compiler that decides what is valid.

A fingerprint is a readable text, one ``name: value`` line a component, in a fixed order. Devices of
the same text share compiled programs. ``docs/drivers.md`` shows one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import pyopencl as cl

from mace_cache import opencl
from mace_cache._driver_family import (
    Environment,
    compiler_environment,
    environment_at_import,
    family_of,
)
from mace_cache._driver_library import build_ids
from mace_cache.errors import FingerprintError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DeviceFingerprint",
    "compiler_environment",
    "components",
    "fingerprint",
    "storage_name",
]

_PLATFORM_QUERIES = ("NAME", "VENDOR", "VERSION", "PROFILE")
_DEVICE_QUERIES = (
    "NAME",
    "VENDOR",
    "VENDOR_ID",
    "VERSION",
    "DRIVER_VERSION",
    "TYPE",
    "ADDRESS_BITS",
    "OPENCL_C_VERSION",
)
_NVIDIA_ATTRIBUTES = "cl_nv_device_attribute_query"
_LONGEST_READABLE_NAME = 80  # characters; the digest's come to it
_DIGEST_DIGITS_IN_NAME = 16


@dataclass(frozen=True)
class DeviceFingerprint:
    """What decides whether a compiled program is valid for a device.

    Attributes:
        text: the components, one ``name: value`` line each; what is stored and compared.
        family: the driver's family: ``pocl``, ``nvidia``, ``rusticl``, ... or ``other``.
        digest: SHA-256 of the text, 64 lower-case hexadecimal digits.
        storage_name: the name of its storage: file-name-safe ASCII, at most 100 characters, by
            which a person recognises the device.
    """

    text: str
    family: str
    digest: str = field(init=False)
    storage_name: str = field(init=False)

    def __post_init__(self) -> None:
        """Work out what follows from the text."""
        object.__setattr__(self, "digest", _digest(self.text))
        object.__setattr__(self, "storage_name", storage_name(self.text))


def fingerprint(device: cl.Device) -> DeviceFingerprint:
    """Identify a device, its driver and its compiler's environment, as they are now.

    Called at every build, so that a variable changed since the last one is seen. What the device
    and its driver say is asked once a process; where nothing changed the same object is given
    again.

    Args:
        device: the device; a sub-device has the fingerprint of the device it is a part of.

    Raises:
        FingerprintError: a query failed, so that the device can't be told from another one.
    """
    family, device_text = _identity(device)
    return _fingerprint(family, device_text, compiler_environment(family))


def storage_name(text: str) -> str:
    """Give the name of the storage for a fingerprint's text.

    Args:
        text: the text of a `DeviceFingerprint`.

    Returns:
        Driver family, device name and 16 hexadecimal digits of the text's digest, such as
        ``pocl-pthread-AMD-EPYC-1f2e3d4c5b6a7988``.
    """
    found = components(text)
    readable = f"{_family(found)} {found.get('device name', '')}"
    words = re.sub(r"\((?:R|TM|C)\)|[^A-Za-z0-9]+", "-", readable)
    slug = re.sub("-+", "-", words)[:_LONGEST_READABLE_NAME].strip("-")
    return f"{slug}-{_digest(text)[:_DIGEST_DIGITS_IN_NAME]}"


def components(text: str) -> dict[str, str]:
    """Take a fingerprint's text apart.

    Args:
        text: the text of a `DeviceFingerprint`; a line that isn't ``name: value`` is passed over.

    Returns:
        The components' values by their names, in the order of the text.
    """
    pairs = (line.partition(": ") for line in text.split("\n"))
    return {_unescaped(name): _unescaped(value) for name, colon, value in pairs if colon}


@lru_cache(maxsize=64)  # it keeps the device, so that its handle can't become another device's
def _identity(device: cl.Device) -> tuple[str, str]:
    found = dict(_device_components(device))
    return _family(found), "".join(_line(name, value) for name, value in found.items())


@lru_cache(maxsize=256)
def _fingerprint(family: str, device_text: str, environment: Environment) -> DeviceFingerprint:
    lines = (_line(name, value) for name, value in _environment_components(family, environment))
    return DeviceFingerprint(device_text + "".join(lines), family)


def _device_components(device: cl.Device) -> Iterator[tuple[str, str]]:
    platform = _platform(device)
    for query in _PLATFORM_QUERIES:
        yield f"platform {_spoken(query)}", str(opencl.platform_info(platform, query))
    for query in _DEVICE_QUERIES:
        answer = opencl.device_info(device, query)
        yield f"device {_spoken(query)}", _kind(answer) if query == "TYPE" else str(answer)
    if _NVIDIA_ATTRIBUTES in str(opencl.device_info(device, "EXTENSIONS")).split():
        major = opencl.device_info(device, "COMPUTE_CAPABILITY_MAJOR_NV")
        minor = opencl.device_info(device, "COMPUTE_CAPABILITY_MINOR_NV")
        yield "compute capability", f"{major}.{minor}"
    for name, build_id in build_ids(platform.int_ptr):
        yield f"build-id of {name}", build_id


def _environment_components(family: str, now: Environment) -> Iterator[tuple[str, str]]:
    """Give what is set now, and what has changed since the process started.

    A driver may have read a variable before it was changed, and never look again: what it compiles
    then is neither what the old nor what the new environment gives in a fresh process.
    """
    for name, value in now:
        yield f"environment {name}", value
    before = environment_at_import(family)
    for name in sorted({name for name, _value in set(before) ^ set(now)}):
        yield f"environment before {name}", dict(before).get(name, "")


def _platform(device: cl.Device) -> cl.Platform:
    try:
        return device.platform
    except cl.Error as error:
        raise FingerprintError("CL_DEVICE_PLATFORM", str(error).partition("\n")[0]) from error


def _spoken(query: str) -> str:
    return query.lower().replace("_", " ").replace("opencl c", "OpenCL C")


def _kind(bits: int | str) -> str:
    kinds = ("DEFAULT", "CPU", "GPU", "ACCELERATOR", "CUSTOM")  # OpenCL specification, 4.2
    set_ones = [kind for kind in kinds if int(bits) & getattr(cl.device_type, kind)]
    return " ".join(set_ones) or str(bits)


def _family(found: dict[str, str]) -> str:
    return family_of(found.get("platform name", ""), found.get("platform vendor", ""))


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415 (loads OpenSSL: kept out of the import of the package)

    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(name: str, value: str) -> str:
    return _escaped(name).replace(":", r"\x3a") + f": {_escaped(value)}\n"


def _escaped(value: str) -> str:
    return value.encode("unicode_escape").decode("ascii")


def _unescaped(value: str) -> str:
    try:
        return value.encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return value
