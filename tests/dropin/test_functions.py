"""Pyopencl's own functions give the same results hooked, cold and warm: the quick ones.

``programs.py`` beside this file tries all of them, in processes of their own.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mace_cache
from mace_cache import Outcome, ProgramCache
from tests.dropin.builders import find_builders, read_modules
from tests.dropin.functions import FUNCTIONS, run

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

    from mace_cache import Explanation
    from mace_cache.missed import Missed

QUICK = ("putting", "elementwise_kernel", "structures")


class Recorder:
    """Stands for a tracer: keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def tell(self, explanation: Explanation, _missed: Missed | None = None) -> None:
        """Keep the outcome."""
        self.outcomes.append(explanation.outcome)


@pytest.mark.parametrize("name", QUICK)
def test_the_same_results(name: str, device: cl.Device, tmp_path: Path) -> None:
    """Plain, hooked with an empty cache, and hooked with what that has stored."""
    plain = run([name], device)[name]
    outcomes = []
    for _ in ("cold", "warm"):
        with ProgramCache(storage_path=tmp_path / "cache") as cache:
            recorder = Recorder()
            cache.builder.tracer = recorder  # type: ignore[assignment] # as good as one
            with mace_cache.installed(cache):
                hooked = run([name], device)[name]
        outcomes.append(recorder.outcomes)
        assert len(hooked) == len(plain)
        for ours, theirs in zip(hooked, plain, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    cold, warm = outcomes
    assert Outcome.MISS in cold
    assert len(warm) == len(cold)
    assert set(warm) == {Outcome.HIT}


def test_all_are_tried() -> None:
    """No name here that isn't there."""
    assert set(QUICK) < set(FUNCTIONS)


NEW = """
from pyopencl import algorithm
from pyopencl.scan import GenericScanKernel
import numpy as np

def direct(context): return cl.Program(context, "").build()
def indirect(array): return algorithm.copy_if(array, "true")
def make(name):
    def made(array): return indirect(array)
    return made
sine = make("sine")
def another(array, kind=GenericScanKernel): return kind(array)
def assigning(result): result[...] = 1
class Heir(GenericScanKernel): pass
class Holder:
    def method(self): return self.held.finish_setup()
def nothing(array): return np.any(array), any(array), Exception.__init__(array)
"""


def test_a_new_function_that_builds_is_found() -> None:
    """One that a later pyopencl adds, whichever way it builds: the campaign has to run it."""
    modules = read_modules()
    before = find_builders(modules)
    after = find_builders({**modules, "new": ast.parse(NEW)})
    names = "direct indirect make.made sine another assigning Heir Holder Holder.method"
    assert after - before == {f"new:{name}" for name in names.split()}
