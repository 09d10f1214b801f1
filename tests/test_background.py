"""Builds in the background: futures that behave, a window that stays live, and a clean exit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, wait
from functools import partial
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

from mace_cache import ProgramCache
from mace_cache.background import Background
from mace_cache.explanation import Origin
from tests.helpers import entries, make_source, run_child, scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Three programs that PoCL has never seen; while the first is built, the script ends.
LEAVE = """
import sys
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context

cache, context = ProgramCache(), open_context()
def tell(number, future):
    print(number, "cancelled" if future.cancelled() else "built", flush=True)
for number in range(3):
    head = f"constant int at_{number} = {sys.argv[2]};"
    future = cache.build_async(context, make_source(number, head=head))
    future.add_done_callback(lambda future, number=number: tell(number, future))
while not future.running() and not future.done() and len(cache._background._waiting) == 3:
    pass
if sys.argv[1] == "close":
    cache.close()
"""


@pytest.fixture
def cache() -> Iterator[ProgramCache]:
    """A cache whose programs are not harvested in the middle of a test."""
    with ProgramCache(harvest_after=1e6) as cache:
        yield cache


def test_a_future_has_the_program(cache: ProgramCache, context: cl.Context) -> None:
    """The same as `build` gives, which keeps it as ever."""
    program = cache.build_async(context, make_source("future"), ["-DFACTOR=4"]).result()
    assert scale(program) == 4
    assert cache.explain(program).origin is Origin.SOURCE
    again = cache.build(context, make_source("future"), "-DFACTOR=4")
    assert cache.explain(again).origin is Origin.MEMORY


def test_a_future_has_the_error(cache: ProgramCache, context: cl.Context) -> None:
    """Exactly what `build` raises."""
    source = "kernel void broken() { this_is_no_opencl(); }"
    with pytest.raises(cl.RuntimeError) as expected:
        cache.build(context, source)
    error = cache.build_async(context, source).exception()
    assert type(error) is type(expected.value)
    assert isinstance(error, cl.RuntimeError)
    assert error.code == expected.value.code


def test_arguments_are_copied(cache: ProgramCache, context: cl.Context) -> None:
    """What the caller does with them after the call changes nothing."""
    gate, held = hold(cache)
    options, devices = ["-DFACTOR=5"], list(context.devices)
    future = cache.build_async(context, make_source("copied"), options, devices)
    once: Any = iter(["-DFACTOR=6"])
    other = cache.build_async(context, make_source("copied"), once)
    options[0] = "-DFACTOR=7"
    devices.clear()
    gate.set()
    wait([held])
    assert [scale(future.result()), scale(other.result())] == [5, 6]


def hold(cache: ProgramCache) -> tuple[threading.Event, Any]:
    """Have the builds of a cache wait until an event is set."""
    gate = threading.Event()
    waiting: Any = gate.wait
    return gate, cache._background.submit(waiting)


def test_the_same_program_twice(cache: ProgramCache, context: cl.Context) -> None:
    """Both are answered, and it is built once."""
    futures = [cache.build_async(context, make_source("twice")) for _ in range(2)]
    found = [cache.explain(future.result()).origin for future in futures]
    assert found == [Origin.SOURCE, Origin.MEMORY]


def test_what_has_not_begun_can_be_cancelled(cache: ProgramCache, context: cl.Context) -> None:
    """The others are built."""
    gate, held = hold(cache)
    futures = [cache.build_async(context, make_source("cancel")) for _ in range(2)]
    assert futures[0].cancel()
    gate.set()
    assert scale(futures[1].result()) == 2
    assert not held.cancel()
    with pytest.raises(CancelledError):
        futures[0].result()


def test_close_waits(context: cl.Context, cache_directory: Path) -> None:
    """So that what was begun in a ``with`` block is stored after it."""
    with ProgramCache(harvest_after=1e6) as cache:
        future = cache.build_async(context, make_source("closing"))
    assert future.done()
    assert len(entries(cache_directory)) == 1
    assert cache._background._thread is None


def test_a_callback_may_close(cache: ProgramCache, context: cl.Context) -> None:
    """It runs in the thread that would have to end: nothing waits for itself."""
    gate, held = hold(cache)
    future = cache.build_async(context, make_source("callback"))
    closed = threading.Event()

    def close(_future: object) -> None:
        cache.close()
        closed.set()

    future.add_done_callback(close)
    gate.set()
    assert closed.wait(60)
    wait([held, future])


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build is done by who asks for it."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    seen: list[threading.Thread] = []
    background = Background()
    action: Any = partial(lambda: seen.append(threading.current_thread()))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert background.submit(action).done()
    background.submit(action).result()
    background.wait()
    assert len(seen) == 2
    assert seen[0] is threading.current_thread()


def test_the_caller_goes_on_while_the_driver_builds(
    cache: ProgramCache, context: cl.Context
) -> None:
    """A window could be drawn many times: the driver doesn't hold the interpreter."""
    head = f"constant int made_at = {time.time_ns() % 2**31};\n"  # PoCL has never seen it
    future = cache.build_async(context, make_source("live", head=head))
    frames = 0
    while not future.done():
        time.sleep(0.001)
        frames += 1
    assert scale(future.result()) == 2
    assert frames > 10, "the front end of PoCL takes 100 ms"


@pytest.mark.parametrize("how", ["end", "close"])
def test_the_interpreter_ends_cleanly(how: str) -> None:
    """It waits for the one that is being built; what has not begun is cancelled, unless closed."""
    said = run_child(LEAVE, how, time.time_ns() % 2**31).splitlines()
    expected = "built" if how == "close" else "cancelled"
    assert said == ["0 built", f"1 {expected}", f"2 {expected}"]


def test_a_cache_that_nothing_else_holds(context: cl.Context, cache_directory: Path) -> None:
    """What it builds is stored nevertheless."""
    program = ProgramCache().build_async(context, make_source("held by its build")).result()
    assert scale(program) == 2
    until = time.monotonic() + 60
    while not entries(cache_directory):
        assert time.monotonic() < until
        time.sleep(0.01)
