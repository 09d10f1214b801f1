"""Builds from source of many programs: PoCL lets no two threads compile, so processes help."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mace_cache._crew import Crew, Miss
from mace_cache._warm_process import cores
from mace_cache.explanation import Origin
from mace_cache.keeping import Missing
from mace_cache.records import record_of
from mace_cache.request import begun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyopencl as cl

    from mace_cache.building import Builder
    from mace_cache.request import BuildRequest

__all__ = ["build_all"]


def build_all(
    builder: Builder,
    requests: Sequence[BuildRequest],
    missing: Mapping[int, Missing],
    jobs: int | None,
    cache_arguments: dict[str, Any] | None,
) -> dict[int, cl.Program]:
    """Build programs: from the front in this process, from the end in workers.

    Args:
        builder: builds a single one.
        requests: the requests.
        missing: which of them to build, in ascending order, and why each has to be.
        jobs: how many processes compile at once; one a core if None.
        cache_arguments: with which a worker opens the same cache, or None where it can't.

    Returns:
        The programs, by the numbers of their requests.

    Raises:
        pyopencl.Error: the source of the first request, of those that fail, doesn't build.
    """
    programs: dict[int, cl.Program] = {}
    failures: dict[int, Exception] = {}
    waiting = deque([Miss(number, requests[number], missing[number]) for number in missing])
    with Crew(waiting, (jobs or cores()) - 1, cache_arguments, builder.patience) as crew:
        if not any(_is_claimed(miss.missing) for miss in waiting):
            crew.start()
        while waiting:
            try:
                miss = waiting.popleft()
            except IndexError:  # a worker was faster
                break
            started = time.perf_counter()
            # If it fails, all before it are built, and leaving the crew cancels those after it.
            program = builder.build_from_source(begun(miss.request), miss.missing)
            programs[miss.number] = program
            # Workers claim nothing: where another machine builds these, they are waited for.
            if record_of(program).explanation.origin is Origin.SOURCE:
                crew.start(time.perf_counter() - started)
        for miss in crew.done():
            try:
                programs[miss.number] = _take(builder, miss)
            except Exception as error:  # noqa: BLE001 (of several the first in their order counts)
                failures[miss.number] = error
    if failures:
        raise failures[min(failures)]
    return programs


def _is_claimed(missing: Missing) -> bool:
    return missing.wanted is not None and any(tiers.claims for tiers in missing.wanted.tiers)


def _take(builder: Builder, miss: Miss) -> cl.Program:
    """Give a program that a worker has stored or made quick to build, or has failed with."""
    request = begun(miss.request)
    answer = builder.load(builder.look_up(request)) if miss.stored else miss.missing
    if isinstance(answer, Missing):
        return builder.build_from_source(request, miss.missing)
    return answer
