"""MACE's reuse rule, on the version strings of real drivers."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache.reuse import ReusePolicy, adreno_build_date, adreno_remote_branch, may_reuse

NONE, SAME_GPU = ReusePolicy.REUSE_NONE, ReusePolicy.REUSE_SAME_GPU

BRANCH_604 = "refs/tags/AU_LINUX_ANDROID_LA.UM.9.1.R1.11.00.00.604.073"
ADRENO_640 = (
    "OpenCL 2.0 QUALCOMM build: commit #3dad7f8ed7 changeid #I593c16c433 Date: 10/01/21 Fri "
    f"Local Branch:  Remote Branch: {BRANCH_604}"
)
ADRENO_640_COMPILER = f"{ADRENO_640} Compiler E031.37.12.01"
ADRENO_505 = (
    "OpenCL 2.0 QUALCOMM build: commit #a7f70d7 changeid #I06947f1a28 Date: 11/19/18 Mon "
    "Local Branch:  Remote Branch: "
)
ADRENO_505_COMPILER = f"{ADRENO_505} Compiler E031.35.01.09"
ADRENO_530 = (
    "OpenCL 2.0 QUALCOMM build: commit #d57aba2 changeid #Ic27b94dfce Date: 10/26/16 Wed "
    "Local Branch:  Remote Branch:"
)
ADRENO_750 = "OpenCL 3.0 QUALCOMM build: commit unknown"
ADRENO_830 = "OpenCL 3.0 QUALCOMM build: 0800.40"
MALI = "OpenCL 2.0 v1.r26p0-01rel0.217d2597f6bd19b169343737782e56e3"
MALI_UPDATED = "OpenCL 3.0 v1.r32p1-01eac0.efd03ef21f136842c0935bd4f493fe81"
POWERVR = "OpenCL 1.2 "
POWERVR_BUILD = "OpenCL 3.0 build 1.15@6133109"


def text(**changed: str) -> str:
    """Make a fingerprint's text: an Adreno 640's, but for what is given."""
    values = {
        "platform name": "QUALCOMM Snapdragon(TM)",
        "platform vendor": "QUALCOMM",
        "platform version": ADRENO_640,
        "platform profile": "FULL_PROFILE",
        "device name": "QUALCOMM Adreno(TM)",
        "device version": "OpenCL 2.0 Adreno(TM) 640",
        "device address bits": "64",
    } | {name.replace("_", " "): value for name, value in changed.items()}
    return "".join(f"{name}: {value}\n" for name, value in values.items())


def mali(**changed: str) -> str:
    """Make the text of a Mali."""
    values = {"platform_name": "ARM Platform", "platform_vendor": "ARM"}
    values |= {"platform_version": MALI, "device_version": MALI, "device_name": "Mali-G76"}
    return text(**(values | changed))


@pytest.mark.parametrize(
    ("version", "branch", "date"),
    [
        (ADRENO_640, BRANCH_604, dt.date(2021, 10, 1)),
        (ADRENO_640_COMPILER, BRANCH_604, dt.date(2021, 10, 1)),
        (ADRENO_505, "", dt.date(2018, 11, 19)),
        (ADRENO_505_COMPILER, "", dt.date(2018, 11, 19)),
        (ADRENO_530, "", dt.date(2016, 10, 26)),
        (ADRENO_750, "", None),
        (ADRENO_830, "", None),
        (MALI, "", None),
        (MALI_UPDATED, "", None),
        (POWERVR, "", None),
        (POWERVR_BUILD, "", None),
        ("", "", None),
        ("Date: 4/7/2020 Remote Branch: quic/gfx-adreno.lnx.1.0", "quic/gfx-adreno.lnx.1.0", "7"),
        ("Remote Branch: NONE Local Patches: NONE Reconstruct Branch: NOTHING", "", None),
        ("Remote Branch: Local Patches: a.b", "", None),
        ("Date: 13/01/21 Fri", "", None),
        ("Date: 02/30/21", "", None),
        ("Date: 00/00/00", "", None),
        ("Date: 10/01/0000", "", dt.date(2000, 10, 1)),
        ("Date: 10/01/215", "", None),
        ("Date: 10/01", "", None),
        ("Date: 10-01-21", "", None),
        ("Update: 10/01/21", "", None),
        ("Date: \u0661\u0660/01/21", "", None),
    ],
)
def test_adreno_version_strings(version: str, branch: str, date: dt.date | str | None) -> None:
    """Branch and build date of real strings, and of broken ones."""
    assert adreno_remote_branch(version) == branch
    assert adreno_build_date(version) == (dt.date(2020, 4, 7) if date == "7" else date)


@given(st.text(alphabet=st.sampled_from("Date: Remote Branch:0123456789/-.x\n\t")))
def test_no_version_string_raises(version: str) -> None:
    """Whatever a driver says of itself."""
    adreno_remote_branch(version)
    adreno_build_date(version)


@given(st.text(), st.text(), st.sampled_from([None, NONE, SAME_GPU]))
def test_no_text_raises(stored: str, own: str, policy: ReusePolicy | None) -> None:
    """Stored texts come out of files; texts that say nothing are no ground to reuse anything."""
    assert may_reuse(policy, stored, own) == (stored == own)


@pytest.mark.parametrize("policy", [None, NONE, SAME_GPU])
@pytest.mark.parametrize("same", [text(), text(platform_version=ADRENO_750), mali(), "anything"])
def test_the_same_fingerprint_is_always_reused(policy: ReusePolicy | None, same: str) -> None:
    """Also where a version string says nothing."""
    assert may_reuse(policy, same, same)


def test_without_a_policy_only_the_same_fingerprint() -> None:
    """Another build of the driver alone is another fingerprint."""
    assert not may_reuse(None, mali(), mali(driver_version="2"))


@pytest.mark.parametrize(
    ("changed", "none", "same_gpu"),
    [
        ({"driver version": "2"}, True, True),
        ({"device name": "Mali-G77"}, True, False),
        ({"platform profile": "EMBEDDED_PROFILE"}, False, True),
        ({"platform version": MALI_UPDATED}, False, False),
        ({"platform name": "ARM Platform 2"}, False, True),
        ({"build-id of driver": "0b"}, True, True),
    ],
)
def test_maces_rule(changed: dict[str, str], none: bool, same_gpu: bool) -> None:
    """What each policy looks at, on a Mali."""
    assert may_reuse(NONE, mali(), mali(**changed)) is none
    assert may_reuse(SAME_GPU, mali(), mali(**changed)) is same_gpu


@pytest.mark.parametrize(
    "changed",
    [
        {"device address bits": "32"},
        {"compute capability": "9.0"},
        {"environment POCL_EXTRA_BUILD_FLAGS": "-O0"},
        {"device version": "OpenCL 3.0 PoCL HSTR: pthread-x86_64-pc-linux-gnu-znver4"},
        {"platform vendor": "NVIDIA Corporation", "platform name": "NVIDIA"},
    ],
)
@pytest.mark.parametrize("policy", [NONE, SAME_GPU])
def test_what_no_policy_overlooks(policy: ReusePolicy, changed: dict[str, str]) -> None:
    """Code for another processor, or of a compiler with other settings, isn't offered."""
    assert not may_reuse(policy, mali(), mali(**changed))
    assert not may_reuse(policy, mali(**changed), mali())


@pytest.mark.parametrize(
    ("stored", "own", "reused"),
    [
        (ADRENO_640, ADRENO_640.replace("10/01/21", "01/01/20"), True),
        (ADRENO_640, ADRENO_640.replace("#3dad7f8ed7", "#0000000000"), True),
        (ADRENO_505, ADRENO_505.replace("11/19/18", "11/20/18"), True),
        (ADRENO_505, ADRENO_505.replace("11/19/18", "11/18/18"), False),
        (ADRENO_505, ADRENO_505.replace("#a7f70d7", "#0000000"), True),
        (ADRENO_530, ADRENO_505, True),
        (ADRENO_505, ADRENO_530, False),
        (ADRENO_530, ADRENO_640, True),
        (ADRENO_640, ADRENO_530, False),
        (ADRENO_750, ADRENO_830, False),
        (ADRENO_640, ADRENO_830, False),
        (ADRENO_505, ADRENO_505.replace("11/19/18", "19/11/18"), False),
        (ADRENO_505.replace("11/19/18", "12/31/99"), ADRENO_505, False),
    ],
)
def test_adreno_looks_at_branch_and_date(stored: str, own: str, reused: bool) -> None:
    """The same branch, or a driver that isn't older than the one that compiled the program."""
    before, now = text(platform_version=stored), text(platform_version=own)
    assert may_reuse(SAME_GPU, before, now) is reused
    assert not may_reuse(NONE, before, now)


def test_another_adreno_model_is_another_gpu() -> None:
    """All name themselves "QUALCOMM Adreno(TM)"; the device version has the model."""
    other = text(device_version="OpenCL 2.0 Adreno(TM) 505")
    assert not may_reuse(SAME_GPU, text(), other)
    updated = text(device_version="OpenCL 3.0 Adreno(TM) 640")
    assert may_reuse(SAME_GPU, text(), updated)
