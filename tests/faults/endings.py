"""Processes that fork, thread and end in ways that deadlock or leave a traceback where they can.

``python -m tests.faults.endings NAME ORDERS`` is one of them: it prints what the application does.
"""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from mace_cache import ProgramCache
from tests.faults.anew import run_anew
from tests.faults.application import FACTOR, Orders, become, build, launch, open_driver
from tests.faults.faults import After, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["ENDINGS", "ending_faults"]

_THREADS = 4


class Application:
    """An open driver and a cache, and what they gave."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.context, self.queue = open_driver(orders)
        self.cache = ProgramCache(**orders["cache"], harvest_after=0.05)
        self.seen: list[dict[str, Any]] = []

    def work(self, *tags: str, cache: ProgramCache | None = None) -> None:
        """Build and launch programs."""
        used = cache or self.cache
        for tag in tags or ("one",):
            program = build(used, self.context, self.orders, tag)
            right = launch(self.queue, program) == [FACTOR] * 4
            self.seen.append({"right": right, "origin": used.explain(program).origin.value})

    def tell(self) -> None:
        """Print it."""
        sys.stdout.write(json.dumps({"programs": self.seen, "calls": 0}) + "\n")
        sys.stdout.flush()


def fork_after_use(application: Application) -> None:
    """A forked child closes the same cache and uses one of its own, without the driver."""
    application.work("one")
    child = os.fork()
    if child == 0:
        application.cache.flush()
        ProgramCache(**application.orders["cache"]).close()
        application.cache.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    application.work("two")
    application.tell()


def fork_while_threads_build(application: Application) -> None:
    """A child is forked while the locks of the cache are taken: it ends nevertheless."""
    threads = [
        threading.Thread(target=application.work, args=[f"fork {number}"])
        for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(_THREADS):
        child = os.fork()
        if child == 0:
            application.cache.flush()
            os._exit(0)
        children.append(child)
    for thread in threads:
        thread.join()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * _THREADS
    application.work()
    application.tell()


def multiprocessing_fork(application: Application) -> None:
    """A child of multiprocessing, with the same cache object and one of its own."""
    application.work()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=[application])
    child.start()
    child.join()
    assert child.exitcode == 0
    application.work("two")
    application.tell()


def _in_child(application: Application) -> None:
    application.cache.close()
    with ProgramCache(**application.orders["cache"]) as cache:
        cache.flush()


def threads_against_clearing(application: Application) -> None:
    """Threads build at once while others flush, clear and close the same cache."""
    over = threading.Event()

    def disturb(action: Callable[[], object]) -> None:
        while not over.is_set():
            action()

    def clear() -> None:
        for name in application.cache.factory.names():
            application.cache.factory.create_storage(name).clear()

    others = [
        threading.Thread(target=disturb, args=[action])
        for action in (application.cache.flush, clear, application.cache.close)
    ]
    builders = [
        threading.Thread(target=application.work, args=["one", "two", "three"])
        for _ in range(_THREADS)
    ]
    for thread in [*others, *builders]:
        thread.start()
    for thread in builders:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    application.cache.close()
    application.tell()


def used_at_exit(application: Application) -> None:
    """A handler of `atexit` that was registered before the cache's own uses it."""
    application.work()
    application.tell()
    atexit.register(lambda: application.work("at exit"))


def made_at_exit(application: Application) -> None:
    """A handler of `atexit` makes a cache, and doesn't close it."""
    application.work()
    application.tell()
    atexit.register(
        lambda: application.work("at exit", cache=ProgramCache(**application.orders["cache"]))
    )


def used_by_a_finalizer(application: Application) -> None:
    """A finalizer that is called at exit builds and flushes."""
    application.work()
    application.tell()

    class Owner:
        """Something that ends with the process."""

    owner = Owner()
    weakref.finalize(owner, _finish, application, [owner])


def _finish(application: Application, _kept: list[object]) -> None:
    application.work("in a finalizer")
    application.cache.flush()


def used_while_modules_go(application: Application) -> None:
    """A ``__del__`` that runs while modules are torn down closes the cache."""
    application.work()
    application.tell()

    class Owner:
        """Something in a cycle, collected when nothing else is there any more."""

        def __init__(self) -> None:
            self.itself = self
            self.cache = application.cache

        def __del__(self) -> None:
            self.cache.flush()
            self.cache.close()

    gc.disable()
    sys.modules["an owner"] = Owner()  # type: ignore[assignment] # no module: torn down like one


def ends_while_harvesting(application: Application) -> None:
    """The interpreter ends in the quiet moment's work."""
    application.work(*[f"harvest {number}" for number in range(8)])
    application.work()
    application.tell()
    threading.Event().wait(0.06)


def ends_at_once(application: Application) -> None:
    """The interpreter ends before anything is harvested, and without `close`."""
    application.work()
    application.tell()


def fork_with_a_future(application: Application) -> None:
    """A child is forked while the driver builds in a thread, which the child doesn't have."""
    application.work()
    future = application.cache.build_async(application.context, "kernel void nothing(void) {}")
    child = os.fork()
    if child == 0:
        os._exit(not future.done())
    assert os.waitpid(child, 0)[1] == 0
    assert future.result().num_kernels == 1
    application.tell()


def future_at_exit(application: Application) -> None:
    """A handler of `atexit` builds in the background, and waits for it."""
    application.work()
    application.tell()
    source = "kernel void at_exit(void) {}"
    atexit.register(
        lambda: application.cache.build_async(application.context, source).result().num_kernels
    )


def ends_with_a_future(application: Application) -> None:
    """The interpreter ends while builds in the background wait."""
    application.work()
    for number in range(4):
        source = f"// {number}\nkernel void nothing(void) {{}}"
        application.cache.build_async(application.context, source)
    application.tell()


ENDINGS: dict[str, Callable[[Application], None]] = {
    function.__name__: function
    for function in (
        *(fork_after_use, fork_while_threads_build, multiprocessing_fork),
        *(threads_against_clearing, used_at_exit, made_at_exit, used_by_a_finalizer),
        *(used_while_modules_go, ends_while_harvesting, ends_at_once),
        *(fork_with_a_future, future_at_exit, ends_with_a_future),
    )
}


def ending_faults(times: int) -> Iterator[Fault]:
    """Give every ending, so many times with an empty cache and with a warm one."""
    for name in ENDINGS:
        for prepared in ("empty", "written", "proven"):
            for number in range(times):
                yield Fault(
                    "fork, threads, exit: " + name.replace("_", " "),
                    f"{prepared}, {number}",
                    prepared=prepared,
                    run=partial(run_anew, module=("tests.faults.endings", name)),
                    after=After.HEALED,
                )


if __name__ == "__main__":
    told: Orders = json.loads(sys.argv[2])
    become(told)
    ENDINGS[sys.argv[1]](Application(told))
