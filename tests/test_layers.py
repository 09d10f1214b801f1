"""Imports go down only: one table of floors and rooms, which every module is in."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeGuard

PACKAGE = Path(__file__).parent.parent / "mace_cache"

# A room may import the rooms that stand before it. The package's own face comes last: it may not be
# imported by any room.
FLOORS = {
    "values and the machine": """
        errors explanation program _report _trust _directories _filesystem _file_bytes _locking
        _mounts _signing_keys config _notes _warm_process _notebook statistics missed
        rejections
    """,
    "what identifies": """
        _fetching opencl _driver_family _driver_library fingerprint reuse
        _preprocessor _headers source _spirv _variables
        container.structures container.metadata container.plain container.reading container.writing
        container.inspection container
        signing mace_file
    """,
    "where programs are kept": """
        storage storage.base storage.memory storage._layout storage._usage storage.directory
        storage.file storage.bytestream storage._installed storage.precompiled storage.recorded
        storage.remote_settings storage.remote storage._answers storage.redis storage.objects
        storage._failing_open storage._uploads storage._renewal storage.tiered storage.remotes
        storage.factory
    """,
    "the cache": """
        _trial_process _launches guard tiers request resident records loading
        _program_locks
        harvest harvest._exit harvest.policy harvest.quiet harvest.sameness harvest.nvidia
        harvest._nvidia_loader harvest.finalise harvest.pending unwritten keeping
        flights
        nearest tracing
        tuning building background _source_worker _helping _crew _misses many cache
    """,
    "unmodified programs": """
        _program_parts answering hooked dropin _on_import startup.sitecustomize
    """,
    "kernels and install time": """
        manifest library _trials local_sizes
        operators.arguments operators.tensor operators.checks operators.windows operators.copying
        operators.product operators.arithmetic operators.unary
        operators.convolutions operators.elementwise
        operators.image operators.layout operators.pooling operators.recurrent
        operators.statistics operators.reductions operators.scaling operators.normalisation
        operators.matrix operators.winograd operators.transposed
        operators.slicing operators.padding operators.patches operators.rearranging
        operators.casting operators.resizing operators operators.typical
        warm_report _progress _warm_worker warm tune
    """,
    "the command": """
        cli cli.output cli.entries cli.options cli.examination cli.rehearsal
        cli.findings cli.content_health cli.place_health cli.guard_health cli.remote_health
        cli.driver_probe cli.driver_health
        cli.devices cli.shipping cli.doctor cli.explain_miss cli.export cli.hook cli.importing
        cli.inspect cli.keygen cli.maintenance cli.programs cli.push cli.record cli.run cli.tune
        cli.warm
        cli.application __main__
    """,
}
ROOMS = [room for rooms in FLOORS.values() for room in rooms.split()]

# The exceptions: the command's entry point looks for the extra before it imports what needs it, the
# command says which version it is, and what starts in any program goes through the front door.
UPWARD = {"cli": {"cli.application"}, "cli.application": {""}, "_on_import": {""}}

NEVER_AT_IMPORT = {
    "filelock", "platformdirs", "rich", "click", "multiprocessing", "redis", "obstore"
}  # fmt: skip
ABOVE_THE_DRIVER = {"cl", "pyopencl"}
COMMAND_ONLY = {"click", "rich"}


def room_of(path: Path) -> str:
    """Give a module's name below the package; that of ``__init__`` is its directory's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {room_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {room: ast.parse(path.read_text(encoding="utf-8")) for room, path in SOURCES.items()}


def is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether that is ``if TYPE_CHECKING:``, which no interpreter enters."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def nodes(tree: ast.AST, *, in_functions: bool = True) -> Iterator[ast.AST]:
    """Give what is run of a module."""
    children = tree.orelse if is_type_checking(tree) else ast.iter_child_nodes(tree)
    for node in children:
        if in_functions or not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from nodes(node, in_functions=in_functions)


def imported(tree: ast.AST, *, in_functions: bool = True) -> Iterator[str]:
    """Give the absolute names of the modules that are imported."""
    for node in nodes(tree, in_functions=in_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                is_room = below.removeprefix("mace_cache.") in SOURCES
                yield below if is_room else node.module


def own(names: Iterator[str]) -> set[str]:
    """Give the rooms among imported modules."""
    own = [name for name in names if name.partition(".")[0] == "mace_cache"]
    return {name.removeprefix("mace_cache").removeprefix(".") for name in own}


def test_every_room_is_in_the_table() -> None:
    """Once each; a new module has to find its floor."""
    assert sorted([*ROOMS, ""]) == sorted(SOURCES)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room: str) -> None:
    """Also those within functions; what is imported for types only doesn't count."""
    below = set(ROOMS[: ROOMS.index(room)])
    assert own(imported(MODULES[room])) <= below | UPWARD.get(room, set())


def test_the_walk_sees_upward_imports() -> None:
    """Wherever they hide: otherwise the test above shows nothing."""
    text = """
if TYPE_CHECKING:
    from mace_cache.cache import ProgramCache
else:
    import mace_cache.tiers
def function():
    from mace_cache import warm
    class Inner:
        try:
            from mace_cache.cli.output import complain
        except ImportError:
            import rich.console
"""
    tree = ast.parse(text)
    assert own(imported(tree)) == {"tiers", "warm", "cli.output"}
    assert set(imported(tree, in_functions=False)) == {"mace_cache.tiers"}


def test_what_every_start_pays_for() -> None:
    """Slow imports wait until they are needed; only the command has its own at the top."""
    for room, tree in MODULES.items():
        top = {name.partition(".")[0] for name in imported(tree, in_functions=False)}
        allowed = COMMAND_ONLY if room.startswith("cli.") else set()
        assert not (top & NEVER_AT_IMPORT) - allowed, room


def test_only_one_room_calls_private_pyopencl() -> None:
    """What pyopencl may change without notice is used in one place, or to find its loader."""
    for room, tree in MODULES.items():
        modules = [name for name in imported(tree) if name.startswith("pyopencl.")] + [
            f"pyopencl.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "pyopencl"
            for alias in node.names
        ]
        attributes = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ABOVE_THE_DRIVER
        ]
        private = [name for name in (*modules, *attributes) if re.search(r"(^|\.)_[^_]", name)]
        assert not private or room in {"opencl", "_fetching"}, f"{room}: {private}"


BUILDS = {"Program", "create_program_with_built_in_kernels", "link_program"}


def test_only_one_room_builds_programs() -> None:
    """No other makes a `pyopencl.Program`, so that fakes have one seam."""
    for room, tree in MODULES.items():
        made = [
            ast.unparse(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in BUILDS
            and ast.unparse(node.func.value) in ABOVE_THE_DRIVER
        ]
        assert not made or room == "opencl", f"{room}: {made}"


def test_nothing_is_unpickled_or_evaluated() -> None:
    """Nor handed to a shell: what a cache reads is data."""
    forbidden = {"eval", "exec", "compile", "__import__"}
    for room, tree in MODULES.items():
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & forbidden, room
        names = {name.partition(".")[0] for name in imported(tree)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "runpy"}, room
        assert "shell=True" not in ast.unparse(tree), room


def test_rooms_are_described() -> None:
    """Every module opens with what it does."""
    for room, tree in MODULES.items():
        assert ast.get_docstring(tree), room


def test_the_house_is_described() -> None:
    """Every room is in ``docs/architecture.md``, and every room in there exists."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(?!tests/)([a-z_/]+\.py)`", text))
    paths = {path.relative_to(PACKAGE).as_posix() for path in SOURCES.values()}
    assert described == {path for path in paths if not path.endswith("__init__.py")}
