"""Caching for unmodified pyopencl programs: `pyopencl.Program.build` asks a cache first.

`install` puts functions of this room in the place of `pyopencl.Program`'s; `uninstall` puts them
back. What a program can see of a build stays as it is without them; ``docs/adopting.md`` says what
that covers.
"""

from __future__ import annotations

import functools
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache import opencl
from mace_cache._report import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mace_cache.cache import ProgramCache
    from mace_cache.hooked import Hooked

__all__ = ["install", "installed", "uninstall"]

logger = logging.getLogger(__name__)

# The releases of pyopencl that tests/dropin ran on.
_OLDEST_TESTED, _NEWEST_TESTED = (2026, 1), (2026, 1, 4)

_lock = threading.RLock()
_replaced: dict[str, tuple[Any, Any]] = {}  # by name: what was there, and what is in its place
_installed: list[_Installation] = []  # the last one counts
_needed = False  # since a program was built: see `_put_back_all`
_by_install: list[_Installation] = []  # at most one: what `install` has put there


class _Installation:
    """What one `install` or `installed` has put there; the rest is imported with the first build.

    Attributes:
        hooked: builds programs, once one was built.
    """

    def __init__(self, cache: ProgramCache | None) -> None:
        self._cache = cache
        self.hooked: Hooked | None = None

    def make_hooked(self) -> Hooked:
        from mace_cache.hooked import Hooked  # noqa: PLC0415 (many programs build nothing)

        global _needed  # noqa: PLW0603 (programs stay that were built)
        with _lock:
            _needed = True
            self.hooked = self.hooked or Hooked(self._cache)
        return self.hooked


def install(cache: ProgramCache | None = None) -> bool:
    """Cache what `pyopencl.Program.build` builds, from now on and in all threads.

    Calling it again only changes the cache. Programs keep meaning what they mean without it.

    Args:
        cache: where programs are kept; if None one as ``ProgramCache()`` opens it, at the first
            build.

    Returns:
        Whether it is installed: with a release of pyopencl that wasn't tested it is not, and a
        warning says so once.
    """
    if not _is_tested():
        return False
    with _lock:
        installation = _push(cache)
        uninstall()
        _by_install.append(installation)
    return True


def uninstall() -> None:
    """Undo `install`; where nothing is installed, do nothing.

    The cache that `install` opened itself is closed. A block of `installed` isn't affected. Once a
    program was built, pyopencl's functions go through ours for good, which then cache nothing: that
    program has to be built again from its source.
    """
    with _lock:
        leaving = _by_install.pop() if _by_install else None
    if leaving is not None:
        _remove(leaving)


@contextmanager
def installed(cache: ProgramCache | None = None) -> Iterator[None]:
    """Cache what `pyopencl.Program.build` builds within a ``with`` block, in all threads.

    Blocks can be nested, also with `install`: the innermost cache counts.

    Args:
        cache: as for `install`; one that is opened here is closed at the end of the block.
    """
    if not _is_tested():
        yield
        return
    installation = _push(cache)
    try:
        yield
    finally:
        _remove(installation)


def _is_tested() -> bool:
    if _OLDEST_TESTED <= cl.VERSION <= _NEWEST_TESTED and not cl.VERSION_STATUS:
        return True
    oldest, newest = (".".join(map(str, v)) for v in (_OLDEST_TESTED, _NEWEST_TESTED))
    warn_once(
        logger,
        "pyopencl's version",
        "pyopencl %s was not tested with mace_cache.install (%s to %s were): nothing is cached",
        cl.VERSION_TEXT,
        oldest,
        newest,
    )
    return False


def _push(cache: ProgramCache | None) -> _Installation:
    installation = _Installation(cache)
    with _lock:
        _installed.append(installation)
        _replace_all()
    return installation


def _remove(installation: _Installation) -> None:
    with _lock:
        _installed.remove(installation)
        if not _installed:
            _put_back_all()
    if installation.hooked is not None:
        installation.hooked.close()


def _replace_all() -> None:
    """Put our functions in the place of pyopencl's, where they aren't in use already."""
    for name, make in _REPLACEMENTS.items():
        if name not in _replaced:
            before = vars(opencl.PROGRAM)[name]
            _replaced[name] = before, make(before)
            setattr(opencl.PROGRAM, name, _replaced[name][1])


def _put_back_all() -> None:
    """Put pyopencl's functions back, except where somebody else has replaced ours since.

    Once a program was built they stay, and call pyopencl's: such a program may share what is built
    with others or come from a binary, and has to answer, and to be built again, as one of a source.
    """
    if _needed:
        return
    for name, (before, ours) in list(_replaced.items()):
        if vars(opencl.PROGRAM)[name] is ours:
            setattr(opencl.PROGRAM, name, before)
            del _replaced[name]


def _make_build(before: Callable[..., cl.Program]) -> Callable[..., cl.Program]:
    @functools.wraps(before)
    def build(
        self: cl.Program, options: Any = None, devices: Any = None, cache_dir: Any = None
    ) -> cl.Program:
        try:
            installation = _installed[-1]
        except IndexError:
            with _as_its_own(self):
                return before(self, options, devices, cache_dir)
        hooked = installation.hooked or installation.make_hooked()
        return hooked.build(before, self, options, devices, cache_dir)

    vars(build)["replaced"] = before  # for opencl.build_from_source
    return build


def _make_compile(before: Callable[..., cl.Program]) -> Callable[..., cl.Program]:
    @functools.wraps(before)
    def compile(  # noqa: A001 (as pyopencl names it)
        self: cl.Program, options: Any = None, devices: Any = None, headers: Any = None
    ) -> cl.Program:
        from mace_cache.answering import readable  # noqa: PLC0415 (as above)

        with _as_its_own(self):
            self._get_prg()  # pyopencl may warn of it, of the line that calls this function
            return before(self, options, devices, headers and [readable(one) for one in headers])

    return compile


def _as_its_own(program: cl.Program) -> AbstractContextManager[None]:
    from mace_cache.hooked import as_its_own  # noqa: PLC0415 (as above)

    return as_its_own(program)


def _make_get_info(before: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(before)
    def get_info(self: cl.Program, arg: cl.program_info) -> object:
        from mace_cache.answering import info_of  # noqa: PLC0415 (as above)

        self._get_prg()  # as above
        answer = info_of(self, arg)
        return before(self, arg) if answer is None else answer

    return get_info


def _make_get_build_info(before: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(before)
    def get_build_info(self: cl.Program, *args: Any, **kwargs: Any) -> object:
        from mace_cache.answering import build_info_of  # noqa: PLC0415 (as above)

        self._get_prg()  # as above
        answer = None if kwargs or len(args) != _ARGUMENTS else build_info_of(self, *args)
        return before(self, *args, **kwargs) if answer is None else answer

    return get_build_info


def _make_property(info: cl.program_info) -> Callable[[property], property]:
    def make(before: property) -> property:
        def get(self: cl.Program) -> object:
            from mace_cache.answering import info_of  # noqa: PLC0415 (as above)

            answer = info_of(self, info)
            return before.__get__(self) if answer is None else answer

        return property(get, doc=before.__doc__)

    return make


_ARGUMENTS = 2  # of get_build_info, besides the program
_REPLACEMENTS: dict[str, Callable[[Any], Any]] = {
    "build": _make_build,
    "compile": _make_compile,
    "devices": _make_property(cl.program_info.DEVICES),
    "get_build_info": _make_get_build_info,
    "get_info": _make_get_info,
    "il": _make_property(cl.program_info.IL),
    "num_devices": _make_property(cl.program_info.NUM_DEVICES),
    "source": _make_property(cl.program_info.SOURCE),
}
