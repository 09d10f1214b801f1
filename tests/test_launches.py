"""First launches: pyopencl's routines are wrapped while there is one to watch, and no longer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pytest
from pyopencl import _cl

from mace_cache import _launches, opencl
from mace_cache._launches import FirstLaunches
from tests.helpers import make_source, scale

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = make_source("launches", head="kernel void other(global int *x) { x[0] = 7; }\n")


class FakeNote:
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def launch(self) -> None:
        """A launch begins."""
        self.events.append("launch")

    def rest(self) -> None:
        """Nothing is under way."""
        self.events.append("rest")

    def end(self) -> None:
        """It is over."""
        self.events.append("end")


class Watched:
    """A program under watch, with what becomes of it."""

    def __init__(self, program: cl.Program, kernels: tuple[str, ...] = ("other",)) -> None:
        self.note = FakeNote()
        self.proven = 0
        self.launches = FirstLaunches(
            program,
            kernels,
            [self.note],  # type: ignore[list-item] # a fake
            self._prove,
        )

    def _prove(self) -> None:
        self.proven += 1


@pytest.fixture(scope="module")
def built(context: cl.Context) -> cl.Program:
    """A program with two kernels."""
    return build(context, SOURCE)


@pytest.fixture(autouse=True)
def _nothing_is_watched() -> Iterator[None]:
    let_go_of_all()
    yield
    let_go_of_all()


def let_go_of_all() -> None:
    """Watch nothing any more, and have no thread look."""
    for launches in list(_launches._watched.values()):
        launches.let_go()
    wait_for_the_look()
    assert not _launches._watched


def wait_for_the_look() -> None:
    """Until the thread that looks at launches has gone: all that were noted are through."""
    for thread in threading.enumerate():
        if thread.name == "mace-cache first launches":
            thread.join(10)
            assert not thread.is_alive()


def build(context: cl.Context, source: str) -> cl.Program:
    """Build a program from source."""
    return opencl.build_from_source(context, source)[0]


def routines() -> list[object]:
    """What pyopencl launches with at the moment."""
    return [getattr(owner, name) for owner, name, _place in opencl.LAUNCHING]


def user_event_queue(context: cl.Context) -> tuple[cl.CommandQueue, cl.UserEvent]:
    """A queue, and an event that holds up whatever waits for it."""
    return cl.CommandQueue(context), cl.UserEvent(context)


def test_pyopencl_is_as_it_was(built: cl.Program) -> None:
    """Wrapped with the first program, unwrapped with the last."""
    before = routines()
    first, second = Watched(built), Watched(build(built.context, make_source("x")))
    assert all(now is not was for now, was in zip(routines(), before, strict=True))
    first.launches.let_go()
    assert routines() != before
    second.launches.let_go()
    assert routines() == before
    assert first.note.events == second.note.events == ["end"]
    assert first.proven == 0, "it was never launched"


def test_somebody_else_has_wrapped_it(built: cl.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then that stays, and launches go on through ours, which does nothing."""
    watched = Watched(built)
    inner, calls = cl.enqueue_nd_range_kernel, []

    def outer(*arguments: Any) -> cl.Event:
        calls.append(arguments)
        return inner(*arguments)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", outer)
    watched.launches.let_go()
    assert cl.enqueue_nd_range_kernel is outer
    queue = cl.CommandQueue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    kernel = cl.Kernel(built, "other")
    kernel.set_args(buffer)
    cl.enqueue_nd_range_kernel(queue, kernel, (1,), None).wait()
    assert len(calls) == 1
    assert watched.note.events == ["end"]
    monkeypatch.undo()  # to ours, which is in nobody's way
    cl.enqueue_nd_range_kernel = _cl.enqueue_nd_range_kernel


@pytest.mark.parametrize("how", ["call", "typed call", "pyopencl", "keywords", "_cl"])
def test_every_way_to_launch(built: cl.Program, how: str) -> None:
    """It is noted before, once a kernel; what is through by a quiet moment is proven."""
    queue = cl.CommandQueue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    kernel = cl.Kernel(built, "other")
    watched = Watched(built)
    for _ in range(3):
        if how == "typed call":
            kernel.set_scalar_arg_dtypes([None])
        if "call" in how:
            kernel(queue, (1,), None, buffer).wait()
            continue
        kernel.set_args(buffer)
        if how == "keywords":
            cl.enqueue_nd_range_kernel(
                queue=queue, kernel=kernel, global_work_size=(1,), local_work_size=None
            ).wait()
        else:
            module = cl if how == "pyopencl" else _cl
            module.enqueue_nd_range_kernel(queue, kernel, (1,), None).wait()
    got = np.empty(1, np.int32)
    cl.enqueue_copy(queue, got, buffer)
    assert got[0] == 7
    wait_for_the_look()
    assert watched.note.events == ["launch", "rest"]
    assert watched.launches.settle()
    assert watched.note.events == ["launch", "rest", "end"]
    assert watched.proven == 1


def test_every_kernel_has_to_run(built: cl.Program) -> None:
    """A driver compiles each for itself: one alone proves nothing."""
    watched = Watched(built, ("scale", "other"))
    assert scale(built) == 2
    wait_for_the_look()
    assert not watched.launches.settle()
    queue = cl.CommandQueue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    cl.Kernel(built, "other")(queue, (1,), None, buffer).wait()
    wait_for_the_look()
    assert watched.note.events == ["launch", "rest", "launch", "rest", "end"]
    assert watched.proven == 1


def test_other_programs_are_none_of_its_business(context: cl.Context, built: cl.Program) -> None:
    """Their launches are not noted."""
    watched = Watched(built)
    assert scale(build(context, make_source("other launches"))) == 2
    assert watched.note.events == []
    assert not watched.launches.settle()
    assert watched.proven == 0


def test_a_launch_that_takes_long(built: cl.Program) -> None:
    """Nothing is proven or at rest until it is through; then the next launch sees it."""
    queue, gate = user_event_queue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    kernel = cl.Kernel(built, "other")
    kernel.set_args(buffer)
    watched = Watched(built)
    event = cl.enqueue_nd_range_kernel(queue, kernel, (1,), None, wait_for=[gate])
    assert not watched.launches.settle()
    assert (watched.note.events, watched.proven) == (["launch"], 0)
    gate.set_status(cl.command_execution_status.COMPLETE)
    event.wait()
    wait_for_the_look()
    assert watched.proven == 1


def test_launches_that_never_run(built: cl.Program) -> None:
    """An empty range, and one that waits for what fails: nothing has run."""
    queue, gate = user_event_queue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    kernel = cl.Kernel(built, "other")
    watched = Watched(built)
    kernel(queue, (0,), None, buffer, allow_empty_ndrange=True).wait()
    wait_for_the_look()
    kernel.set_args(buffer)
    event = cl.enqueue_nd_range_kernel(queue, kernel, (1,), None, wait_for=[gate])
    gate.set_status(-1)
    with pytest.raises(cl.RuntimeError):
        event.wait()
    wait_for_the_look()
    assert not watched.launches.settle()
    assert watched.note.events == ["launch", "rest"] * 2
    assert watched.proven == 0


def test_a_launch_that_fails(built: cl.Program) -> None:
    """The error is pyopencl's own, and nothing was launched."""
    queue = cl.CommandQueue(built.context)
    kernel = cl.Kernel(built, "other")
    watched = Watched(built)
    with pytest.raises(cl.LogicError):
        cl.enqueue_nd_range_kernel(queue, kernel, (1,), None)
    with pytest.raises(TypeError):
        cl.enqueue_nd_range_kernel(queue)  # type: ignore[call-arg] # that is the point
    assert watched.note.events == ["launch", "rest"]
    wait_for_the_look()
    assert not watched.launches.settle()
    assert watched.proven == 0


def test_a_fault_of_the_watch_is_not_the_application_s(
    built: cl.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a driver answers when it is asked how a launch goes: it was launched."""

    def fail(_launches: FirstLaunches) -> bool:
        raise cl.RuntimeError("the device is gone")

    watched = Watched(built, ("scale",))
    with monkeypatch.context() as patch:
        patch.setattr(FirstLaunches, "are_under_way", fail)
        assert scale(built) == 2
        patch.undo()
        patch.setattr(FirstLaunches, "_wait", lambda *_: fail(watched.launches))
        assert scale(built) == 2
    assert watched.launches.settle()


def test_not_too_many_are_watched(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds a file open: the oldest that was never launched goes."""
    monkeypatch.setattr(_launches, "_MOST", 2)
    programs = [build(context, make_source(f"many {n}")) for n in range(3)]
    watched = [Watched(program) for program in programs]
    assert [one.note.events for one in watched] == [["end"], [], []]
    assert watched[0].proven == 0


def test_the_end_of_the_process(built: cl.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has run is proven; the rest is watched on, since other handlers may launch it."""
    other = build(built.context, make_source("never launched"))
    launched, idle = Watched(built, ("scale",)), Watched(other, ("scale",))
    assert scale(built) == 2
    monkeypatch.setattr(_launches, "_ends", False)  # to have it so afterwards
    _launches._settle_all()
    assert (launched.proven, idle.proven) == (1, 0)
    assert launched.note.events[-1] == "end"
    assert scale(other) == 2
    wait_for_the_look()
    assert idle.proven == 1


def test_our_own_wrapper_is_not_wrapped(built: cl.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has patched pyopencl while it was wrapped may put our wrapper back later."""
    before = routines()
    watched = Watched(built)
    ours = cl.Kernel.__call__
    watched.launches.let_go()
    monkeypatch.setattr(cl.Kernel, "__call__", ours)
    watched = Watched(built)
    assert cl.Kernel.__call__ is ours
    queue = cl.CommandQueue(built.context)
    buffer = cl.Buffer(built.context, cl.mem_flags.READ_WRITE, 4)
    cl.Kernel(built, "other")(queue, (1,), None, buffer).wait()
    wait_for_the_look()
    assert watched.note.events == ["launch", "rest"]
    watched.launches.let_go()
    monkeypatch.undo()
    assert routines() == before


def test_a_handler_of_signals_may_come_to_it(built: cl.Program) -> None:
    """In the middle of watching, in the same thread: it doesn't wait for itself."""
    with _launches._lock:
        watched = Watched(built)
        watched.launches.settle()
        watched.launches.let_go()
    assert watched.note.events == ["end"]
