"""A child process that tries binaries: one that hangs is ended, and counts as one that died."""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mace_cache import Origin, ProgramCache, _trial_process, _warm_process
from mace_cache._trial_process import ChildDiedError, TrialProcess
from tests.helpers import make_source, scale
from tests.storage.conformance import make_program

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

_SEES_EVERY_DEVICE = """
import os, sys, time
print("mace-cache worker", flush=True)
sys.stdin.readline()
open({told!r}, "a").write(str(os.getpid()))
print("true", flush=True)
"""
_HANGS = _SEES_EVERY_DEVICE + "time.sleep(600)"
_ANSWERS = _SEES_EVERY_DEVICE + "for line in sys.stdin: print('null', flush=True)"


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make every child hang with its first binary; the file that names the child's process."""
    told = tmp_path / "child"
    monkeypatch.setattr(_warm_process, "_START", _HANGS.format(told=str(told)))
    real = TrialProcess._sees

    def sees(trial: TrialProcess, device: str) -> bool:
        monkeypatch.setattr(_trial_process, "_LONGEST", 60.0)  # however long the child may start
        seen = real(trial, device)
        monkeypatch.setattr(_trial_process, "_LONGEST", 0.2)
        return seen

    monkeypatch.setattr(TrialProcess, "_sees", sees)
    return told


def is_there(process: int) -> bool:
    """Whether a process runs, or is dead and nobody has asked."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_child_that_hangs(hanging: Path, size: int) -> None:
    """With a binary that it could read, and with one that is more than a pipe takes."""
    trial = TrialProcess()
    with pytest.raises(ChildDiedError, match=r"killed after 0\.2 s without an answer"):
        trial.try_loading("any", replace(make_program(), binary=bytes(size)))
    assert not is_there(int(hanging.read_text()))
    trial.close()


def test_a_child_that_hangs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs as its device is opened tries nothing, and no binary is to blame."""
    monkeypatch.setattr(_warm_process, "_START", "import time; time.sleep(600)")
    monkeypatch.setattr(_trial_process, "_LONGEST", 0.2)
    trial = TrialProcess()
    trial.try_loading("any", make_program())
    assert trial._worker is None
    trial.close()


def test_a_program_that_hangs_the_driver(context: cl.Context, hanging: Path) -> None:
    """It is dropped, as what a process died of, and built from source."""
    with ProgramCache() as cache:
        cache.build(context, make_source("hangs"))
    with ProgramCache(guard="subprocess") as cache:
        program = cache.build(context, make_source("hangs"))
        explanation = cache.explain(program)
        assert scale(program) == 2
    assert explanation.origin is Origin.SOURCE
    assert "without an answer" in explanation.reason
    assert not is_there(int(hanging.read_text()))


def test_a_child_that_answers_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The limit is one for each answer and not for the child's life."""
    told = tmp_path / "child"
    monkeypatch.setattr(_warm_process, "_START", _ANSWERS.format(told=str(told)))
    trial = TrialProcess()
    for _ in range(2):
        trial.try_loading("any", make_program())
        timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
        for timer in timers:
            timer.join(10)
        assert not any(timer.is_alive() for timer in timers)
        assert is_there(int(told.read_text()))
    trial.close()


def test_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python starts no process then: nothing is tried, and nothing raised."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't fork at interpreter shutdown")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    TrialProcess().try_loading("any", make_program())


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As while the interpreter ends: the answer is waited for, without a limit."""
    told = tmp_path / "child"
    monkeypatch.setattr(_warm_process, "_START", _ANSWERS.format(told=str(told)))

    def refuse(_timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    trial = TrialProcess()
    trial.try_loading("any", make_program())
    assert is_there(int(told.read_text()))
    trial.close()
