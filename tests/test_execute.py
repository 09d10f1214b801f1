"""The execution step fallback: a binary that loads and then fails, and one that is innocent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyopencl as cl
import pytest

from mace_cache import Origin, ProgramCache
from mace_cache._report import forget_reported
from tests.helpers import (
    entries,
    make_source,
    opencl_error,
    plant,
    read_entry,
    scale,
    watch_fetches,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mace_cache.explanation import Explanation

SOURCE = make_source("execute")
OTHER = "kernel void other(global int *x) { x[0] = 1; }"


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def entry(context: cl.Context, cache_directory: Path) -> Path:
    """The file of SOURCE's program, which a cache has written."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    return path


@pytest.fixture
def misleading(context: cl.Context, entry: Path, tmp_path: Path) -> Path:
    """The same file, well-formed, with a binary of another program: the driver takes it."""
    with ProgramCache(storage_path=tmp_path / "other") as cache:
        cache.build(context, OTHER)
    (other,) = entries(tmp_path / "other")
    plant(entry, read_entry(other).binary)
    return entry


def by_attribute(program: cl.Program) -> int:
    """Make the kernel as most applications do, then run it."""
    assert program.scale.function_name == "scale"
    return scale(program)


@pytest.mark.parametrize("step", [by_attribute, scale])
@pytest.mark.parametrize("form", ["positions", "names"])
def test_a_binary_to_blame_is_replaced(
    context: cl.Context,
    misleading: Path,
    caplog: pytest.LogCaptureFixture,
    step: Callable[[cl.Program], int],
    form: str,
) -> None:
    """A kernel that the stored binary lacks: rebuilt, cleared, written again; the next one hits."""
    arguments = {"context": context, "source": SOURCE}
    with ProgramCache() as cache:
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.STORAGE
    with ProgramCache() as cache:
        assert cache.execute(arguments if form == "names" else (context, SOURCE), step) == 2
        again = cache.build(context, SOURCE)
        assert cache.explain(again).origin is Origin.MEMORY
        assert scale(again) == 2
    assert read_entry(misleading).kernel_names == ("scale",)
    (warning,) = caplog.records
    assert "INVALID_KERNEL_NAME" in warning.getMessage()
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        assert cache.explain(program).origin is Origin.STORAGE
        assert scale(program) == 2


def test_the_step_sees_a_program_from_source(context: cl.Context, misleading: Path) -> None:
    """The program of the second attempt can be explained within the step."""
    told: list[Explanation] = []
    with ProgramCache() as cache:

        def step(program: cl.Program) -> int:
            told.append(cache.explain(program))
            return scale(program)

        cache.execute((context, SOURCE), step)
    assert [explanation.origin for explanation in told] == [Origin.STORAGE, Origin.SOURCE]
    assert "the step failed with INVALID_KERNEL_NAME" in told[1].reason
    assert misleading.exists()


def test_a_memory_hit_can_be_to_blame_too(context: cl.Context, misleading: Path) -> None:
    """What was loaded into memory came from a binary all the same."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        assert cache.execute((context, SOURCE), scale) == 2
    assert read_entry(misleading).kernel_names == ("scale",)


def test_the_driver_fails_at_the_launch(context: cl.Context, entry: Path) -> None:
    """A binary with which the launch fails, as some drivers answer a foreign one."""
    with ProgramCache() as cache:

        def step(program: cl.Program) -> int:
            if cache.explain(program).origin is Origin.STORAGE:
                raise opencl_error("INVALID_PROGRAM_EXECUTABLE", "clEnqueueNDRangeKernel")
            return scale(program)

        before = read_entry(entry).created
        assert cache.execute((context, SOURCE), step) == 2
        assert not entry.exists()
    assert read_entry(entry).created > before


def test_an_innocent_binary_stays(context: cl.Context, entry: Path) -> None:
    """A step that fails with the rebuilt program too is at fault itself: its error is raised."""
    before, status = entry.read_bytes(), entry.stat()
    runs: list[cl.Program] = []

    def step(program: cl.Program) -> None:
        runs.append(program)
        cl.Kernel(program, "missing")

    with ProgramCache() as cache:
        with pytest.raises(cl.LogicError) as caught:
            cache.execute((context, SOURCE), step)
        assert caught.value.code == cl.status_code.INVALID_KERNEL_NAME
        assert len(runs) == 2
        assert cache.explain(cache.build(context, SOURCE)).origin is Origin.MEMORY
    assert entry.read_bytes() == before
    assert entry.stat().st_mtime_ns == status.st_mtime_ns


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the application's own"),
        AttributeError("the application's own"),
        opencl_error("OUT_OF_HOST_MEMORY"),
        opencl_error("INVALID_COMMAND_QUEUE"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: str(error)[:30] or type(error).__name__,
)
def test_other_errors_pass_through(context: cl.Context, entry: Path, error: BaseException) -> None:
    """What no binary can cause is raised at once, and nothing is rebuilt or cleared."""
    runs: list[cl.Program] = []

    def step(program: cl.Program) -> None:
        runs.append(program)
        raise error

    with ProgramCache() as cache, pytest.raises(type(error)) as caught:
        cache.execute((context, SOURCE), step)
    assert caught.value is error
    assert len(runs) == 1
    assert entry.exists()


def test_a_program_from_source_is_not_built_twice(
    context: cl.Context, cache_directory: Path
) -> None:
    """Without a binary there is nothing to blame: the step runs once and its error is raised."""
    runs: list[cl.Program] = []

    def step(program: cl.Program) -> None:
        runs.append(program)
        cl.Kernel(program, "missing")

    with ProgramCache() as cache:
        for _ in range(2):
            with pytest.raises(cl.LogicError):
                cache.execute((context, SOURCE), step)
    assert len(runs) == 2
    assert len(entries(cache_directory)) == 1


def test_a_build_error_is_the_callers(context: cl.Context) -> None:
    """A source that doesn't build raises what pyopencl raises, and no step runs."""
    with ProgramCache() as cache, pytest.raises(cl.RuntimeError):
        cache.execute((context, "kernel void broken( {"), scale)


def test_a_header_that_changes_meanwhile_is_no_error(
    context: cl.Context, tmp_path: Path, cache_directory: Path
) -> None:
    """The step's result is given, though the rebuilt program can't be stored."""
    header = tmp_path / "factor.h"
    header.write_text("#define FACTOR 3\n")
    source = make_source(head='#include "factor.h"\n')
    arguments = (context, source, f"-I {tmp_path}")
    with ProgramCache() as cache:
        cache.build(*arguments)
    with ProgramCache() as cache:

        def step(program: cl.Program) -> int:
            if cache.explain(program).origin is Origin.STORAGE:
                header.write_text("#define FACTOR 5\n")
                raise opencl_error("INVALID_KERNEL")
            return scale(program)

        assert cache.execute(arguments, step) == 5
    assert entries(cache_directory) == []


def test_a_precompiled_binary_to_blame_is_remembered(
    context: cl.Context, misleading: Path, tmp_path: Path
) -> None:
    """A shipped binary is passed over from then on; the local storage keeps what it has."""
    shipped = misleading.rename(tmp_path / "shipped.mclp")
    with ProgramCache() as cache:
        cache.build(context, make_source("beside it"))
    with ProgramCache(binary_paths=[shipped], read_only=True) as cache:
        assert cache.execute((context, SOURCE), scale) == 2
    with ProgramCache(binary_paths=[shipped]) as cache:
        assert cache.execute((context, SOURCE), scale) == 2
        assert cache.execute((context, SOURCE), scale) == 2
    with ProgramCache(binary_paths=[shipped]) as cache:
        program = cache.build(context, SOURCE)
        assert scale(program) == 2
        assert cache.explain(program).origin is Origin.STORAGE


def test_disabled(context: cl.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Switched off, a step is run, and fails, as without a cache."""
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    fetches = watch_fetches(monkeypatch)
    with ProgramCache() as cache:
        assert cache.execute((context, SOURCE), scale) == 2
        with pytest.raises(cl.LogicError):
            cache.execute((context, SOURCE), lambda program: cl.Kernel(program, "missing"))
    assert fetches == []
    assert list(tmp_path.iterdir()) == []
