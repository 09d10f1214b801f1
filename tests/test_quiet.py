"""The quiet moment: an action runs in its thread when nothing has happened for a while, once."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mace_cache.harvest import quiet
from mace_cache.harvest.quiet import QuietMoment

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOREVER = 3600.0  # seconds: longer than any test
_PATIENCE = 60.0  # seconds for what comes at once on an idle machine


class Deed:
    """An action that notes where it ran, and goes on when it may."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> None:
        """Note the thread."""
        self.threads.append(threading.current_thread())
        self.begun.release()
        assert self.may_end.wait(_PATIENCE)


@pytest.fixture
def deed() -> Iterator[Deed]:
    """An action whose threads have all ended after the test."""
    before = set(threading.enumerate())
    deed = Deed()
    yield deed
    deed.may_end.set()
    join_threads(before)


def join_threads(but: set[threading.Thread]) -> None:
    """Wait for the end of all threads but some."""
    for thread in set(threading.enumerate()) - but:
        thread.join(_PATIENCE)
        assert not thread.is_alive()


def test_it_comes_by_itself(deed: Deed) -> None:
    """In a thread of its own, once for many events, and the thread goes; then again."""
    moment = QuietMoment(deed, 0.05)
    for runs in (1, 2):
        for _ in range(3):
            moment.postpone()
        assert deed.begun.acquire(timeout=_PATIENCE)
        deed.threads[-1].join(_PATIENCE)
        assert len(deed.threads) == runs
    assert threading.current_thread() not in deed.threads


def test_each_event_begins_the_wait_anew(deed: Deed, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the test sets: what was due is not when something has happened since."""
    now = 0.0
    looked = threading.Semaphore(0)

    def monotonic() -> float:
        if threading.current_thread() is not threading.main_thread():
            looked.release()
        return now

    monkeypatch.setattr(quiet, "time", SimpleNamespace(monotonic=monotonic))
    moment = QuietMoment(deed, 0.05)
    moment.postpone()
    now = 0.04
    moment.postpone()
    now = 0.08  # after the first event's time, before the second's
    while looked.acquire(blocking=False):
        pass
    for _ in range(3):
        assert looked.acquire(timeout=_PATIENCE)
    assert deed.threads == []
    now = 0.1
    assert deed.begun.acquire(timeout=_PATIENCE)


@pytest.mark.parametrize("seconds", [_FOREVER, math.inf])
def test_finish_runs_it_now(deed: Deed, seconds: float) -> None:
    """In its thread, to its end; where nothing waits there is nothing to do."""
    moment = QuietMoment(deed, seconds)
    assert moment.finish(0)
    moment.postpone()
    assert moment.finish(math.inf)
    assert len(deed.threads) == 1
    assert moment.finish(0)
    assert deed.threads != [threading.current_thread()]


def test_finish_waits_no_longer_than_told(deed: Deed) -> None:
    """And says that it isn't done; the action goes on."""
    deed.may_end.clear()
    moment = QuietMoment(deed, _FOREVER)
    moment.postpone()
    assert not moment.finish(0.01)
    assert deed.begun.acquire(timeout=_PATIENCE)
    assert not moment.finish(0)
    deed.may_end.set()
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 1


def test_what_happens_meanwhile_has_its_own_moment(deed: Deed) -> None:
    """An event while the action runs makes it run again, in the same thread."""
    deed.may_end.clear()
    moment = QuietMoment(deed, 0)
    moment.postpone()
    assert deed.begun.acquire(timeout=_PATIENCE)
    moment.postpone()
    deed.may_end.set()
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 2
    assert len(set(deed.threads)) == 1


def test_finish_does_not_wait_for_who_is_never_quiet(deed: Deed) -> None:
    """It ends though things happen all the time, for which there is no moment until it has."""
    ended = threading.Event()
    moment = QuietMoment(deed, _FOREVER)

    def never_quiet() -> None:
        assert deed.begun.acquire(timeout=_PATIENCE)
        for event in (moment.postpone, moment.expect):
            event()
        deed.may_end.set()
        ended.set()

    deed.may_end.clear()
    moment.postpone()
    threading.Thread(target=never_quiet).start()
    assert moment.finish(_PATIENCE)
    assert ended.wait(_PATIENCE)
    assert len(deed.threads) == 1
    moment.postpone()
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 2


def test_cancelled_it_never_comes(deed: Deed) -> None:
    """The thread goes, long before its time, and a later event is none the worse."""
    before = set(threading.enumerate())
    moment = QuietMoment(deed, _FOREVER)
    moment.postpone()
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    moment.cancel()
    assert moment.finish(0)
    thread.join(_PATIENCE)
    assert not thread.is_alive()
    assert deed.threads == []
    moment.postpone()
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 1


def test_cancelled_by_the_action_itself(deed: Deed) -> None:
    """As a flush does, wherever it runs."""

    def act() -> None:
        moment.cancel()
        deed()

    moment = QuietMoment(act, 0)
    moment.postpone()
    assert deed.begun.acquire(timeout=_PATIENCE)
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 1


def test_its_own_thread_does_not_wait_for_itself(deed: Deed) -> None:
    """A collection that runs in it may end the cache whose moment it is."""
    answers = []

    def act() -> None:
        answers.append(moment.finish(_FOREVER))
        deed()

    moment = QuietMoment(act, 0)
    moment.postpone()
    assert deed.begun.acquire(timeout=_PATIENCE)
    assert answers == [True]


def test_where_no_thread_can_be_started(deed: Deed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, nothing waits: who finishes has to do it himself."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    moment = QuietMoment(deed, 0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        moment.postpone()
        assert moment.finish(0)
    moment.postpone()
    assert moment.finish(_PATIENCE)
    assert len(deed.threads) == 1
