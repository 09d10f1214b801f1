"""The calls by which `mace-cache tune` tunes: they launch all that can be, each of one program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mace_cache.library import load_manifest
from mace_cache.operators import Runtime, copying, product, reductions, resizing, statistics
from mace_cache.operators.typical import TYPICAL_CALLS
from tests.operators.conftest import PlainBuilder
from tests.operators.test_runtime import run_every_operator

if TYPE_CHECKING:
    import pyopencl as cl

_ONE_SIZE = {"lstm_cell", "global_pool", "product", "row_product", "reduce"}


@pytest.mark.parametrize("is_cpu", [True, False], ids=["as on CPUs", "as on GPUs"])
def test_every_kernel_that_takes_any_size_is_launched(
    queue: cl.CommandQueue,
    monkeypatch: pytest.MonkeyPatch,
    is_cpu: bool,
) -> None:
    """By the calls of its program, which launch no other's."""
    for module in (copying, product, reductions, resizing, statistics):
        monkeypatch.setattr(module, "on_cpu", lambda _runtime: is_cpu)
    launched: list[tuple[str, str]] = []

    def record(_runtime: Runtime, kernel: tuple[str, str], *_arguments: Any) -> None:
        launched.append(kernel)

    monkeypatch.setattr(Runtime, "launch", record)
    monkeypatch.setattr(Runtime, "launch_groups", record)
    runtime = Runtime(queue, PlainBuilder())
    typical: set[tuple[str, str]] = set()
    for program, call in TYPICAL_CALLS.items():
        call(runtime)
        assert {name for name, _kernel in launched} == {program}
        typical.update(launched)
        launched.clear()
    known = {(one.name, a.kernel) for one in load_manifest().programs for a in one.launches}
    assert typical | {one for one in known if one[1] in _ONE_SIZE} == known
    run_every_operator(runtime)
    assert {*launched} == known
