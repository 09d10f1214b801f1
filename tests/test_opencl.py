"""The room that calls the driver, on PoCL: what it answers, and what becomes of its errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pyopencl as cl
import pytest

from mace_cache import opencl
from mace_cache.errors import BinaryRejectedError, FingerprintError
from tests.helpers import GARBAGE, make_source, opencl_error, scale

STATUSES = [
    "INVALID_BINARY",
    "INVALID_VALUE",
    "BUILD_PROGRAM_FAILURE",
    "INVALID_PROGRAM_EXECUTABLE",
    "OUT_OF_RESOURCES",
]


@pytest.fixture(scope="module")
def built(context: cl.Context) -> cl.Program:
    """A program built from source."""
    return opencl.build_from_source(context, make_source("opencl"))[0]


def test_a_program_survives_its_binary(context: cl.Context, built: cl.Program) -> None:
    """What is fetched can be loaded, and computes the same."""
    binaries = opencl.fetch_binaries(built, context.devices)
    loaded = opencl.load_from_binaries(context, context.devices, binaries, b"")
    assert scale(loaded) == scale(built) == 2
    assert opencl.kernel_names(loaded) == opencl.kernel_names(built) == ("scale",)


@pytest.mark.parametrize("binary", [b"", GARBAGE, bytes(1000)], ids=["empty", "garbage", "zeros"])
def test_the_drivers_refusal_is_a_rejection(context: cl.Context, binary: bytes) -> None:
    """What PoCL refuses, with whichever status, comes out as one error."""
    with pytest.raises(BinaryRejectedError) as caught:
        opencl.load_from_binaries(context, context.devices, [binary], b"")
    assert caught.value.status in {"INVALID_BINARY", "INVALID_VALUE"}
    assert caught.value.routine == "clCreateProgramWithBinary"


@pytest.mark.parametrize("status", [*STATUSES, -9999])
def test_every_status_is_a_rejection(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, status: str | int
) -> None:
    """No status that the driver may answer a load with leaves as anything else."""

    def refuse(*_arguments: object) -> None:
        raise opencl_error(status)

    monkeypatch.setattr(opencl, "PROGRAM", refuse)
    with pytest.raises(BinaryRejectedError) as caught:
        opencl.load_from_binaries(context, context.devices, [b""], b"")
    assert caught.value.status == (status if isinstance(status, str) else "status -9999")


@pytest.mark.parametrize("status", STATUSES)
def test_a_binary_may_be_at_fault(status: str) -> None:
    """An error of these statuses is a suspicion, also behind pyopencl's attribute lookup."""
    error = opencl_error(status)
    attribute = AttributeError("scale")
    attribute.__cause__ = error
    assert opencl.suspicion_of(error) == opencl.suspicion_of(attribute) == status


def test_other_errors_are_no_suspicion() -> None:
    """Memory and queues are no binary's fault, nor is an attribute that isn't pyopencl's."""
    for status in ("OUT_OF_HOST_MEMORY", "MEM_OBJECT_ALLOCATION_FAILURE", "INVALID_COMMAND_QUEUE"):
        assert opencl.suspicion_of(opencl_error(status)) is None
    assert opencl.suspicion_of(opencl_error(-9999)) is None
    assert opencl.suspicion_of(AttributeError("scale")) is None


def test_options_are_what_pyopencl_hands_to_the_driver(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text and a list give the same, in their order, with the environment's behind them."""
    monkeypatch.setenv("PYOPENCL_BUILD_OPTIONS", "-DC=3")
    as_text = opencl.driver_options(context, "-DB=2 -DA=1")
    assert as_text == opencl.driver_options(context, ["-DB=2", "-DA=1"])
    assert [o for o in as_text.split() if o.startswith(b"-D")] == [b"-DB=2", b"-DA=1", b"-DC=3"]


def test_a_shared_program_counts_its_own_kernels(built: cl.Program) -> None:
    """Two holders may each retrieve a kernel once without pyopencl's warning (an error here)."""
    first, second = opencl.share(built), opencl.share(built)
    assert first.scale.function_name == second.scale.function_name == "scale"
    assert first == second == built


def test_a_query_that_fails_says_which() -> None:
    """A driver that doesn't answer, or answers with something else, is a `FingerprintError`."""

    def refuse(_query: int) -> str:
        raise opencl_error("INVALID_VALUE", "clGetDeviceInfo")

    for answer in (refuse, lambda _query: [1, 2], lambda _query: b"\xff".decode()):
        silent = cast("cl.Device", SimpleNamespace(get_info=answer))
        with pytest.raises(FingerprintError) as caught:
            opencl.device_info(silent, "NAME")
        assert caught.value.query == "CL_DEVICE_NAME"


def test_what_a_driver_does_not_tell_is_nothing() -> None:
    """Names and logs are told where the driver tells them, and are no reason to fail."""

    def refuse(*_query: object) -> str:
        raise opencl_error("INVALID_PROGRAM_EXECUTABLE")

    silent = cast("cl.Program", SimpleNamespace(get_info=refuse, get_build_info=refuse))
    assert opencl.kernel_names(silent) == ()
    assert opencl.build_log(silent, cast("Any", None)) == ""


@pytest.mark.parametrize(
    ("named", "binaries", "asked", "expected"),
    [
        (["a", "b"], [b"A", b"B"], ["b", "a"], [b"B", b"A"]),
        (["a", "b"], [b"A", b""], ["b"], [b""]),
        (["a", "b"], [b"B"], ["b"], [b"B"]),
        (["parent"], [b"P"], ["part"], [b"P"]),
        (["a", "b", "c"], [b"?", b"?"], ["b", "c"], [b"", b""]),
        (["a"], [b"A"], ["a", "b"], [b"A", b""]),
    ],
)
def test_a_binary_belongs_to_its_device(
    named: list[str],
    binaries: list[bytes],
    asked: list[str],
    expected: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What can't be told apart isn't given: PoCL names devices that it hasn't built for."""
    answers = {cl.program_info.DEVICES: named}
    monkeypatch.setattr(opencl, "fetch_all_binaries", lambda _program: binaries)
    own = SimpleNamespace(get_info=answers.get)
    program = cast("cl.Program", SimpleNamespace(_get_prg=lambda: own))
    assert opencl.fetch_binaries(program, cast("Any", asked)) == expected
