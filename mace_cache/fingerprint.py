"""A device to its fingerprint: all about device, driver and compiler that decides what is valid.

A fingerprint is a readable text, one ``name: value`` line a component, in a fixed order. Two devices
of the same text share compiled programs. ``docs/drivers.md`` shows one, and says for each driver
family which environment variables are part of it, and why.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import pyopencl as cl

from mace_cache import opencl
from mace_cache._driver_library import build_ids
from mace_cache.errors import FingerprintError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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

_FAMILIES = (  # a family, and what the platform's name or vendor shows of it; the first that fits
    ("pocl", "portable computing language|pocl"),
    ("rusticl", "rusticl"),
    ("clover", "clover"),
    ("oclgrind", "oclgrind"),
    ("clvk", "clvk"),
    ("nvidia", "nvidia"),
    ("amd", "amd accelerated|advanced micro devices"),
    ("adreno", "qualcomm|adreno"),
    ("mali", r"arm platform|^arm$|\bmali\b"),
    ("powervr", "powervr|imagination"),
    ("vivante", "vivante|verisilicon"),
    ("apple", "apple"),
    ("intel", "intel"),
)


class _Variables(NamedTuple):
    """The environment variables of a driver family that change what it compiles."""

    compiling: tuple[str, ...]  # how their names begin
    ignored: tuple[str, ...] = ()  # of these, the ones that only move caches and logs, or threads


_MESA = (
    ("GALLIVM_", "LP_", "GALLIUM_NOSSE", "GALLIUM_OVERRIDE_CPU_CAPS", "NIR_", "MESA_SPIRV_")
    + ("INTEL_DEBUG", "INTEL_PRECISE_TRIG", "INTEL_SIMD", "AMD_DEBUG", "RADEON_DEBUG", "R600_DEBUG")
    + ("ACO_DEBUG", "NV50_PROG_", "NAK_DEBUG", "IR3_SHADER_", "ZINK_DEBUG", "PAN_MESA_DEBUG")
    + ("BIFROST_MESA_DEBUG", "MIDGARD_MESA_DEBUG", "V3D_DEBUG", "AGX_MESA_DEBUG")
)
_MESA_IGNORED = ("LP_NUM_THREADS", "LP_NO_RAST", "MESA_SPIRV_FAIL_DUMP_PATH")
_POCL_IGNORED = (
    ("POCL_CACHE_DIR", "POCL_KERNEL_CACHE", "POCL_DEBUG", "POCL_TRAC", "POCL_VERBOSE")
    + ("POCL_LEAVE_", "POCL_TEMP_DIR", "POCL_VECTORIZER_REMARKS", "POCL_SIGFPE_HANDLER")
    + ("POCL_SIGUSR2_HANDLER", "POCL_STARTUP_DELAY", "POCL_DEVICES", "POCL_AFFINITY")
    + ("POCL_MAX_PTHREAD_COUNT", "POCL_PTHREAD_MIN_THREADS", "POCL_CPU_MAX_CU_COUNT")
    + ("POCL_MEMORY_LIMIT", "POCL_IMPLICIT_FINISH")
)
_OCLGRIND_IGNORED = (
    ("OCLGRIND_LOG", "OCLGRIND_DUMP_SPIR", "OCLGRIND_CHECK_API", "OCLGRIND_COMPUTE_UNITS")
    + ("OCLGRIND_NUM_THREADS", "OCLGRIND_MAX_ERRORS", "OCLGRIND_INST_COUNTS", "OCLGRIND_QUICK")
    + ("OCLGRIND_DATA_RACES", "OCLGRIND_UNIFORM_WRITES", "OCLGRIND_INTERACTIVE")
)
_INTEL_IGNORED = ("CL_CONFIG_LOG", "CL_CONFIG_DUMP", "CL_CONFIG_USE_VTUNE", "NEO_CACHE_") + (
    "IGC_ShaderDump",
    "IGC_Dump",
)
_AMD_IGNORED = (
    "AMD_OCL_WAIT_COMMAND",
    "AMD_OCL_ENABLE_MESSAGE_BOX",
    "AMD_COMGR_CACHE",
    "AMD_COMGR_SAVE_TEMPS",
) + ("AMD_COMGR_REDIRECT_LOGS", "AMD_COMGR_EMIT_VERBOSE_LOGS", "AMD_COMGR_TIME_STATISTICS")
_AMD = (
    ("AMD_OCL_", "AMD_COMGR_", "AMD_GPU_FORCE_SINGLE_FP_DENORM", "GPU_MAX_WORKGROUP_SIZE")
    + ("GPU_FORCE_", "GPU_HSAIL_ENABLE", "GPU_ENABLE_", "GPU_WAVES_PER_SIMD", "CL_KHR_FP64")
    + ("OPENCL_VERSION", "OCL_STUB_PROGRAMS", "HSA_OVERRIDE_GFX_VERSION", "HSA_XNACK")
    + ("LLVM_PATH", "DEVICE_LIB_PATH", "HIP_DEVICE_LIB_PATH", "ROCM_PATH", "CPATH")
)
_VARIABLES = {
    "pocl": _Variables(("POCL_",), _POCL_IGNORED),
    "nvidia": _Variables(("CUDA_FORCE_", "CUDA_DISABLE_")),
    "intel": _Variables(("IGC_", "CL_CONFIG_", "NEO"), _INTEL_IGNORED),
    "amd": _Variables(_AMD, _AMD_IGNORED),
    "rusticl": _Variables(
        ("RUSTICL_", *_MESA),
        ("RUSTICL_ENABLE", "RUSTICL_DEVICE_TYPE", "RUSTICL_MAX_WORK_GROUPS", *_MESA_IGNORED),
    ),
    "clover": _Variables(
        ("CLOVER_", *_MESA), ("CLOVER_DEBUG", "CLOVER_DEVICE_TYPE", *_MESA_IGNORED)
    ),
    "oclgrind": _Variables(("OCLGRIND_",), _OCLGRIND_IGNORED),
    "clvk": _Variables(("CLVK_", "CLSPV_"), ("CLVK_LOG",)),
}
_ALL_VARIABLES = _Variables(  # of a driver that isn't known
    tuple(name for variables in _VARIABLES.values() for name in variables.compiling),
    tuple(name for variables in _VARIABLES.values() for name in variables.ignored),
)


@dataclass(frozen=True)
class DeviceFingerprint:
    """What decides whether a compiled program is valid for a device.

    Attributes:
        text: the components, one ``name: value`` line each; what is stored and compared.
        family: the driver's family: ``pocl``, ``nvidia``, ``rusticl``, ... or ``other``.
        digest: SHA-256 of the text, 64 lower-case hexadecimal digits.
        storage_name: the name of its storage: file-name-safe ASCII, at most 100 characters, by which
            a person recognises the device.
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

    Called at every build, so that a variable set since the last one is seen. What the device and its
    driver say is asked once a process; where nothing changed the same object is given again.

    Args:
        device: the device, or a sub-device, which has its parent's fingerprint.

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
    readable = f"{_family(found)}-{found.get('device name', '')}"
    slug = re.sub(r"\([A-Za-z]+\)|[^A-Za-z0-9]+", "-", readable).strip("-")[:80].strip("-")
    return f"{re.sub('-+', '-', slug)}-{_digest(text)[:16]}"


def components(text: str) -> dict[str, str]:
    """Take a fingerprint's text apart.

    Args:
        text: the text of a `DeviceFingerprint`; a line that isn't ``name: value`` is passed over.

    Returns:
        The components' values by their names, in the order of the text.
    """
    pairs = (line.partition(": ") for line in text.splitlines())
    return {_unescaped(name): _unescaped(value) for name, colon, value in pairs if colon}


def compiler_environment(family: str) -> tuple[tuple[str, str], ...]:
    """Give the environment variables that change what a driver compiles, as they are set now.

    Args:
        family: a driver family. For one without a table the variables of every family count.

    Returns:
        Pairs of name and value, sorted by name.
    """
    global _seen  # noqa: PLW0603 (replaced whole, so that threads see an old or a new one)
    now = getattr(os.environ, "_data", os.environ)  # a plain dict: compared in a microsecond
    seen, known = _seen
    if now != seen:
        known = {}
        _seen = (dict(now), known)
    if family not in known:
        known[family] = _set_variables(_VARIABLES.get(family, _ALL_VARIABLES))
    return known[family]


_Environment = tuple[tuple[str, str], ...]
_seen: tuple[Mapping[object, object], dict[str, _Environment]] = ({}, {})


def _set_variables(variables: _Variables) -> _Environment:
    found = [
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(variables.compiling) and not name.startswith(variables.ignored)
    ]
    return tuple(sorted(found))


@lru_cache(maxsize=64)  # it keeps the device alive, so that its handle can't become another's
def _identity(device: cl.Device) -> tuple[str, str]:
    found = dict(_device_components(device))
    return _family(found), "".join(map(_line, found, found.values()))


@lru_cache(maxsize=256)
def _fingerprint(family: str, device_text: str, environment: _Environment) -> DeviceFingerprint:
    lines = (_line(f"environment {name}", value) for name, value in environment)
    return DeviceFingerprint(device_text + "".join(lines), family)


def _device_components(device: cl.Device) -> Iterator[tuple[str, str]]:
    platform = _platform(device)
    for query in _PLATFORM_QUERIES:
        yield f"platform {_spoken(query)}", str(opencl.platform_info(platform, query))
    for query in _DEVICE_QUERIES:
        answer = opencl.device_info(device, query)
        yield f"device {_spoken(query)}", _type_name(answer) if query == "TYPE" else str(answer)
    if _NVIDIA_ATTRIBUTES in str(opencl.device_info(device, "EXTENSIONS")).split():
        major = opencl.device_info(device, "COMPUTE_CAPABILITY_MAJOR_NV")
        minor = opencl.device_info(device, "COMPUTE_CAPABILITY_MINOR_NV")
        yield "compute capability", f"{major}.{minor}"
    for name, build_id in build_ids(platform.int_ptr):
        yield f"build-id of {name}", build_id


def _platform(device: cl.Device) -> cl.Platform:
    try:
        return device.platform
    except cl.Error as error:
        raise FingerprintError("CL_DEVICE_PLATFORM", str(error)) from error


def _spoken(query: str) -> str:
    return query.lower().replace("_", " ").replace("opencl c", "OpenCL C").replace(" id", " id")


def _type_name(bits: int | str) -> str:
    kinds = ("DEFAULT", "CPU", "GPU", "ACCELERATOR", "CUSTOM")
    names = [kind for kind in kinds if int(bits) & getattr(cl.device_type, kind)]
    return " ".join(names) or str(bits)


def _family(found: Mapping[str, str]) -> str:
    shown = [found.get("platform name", "").lower(), found.get("platform vendor", "").lower()]
    for text in shown:
        for family, pattern in _FAMILIES:
            if re.search(pattern, text):
                return family
    return "other"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _line(name: str, value: str) -> str:
    return f"{_escaped(name).replace(':', chr(92) + 'x3a')}: {_escaped(value)}\n"


def _escaped(value: str) -> str:
    return value.encode("unicode_escape").decode("ascii")


def _unescaped(value: str) -> str:
    try:
        return value.encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return value
