"""Fingerprints: what a device is known by, and what makes it another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyopencl as cl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mace_cache.fingerprint as room
from mace_cache import opencl
from mace_cache._driver_family import _VARIABLES, compiler_environment, family_of
from mace_cache.errors import FingerprintError
from mace_cache.fingerprint import components, fingerprint, storage_name

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWERS: dict[str, int | str] = {
    "NAME": "NVIDIA H100 80GB HBM3",
    "VENDOR": "NVIDIA Corporation",
    "VENDOR_ID": 0x10DE,
    "VERSION": "OpenCL 3.0 CUDA",
    "DRIVER_VERSION": "580.159.04",
    "TYPE": 4,
    "ADDRESS_BITS": 64,
    "OPENCL_C_VERSION": "OpenCL C 1.2",
    "EXTENSIONS": "cl_khr_icd cl_nv_device_attribute_query",
    "COMPUTE_CAPABILITY_MAJOR_NV": 9,
    "COMPUTE_CAPABILITY_MINOR_NV": 0,
}
PLATFORM_ANSWERS: dict[str, int | str] = {
    "NAME": "NVIDIA CUDA",
    "VENDOR": "NVIDIA Corporation",
    "VERSION": "OpenCL 3.0 CUDA 13.0.97",
    "PROFILE": "FULL_PROFILE",
}
PRINT_FINGERPRINT = """
import pyopencl as cl
from mace_cache.fingerprint import fingerprint
(platform,) = [p for p in cl.get_platforms() if p.name == "Portable Computing Language"]
device = platform.get_devices()[0]
print(fingerprint(device).text, end="")
"""
BUILD_BETWEEN = """
print("--")
source = "__kernel void fill(__global int *a) { a[get_global_id(0)] = 1; }"
program = cl.Program(cl.Context([device]), source).build(cache_dir=False)
program.get_info(cl.program_info.BINARIES)
from mace_cache import fingerprint as room
room._identity.cache_clear()
print(fingerprint(device).text, end="")
"""


class FakePlatform(NamedTuple):
    """A platform that only the two query functions know."""

    int_ptr: int = 0


class FakeDevice:
    """A device that only the two query functions know; each is another one."""

    platform = FakePlatform()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., cl.Device]:
    """Make a device that answers as an H100, but for what is given."""

    def make(
        build_ids: tuple[tuple[str, str], ...] = (),
        platform: dict[str, int | str] | None = None,
        **answers: int | str,
    ) -> cl.Device:
        device_answers = ANSWERS | answers
        platform_answers = PLATFORM_ANSWERS | (platform or {})
        monkeypatch.setattr(opencl, "device_info", lambda _, name: device_answers[name])
        monkeypatch.setattr(opencl, "platform_info", lambda _, name: platform_answers[name])
        monkeypatch.setattr(room, "build_ids", lambda _pointer: build_ids)
        device: cl.Device = FakeDevice()  # type: ignore[assignment]  # it answers at the seam
        return device

    return make


def in_new_process(code: str, **environment: str) -> str:
    """Run Python *code* with more environment variables, and give what it prints."""
    package = Path(room.__file__).parents[1]
    variables = os.environ | environment | {"PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True
    ).stdout


def test_the_text_names_every_component_in_order(device: cl.Device) -> None:
    """The text of the PoCL device has every component, one a line."""
    found = fingerprint(device)
    names = [line.partition(": ")[0] for line in found.text.splitlines()]
    assert names[:12] == [
        "platform name",
        "platform vendor",
        "platform version",
        "platform profile",
        "device name",
        "device vendor",
        "device vendor id",
        "device version",
        "device driver version",
        "device type",
        "device address bits",
        "device OpenCL C version",
    ]
    assert "build-id of driver" in names
    assert components(found.text)["device type"] == "CPU"
    assert found.family == "pocl"


def test_nothing_changed_gives_the_same_object(device: cl.Device) -> None:
    """A repeated call costs no new fingerprint."""
    assert fingerprint(device) is fingerprint(device)


def test_identical_in_every_process_and_after_a_build(device: cl.Device) -> None:
    """What a process has built doesn't show, or the next one would look into another storage."""
    before, after = in_new_process(PRINT_FINGERPRINT + BUILD_BETWEEN).split("--\n")
    assert before == after == fingerprint(device).text


def test_a_sub_device_shares_its_parents_fingerprint(device: cl.Device) -> None:
    """A part of a device runs the same code."""
    halves = [cl.device_partition_property.EQUALLY, 1]
    part = device.create_sub_devices(halves)[0]  # type: ignore[arg-type]  # numbers do
    assert fingerprint(part).text == fingerprint(device).text


def test_promise_5_a_changed_variable_is_another_fingerprint(
    device: cl.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that changes what is compiled leads to another storage, and back."""
    plain = fingerprint(device)
    seen = {plain.storage_name}
    for method in ("loops", "cbs", ""):
        monkeypatch.setenv("POCL_WORK_GROUP_METHOD", method)
        seen.add(fingerprint(device).storage_name)
        assert fingerprint(device).digest != plain.digest
    assert len(seen) == 4
    monkeypatch.delenv("POCL_WORK_GROUP_METHOD")
    assert fingerprint(device) is plain


def test_promise_5_a_variable_changed_too_late_is_told_apart(
    device: cl.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may have read the old value: its programs stay out of other processes' storage."""
    monkeypatch.setenv("POCL_WORK_GROUP_METHOD", "loops")
    from_the_start = in_new_process(PRINT_FINGERPRINT)
    assert "environment POCL_WORK_GROUP_METHOD: loops\n" in from_the_start
    assert "environment before" not in from_the_start
    assert fingerprint(device).text != from_the_start
    assert components(fingerprint(device).text)["environment before POCL_WORK_GROUP_METHOD"] == ""


@pytest.mark.parametrize(
    "build_ids", [(), (("driver", "0b"),), (("driver", "0a"), ("libLLVM-15.so.1", "0c"))]
)
def test_promise_5_another_driver_build_is_another_fingerprint(
    fake: Callable[..., cl.Device], build_ids: tuple[tuple[str, str], ...]
) -> None:
    """Builds of one version string have their own storages; so have compilers under one driver."""
    first = fingerprint(fake(build_ids=(("driver", "0a"), ("libLLVM-15.so.1", "0b"))))
    assert fingerprint(fake(build_ids=build_ids)).storage_name != first.storage_name


@pytest.mark.parametrize("query", sorted(set(ANSWERS) - {"EXTENSIONS"}))
def test_every_answer_of_a_device_counts(fake: Callable[..., cl.Device], query: str) -> None:
    """Devices that differ in one answer alone are told apart, and identical ones aren't."""
    plain = fingerprint(fake())
    assert fingerprint(fake()) is plain
    assert fingerprint(fake(**{query: 2})).digest != plain.digest


@pytest.mark.parametrize("query", sorted(PLATFORM_ANSWERS))
def test_every_answer_of_a_platform_counts(fake: Callable[..., cl.Device], query: str) -> None:
    """As above, for the platform."""
    assert fingerprint(fake(platform={query: "other"})).digest != fingerprint(fake()).digest


def test_compute_capability_only_where_there_is_one(fake: Callable[..., cl.Device]) -> None:
    """It is asked for where the extension is listed, and nowhere else."""
    assert components(fingerprint(fake()).text)["compute capability"] == "9.0"
    without = fingerprint(fake(EXTENSIONS="cl_khr_icd not_cl_nv_device_attribute_query"))
    assert "compute capability" not in components(without.text)


@pytest.mark.parametrize("query", sorted(ANSWERS))
def test_a_failing_query_raises_and_is_not_remembered(
    fake: Callable[..., cl.Device], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """A device that can't be told apart gets no fingerprint, until it answers."""
    device = fake()
    answering = opencl.device_info

    def failing(asked: cl.Device, name: str) -> int | str:
        if name == query:
            raise FingerprintError(f"CL_DEVICE_{name}", "OUT_OF_RESOURCES")
        return answering(asked, name)

    monkeypatch.setattr(opencl, "device_info", failing)
    with pytest.raises(FingerprintError, match=query):
        fingerprint(device)
    monkeypatch.setattr(opencl, "device_info", answering)
    assert fingerprint(device).family == "nvidia"


def test_a_device_without_a_platform_raises(fake: Callable[..., cl.Device]) -> None:
    """The error is the library's, not pyopencl's."""

    class Lost(FakeDevice):
        @property
        def platform(self) -> FakePlatform:  # type: ignore[override]  # it fails
            raise cl.LogicError("clGetDeviceInfo", cl.status_code.INVALID_DEVICE)

    fake()
    with pytest.raises(FingerprintError, match="CL_DEVICE_PLATFORM"):
        fingerprint(Lost())  # type: ignore[arg-type]  # it answers at the seam


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_components_survive_the_text(values: dict[str, str]) -> None:
    """Newlines, colons, control and foreign characters come back; each component is one line."""
    text = "".join(room._line(name, value) for name, value in values.items())
    assert components(text) == values
    assert len(text.splitlines()) == len(values)
    assert text.isascii()


def test_components_of_anything_never_raise() -> None:
    """Texts come out of files."""
    assert components("") == {}
    assert components("nothing\na: \\x\nb: \u00fc\n") == {"a": "\\x", "b": "\u00fc"}


@given(st.text(), st.text(max_size=300))
def test_a_storage_name_is_a_safe_file_name(platform: str, device: str) -> None:
    """Whatever a device calls itself."""
    text = room._line("platform name", platform) + room._line("device name", device)
    name = storage_name(text)
    assert re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*-[0-9a-f]{16}", name)
    assert len(name) <= 100


def test_a_person_recognises_the_device(fake: Callable[..., cl.Device]) -> None:
    """Family and device name stand in front of the digest."""
    found = fingerprint(fake(NAME="Intel(R) Arc(TM) A770 Graphics"))
    assert found.storage_name == f"nvidia-Intel-Arc-A770-Graphics-{found.digest[:16]}"
    assert storage_name(found.text) == found.storage_name


@pytest.mark.parametrize(
    ("name", "vendor", "family"),
    [
        ("Portable Computing Language", "The pocl project", "pocl"),
        ("rusticl", "Mesa/X.org", "rusticl"),
        ("Clover", "Mesa", "clover"),
        ("Oclgrind", "Oclgrind", "oclgrind"),
        ("clvk", "clvk", "clvk"),
        ("NVIDIA CUDA", "NVIDIA Corporation", "nvidia"),
        ("AMD Accelerated Parallel Processing", "Advanced Micro Devices, Inc.", "amd"),
        ("QUALCOMM Snapdragon(TM)", "QUALCOMM", "adreno"),
        ("ARM Platform", "ARM", "mali"),
        ("PowerVR Rogue", "Imagination Technologies", "powervr"),
        ("Vivante OpenCL Platform", "Vivante Corporation", "vivante"),
        ("Apple", "Apple", "apple"),
        ("Intel(R) OpenCL Graphics", "Intel(R) Corporation", "intel"),
        ("Intel(R) OpenCL", "Intel(R) Corporation", "intel"),
        ("OpenCL for the Raspberry Pi VideoCore IV GPU", "doe300", "other"),
        ("Alarming Platform", "Charming", "other"),
    ],
)
def test_families(name: str, vendor: str, family: str) -> None:
    """Platforms as real drivers name themselves."""
    assert family_of(name, vendor) == family


@pytest.mark.parametrize(
    ("family", "compiling", "ignored"),
    [
        ("pocl", "POCL_EXTRA_BUILD_FLAGS", "POCL_CACHE_DIR"),
        ("pocl", "POCL_KERNELLIB_NAME", "POCL_KERNEL_CACHE"),
        ("pocl", "POCL_SOMETHING_NEW", "POCL_DEBUG"),
        ("nvidia", "CUDA_DISABLE_PTX_JIT", "CUDA_CACHE_PATH"),
        ("intel", "IGC_VISAOptions", "IGC_ShaderDumpEnable"),
        ("intel", "CL_CONFIG_USE_VECTORIZER", "NEO_CACHE_DIR"),
        ("amd", "AMD_OCL_BUILD_OPTIONS_APPEND", "AMD_COMGR_CACHE_DIR"),
        ("rusticl", "RUSTICL_FEATURES", "MESA_SHADER_CACHE_DISABLE"),
        ("rusticl", "GALLIVM_PERF", "RUSTICL_ENABLE"),
        ("clover", "CLOVER_EXTRA_COMPILE_OPTIONS", "CLOVER_DEBUG_FILE"),
        ("oclgrind", "OCLGRIND_BUILD_OPTIONS", "OCLGRIND_LOG"),
        ("clvk", "CLVK_CLSPV_OPTIONS", "CLVK_LOG"),
        ("other", "POCL_EXTRA_BUILD_FLAGS", "POCL_CACHE_DIR"),
        ("mali", "CLOVER_EXTRA_BUILD_OPTIONS", "HOME"),
        ("pocl", "POCL_BUILDING", "RUSTICL_FEATURES"),
    ],
)
def test_which_variables_count(
    monkeypatch: pytest.MonkeyPatch, family: str, compiling: str, ignored: str
) -> None:
    """What changes the code counts; what only moves caches and logs doesn't."""
    before = compiler_environment(family)
    monkeypatch.setenv(ignored, "changed")
    assert compiler_environment(family) == before
    monkeypatch.setenv(compiling, "changed")
    assert set(compiler_environment(family)) - set(before) == {(compiling, "changed")}


def test_every_variable_is_documented() -> None:
    """The table of docs/drivers.md is the one in the code."""
    documented = (Path(__file__).parents[1] / "docs" / "drivers.md").read_text(encoding="utf-8")
    for variables in _VARIABLES.values():
        for name in (*variables.compiling, *variables.ignored):
            assert re.search(rf"`{name}\*?`", documented), name


def test_intels_switch_lets_its_keys_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys have no prefix: with the switch on, every name in their manner counts."""
    monkeypatch.setenv("ForceSimd16", "1")
    monkeypatch.setenv("http_proxy", "http://somewhere")
    assert compiler_environment("intel") == ()
    monkeypatch.setenv("NEOReadDebugKeys", "1")
    assert dict(compiler_environment("intel")) == {"ForceSimd16": "1", "NEOReadDebugKeys": "1"}


def test_a_replaced_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some programs put a plain dictionary into its place."""
    monkeypatch.setattr(os, "environ", {"POCL_BUILDING": "1"})
    assert compiler_environment("pocl") == (("POCL_BUILDING", "1"),)
