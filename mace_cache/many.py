"""Many programs in one call: where a load takes long, a thread reads and verifies the next ones.

Only the caller's thread has the driver load and build: Oclgrind crashes when two threads build
in one context.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mace_cache import opencl
from mace_cache.errors import ConfigurationError
from mace_cache.keeping import Missing
from mace_cache.records import hand_out, record_of
from mace_cache.request import ProgramRequest, begun, make_request

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    import pyopencl as cl

    from mace_cache.building import Builder
    from mace_cache.loading import Reading
    from mace_cache.request import BuildRequest

    Found = cl.Program | Reading | Missing

__all__ = ["build_many"]

_READ_AHEAD = 2  # programs
_LONG_LOAD = 0.005  # seconds: a thread that holds the interpreter can keep another waiting so long


def build_many(
    builder: Builder,
    context: cl.Context,
    requests: Iterable[ProgramRequest | tuple[Any, ...] | str | bytes],
    jobs: int | None,
    cache_arguments: dict[str, Any] | None,
) -> list[cl.Program]:
    """Give the built programs of many sources; as `ProgramCache.build_many`.

    Args:
        builder: builds a single one.
        context: the context to build them in.
        requests: the sources, or sources and options.
        jobs: how many processes compile at once.
        cache_arguments: with which a worker opens the same cache, or None where it can't.

    Raises:
        pyopencl.Error: a source doesn't build.
        ConfigurationError: *jobs* is less than one.
    """
    if jobs is not None and not _is_number_of_processes(jobs):
        raise ConfigurationError("jobs", jobs, "a number of processes, at least one")
    if isinstance(requests, str | bytes):
        raise ConfigurationError("requests", requests[:20], "a sequence of sources")
    asked = [_make_request(context, request) for request in requests]
    identities = [_identity(request) for request in asked]
    first = {identity: number for number, identity in reversed([*enumerate(identities)])}
    programs: dict[int, cl.Program] = {}
    missing: dict[int, Missing] = {}
    for number, answer in _load_all(builder, asked, sorted(first.values())):
        if isinstance(answer, Missing):
            missing[number] = answer
        else:
            programs[number] = answer
    if missing:
        from mace_cache._misses import build_all  # noqa: PLC0415 (a warm start has none)

        programs.update(build_all(builder, asked, missing, jobs, cache_arguments))
    return [
        programs[number] if first[identity] == number else _again(programs[first[identity]])
        for number, identity in enumerate(identities)
    ]


def _is_number_of_processes(jobs: object) -> bool:
    return isinstance(jobs, int) and jobs >= 1


def _make_request(context: cl.Context, asked: Any) -> BuildRequest:
    try:
        stated = ProgramRequest(asked) if isinstance(asked, str | bytes) else ProgramRequest(*asked)
    except TypeError:
        expected = "a source, or a tuple of source and options"
        raise ConfigurationError("requests", asked, expected) from None
    return make_request(context, stated.source, stated.options, None)


def _identity(request: BuildRequest) -> Hashable:
    identity = (request.source, request.options)
    try:
        hash(identity)
    except TypeError:  # pyopencl says what is wrong with it when it builds
        return id(request)
    return identity


def _again(program: cl.Program) -> cl.Program:
    record = record_of(program)
    return hand_out(opencl.share(program), record.explanation, record.resident)


def _load_all(
    builder: Builder, asked: Sequence[BuildRequest], numbers: Sequence[int]
) -> Iterator[tuple[int, cl.Program | Missing]]:
    """Load what is stored; once a load takes long, a thread reads what comes next meanwhile."""
    for position, number in enumerate(numbers):
        found = builder.look_up(begun(asked[number]))
        started = time.perf_counter()
        answer = builder.load(found)
        took = time.perf_counter() - started
        yield number, answer
        if took > _LONG_LOAD:
            yield from _load_ahead(builder, asked, numbers[position + 1 :])
            return


def _load_ahead(
    builder: Builder, asked: Sequence[BuildRequest], numbers: Sequence[int]
) -> Iterator[tuple[int, cl.Program | Missing]]:
    """Load what is stored while a thread reads and verifies what comes next."""
    found: deque[Found] = deque()
    filled, room = threading.Semaphore(0), threading.Semaphore(_READ_AHEAD)
    left = threading.Event()

    def read_ahead() -> None:
        for number in numbers:
            room.acquire()
            if left.is_set():
                return
            found.append(builder.look_up(begun(asked[number])))
            filled.release()

    thread = threading.Thread(target=read_ahead, name="mace-cache read", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # too many, or the interpreter ends
        for number in numbers:
            yield number, builder.load(builder.look_up(begun(asked[number])))
        return
    try:
        for number in numbers:
            filled.acquire()
            room.release()
            yield number, builder.load(found.popleft())
    finally:
        left.set()
        room.release()
        thread.join()
