"""A device to its fingerprint: all about device, driver and compiler that decides what is valid.

A fingerprint is a readable text, one ``name: value`` line a component, in a fixed order. Devices of
the same text share compiled programs. ``docs/drivers.md`` shows one.
"""

from __future__ import annotations

import hashlib
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


class DeviceFingerprint:
    """What decides whether a compiled program is valid for a device.

    Args:
        text: the components, one ``name: value`` line each; what is stored and compared.
        family: the driver's family: ``pocl``, ``nvidia``, ``rusticl``, ... or ``other``.

    Attributes:
        text: as given.
        family: as given.
        digest: SHA-256 of the text, 64 lower-case hexadecimal digits.
        storage_name: the name of its storage: file-name-safe ASCII, at most 100 characters, by
            which a person recognises the device.
    """

    __slots__ = ("digest", "family", "storage_name", "text")

    def __init__(self, text: str, family: str) -> None:
        self.text = text
        self.family = family
        self.digest = _digest(text)
        self.storage_name = storage_name(text)

    def __eq__(self, other: object) -> bool:
        """Whether both are one text of one family."""
        return (
            isinstance(other, DeviceFingerprint)
            and self.text == other.text
            and self.family == other.family
        )

    def __hash__(self) -> int:
        """As the text's, which Python keeps."""
        return hash(self.text)

    def __repr__(self) -> str:
        """Name the storage."""
        return f"<DeviceFingerprint {self.storage_name}>"


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
    for mark in ("(R)", "(TM)", "(C)"):
        readable = readable.replace(mark, "-")
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in readable).split("-")
    slug = "-".join(filter(None, words))[:_LONGEST_READABLE_NAME].strip("-")
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
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(name: str, value: str) -> str:
    return _escaped(name).replace(":", r"\x3a") + f": {_escaped(value)}\n"


def _escaped(value: str) -> str:
    if value.isascii() and value.isprintable() and "\\" not in value:
        return value  # as nearly all are; the codec is imported with its first use
    return value.encode("unicode_escape").decode("ascii")


def _unescaped(value: str) -> str:
    try:
        return value.encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return value
