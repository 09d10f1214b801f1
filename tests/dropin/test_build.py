"""`install`: what `pyopencl.Program.build` means stays so, and programs are cached."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import struct
import subprocess
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.characterize
import pytest

import mace_cache
from mace_cache import (
    Origin,
    Outcome,
    ProgramCache,
    _fetching,
    _program_parts,
    dropin,
    hooked,
    opencl,
)
from mace_cache._report import forget_reported
from tests.helpers import (
    REPOSITORY,
    FakeFactory,
    FaultyStorage,
    entries,
    make_source,
    read_entry,
    refuse_loads,
    run_child,
    scale,
    watch_fetches,
    watch_loads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = dict(vars(cl.Program))
BROKEN = "kernel void broken( {"
SOURCE = make_source("dropin")


@pytest.fixture(autouse=True)
def _nothing_stays_installed() -> Iterator[None]:
    _put_all_back()
    yield
    assert not dropin._installed
    _put_all_back()


def _put_all_back() -> None:
    """Where programs were built, the functions stay."""
    for name in dropin._REPLACEMENTS:
        setattr(cl.Program, name, PLAIN[name])
    dropin._replaced.clear()
    dropin._needed = False


@pytest.fixture
def stored(context: cl.Context, cache_directory: Path) -> Path:
    """A cache directory in which SOURCE lies for three factors, compiled through the hook."""
    with mace_cache.installed():
        for options in (None, "-DFACTOR=3", "-DFACTOR=5"):
            cl.Program(context, SOURCE).build(options)
    assert len(entries(cache_directory)) == 3
    return cache_directory


def build(context: cl.Context, *arguments: Any, source: str | bytes = SOURCE) -> cl.Program:
    """Build a program as applications do."""
    program = cl.Program(context, source)
    built: cl.Program = program.build(*arguments)
    assert built is program
    return built


def outcome(program: cl.Program) -> Outcome:
    """What came of asking the cache for a program."""
    return mace_cache.explain(program).outcome


# Installing


def test_cold_then_warm(context: cl.Context, stored: Path) -> None:
    """The next one to come finds on disk what the first one built; then it is in memory."""
    with mace_cache.installed():
        first, second = build(context), build(context)
    assert mace_cache.explain(first).origin is Origin.STORAGE
    assert str(stored) in mace_cache.explain(first).tier
    assert mace_cache.explain(second).origin is Origin.MEMORY
    assert scale(first) == scale(second) == 2


def test_install_and_uninstall_twice(context: cl.Context, stored: Path) -> None:
    """Calling either again does no harm; after `uninstall` nothing is left."""
    assert mace_cache.install()
    assert mace_cache.install()
    assert outcome(build(context)) is Outcome.HIT
    mace_cache.uninstall()
    mace_cache.uninstall()
    assert mace_cache.explain(build(context)).reason == "it was not built through a cache"
    assert stored.exists()


def test_nothing_is_left_where_nothing_was_built() -> None:
    """The functions are those of pyopencl again."""
    mace_cache.install()
    with mace_cache.installed():
        assert cl.Program.build is not PLAIN["build"]
    mace_cache.uninstall()
    assert {name: vars(cl.Program)[name] for name in PLAIN} == PLAIN


def test_the_innermost_cache_counts(context: cl.Context, tmp_path: Path) -> None:
    """Blocks nest with each other and with `install`, in whatever order they are left."""
    caches = [ProgramCache(storage_path=tmp_path / name) for name in "abc"]
    mace_cache.install(caches[0])
    first, second = mace_cache.installed(caches[1]), mace_cache.installed(caches[2])
    first.__enter__()
    second.__enter__()
    build(context)
    first.__exit__(None, None, None)
    assert mace_cache.explain(build(context)).origin is Origin.MEMORY
    second.__exit__(None, None, None)
    mace_cache.uninstall()
    for cache in caches:
        cache.close()
    assert [len(entries(tmp_path / name)) for name in "abc"] == [0, 0, 1]


def test_uninstall_within_a_block(context: cl.Context, cache_directory: Path) -> None:
    """It undoes `install` only; the block's cache goes on to the block's end."""
    with mace_cache.installed():
        mace_cache.install()
        mace_cache.uninstall()
        assert outcome(build(context)) is Outcome.MISS
    assert len(entries(cache_directory)) == 1


def test_whoever_has_replaced_ours_stays(context: cl.Context, stored: Path) -> None:
    """Another library's function in the place of ours is left there, and ours steps aside."""
    with mace_cache.installed():
        ours = cl.Program.build

        def theirs(self: cl.Program, *arguments: Any, **named: Any) -> cl.Program:
            built: cl.Program = ours(self, *arguments, **named)
            return built

        cl.Program.build = theirs  # type: ignore[method-assign] # as other libraries do
    try:
        assert cl.Program.build is theirs
        assert mace_cache.explain(build(context)).reason == "it was not built through a cache"
        with mace_cache.installed():
            assert cl.Program.build is theirs
            assert outcome(build(context)) is Outcome.HIT
    finally:
        cl.Program.build = ours  # type: ignore[method-assign]
        with mace_cache.installed():
            pass
    assert stored.exists()


def test_an_untested_pyopencl(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A release outside the tested range: one warning, and nothing is touched."""
    forget_reported()
    monkeypatch.setattr(cl, "VERSION", (2027, 1))
    monkeypatch.setattr(cl, "VERSION_TEXT", "2027.1")
    with caplog.at_level(logging.WARNING, "mace_cache"):
        assert not mace_cache.install()
        assert not mace_cache.install()
        with mace_cache.installed():
            assert cl.Program.build is PLAIN["build"]
        mace_cache.uninstall()
    (record,) = caplog.records
    assert "2027.1" in record.getMessage()
    monkeypatch.setattr(cl, "VERSION", (2025, 2, 7))
    assert not mace_cache.install()


def test_the_cache_itself_isnt_cached_twice(context: cl.Context, tmp_path: Path) -> None:
    """A `ProgramCache` of the application's own builds as without the hook."""
    with (
        ProgramCache(storage_path=tmp_path / "own") as own,
        mace_cache.installed(ProgramCache(storage_path=tmp_path / "other")),
    ):
        program = own.build(context, SOURCE)
    assert own.explain(program).outcome is Outcome.MISS
    assert entries(tmp_path / "own")
    assert not entries(tmp_path / "other")


def test_signatures_stay() -> None:
    """Who looks at the functions sees pyopencl's."""
    before = {name: inspect.signature(PLAIN[name]) for name in ("build", "get_info")}
    with mace_cache.installed():
        assert {name: inspect.signature(getattr(cl.Program, name)) for name in before} == before
        assert cl.Program.build.__doc__ == PLAIN["build"].__doc__


# What a build means


@pytest.mark.parametrize(
    ("arguments", "factor"),
    [
        ((), 2),
        ((None,), 2),
        (("-DFACTOR=3",), 3),
        ((["-DFACTOR=3"],), 3),
        ((("-D", "FACTOR=3"),), 3),
        pytest.param((iter(["-DFACTOR=3"]),), 3, id="an iterator"),
        (("-DFACTOR=5", None), 5),
    ],
    ids=str,
)
def test_options(
    context: cl.Context, stored: Path, arguments: tuple[Any, ...], factor: int
) -> None:
    """A string or any sequence."""
    assert stored.exists()
    with mace_cache.installed():
        assert scale(build(context, *arguments)) == factor


def test_named_arguments(context: cl.Context, device: cl.Device, stored: Path) -> None:
    """All can be given by name."""
    assert stored.exists()
    with mace_cache.installed():
        program = cl.Program(context, SOURCE)
        built = program.build(options=["-DFACTOR=3"], devices=[device], cache_dir=None)
        assert built is program
        assert outcome(program) is Outcome.HIT


def test_build_options_of_the_environment(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    """``PYOPENCL_BUILD_OPTIONS`` counts, and leads to the program of the same options."""
    assert stored.exists()
    monkeypatch.setenv("PYOPENCL_BUILD_OPTIONS", "-DFACTOR=7")
    with mace_cache.installed():
        program = build(context)
        assert outcome(program) is Outcome.MISS
        assert scale(program) == 7


def test_cache_dir_false(
    context: cl.Context, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No caching: nothing is looked for, nothing stored."""
    before = entries(stored)
    seen = watch_loads(monkeypatch)
    with mace_cache.installed():
        program = build(context, "-DFACTOR=11", None, False)
        assert scale(program) == 11
        assert outcome(program) is Outcome.BYPASS
        assert outcome(build(context, None, None, False)) is Outcome.BYPASS
    assert entries(stored) == before
    assert not seen


def test_cache_dir(context: cl.Context, tmp_path: Path, cache_directory: Path) -> None:
    """A path, given here or with the context, is a storage there."""
    where = tmp_path / "theirs"
    with mace_cache.installed():
        build(context, None, None, str(where))
        other = cl.Context(context.devices)
        other.cache_dir = where  # type: ignore[attr-defined] # pyopencl looks for it
        assert outcome(build(other)) is Outcome.MISS  # another context: not in memory
    assert len(entries(where)) == 1
    assert not entries(cache_directory)
    with mace_cache.installed():
        assert outcome(build(context, None, None, where)) is Outcome.HIT
        assert outcome(build(context)) is Outcome.MISS


def test_a_cache_dir_that_isnt_one(context: cl.Context) -> None:
    """It is left to pyopencl, which doesn't look at it on PoCL."""
    with mace_cache.installed():
        assert outcome(build(context, None, None, "")) is Outcome.BYPASS
        assert outcome(build(context, None, None, 7)) is Outcome.BYPASS


def test_only_so_many_places_are_open(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that names a new directory for each build doesn't fill the memory."""
    monkeypatch.setattr(hooked, "_MOST_PLACES", 2)
    real, caches = hooked._open_cache, weakref.WeakSet[ProgramCache]()

    def open_cache(path: str | None = None) -> ProgramCache:
        caches.add(cache := real(path))
        return cache

    monkeypatch.setattr(hooked, "_open_cache", open_cache)
    with mace_cache.installed(ProgramCache()):
        for number in range(5):
            build(context, None, None, tmp_path / str(number))
        gc.collect()
        assert len(caches) <= 3
    assert [len(entries(tmp_path / str(number))) for number in range(5)] == [1] * 5


def test_a_bypass_that_doesnt_build(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has its line in the trace as well."""
    monkeypatch.setenv("MACE_CACHE_TRACE", "1")
    with mace_cache.installed():
        failure(lambda: build(context, None, None, False, source=BROKEN))
    said = capsys.readouterr().err
    assert said.startswith("mace-cache: bypass ")
    assert said.endswith("it is built with cache_dir=False, and it doesn't build\n")


def test_pyopencl_no_cache(stored: Path) -> None:
    """Whoever switches pyopencl's caching off wants none."""
    code = """
import mace_cache, tests.helpers as h, pyopencl as cl
mace_cache.install()
program = cl.Program(h.open_context(), h.make_source("dropin")).build()
print(mace_cache.explain(program))
"""
    assert "PYOPENCL_NO_CACHE is set" in run_child(code, PYOPENCL_NO_CACHE="1")
    assert stored.exists()


def test_a_program_of_no_source(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its binary isn't asked for, which some drivers die of."""
    seen = watch_fetches(monkeypatch)
    with mace_cache.installed(cache := ProgramCache()):
        program = build(context, source="")
        cache.flush()
    assert mace_cache.explain(program).reason == "this program can't be cached: its source is empty"
    assert not seen


def test_disabled(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, cache_directory: Path
) -> None:
    """``MACE_CACHE_DISABLE`` means absent."""
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    with mace_cache.installed():
        program = build(context)
    assert outcome(program) is Outcome.BYPASS
    assert "MACE_CACHE_DISABLE" in mace_cache.explain(program).reason
    assert not cache_directory.exists()


# What a program can be asked


def facts(program: Any, device: cl.Device) -> dict[str, Any]:
    """All that a program answers and that doesn't name an object."""
    info, about = cl.program_info, cl.program_build_info
    return {
        "names": program.kernel_names,
        "kernels": sorted(kernel.function_name for kernel in program.all_kernels()),
        "number": program.num_kernels,
        "source": program.source,
        "asked source": program.get_info(info.SOURCE),
        "il": program.il,
        "devices": program.get_info(info.DEVICES),
        "number of devices": program.num_devices,
        "context": program.context,
        "status": program.get_build_info(device, about.STATUS),
        "options": program.get_build_info(device, about.OPTIONS),
        "binary type": program.get_build_info(device, about.BINARY_TYPE),
        "one argument": cl.Kernel(program, "scale").num_args,
    }


def test_answers_stay(context: cl.Context, device: cl.Device, stored: Path) -> None:
    """Before and after: built without the hook, loaded through it, taken from memory."""
    assert stored.exists()
    plain = build(context, "-DFACTOR=3")
    with mace_cache.installed():
        for origin in (Origin.STORAGE, Origin.MEMORY):
            program = build(context, "-DFACTOR=3")
            assert mace_cache.explain(program).origin is origin
            assert facts(program, device) == facts(plain, device)
            again = cl.Program.from_int_ptr(program.int_ptr)
            assert again == program
            assert hash(again) == hash(program)
            for wrapper in (again, cl.Kernel(program, "scale").program):
                assert facts(wrapper, device) == facts(plain, device)


def test_options_that_a_driver_forgets(
    context: cl.Context, device: cl.Device, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it tells none of what it loads, the program answers with those that it was given."""
    assert stored.exists()
    asked = (device, cl.program_build_info.OPTIONS)
    untyped: Any = build(context, "-DFACTOR=3")
    plain = untyped.get_build_info(*asked)
    with mace_cache.installed():
        program: Any = build(context, "-DFACTOR=3")
    wrapper: Any = cl.Program.from_int_ptr(program.int_ptr)
    forgetful = SimpleNamespace(get_build_info=lambda *_asked: "", int_ptr=program.int_ptr)
    for one in (program, wrapper):
        assert one.get_build_info(*asked) == plain
        monkeypatch.setitem(vars(one), "_prg", forgetful)
        assert one.get_build_info(*asked) == plain


# In processes of their own: PoCL 3.0 goes on to hand out what it once warned of.
_WARNED = """
import warnings, mace_cache, tests.helpers as h, pyopencl as cl
context = h.open_context()
def build():
    program = cl.Program(context, "#warning mind the gap\\n" + h.make_source("warned"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program.build()
    log = program.get_build_info(context.devices[0], cl.program_build_info.LOG)
    for warning in caught:
        where = (warning.filename, warning.lineno)
        print(warning.category.__name__, *where, len(str(warning.message)))
    print(mace_cache.explain(program).origin.value, "mind the gap" in log)
"""


@pytest.mark.parametrize("shown", ["0", "1"])
def test_warnings_and_the_build_log(shown: str, tmp_path: Path) -> None:
    """A compiler's warnings come with the first build as ever; its log stays with the program."""

    def run(own_cache: str, code: str) -> list[str]:
        (tmp_path / own_cache).mkdir()
        return run_child(
            _WARNED + code,
            PYOPENCL_COMPILER_OUTPUT=shown,
            POCL_CACHE_DIR=str(tmp_path / own_cache),
        ).splitlines()

    plain = run("a", "build()")
    first = run("b", "with mace_cache.installed(): build(); build()")
    later = run("c", "with mace_cache.installed(): build(); build()")
    assert plain[0].startswith("CompilerWarning")
    assert first == [*plain, "memory True"]
    assert later == ["storage True", "memory True"]


def test_use_before_the_build(context: cl.Context) -> None:
    """It defeats caching, as pyopencl says."""
    with mace_cache.installed():
        program = cl.Program(context, SOURCE)
        with pytest.warns(UserWarning, match="defeats compiler caching"):
            assert program.source == SOURCE
        before = program.int_ptr
        program.build()
        assert program.int_ptr == before
        assert mace_cache.explain(program).reason == "it was used before its build"


def test_where_pyopencl_warns(context: cl.Context) -> None:
    """It names the line of the application, or the same one of its own as without the hook."""

    def use(which: int) -> object:
        program: Any = cl.Program(context, make_source("where", "#define FACTOR 23\n"))
        if which == 0:
            return program.get_info(cl.program_info.NUM_DEVICES)
        if which == 1:
            return program.get_build_info(context.devices[0], cl.program_build_info.STATUS)
        return program.source if which == 2 else program.compile()

    def places() -> list[tuple[str, int]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for which in range(4):
                use(which)
        return [(warning.filename, warning.lineno) for warning in caught]

    plain = places()
    assert [file for file, _line in plain].count(__file__) == 3
    with mace_cache.installed():
        assert places() == plain


def test_a_second_build_of_one_program(context: cl.Context, stored: Path) -> None:
    """With other options it becomes another program; what shares the first one keeps it."""
    assert stored.exists()
    with mace_cache.installed():
        program, other = build(context), build(context)
        program.build("-DFACTOR=3")
        assert outcome(program) is Outcome.HIT
        assert (scale(program), scale(other)) == (3, 2)
        program.build("-DFACTOR=13")
        assert outcome(program) is Outcome.MISS
        assert (scale(program), scale(build(context))) == (13, 2)


def test_a_second_build_where_pyopencl_caches(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own cache would let go of the context; cold and warm are alike."""
    monkeypatch.setattr(pyopencl.characterize, "has_src_build_cache", lambda _device: False)
    for expected in (Outcome.MISS, Outcome.HIT):
        with mace_cache.installed():
            program = build(context, "-DFACTOR=3")
            program.build("-DFACTOR=5")
            assert (outcome(program), scale(program)) == (expected, 5)
    assert entries(cache_directory)


@pytest.mark.parametrize("name", ["build", "compile"])
def test_a_program_outlives_the_block(context: cl.Context, stored: Path, name: str) -> None:
    """Loaded or built, it is made of its source when it is built again, and so is nobody else's."""
    with mace_cache.installed():
        loaded, shared, cold = (
            build(context, f) for f in ("-DFACTOR=3", "-DFACTOR=3", "-DFACTOR=7")
        )
    before = len(entries(stored))
    for program in (loaded, cold):
        assert program.source == SOURCE
        with pytest.raises(TypeError):
            getattr(program, name)(5)
        assert scale(program) in (3, 7)
        # PoCL 3.0 dies of a build with the options of a `compile`.
        getattr(program, name)("-DFACTOR=17" if name == "compile" else "-DFACTOR=11")
        assert name == "compile" or scale(program) == 11
        assert program.source == SOURCE
    assert scale(shared) == 3
    with mace_cache.installed():
        again = build(context, "-DFACTOR=7")
        assert (outcome(again), scale(again)) == (Outcome.HIT, 7)
    assert len(entries(stored)) == before


def build_again(program: cl.Program, *arguments: Any) -> cl.Program:
    """Build it with arguments of whatever type."""
    built: cl.Program = program.build(*arguments)
    return built


def test_a_second_build_that_cant_begin(
    context: cl.Context, device: cl.Device, stored: Path
) -> None:
    """Whatever is wrong with its arguments, the program stays what it is."""
    assert stored.exists()
    with mace_cache.installed():
        program = build(context)
        for arguments in ((5,), (None, [7])):
            with pytest.raises((TypeError, RuntimeError)):
                build_again(program, *arguments)
            assert scale(program) == 2
            assert outcome(program) is Outcome.HIT
        failure(lambda: build_again(program, "-DFACTOR=(", None, False))
        assert "error" in _log_of(program, device)
        assert "doesn't build" in mace_cache.explain(program).reason


def built_anew(program: cl.Program) -> cl.Program:
    """The same OpenCL program, built with another factor where nothing is hooked."""
    shared: cl.Program = cl.Program.from_int_ptr(program.int_ptr)
    shared.build("-DFACTOR=7")
    return shared


def compiled(program: cl.Program) -> cl.Program:
    """The same OpenCL program, made one that could be linked."""
    program._get_prg().compile(b"-DFACTOR=19", None, [])
    return program


@pytest.mark.parametrize("change", [built_anew, compiled])
def test_what_was_built_anew_in_its_place(
    context: cl.Context, cache_directory: Path, change: Callable[[cl.Program], cl.Program]
) -> None:
    """The cache neither hands out nor stores it as what it was before."""
    with mace_cache.installed(cache := ProgramCache()):
        change(build(context, "-DFACTOR=3"))
        program = build(context, "-DFACTOR=3")
        assert outcome(program) is Outcome.MISS
        assert scale(program) == 3
        change(program)
        cache.close()
        assert not entries(cache_directory)
        assert scale(build(context, "-DFACTOR=3")) == 3
        cache.close()
    assert len(entries(cache_directory)) == 1
    with mace_cache.installed():
        assert scale(build(context, "-DFACTOR=3")) == 3


def test_what_was_built_anew_of_another_header(
    context: cl.Context, cache_directory: Path, tmp_path: Path
) -> None:
    """The driver tells the same of it as before; what is stored and handed out stays right."""
    header = tmp_path / "factor.h"
    arguments = [f"-I{tmp_path}"]
    source = make_source("anew", '#include "factor.h"\n')
    with mace_cache.installed(cache := ProgramCache(harvest="deferred")):
        for _ in range(2):
            header.write_text("#define FACTOR 3\n")
            first = build(context, arguments, source=source)
            header.write_text("#define FACTOR 5\n")
            cl.Program.from_int_ptr(first.int_ptr).build(arguments)
            assert scale(first) == 5
        header.write_text("#define FACTOR 3\n")
        assert scale(build(context, arguments, source=source)) == 3
        header.write_text("#define FACTOR 5\n")
        assert scale(first.build(arguments)) == 5
    cl.Program.from_int_ptr(first.int_ptr).build(["-DX", *arguments])  # the block is over
    cl.Program.from_int_ptr(first.int_ptr).build(arguments)
    cache.close()
    assert len(entries(cache_directory)) == 1
    with mace_cache.installed():
        for factor in (3, 5):
            header.write_text(f"#define FACTOR {factor}\n")
            assert scale(build(context, arguments, source=source)) == factor


def test_another_wrapper_of_a_loaded_program(context: cl.Context, stored: Path) -> None:
    """Built, it is a program of its own, of the source and the new options; the other one stays."""
    assert stored.exists()
    with mace_cache.installed():
        program = build(context, "-DFACTOR=3")
        assert mace_cache.explain(program).origin is Origin.STORAGE
        wrappers: list[cl.Program] = [
            cl.Program.from_int_ptr(program.int_ptr),
            cl.Program(program._get_prg()),
            cl.Program(program._get_prg()),
        ]
        with pytest.raises(TypeError):
            build_again(wrappers[0], 5)
        assert [scale(wrapper) for wrapper in wrappers] == [3, 3, 3]
        wrappers[0].build("-DFACTOR=5")
        wrappers[1].build("-DFACTOR=7")
    wrappers[2].build("-DFACTOR=11")  # the block is over
    assert [scale(wrapper) for wrapper in wrappers] == [5, 7, 11]
    assert scale(program) == 3


def test_variables_of_a_program(context: cl.Context) -> None:
    """Where they keep their values, each program has its own; PoCL itself says there are none."""
    source = make_source("variables", "global int kept = 0;\n")
    size = cl.program_build_info.GLOBAL_VARIABLE_TOTAL_SIZE
    with mace_cache.installed(cache := ProgramCache()):
        first = build(context, "-cl-std=CL2.0", source=source)
        assert first.get_build_info(context.devices[0], size) == 0  # type: ignore[no-untyped-call] # pyopencl leaves it untyped
        cache.flush()
        second = build(context, "-cl-std=CL2.0", source=source)
        assert mace_cache.explain(second).origin is Origin.STORAGE
        third = build(context, "-cl-std=CL2.0", source=source)
        assert len({first.int_ptr, second.int_ptr, third.int_ptr}) == 3
        without = [build(context, "-cl-std=CL2.0") for _ in range(2)]
        assert without[0].int_ptr == without[1].int_ptr


# Programs that aren't made of a source


def test_binaries_pass_through(context: cl.Context, device: cl.Device, stored: Path) -> None:
    """Nothing is looked up or stored for a program that was made from binaries."""
    before = entries(stored)
    binary = build(context).binaries[0]
    with mace_cache.installed():
        program = cl.Program(context, [device], [binary]).build()
        assert mace_cache.explain(program).reason == "it isn't made of a source"
        assert scale(program) == 2
    assert entries(stored) == before


def test_compile_and_link_pass_through(cache_directory: Path) -> None:
    """They aren't `build`, and work as ever.

    In a process of its own and without a launch: PoCL 3.0 dies of linked programs now and then.
    """
    code = """
import warnings, mace_cache, tests.helpers as h, pyopencl as cl
warnings.simplefilter("ignore", UserWarning)  # pyopencl's own: uncached
context = h.open_context()
with mace_cache.installed():
    compiled = cl.Program(context, h.make_source("linked")).compile(["-DFACTOR=3"])
    print(cl.link_program(context, [compiled]).kernel_names)
"""
    assert run_child(code) == "scale\n"
    assert not cache_directory.exists()


def test_built_programs_as_headers(cache_directory: Path) -> None:
    """Loaded or not, they are read as of their sources, and go on as they were.

    In a process of its own: PoCL dies of a header that has no source.
    """
    code = """
import warnings, mace_cache, tests.helpers as h, pyopencl as cl
warnings.simplefilter("ignore", UserWarning)  # pyopencl's own: uncached
context = h.open_context()
header = "#define VALUE 5\\nkernel void header(global int *x) {}"
including = '#include "h.h"\\n#if VALUE != 5\\n#error\\n#endif\\nkernel void f(global int *x) {}'
for start in ("cold", "warm"):
    with mace_cache.installed(mace_cache.ProgramCache(harvest="deferred")):
        for source in (header, header.encode()):
            built = cl.Program(context, source).build()
            for one in (built, cl.Program.from_int_ptr(built.int_ptr), built.header.program):
                cl.Program(context, including).compile(headers=[("h.h", one)])
            print(start, mace_cache.explain(built).origin.value == "storage", built.kernel_names)
            try:
                cl.Program(context, including).compile(headers=[("h.h", built, built)])
            except ValueError:
                built.compile(headers=iter([("own.h", built)]))
"""
    assert run_child(code) == "cold False header\n" * 2 + "warm True header\n" * 2
    assert entries(cache_directory)


def test_built_in_kernels_pass_through(context: cl.Context, device: cl.Device) -> None:
    """PoCL has none, and the error is the driver's own."""
    create: Any = cl.create_program_with_built_in_kernels

    with pytest.raises(cl.Error) as plain:
        create(context, [device], ["none"])
    with mace_cache.installed(), pytest.raises(cl.Error) as caught:
        create(context, [device], ["none"])
    assert str(caught.value) == str(plain.value)


class _Subclassed(cl.Program):
    """As some applications do: it builds itself."""

    def __init__(self, context: cl.Context, source: str, factor: int) -> None:
        super().__init__(context, source)
        self.factor = factor
        self.build(f"-DFACTOR={factor}")


def test_subclasses(context: cl.Context, stored: Path) -> None:
    """One that builds in its constructor is itself afterwards."""
    assert stored.exists()
    with mace_cache.installed():
        program = _Subclassed(context, SOURCE, 5)
        assert isinstance(program, _Subclassed)
        assert outcome(program) is Outcome.HIT
        assert (program.factor, scale(program), program.kernel_names) == (5, 5, "scale")


class _WithOptions(cl.Program):
    """As some do: the class says what it is built with, and counts its handles."""

    factor = 3

    @classmethod
    def _process_build_options(cls, context: cl.Context, options: Any, *more: Any) -> Any:
        said = [*(options or []), f"-DFACTOR={cls.factor}"]
        return super()._process_build_options(context, said, *more)


class _WithOtherOptions(_WithOptions):
    factor = 5


class _WithoutHandle(cl.Program):
    @property
    def int_ptr(self) -> int:
        raise ZeroDivisionError


def test_subclasses_that_override(context: cl.Context, cache_directory: Path) -> None:
    """Options that nobody else knows aren't cached; a handle is asked of pyopencl."""
    with mace_cache.installed():
        for kind, factor in ((_WithOptions, 3), (_WithOtherOptions, 5)):
            program = kind(context, SOURCE).build()
            assert scale(program) == factor
            assert mace_cache.explain(program).reason == "its class makes its own options"
        assert outcome(_WithoutHandle(context, SOURCE).build()) is Outcome.MISS
        assert outcome(_WithoutHandle(context, SOURCE).build()) is Outcome.HIT
    assert len(entries(cache_directory)) == 1


def test_an_application_replaces_the_class(
    context: cl.Context, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may do that at any time, and with one that can be made in its own way only."""
    assert stored.exists()

    class Theirs(cl.Program):
        def __init__(self, source: str) -> None:
            super().__init__(context, source)

    mace_cache.install()
    monkeypatch.setattr(cl, "Program", Theirs)
    for expected in (Origin.STORAGE, Origin.MEMORY):
        program = Theirs(SOURCE).build()
        assert mace_cache.explain(program).origin is expected
    mace_cache.uninstall()
    assert mace_cache.install()
    mace_cache.uninstall()
    monkeypatch.undo()


def test_one_of_two_devices(cache_directory: Path) -> None:
    """``devices=`` inside a context of two, and the context's both."""
    code = """
import mace_cache, pyopencl as cl, tests.helpers as h
context = h.open_context()
first, second = context.devices
for name in ("cold", "warm"):
    with mace_cache.installed():
        one = cl.Program(context, h.make_source("d")).build(devices=[second])
        both = cl.Program(context, h.make_source("d")).build()
        turned = cl.Program(context, h.make_source("d")).build(devices=[second, first])
        for program in (one, turned, cl.Program.from_int_ptr(one.int_ptr)):
            assert program.devices == program.get_info(cl.program_info.DEVICES) == [first, second]
            assert program.num_devices == program.get_info(cl.program_info.NUM_DEVICES) == 2
            for device in context.devices:
                assert program.get_build_info(device, cl.program_build_info.LOG) == ""
        print(*[mace_cache.explain(program).outcome.value for program in (one, both, turned)],
              h.scale(one, cl.CommandQueue(context, second)),
              *[h.scale(both, cl.CommandQueue(context, device)) for device in context.devices])
"""
    printed = run_child(code, POCL_DEVICES="pthread basic").splitlines()
    assert printed == ["miss miss hit 2 2 2", "hit hit hit 2 2 2"]
    assert entries(cache_directory)


def test_a_source_of_another_type(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pyopencl takes by accident, out of its own cache, it takes with the hook too."""
    monkeypatch.setattr(pyopencl.characterize, "has_src_build_cache", lambda _device: False)
    where = str(tmp_path)
    cl.Program(context, SOURCE.encode()).build(cache_dir=where)
    for hook in (nullcontext(), mace_cache.installed()):
        source: Any = bytearray(SOURCE.encode())
        program = cl.Program(context, source)
        with hook:
            assert scale(program.build(cache_dir=where)) == 2
    assert "bytearray" in mace_cache.explain(program).reason


# Builds that fail


def failure(make: Callable[[], cl.Program]) -> cl.Error:
    """The error that a build raises."""
    with pytest.raises(cl.RuntimeError) as caught:
        make()
    return caught.value


def test_errors_stay(context: cl.Context, cache_directory: Path) -> None:
    """Class, code, routine and text, but for the name of the driver's own temporary file."""
    program = cl.Program(context, BROKEN)
    plain = failure(lambda: program.build("-DX=1"))
    with mace_cache.installed():
        tried = cl.Program(context, BROKEN)
        error = failure(lambda: tried.build("-DX=1"))
    assert type(error) is type(plain)
    assert (error.code, error.routine) == (plain.code, plain.routine)
    assert "(options: -DX=1" in str(error)
    assert _without_paths(str(error)) == _without_paths(str(plain))
    assert error.__context__ is None
    assert error.__cause__ is None
    assert "error" in _log_of(tried, context.devices[0])
    assert not entries(cache_directory)
    explained = mace_cache.explain(tried)
    assert (explained.outcome, len(explained.key)) == (Outcome.MISS, 64)
    assert explained.reason == "no tier has it, and it doesn't build"


def test_a_failure_that_cant_be_cached(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is explained as it is traced."""
    monkeypatch.setenv("MACE_CACHE_TRACE", "1")
    program = cl.Program(context, f"{BROKEN} __TIME__")
    with mace_cache.installed():
        failure(program.build)
    explained = mace_cache.explain(program)
    assert (explained.outcome, explained.key) == (Outcome.BYPASS, "")
    assert f"{explained.reason}\n" in capsys.readouterr().err
    assert explained.reason.endswith("the source has __TIME__ in line 1, and it doesn't build")


def _log_of(program: Any, device: cl.Device) -> str:
    return str(program.get_build_info(device, cl.program_build_info.LOG))


def _without_paths(text: str) -> str:
    return " ".join(word for word in text.split() if "/" not in word)


def test_the_source_of_a_failure_is_saved(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where pyopencl does that: with drivers that have no cache of their own."""
    monkeypatch.setattr("pyopencl.characterize.has_src_build_cache", lambda _device: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with mace_cache.installed():
        error = failure(lambda: cl.Program(context, BROKEN).build())
        assert scale(build(context, source=make_source("uncached by its driver"))) == 2
    (saved,) = tmp_path.glob("*.cl")
    assert saved.read_text() == BROKEN
    assert f"(source saved as {saved})" in str(error)


def test_tolerated_failures(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of them leave nothing in memory and nothing on disk."""

    def fail(*_arguments: Any, **_named: Any) -> None:
        raise cl.RuntimeError(cl._cl._ErrorRecord(msg="no", code=-11, routine="clBuildProgram"))

    monkeypatch.setattr(cl.Program, "_build_and_catch_errors", fail)
    made: list[weakref.ref[cl.Program]] = []
    with mace_cache.installed(cache := ProgramCache()):
        for number in range(2_000):
            made.append(weakref.ref(program := cl.Program(context, make_source(number))))
            with pytest.raises(cl.RuntimeError, match="no"):
                program.build()
        del program
        gc.collect()
        assert not [reference for reference in made if reference() is not None]
        assert not cache.builder._flights._under_way
    assert not entries(cache_directory)
    assert len(list((cache_directory / "v1" / "locks").iterdir())) <= 4096


def test_another_attempt_after_a_failure(context: cl.Context, stored: Path) -> None:
    """A program that failed with some options and is built with others is cached like any."""
    assert stored.exists()
    with mace_cache.installed():
        program = cl.Program(context, SOURCE)
        failure(lambda: program.build("-DFACTOR=("))
        program.build("-DFACTOR=3")
        assert outcome(program) is Outcome.HIT
        assert scale(program) == 3


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        (SOURCE, (b"-DX",)),
        (SOURCE, ([b"-DX"],)),
        (SOURCE, ([3],)),
        (SOURCE, (3,)),
        (SOURCE, ("'",)),
        (SOURCE, (None, [7])),
        (SOURCE, (None, 7)),
        (7, ()),
        ([], ()),
    ],
    ids=str,
)
def test_arguments_that_are_wrong(
    context: cl.Context, caplog: pytest.LogCaptureFixture, source: Any, arguments: tuple[Any, ...]
) -> None:
    """What is wrong with them is for pyopencl to say, and for nobody else."""
    forget_reported()
    with pytest.raises(Exception) as plain:  # noqa: PT011 (whatever it is)
        cl.Program(context, source).build(*arguments)
    with (
        caplog.at_level(logging.WARNING, "mace_cache"),
        mace_cache.installed(),
        pytest.raises(type(plain.value)) as caught,
    ):
        cl.Program(context, source).build(*arguments)
    assert str(caught.value) == str(plain.value)
    assert not caplog.records


def test_a_cache_dir_that_all_can_write_to(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its programs would be anybody's: nothing is cached there, unless pyopencl does."""
    handed: list[object] = []

    def remember(
        self: cl.Program, options: object, devices: object, cache_dir: object
    ) -> cl.Program:
        handed.append(cache_dir)
        built: cl.Program = PLAIN["build"](self, options, devices, cache_dir)
        return built

    monkeypatch.setattr(cl.Program, "build", remember)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with mace_cache.installed():
        for _ in range(2):
            program = cl.Program(cl.Context(context.devices), SOURCE)
            program.build(cache_dir=str(shared))
            assert mace_cache.explain(program).reason == "its cache_dir can't be used"
    assert handed == [str(shared)] * 2
    assert not list(shared.iterdir())


def test_a_cache_dir_without_a_working_directory(context: cl.Context, tmp_path: Path) -> None:
    """Nobody can tell where it is, nor what a path that raises leads to: nothing is cached."""

    class Broken(os.PathLike[str]):
        def __fspath__(self) -> str:
            raise ZeroDivisionError

    gone, before = tmp_path / "gone", Path.cwd()
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        with mace_cache.installed():
            for place in ("relative", Broken()):
                assert outcome(build(context, None, None, place)) is Outcome.BYPASS
    finally:
        os.chdir(before)


def test_a_cache_dir_that_cant_be_used(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever stands in the way there, the program is built."""
    (tmp_path / "file").write_text("in the way")
    with mace_cache.installed():
        for place in (tmp_path / "file", "zero\0byte", "/proc/nothing/here"):
            assert scale(build(context, None, None, place)) == 2
        build(context)

        def refuse(_path: str) -> ProgramCache:
            raise OSError(5, "broken")

        monkeypatch.setattr(hooked, "_open_cache", refuse)
        program = build(context, None, None, tmp_path / "other")
        assert mace_cache.explain(program).reason == "its cache_dir can't be used"


@pytest.mark.parametrize("method", ["load", "find", "insert", "flush"])
def test_a_broken_storage(context: cl.Context, method: str) -> None:
    """Whatever is wrong with the cache, the program is built."""
    storage = FaultyStorage(method, OSError(5, "broken"))
    with mace_cache.installed(ProgramCache(storage_factory=FakeFactory(storage))):
        assert scale(build(context)) == 2
    assert storage.calls


def test_a_cache_that_cant_be_opened(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even that: one warning, and pyopencl builds."""
    forget_reported()

    def refuse(_path: str | None = None) -> ProgramCache:
        raise ImportError("half of it is gone")

    monkeypatch.setattr(hooked, "_open_cache", refuse)
    with caplog.at_level(logging.WARNING, "mace_cache"), mace_cache.installed():
        assert scale(build(context)) == scale(build(context)) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "no cache can be opened (ImportError('half of it is gone')): nothing is cached"
    ]


def test_a_rejected_binary(
    context: cl.Context, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rebuilt, into the application's own object."""
    assert stored.exists()
    refuse_loads(monkeypatch)
    with mace_cache.installed():
        program = build(context)
        assert outcome(program) is Outcome.REBUILD
        assert scale(program) == 2


# Many builds


def test_repeats_come_from_memory(
    context: cl.Context, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of builds of the same sources: the driver sees each once, and no object stays."""
    assert stored.exists()
    seen = watch_loads(monkeypatch)
    made: list[weakref.ref[cl.Program]] = []
    with mace_cache.installed():
        for number in range(3_000):
            program = build(context, f"-DFACTOR={3 + number % 2 * 2}")
            made.append(weakref.ref(program))
        assert outcome(program) is Outcome.HIT
        del program
        gc.collect()
        assert not [reference for reference in made if reference() is not None]
    assert len(seen) == 2


def test_an_application_lets_go_of_what_it_built(context: cl.Context) -> None:
    """What the cache keeps of a program built from source isn't the application's object."""
    with mace_cache.installed():
        alive = weakref.ref(build(context))
        gc.collect()
        assert alive() is None


def test_threads(context: cl.Context, queue: cl.CommandQueue, stored: Path) -> None:
    """Many threads build the same few programs, all with right results."""
    assert stored.exists()
    lock = threading.Lock()

    def work(number: int) -> bool:
        factor = (3, 5)[number % 2]
        program = build(context, f"-DFACTOR={factor}")
        with lock:  # the queue is shared
            return scale(program, queue) == factor

    with mace_cache.installed(), ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


_WORKERS = """
import multiprocessing
import mace_cache, tests.helpers as h, pyopencl as cl

def work(tag):
    with mace_cache.installed(cache := mace_cache.ProgramCache()):
        program = cl.Program(h.open_context(), h.make_source(tag)).build()
        kept.append(cache)  # nothing but the end of the worker finishes it
        return mace_cache.explain(program).outcome.value

kept = []
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.map(work, ["a", "b"]))
"""


def test_workers_of_a_pool(tmp_path: Path, cache_directory: Path) -> None:
    """A pool that is left kills its workers: what they build is stored by then."""
    path = tmp_path / "workers.py"
    path.write_text(_WORKERS)
    for expected in ("miss miss", "hit hit"):
        done = subprocess.run(
            [sys.executable, str(path)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.strip() == expected
    assert len(entries(cache_directory)) == 2


def test_results_are_those_of_the_source(
    context: cl.Context, queue: cl.CommandQueue, stored: Path
) -> None:
    """A kernel that is taken right after the build runs."""
    assert stored.exists()
    with mace_cache.installed():
        numbers = np.arange(8, dtype=np.int32)
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffer = cl.Buffer(context, flags, hostbuf=numbers)
        build(context, "-DFACTOR=5").scale(queue, (8,), None, buffer)
        result = np.empty_like(numbers)
        cl.enqueue_copy(queue, result, buffer)
    assert result.tolist() == (numbers * 5).tolist()


def test_the_seam_of_our_own_builds_is_marked() -> None:
    """What `opencl.build_from_source` looks for is what `dropin` puts there."""
    with mace_cache.installed():
        replaced = cl.Program.build.replaced  # type: ignore[attr-defined] # ours alone
        assert replaced is PLAIN["build"]
    assert not hasattr(cl.Program.build, "replaced")
    assert "replaced" in inspect.getsource(opencl.build_from_source)
    assert dropin._REPLACEMENTS.keys() <= PLAIN.keys()


# SPIR-V: PyPI's PoCL takes none, so that a program of OpenCL C stands for what would be made of it

IL = struct.pack("<5I", 0x07230203, 0x10000, 0, 9, 0)
CAPABILITY = struct.pack("<2I", 2 << 16 | 17, 4)
SPECIALIZED = struct.pack("<4I", 4 << 16 | 71, 5, 1, 7)
BUILT_IN = struct.pack("<4I", 4 << 16 | 71, 5, 11, 28)
FUNCTION = struct.pack("<5I", 5 << 16 | 54, 1, 2, 0, 3)


@pytest.fixture
def make_il(context: cl.Context, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], cl.Program]:
    """Makes a program as pyopencl does of SPIR-V; its driver says of each which IL that was."""
    given: dict[int, bytes] = {}

    def make(il: bytes) -> cl.Program:
        program = cl.Program(context, SOURCE)
        held = vars(program)
        held["_prg"] = cl._cl._Program(context, SOURCE)
        del held["_source"], held["_build_duration_info"]
        given[program.int_ptr] = il
        return program

    monkeypatch.setattr(_program_parts, "fetch_il", lambda program: given.get(program.int_ptr, b""))
    return make


def test_il(make_il: Callable[[bytes], cl.Program], cache_directory: Path) -> None:
    """It is cached by its IL, and answers for source and IL as before it was loaded."""
    il = IL + CAPABILITY + BUILT_IN + FUNCTION
    for expected in (Outcome.MISS, Outcome.HIT):
        with mace_cache.installed():
            program = make_il(il)
            assert program.build() is program
            assert outcome(program) is expected
            assert scale(program) == 2
            assert (program.source, program.il) == (SOURCE, "")
    with mace_cache.installed():
        assert outcome(make_il(il + FUNCTION).build()) is Outcome.MISS
    stored = [read_entry(path).components[0] for path in entries(cache_directory)]
    assert ("IL", sha256(il).hexdigest()) in stored
    assert len(stored) == 2


@pytest.mark.parametrize(
    "il",
    [
        IL + SPECIALIZED,
        IL + CAPABILITY + BUILT_IN + SPECIALIZED + FUNCTION,
        IL[3::-1] + IL[4:],
        IL + struct.pack("<I", 71) + SPECIALIZED,
    ],
)
def test_il_that_can_be_specialized(make_il: Callable[[bytes], cl.Program], il: bytes) -> None:
    """Nobody can be asked for the values that it was given; nor is the other byte order read."""
    with mace_cache.installed():
        program = make_il(il).build()
    assert "can be specialized" in mace_cache.explain(program).reason
    assert scale(program) == 2


def test_a_second_build_of_il(
    make_il: Callable[[bytes], cl.Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins with the IL again, whether it was built from it or loaded."""
    il = IL + CAPABILITY + FUNCTION
    monkeypatch.setattr(
        _program_parts, "make_unbuilt", lambda _context, il: vars(make_il(il))["_prg"]
    )
    for expected in (Outcome.MISS, Outcome.HIT):
        with mace_cache.installed():
            program, other = make_il(il).build("-DFACTOR=3"), make_il(il).build("-DFACTOR=3")
            for factor in (5, 7):
                assert outcome(program.build(f"-DFACTOR={factor}")) is expected
                assert (scale(program), scale(other)) == (factor, 3)
            assert scale(make_il(il).build("-DFACTOR=3")) == 3


def test_il_of_whatever_form(make_il: Callable[[bytes], cl.Program]) -> None:
    """Cut short or senseless, it is the driver's business."""
    for il in (IL, IL[:4], IL + b"\xff" * 7, IL + b"\0" * 16):
        with mace_cache.installed():
            assert scale(make_il(il).build()) == 2


def test_a_driver_is_asked_for_il(context: cl.Context) -> None:
    """One that knows of none says nothing."""
    assert _fetching.fetch_il(build(context)) == b""
