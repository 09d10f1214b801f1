"""Like ``functions.py``, and tells which functions of pyopencl were building a program.

``python callers.py CALLERS PLATFORM RESULTS [NAME...]`` writes their names to a file, a line each.
"""

from __future__ import annotations

import sys
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from tests.dropin import functions
from tests.dropin.builders import PACKAGE, first_line, name_of, paths_in, read_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["main"]

_NAMES = {
    (str(PACKAGE.joinpath(*module.split(".")).with_suffix(".py")), first_line(path[-1])): name_of(
        module, path
    )
    for module, tree in read_modules().items()
    for path in paths_in(tree)
}


def names_of(frame: FrameType) -> Iterator[str]:
    """The function that runs, the classes of its object, and the variables that hold it."""
    code = frame.f_code
    if name := _NAMES.get((code.co_filename, code.co_firstlineno)):
        yield name
        module = name.partition(":")[0]
        for ancestor in type(frame.f_locals.get("self")).__mro__:
            if ancestor.__module__.startswith("pyopencl"):
                yield f"{module_of(ancestor)}:{ancestor.__qualname__}"
        yield from (f"{module}:{variable}" for variable in _variables(frame))


def module_of(kind: type) -> str:
    """The module of a class of pyopencl, as in `name_of`."""
    path = sys.modules[kind.__module__].__file__ or ""
    return ".".join(Path(path).relative_to(PACKAGE).with_suffix("").parts)


def _variables(frame: FrameType) -> Iterator[str]:
    """The module's variables that are this very function, of all that were made of its code."""
    for name, value in frame.f_globals.items():
        if isfunction(value) and value.__code__ is frame.f_code and value.__closure__:
            kept = [cell.cell_contents for cell in value.__closure__]
            held = [frame.f_locals[free] for free in frame.f_code.co_freevars]
            if all(one is other for one, other in zip(kept, held, strict=True)):
                yield name


def record(told: set[str]) -> None:
    """From now on tell who is building, at every build."""
    build: Callable[..., Any] = cl.Program.build

    def recorded(*arguments: Any, **options: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            told.update(names_of(frame))
            frame = frame.f_back
        return build(*arguments, **options)

    cl.Program.build = recorded  # type: ignore[method-assign]


def main(callers: str, *arguments: str) -> None:
    """Run functions with every build recorded."""
    told: set[str] = set()
    record(told)
    functions.main(*arguments)
    Path(callers).write_text("\n".join(sorted(told)))


if __name__ == "__main__":
    main(*sys.argv[1:])
