"""The driver families: what tells them apart, and the variables that change what they compile.

``docs/drivers.md`` says where each name comes from. A name stands for all variables that begin with
it. In doubt one counts: that costs a build, while one that was forgotten gives a stale program.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Environment",
    "compiler_environment",
    "environment_at_import",
    "family_of",
    "keeps_builds",
]

Environment = tuple[tuple[str, str], ...]

_FAMILIES = (  # and what shows in the platform's name or vendor; the first that fits
    ("pocl", ("portable computing language", "pocl")),
    ("rusticl", ("rusticl",)),
    ("clover", ("clover",)),
    ("oclgrind", ("oclgrind",)),
    ("clvk", ("clvk",)),
    ("nvidia", ("nvidia",)),
    ("amd", ("amd accelerated", "advanced micro devices")),
    ("adreno", ("qualcomm", "adreno")),
    ("mali", ("arm platform", "mali")),
    ("powervr", ("powervr", "imagination")),
    ("vivante", ("vivante", "verisilicon")),
    ("apple", ("apple",)),
    ("intel", ("intel",)),
)


class _Variables(NamedTuple):
    compiling: tuple[str, ...]
    ignored: tuple[str, ...]  # of these: what only moves caches and logs, or counts threads


def _variables(compiling: str, ignored: str = "") -> _Variables:
    return _Variables(tuple(compiling.split()), tuple(ignored.split()))


_MESA = """
    GALLIVM_ LP_ GALLIUM_NOSSE GALLIUM_OVERRIDE_CPU_CAPS NIR_ MESA_SPIRV_ INTEL_DEBUG
    INTEL_PRECISE_TRIG INTEL_SIMD_DEBUG AMD_DEBUG RADEON_DEBUG R600_DEBUG ACO_DEBUG NV50_PROG_
    NAK_DEBUG IR3_SHADER_ ZINK_DEBUG PAN_MESA_DEBUG BIFROST_MESA_DEBUG MIDGARD_MESA_DEBUG
    V3D_DEBUG AGX_MESA_DEBUG
"""
_MESA_IGNORED = "LP_NUM_THREADS LP_NO_RAST MESA_SPIRV_FAIL_DUMP_PATH"

_VARIABLES = {
    "pocl": _variables(
        "POCL_",
        """
        POCL_CACHE_DIR POCL_KERNEL_CACHE POCL_DEBUG POCL_TRAC POCL_VERBOSE POCL_LEAVE_
        POCL_TEMP_DIR POCL_VECTORIZER_REMARKS POCL_SIGFPE_HANDLER POCL_SIGUSR2_HANDLER
        POCL_STARTUP_DELAY POCL_IMPLICIT_FINISH POCL_DEVICES POCL_AFFINITY POCL_MEMORY_LIMIT
        POCL_MAX_PTHREAD_COUNT POCL_PTHREAD_MIN_THREADS POCL_CPU_MAX_CU_COUNT
        POCL_CPU_MIN_CU_COUNT POCL_MAX_COMPUTE_UNITS
        """,
    ),
    "nvidia": _variables(
        "CUDA_FORCE_ CUDA_DISABLE_ CUDA_PREFER_ CUDA_DEVCODE_PATH CUDA_TEST_UNKNOWN_FUTURE_SM"
    ),
    "intel": _variables(
        "IGC_ CL_CONFIG_ NEO",
        """
        NEO_CACHE_ CL_CONFIG_LOG CL_CONFIG_DUMP CL_CONFIG_USE_VTUNE IGC_ShaderDump IGC_Dump
        """,
    ),
    "amd": _variables(
        """
        AMD_OCL_ AMD_COMGR_ AMD_GPU_FORCE_SINGLE_FP_DENORM GPU_MAX_WORKGROUP_SIZE GPU_FORCE_
        GPU_HSAIL_ENABLE GPU_ENABLE_ GPU_WAVES_PER_SIMD CL_KHR_FP64 OPENCL_VERSION
        OCL_STUB_PROGRAMS HSA_OVERRIDE_GFX_VERSION HSA_XNACK LLVM_PATH DEVICE_LIB_PATH
        HIP_DEVICE_LIB_PATH ROCM_PATH CPATH
        """,
        """
        AMD_OCL_WAIT_COMMAND AMD_OCL_ENABLE_MESSAGE_BOX AMD_COMGR_CACHE AMD_COMGR_SAVE_TEMPS
        AMD_COMGR_REDIRECT_LOGS AMD_COMGR_EMIT_VERBOSE_LOGS AMD_COMGR_TIME_STATISTICS
        """,
    ),
    "rusticl": _variables(
        f"RUSTICL_ {_MESA}",
        f"RUSTICL_ENABLE RUSTICL_DEVICE_TYPE RUSTICL_MAX_WORK_GROUPS {_MESA_IGNORED}",
    ),
    "clover": _variables(f"CLOVER_ {_MESA}", f"CLOVER_DEBUG CLOVER_DEVICE_TYPE {_MESA_IGNORED}"),
    "oclgrind": _variables(
        "OCLGRIND_",
        """
        OCLGRIND_LOG OCLGRIND_DUMP_SPIR OCLGRIND_CHECK_API OCLGRIND_COMPUTE_UNITS
        OCLGRIND_NUM_THREADS OCLGRIND_MAX_ERRORS OCLGRIND_INST_COUNTS OCLGRIND_QUICK
        OCLGRIND_DATA_RACES OCLGRIND_UNIFORM_WRITES OCLGRIND_INTERACTIVE
        """,
    ),
    "clvk": _variables("CLVK_ CLSPV_", "CLVK_LOG CLVK_CACHE_DIR"),
}
_ALL_VARIABLES = _Variables(  # for a driver without a table
    tuple(name for variables in _VARIABLES.values() for name in variables.compiling),
    tuple(name for variables in _VARIABLES.values() for name in variables.ignored),
)
_INTEL_SWITCH = "NEOReadDebugKeys"  # with it Intel's GPU driver reads keys such as ForceSimd16 too

_AT_IMPORT = dict(os.environ)
_seen: tuple[dict[Any, Any], dict[str, Environment]] = ({}, {})


def family_of(platform_name: str, platform_vendor: str) -> str:
    """Give the family of a platform's driver, or ``other``."""
    for shown in (platform_name.lower(), platform_vendor.lower()):
        for family, marks in _FAMILIES:
            if any(mark in shown for mark in marks):
                return family
    return "other"


def compiler_environment(family: str) -> Environment:
    """Give the environment variables that change what a driver compiles, as they are set now.

    Args:
        family: a driver family. For one without a table the variables of every family count.

    Returns:
        Pairs of name and value, sorted by name.
    """
    global _seen  # noqa: PLW0603 (replaced whole, so that a thread sees the old or the new one)
    now = getattr(os.environ, "_data", os.environ)  # a plain dict, compared in a microsecond
    seen, known = _seen
    if now != seen:
        known = {}
        _seen = (dict(now), known)
    if family not in known:
        known[family] = _selected(family, os.environ)
    return known[family]


def keeps_builds(family: str) -> bool:
    """Whether a driver keeps what it builds from source, in files that other processes share."""
    if family == "pocl":
        return os.environ.get("POCL_KERNEL_CACHE", "1").startswith("1")
    return family == "nvidia" and os.environ.get("CUDA_CACHE_DISABLE", "0") != "1"


def environment_at_import(family: str) -> Environment:
    """Give what `compiler_environment` would have given when this module was imported."""
    return _selected(family, _AT_IMPORT)


def _selected(family: str, environment: Mapping[str, str]) -> Environment:
    variables = _VARIABLES.get(family, _ALL_VARIABLES)
    named = {name for name in environment if name.startswith(variables.compiling)}
    if environment.get(_INTEL_SWITCH, "0") != "0" and _INTEL_SWITCH in named:
        named |= {name for name in environment if _is_intel_key(name)}
    kept = [name for name in named if not name.startswith(variables.ignored or " ")]
    return tuple((name, environment[name]) for name in sorted(kept))


def _is_intel_key(name: str) -> bool:
    return name.isalnum() and name[0].isupper() and not name.isupper()
