"""Fetching binaries: the bytes that pyopencl gives, while other threads run."""

from __future__ import annotations

import ctypes
import itertools
import logging
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyopencl import _cl

from mace_cache import _fetching
from mace_cache._fetching import fetch_all_binaries
from tests.helpers import make_heavy_source, make_source, opencl_error, run_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OUT_OF_HOST_MEMORY = -6  # cl.h


@pytest.fixture(autouse=True)
def _find_anew() -> Iterator[None]:
    """The function is looked up once a process."""
    found = _fetching._get_program_info
    found.cache_clear()
    yield
    found.cache_clear()


def build(context: cl.Context, source: str) -> cl.Program:
    """Build without pyopencl's own cache."""
    program: cl.Program = cl.Program(context, source).build(cache_dir=False)  # type: ignore[arg-type] # stated as str
    return program


@pytest.fixture(scope="module")
def program(context: cl.Context) -> cl.Program:
    """One small program for all."""
    return build(context, make_source("fetching"))


def binaries_of(program: cl.Program) -> list[bytes]:
    """What pyopencl gives."""
    binaries: Any = program.get_info(cl.program_info.BINARIES)
    return [bytes(binary) for binary in binaries]


def share_of_longest_gap(action: Callable[[], object]) -> float:
    """How much of the time of an action another thread had to wait at one go: from 0 to 1."""
    running, done = threading.Event(), threading.Event()
    ticks: list[float] = []

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            running.set()
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    running.wait()
    started = time.perf_counter()
    action()
    ended = time.perf_counter()
    done.set()
    ticker.join()
    moments = [started, *[moment for moment in ticks if started < moment < ended], ended]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    return max(gaps) / (ended - started)


def test_other_threads_run_while_a_driver_compiles(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest gap is far below the fetch's time; the same call with the GIL held is one gap."""
    released, held = [build(context, make_heavy_source(tag)) for tag in ("one", "two")]
    assert share_of_longest_gap(lambda: fetch_all_binaries(released)) < 0.25
    holding = ctypes.PyDLL(_cl.__file__).clGetProgramInfo
    holding.argtypes = _fetching._get_program_info().argtypes  # type: ignore[union-attr] # it is found here
    monkeypatch.setattr(_fetching, "_get_program_info", lambda: holding)
    assert share_of_longest_gap(lambda: fetch_all_binaries(held)) > 0.5


def test_the_bytes_are_those_that_pyopencl_gives(program: cl.Program) -> None:
    """And pyopencl itself isn't needed for them."""
    assert _fetching._fetch_released(program) == fetch_all_binaries(program)
    assert fetch_all_binaries(program) == binaries_of(program)
    assert all(fetch_all_binaries(program))


def test_a_process_that_may_open_no_more_files() -> None:
    """PoCL would abort where it can't open files: it isn't asked, and the process goes on."""
    run_child(
        """
import os, resource
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

context = open_context()
with ProgramCache() as cache:
    assert scale(cache.build(context, make_source("descriptors", "#define FACTOR 11"))) == 11
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
"""
    )


@given(binaries=st.lists(st.binary(max_size=40), max_size=4))
def test_any_number_of_binaries_in_their_order(binaries: list[bytes]) -> None:
    """One a device, empty ones among them: nothing is written where the pointer is null."""

    def ask(_program: int, what: int, room: int, value: Any, stated: Any) -> int:
        if stated is not None:
            stated._obj.value = len(binaries) * ctypes.sizeof(ctypes.c_size_t)
        elif what == cl.program_info.BINARY_SIZES:
            assert room == len(binaries) * ctypes.sizeof(ctypes.c_size_t)
            value[:] = [len(binary) for binary in binaries]
        else:
            assert room == len(binaries) * ctypes.sizeof(ctypes.c_void_p)
            for address, binary in zip(value, binaries, strict=True):
                assert (address is None) is (not binary)
                if binary:
                    ctypes.memmove(address, binary, len(binary))
        return 0

    program: Any = SimpleNamespace(int_ptr=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fetching, "_get_program_info", lambda: ask)
        assert fetch_all_binaries(program) == binaries


@pytest.mark.parametrize("error", [OSError("no such file"), AttributeError("no such symbol")])
def test_a_loader_that_is_not_found(
    program: cl.Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Then pyopencl fetches, and one line at DEBUG says so."""

    def fail(_name: str) -> ctypes.CDLL:
        raise error

    caplog.set_level(logging.DEBUG, "mace_cache")
    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "CDLL", fail)
        assert fetch_all_binaries(program) == binaries_of(program)
        assert fetch_all_binaries(program) == binaries_of(program)
    (line,) = caplog.records
    assert line.levelno == logging.DEBUG
    assert str(error) in line.getMessage()


@pytest.mark.parametrize("good_calls", [0, 1, 2])
def test_a_driver_that_answers_an_error(
    program: cl.Program, monkeypatch: pytest.MonkeyPatch, good_calls: int
) -> None:
    """Whichever of the three calls fails, pyopencl is asked: it may know better."""
    real = _fetching._get_program_info()
    assert real is not None
    calls = []

    def ask(*arguments: Any) -> int:
        calls.append(arguments)
        return real(*arguments) if len(calls) <= good_calls else _OUT_OF_HOST_MEMORY

    monkeypatch.setattr(_fetching, "_get_program_info", lambda: ask)
    assert fetch_all_binaries(program) == binaries_of(program)
    assert len(calls) == good_calls + 1


def test_an_error_that_both_ways_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pyopencl's own that is raised."""

    def get_info(_what: int) -> object:
        raise opencl_error("OUT_OF_HOST_MEMORY", "clGetProgramInfo")

    program: Any = SimpleNamespace(int_ptr=1, get_info=get_info)
    monkeypatch.setattr(_fetching, "_get_program_info", lambda: lambda *_: _OUT_OF_HOST_MEMORY)
    with pytest.raises(cl.Error, match="OUT_OF_HOST_MEMORY"):
        fetch_all_binaries(program)
