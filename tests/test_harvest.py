"""Harvest: binaries are taken when they are complete, once, and only where they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mace_cache import Origin, ProgramCache, opencl, request
from mace_cache._report import forget_reported
from mace_cache.fingerprint import DeviceFingerprint, fingerprint
from mace_cache.harvest.policy import harvests_late
from tests.helpers import (
    FakeFactory,
    entries,
    make_source,
    opencl_error,
    read_entry,
    run_child,
    scale,
    watch_fetches,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyopencl as cl

SOURCE = make_source("harvest")

_START = """
import os, sys
from pathlib import Path
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

def compiled():
    return {path.parent.name for path in Path(os.environ["POCL_CACHE_DIR"]).rglob("scale.so")}

with ProgramCache() as cache:
    program = cache.build(open_context(), make_source("first start"))
    if sys.argv[1] == "early":
        cache.flush()
    before = compiled()
    assert scale(program) == 2
    print(cache.explain(program).origin.value, len(compiled() - before))
"""


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[cl.Program]:
    """Every program whose binaries were asked for."""
    return watch_fetches(monkeypatch)


def test_policies() -> None:
    """PoCL alone compiles at the launch and hands out what was launched."""
    families = ("pocl", "nvidia", "rusticl", "oclgrind", "intel", "other")
    assert [family for family in families if harvests_late(family)] == ["pocl"]


def test_once_and_late(
    context: cl.Context, cache_directory: Path, fetches: list[cl.Program]
) -> None:
    """The binary is fetched at the flush, after the launches, and never again."""
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        cache.build(context, SOURCE)
        scale(program)
        assert fetches == []
        assert entries(cache_directory) == []
        cache.flush()
        assert fetches == [program]
        assert len(entries(cache_directory)) == 1
        cache.flush()
        cache.build(context, SOURCE)
    assert len(fetches) == 1


@pytest.mark.parametrize(("moment", "compiled_warm"), [("late", 0), ("early", 1)])
def test_a_warm_process_launches_without_compiling(
    tmp_path: Path, moment: str, compiled_warm: int
) -> None:
    """Harvested late the binary has the code of the launched size; early PoCL compiles it again.

    Each process has an empty driver cache: what the driver compiles shows there.
    """
    told = []
    for start in ("cold", "warm"):
        (tmp_path / start).mkdir()
        told.append(run_child(_START, moment, POCL_CACHE_DIR=str(tmp_path / start)).split())
    assert told == [["source", "1"], ["storage", str(compiled_warm)]]


def test_other_families_are_harvested_at_once(
    context: cl.Context,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetches: list[cl.Program],
) -> None:
    """Where fetching is cheap and complete the program is stored before `build` returns."""

    def as_nvidia(device: cl.Device) -> DeviceFingerprint:
        return DeviceFingerprint(fingerprint(device).text, "nvidia")

    monkeypatch.setattr(request, "fingerprint", as_nvidia)
    cache = ProgramCache()
    program = cache.build(context, SOURCE)
    assert fetches == [program]
    assert cache.is_stored(program)
    (path,) = entries(cache_directory)
    assert read_entry(path).kernel_names == ("scale",)


def test_what_another_process_has_written_is_not_fetched(
    context: cl.Context, fetches: list[cl.Program]
) -> None:
    """Of two that missed, the one that flushes later has nothing to do."""
    first, second = ProgramCache(), ProgramCache()
    first.build(context, SOURCE)
    second.build(context, SOURCE)
    first.close()
    second.close()
    assert len(fetches) == 1


def test_a_driver_that_hands_out_nothing(
    context: cl.Context,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error, or an empty binary, and nothing is stored: with a warning at most."""

    def fail(_program: cl.Program, _devices: Sequence[cl.Device]) -> list[bytes]:
        raise opencl_error("OUT_OF_HOST_MEMORY", "clGetProgramInfo")

    def nothing(_program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        return [b""] * len(devices)

    factory = FakeFactory()
    for answer in (nothing, fail, fail):
        monkeypatch.setattr(opencl, "fetch_binaries", answer)
        with ProgramCache(storage_factory=factory) as cache:
            program = cache.build(context, SOURCE)
            assert scale(program) == 2
            assert cache.explain(program).origin is Origin.SOURCE
    (warning,) = caplog.records
    assert "OUT_OF_HOST_MEMORY" in warning.getMessage()
    assert not any(key for storage in factory.storages.values() for key in storage.keys())  # noqa: SIM118 (no mapping)


def test_one_program_that_fails_leaves_the_others(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one program's binary, the rest is written."""
    real = opencl.fetch_binaries
    programs: list[cl.Program] = []

    def fail_first(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
        programs.append(program)
        if len(programs) == 1:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a driver's nonsense")
        return real(program, devices)

    monkeypatch.setattr(opencl, "fetch_binaries", fail_first)
    with ProgramCache() as cache:
        for number in range(3):
            cache.build(context, make_source(number))
    assert len(entries(cache_directory)) == 2
