"""What a `pyopencl.Program` holds, by pyopencl's own private names: for `hooked.py` alone.

They are read with `vars`: a program takes any attribute that it doesn't know for a kernel's name.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache._fetching import fetch_il
from mace_cache._spirv import may_be_specialized
from mace_cache.opencl import PROGRAM, make_unbuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "caching_is_off",
    "context_of",
    "keep_context",
    "lend_source",
    "make_own",
    "makes_own_options",
    "put_built",
    "saying",
    "source_of",
    "unbuild",
    "unbuilt_of",
]

_UNBUILT = "_mace_cache_unbuilt"
_OPTIONS = "_process_build_options"


def caching_is_off() -> bool:
    """Whether ``PYOPENCL_NO_CACHE`` was set when pyopencl was imported."""
    return bool(vars(cl).get("_PYOPENCL_NO_CACHE"))


def context_of(program: cl.Program) -> cl.Context:
    """Give the context of a program that has a source (`source_of`)."""
    context: cl.Context = vars(program)["_context"]
    return context


def keep_context(program: cl.Program, context: cl.Context) -> None:
    """Have a program know its context still, which pyopencl lets go of where it caches itself."""
    vars(program).setdefault("_context", context)


def source_of(program: cl.Program) -> tuple[str | bytes | None, str]:
    """Give what a program would be built of.

    Returns:
        OpenCL C or SPIR-V, or None; and why it is None.
    """
    held = vars(program)
    if "_context" not in held:  # pyopencl lets go of it when it has built a program
        return None, "it was built before"
    if held.get("_prg") is None:
        source = held.get("_source")
        known = isinstance(source, str | bytes)
        return (source, "") if known else (None, f"its source is {type(source)}")
    if "_source" in held:
        return None, "it was used before its build"
    il = fetch_il(held["_prg"])
    if not il:
        return None, "it isn't made of a source"
    if may_be_specialized(il):
        return None, "its IL can be specialized, with values that can't be asked for"
    return il, ""


def makes_own_options(program: cl.Program) -> bool:
    """Whether its class builds it with options that nobody else knows."""
    making = next(vars(one)[_OPTIONS] for one in type(program).__mro__ if _OPTIONS in vars(one))
    return making is not vars(PROGRAM)[_OPTIONS]


@contextmanager
def saying(program: cl.Program, source: str | bytes) -> Iterator[None]:
    """Have a program of OpenCL C made of another source, as long as the block runs."""
    held = vars(program)
    own = held.get("_source")
    if isinstance(own, str):
        held["_source"] = source
    try:
        yield
    finally:
        if isinstance(own, str):
            held["_source"] = own


def lend_source(program: cl.Program, source: str | bytes) -> bool:
    """Have `unbuild` make a program, which knows no source, one of this source.

    Returns:
        Whether it will.
    """
    held = vars(program)
    if "_source" in held or "_context" not in held:
        return False
    try:
        held[_UNBUILT] = make_unbuilt(held["_context"], source)
    except (cl.Error, TypeError):
        return False
    return True


def unbuild(program: cl.Program) -> Callable[[], None]:
    """Make a program that the cache may share with others one that wasn't built.

    Nothing is changed where that can't be done, which pyopencl itself doesn't take either.

    Returns:
        What undoes it.
    """
    held = vars(program)
    names = ("_prg", _UNBUILT, "_build_duration_info")
    before = {name: held[name] for name in names if name in held}
    if "_context" in held:
        held["_prg"] = None if "_source" in held else _unbuilt_il(held)

    def undo() -> None:
        for name in names:
            held.pop(name, None)
        held.update(before)

    return undo


def _unbuilt_il(held: dict[str, Any]) -> Any:
    if _UNBUILT in held:  # it was loaded from a binary instead
        return held.pop(_UNBUILT)
    try:
        return make_unbuilt(held["_context"], fetch_il(held["_prg"]))
    except cl.Error:
        return held["_prg"]  # the cache sees that it is another one now


def make_own(program: cl.Program) -> None:
    """Give a program that wasn't built an OpenCL program of its own, without a word about it."""
    held = vars(program)
    if held.get("_prg") is None and "_source" in held and "_context" in held:
        held["_prg"] = make_unbuilt(held["_context"], held["_source"])


def unbuilt_of(program: cl.Program) -> Any:
    """Give what a program was made of: OpenCL C, or pyopencl's own object made of SPIR-V."""
    held = vars(program)
    return held.get(_UNBUILT) or held.get("_source")


def put_built(program: cl.Program, built: cl.Program, seconds: float) -> None:
    """Make a program a built one.

    Args:
        program: what an application has made.
        built: another one for the same context, built.
        seconds: what it took.
    """
    held = vars(program)
    if "_source" not in held:
        held.setdefault(_UNBUILT, held["_prg"])
    held["_prg"] = vars(built)["_prg"]
    held["_build_duration_info"] = ("cache retrieval", True, seconds)
