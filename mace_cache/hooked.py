"""What `pyopencl.Program.build` does while a cache stands before it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache import opencl
from mace_cache._program_parts import (
    caching_is_off,
    context_of,
    keep_context,
    lend_source,
    make_own,
    makes_own_options,
    put_built,
    saying,
    source_of,
    unbuild,
)
from mace_cache._report import warn_once
from mace_cache.answering import loaded_of
from mace_cache.building import explain_failure
from mace_cache.explanation import Explanation, Origin, Outcome
from mace_cache.records import NONE, Record, attach, record_of
from mace_cache.request import make_request
from mace_cache.resident import note_rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache.cache import ProgramCache
    from mace_cache.keeping import Missing
    from mace_cache.request import BuildRequest

    Build = Callable[..., cl.Program]

__all__ = ["Hooked", "as_its_own"]

logger = logging.getLogger(__name__)

_MOST_PLACES = 8  # that ``cache_dir=`` names in one process


class Hooked:
    """Builds the programs of an application through a cache.

    Args:
        cache: the cache, or None for one that is opened at the first build.
    """

    def __init__(self, cache: ProgramCache | None) -> None:
        self._cache = cache
        self._opened: list[ProgramCache] = []
        self._at: OrderedDict[str, ProgramCache] = OrderedDict()
        self._lock = threading.Lock()
        self._failed = False

    def build(
        self, build: Build, program: cl.Program, options: Any, devices: Any, cache_dir: Any
    ) -> cl.Program:
        """Build a program that an application has made.

        Args:
            build: pyopencl's own ``Program.build``.
            program: the program.
            options: as for *build*.
            devices: as for *build*.
            cache_dir: as for *build*.

        Returns:
            The program.

        Raises:
            Exception: what *build* raises.
        """
        cache = self._cache or self._open()
        if cache is None:
            with as_its_own(program):
                return build(program, options, devices, cache_dir)
        with _unbuilt(program):
            return self._build(cache, build, program, (options, devices, cache_dir))

    def _build(
        self, cache: ProgramCache, build: Build, program: cl.Program, arguments: tuple[Any, ...]
    ) -> cl.Program:
        options, devices, cache_dir = arguments
        source, why = source_of(program)
        if cache_dir is None and source is not None:
            cache_dir = getattr(context_of(program), "cache_dir", None)
        why = cache.disabled_by or _reason_to_pass(program, cache_dir) or why
        at = cache if why or cache_dir is None else self._cache_at(cache_dir)
        if why or source is None or at is None:
            why = why or "its cache_dir can't be used"
            return _pass(build, program, (options, devices, cache_dir), cache, why)
        request = make_request(context_of(program), source, options, devices)
        return _build(build, program, request, at)

    def close(self) -> None:
        """Close the caches that were opened here."""
        with self._lock:
            opened = [*self._opened, *self._at.values()]
            self._opened.clear()
            self._at.clear()
        for cache in opened:
            cache.close()

    def _open(self) -> ProgramCache | None:
        with self._lock:
            if self._cache is None and not self._failed:
                try:
                    self._cache = _open_cache()
                    self._opened.append(self._cache)
                except Exception as error:  # noqa: BLE001 (nothing that fails here may reach the caller)
                    self._failed = True
                    warn_once(
                        logger, "open", "no cache can be opened (%r): nothing is cached", error
                    )
            return self._cache

    def _cache_at(self, place: str | os.PathLike[str]) -> ProgramCache | None:
        with self._lock:
            try:
                path = os.path.abspath(place)  # there may be no working directory
                cache = self._at.pop(path, None) or _open_cache_at(path)
            except Exception as error:  # noqa: BLE001 (as above)
                warn_once(logger, "open", "no cache can be opened in %r (%r)", place, error)
                return None
            self._at[path] = cache
            if len(self._at) > _MOST_PLACES:
                self._at.popitem(last=False)  # it is finished when nobody builds with it any more
            return cache


@contextmanager
def as_its_own(program: cl.Program) -> Iterator[None]:
    """Have pyopencl build or compile a program from its source, and not what others share of it."""
    with _unbuilt(program):
        if record_of(program).explanation.outcome is not Outcome.BYPASS:
            make_own(program)
            attach(program, NONE)
        note_rebuilt(program)
        yield


@contextmanager
def _unbuilt(program: cl.Program) -> Iterator[None]:
    before = record_of(program)
    own = before.explanation.outcome is Outcome.BYPASS
    if own and not _is_lent_source(program):
        yield
        return
    undo = unbuild(program)
    try:
        yield
    except cl.RuntimeError:
        raise
    except BaseException:  # nothing was built: as ever, it stays what it was
        undo()
        attach(program, before)
        raise


def _is_lent_source(program: cl.Program) -> bool:
    """Lend its source to another wrapper (`from_int_ptr`) of a program that was loaded.

    To build what was loaded gives the same code whatever the options, and PoCL 3.1 dies of it.
    """
    resident = loaded_of(program)
    if resident is None:
        return False
    return lend_source(program, resident.wanted.identified.request.source)


def _open_cache(path: str | None = None) -> ProgramCache:
    from mace_cache.cache import ProgramCache  # noqa: PLC0415 (many programs build nothing)

    return ProgramCache(storage_path=path)


def _open_cache_at(path: str) -> ProgramCache:
    """Open a cache in a directory; if it can't be used, pyopencl may have a use for it."""
    cache = _open_cache(path)
    place = cache.factory.state_place()
    with suppress(FileNotFoundError):  # it is made when there is something to store
        if place is not None:
            with place.open():
                pass
    return cache


def _reason_to_pass(program: cl.Program, cache_dir: Any) -> str:
    if caching_is_off():
        return "PYOPENCL_NO_CACHE is set"
    if cache_dir is False:
        return "it is built with cache_dir=False"
    if cache_dir is not None and not (isinstance(cache_dir, str | os.PathLike) and str(cache_dir)):
        return "its cache_dir isn't a path"
    if makes_own_options(program):
        return "its class makes its own options"
    return ""


def _pass(
    build: Build, program: cl.Program, arguments: tuple[Any, ...], cache: ProgramCache, why: str
) -> cl.Program:
    """Leave a program to pyopencl."""
    note_rebuilt(program)
    started = time.perf_counter()
    try:
        built = build(program, *arguments)
    except Exception:
        _passed_by(program, started, f"{why}, and it doesn't build")
        cache.builder.pass_by(None, record_of(program).explanation)
        raise
    _passed_by(program, started, why)
    cache.builder.pass_by(program, record_of(program).explanation)
    return built


def _passed_by(program: cl.Program, started: float, why: str) -> None:
    seconds = time.perf_counter() - started
    explanation = Explanation(Origin.SOURCE, "", why, seconds, 0.0, "", Outcome.BYPASS)
    attach(program, Record(explanation, None))


def _build(
    build: Build, program: cl.Program, request: BuildRequest, cache: ProgramCache
) -> cl.Program:
    def from_source(said: BuildRequest, missing: Missing) -> tuple[cl.Program, float]:
        started = time.perf_counter()
        try:
            with saying(program, said.source):
                build(program, said.options, said.devices, False)
        except cl.Error:
            attach(program, Record(explain_failure(request, missing), None))
            raise
        keep_context(program, said.context)
        # What the cache keeps must not keep the application's own object.
        return opencl.share(program), time.perf_counter() - started

    record = record_of(built := cache.builder.build(request, from_source))
    if record.explanation.origin is not Origin.SOURCE:
        put_built(program, built, record.explanation.seconds)
    attach(program, record)
    return program
