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

# A child is forked while one future's callback runs, one build is under way, one waits, and other
# threads hold the locks of a future and of the room. The build's thread is the parent's.
FORK = """
import os, threading, warnings
from concurrent.futures import wait
from mace_cache import background

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: what a fork may do
gate, called, locked, over = [threading.Event() for _ in range(4)]
def call_back(_future):
    called.set()
    gate.wait()
def hold(lock, seconds):
    with lock:
        locked.set()
        over.wait(seconds)

first, second = background.Background(), background.Background()
done = first.submit(lambda: 1)
wait([done])
called_back = second.submit(lambda: gate.wait(0.1) or 2)
called_back.add_done_callback(call_back)
called.wait()
futures = [first.submit(lambda: gate.wait() and 3), first.submit(lambda: 4)]
futures[0].add_done_callback(lambda _future: print("called back in", os.getpid() == parent))
parent = os.getpid()
for held, seconds in ((futures[0]._condition, 60), (background._lock, 0.2)):
    threading.Thread(target=hold, args=(held, seconds), daemon=True).start()
    locked.wait()
    locked.clear()
child = os.fork()
if not child:
    print([done.result(), called_back.result()])
    print([type(future.exception()).__name__ for future in futures])
    print(len(wait(futures).done))
    first.wait()
    print(first.submit(lambda: 5).result(), flush=True)
    os._exit(0)
print("child ended with", os.waitpid(child, 0)[1])
over.set()
gate.set()
print([future.result() for future in futures])
"""

# A program is built in the background by a handler of atexit, and by a thread that outlives the
# main one. From Python 3.12 on no thread can be started then; and ever since, none is waited for.
AT_EXIT = """
import atexit, sys, threading
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

cache, context = ProgramCache(), open_context()
def show(number):
    future = cache.build_async(context, make_source(number), f"-DFACTOR={number}")
    print(future.done(), scale(future.result()))
def outlive():
    threading.main_thread().join()
    show(4)
    show(5)
    if sys.argv[1] == "refused":
        threading.Thread.start = refuse
def refuse(_thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread(target=outlive).start()
atexit.register(show, 3)
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


@pytest.mark.parametrize("how", ["started", "refused"])
def test_a_build_while_the_interpreter_ends(how: str, tmp_path: Path) -> None:
    """It is done at once, by who asks for it: no thread would be waited for."""
    said = run_child(AT_EXIT, how, POCL_CACHE_DIR=str(tmp_path))  # nobody else compiles there
    assert said.splitlines() == ["True 4", "True 5", "True 3"]


def test_a_forked_child() -> None:
    """It has the results that there were; other futures fail in it instead of waiting for ever."""
    assert run_child(FORK).splitlines() == [
        "[1, 2]",
        "['ForkedError', 'ForkedError']",
        "2",
        "5",
        "child ended with 0",
        "called back in True",
        "[3, 4]",
    ]


def test_a_cache_that_nothing_else_holds(context: cl.Context, cache_directory: Path) -> None:
    """What it builds is stored nevertheless."""
    program = ProgramCache().build_async(context, make_source("held by its build")).result()
    assert scale(program) == 2
    until = time.monotonic() + 60
    while not entries(cache_directory):
        assert time.monotonic() < until
        time.sleep(0.01)
