"""Which functions and classes of pyopencl build a program, as its own source says.

`Program.build` builds, and so does what calls, by name, something that builds. A call is written
``take`` if it is of a function or makes an object of a class, and ``.take`` if it is of a method.
What is called through a variable, or only by an operator, is not seen.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pyopencl as cl

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PACKAGE", "Scope", "find_builders", "first_line", "name_of", "paths_in", "read_modules"]

PACKAGE = Path(cl.__file__).parent

Scope: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Scopes: TypeAlias = tuple[Scope, ...]


class _Function(NamedTuple):
    """A function: its name, the classes that have it, how calls of it look, what it calls."""

    name: str
    classes: set[str]
    called: set[str]
    calls: set[str]


def find_builders(modules: dict[str, ast.Module]) -> set[str]:
    """The functions that build, and the classes with methods that do.

    Args:
        modules: what `read_modules` gives.

    Returns:
        Names as `name_of` writes them. ``sin = make("sin")`` is a function as well, if ``make``
        defines one that builds.
    """
    heirs = _find_heirs(modules)
    functions = [one for module in modules for one in _read(module, modules[module], heirs)]
    found: dict[str, _Function] = {}
    called = {".build"}
    while new := [one for one in functions if one.name not in found and one.calls & called]:
        found.update((one.name, one) for one in new)
        called.update(*(one.called for one in new))
    classes = set[str]().union(*(one.classes for one in found.values()))
    return found.keys() | {
        name_of(module, path)
        for module in modules
        for path in paths_in(modules[module])
        if isinstance(path[-1], ast.ClassDef) and path[-1].name in classes
    }


def read_modules() -> dict[str, ast.Module]:
    """The syntax trees of pyopencl's modules by their names; ``__init__`` is the package itself."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def paths_in(node: ast.AST, outer: Scopes = ()) -> Iterator[Scopes]:
    """Every function and class of a tree, each after those that it is defined in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Scope):
            yield (*outer, child)
            yield from paths_in(child, (*outer, child))
        else:
            yield from paths_in(child, outer)


def name_of(module: str, path: Scopes) -> str:
    """As ``array:Array.any``, or ``clmath:make.f`` for a function within another."""
    return f"{module}:{'.'.join(scope.name for scope in path)}"


def first_line(scope: Scope) -> int:
    """Where the code of a function begins: at its first decorator."""
    return min([scope.lineno, *(decorator.lineno for decorator in scope.decorator_list)])


def _find_heirs(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Of each class, by its name, those with its methods: itself, and what inherits from it."""
    classes = [
        path[-1]
        for tree in modules.values()
        for path in paths_in(tree)
        if isinstance(path[-1], ast.ClassDef)
    ]
    inherits = [
        (ast.unparse(base).partition("[")[0].rpartition(".")[2], one.name)
        for one in classes
        for base in one.bases
    ]
    heirs = {one.name: {one.name} for one in classes}
    while more := [
        (base, name) for base, name in inherits if base in heirs and not heirs[name] <= heirs[base]
    ]:
        for base, name in more:
            heirs[base] |= heirs[name]
    return heirs


def _read(module: str, tree: ast.Module, heirs: dict[str, set[str]]) -> Iterator[_Function]:
    """The functions of one module, and the variables that are given what a function made."""
    names = _Names(tree)
    for path in paths_in(tree):
        *outer, scope = path
        if isinstance(scope, ast.ClassDef):
            continue
        classes, called = set[str](), {scope.name}
        if outer and isinstance(outer[-1], ast.ClassDef):
            classes = heirs[outer[-1].name]
            called = {f".{scope.name}"}
            if scope.name in {"__init__", "__post_init__"}:
                called = classes
        elif outer:
            called = {f"{module}:{scope.name}"}
        calls = set(names.calls_of(scope))
        calls |= {f"{module}:{name}" for name in calls}
        yield _Function(name_of(module, path), classes, called, calls)
    for name, maker in names.made.items():
        within = [path[-1] for path in paths_in(tree) if len(path) > 1 and path[0].name == maker]
        yield _Function(
            f"{module}:{name}", set(), {name}, {f"{module}:{scope.name}" for scope in within}
        )


class _Names:
    """What the names in one module stand for."""

    def __init__(self, tree: ast.Module) -> None:
        self.made: dict[str, str] = {}
        self.ours = {path[-1].name for path in paths_in(tree)}
        self.modules = set[str]()
        self.foreign = set[str]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    kind = self.modules if alias.name.startswith("pyopencl") else self.foreign
                    kind.add(alias.asname or alias.name)
            elif isinstance(node, ast.ImportFrom):
                self._import_from(node)
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                maker = ast.unparse(node.value.func)
                self.made.update((ast.unparse(target), maker) for target in node.targets)
        self.ours |= self.made.keys()

    def _import_from(self, node: ast.ImportFrom) -> None:
        imported = {alias.asname or alias.name for alias in node.names}
        if (node.module or "").startswith("pyopencl") or node.level:
            self.ours |= imported
            self.modules |= imported  # a name that is no module has no functions to call
        else:
            self.foreign |= imported

    def calls_of(self, scope: Scope) -> Iterator[str]:
        """What a function itself calls, or has as a default to call."""
        for node in _within(scope):
            if isinstance(node, ast.Call):
                yield from self._written(node.func)
            elif isinstance(node, ast.arguments):
                for default in [*node.defaults, *node.kw_defaults]:
                    yield from self._written(default)
            elif (
                isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) in {"out", "result"}  # as arrays are called there
            ):
                yield ".__setitem__"

    def _written(self, called: ast.expr | None) -> Iterator[str]:
        """How it is written; nothing if it is no name, or another package's."""
        if isinstance(called, ast.Name) and called.id in self.ours:
            yield called.id
        elif isinstance(called, ast.Attribute):
            of = ast.unparse(called.value)
            if of in self.modules:
                yield called.attr
            elif called.attr == "__init__" and of in self.ours:
                yield of
            elif of not in self.foreign and not called.attr.startswith("__"):
                yield f".{called.attr}"


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions and classes that are defined in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, Scope):
            yield child
            yield from _within(child)
