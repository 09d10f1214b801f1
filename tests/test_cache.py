"""`ProgramCache`: where programs come from, what is told of them, and where they are kept."""

from __future__ import annotations

import gc
import re
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pyopencl as cl
import pytest

from mace_cache import Origin, ProgramCache, ReusePolicy, opencl
from mace_cache._report import forget_reported
from mace_cache.container import decode_entry, encode
from mace_cache.errors import ConfigurationError
from mace_cache.fingerprint import fingerprint, storage_name
from mace_cache.resident import ResidentProgram, ResidentPrograms
from mace_cache.storage.directory import DirectoryStorageFactory
from mace_cache.storage.memory import MemoryStorageFactory
from tests.helpers import (
    GARBAGE,
    FakeFactory,
    FaultyStorage,
    entries,
    make_source,
    plant,
    read_entry,
    refuse_loads,
    run_child,
    scale,
    watch_fetches,
    watch_loads,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = make_source("cache")
MINUTE = 60.0

_SEVERAL_DEVICES = """
import os
from pathlib import Path
import pyopencl as cl
from mace_cache import ProgramCache, request
from mace_cache.fingerprint import DeviceFingerprint, fingerprint
from tests.helpers import entries, make_source, open_context, plant, scale

first, second = cl.get_platforms()[0].get_devices()
context = open_context()
source = make_source("several")

def build(title, cache, *devices, **arguments):
    program = cache.build(context, source, **arguments)
    devices = devices or arguments.get("devices") or context.devices
    factors = [scale(program, cl.CommandQueue(context, device)) for device in devices]
    print(title, cache.explain(program).origin.value, factors)

with ProgramCache() as cache:
    build("second", cache, devices=[second])
with ProgramCache() as cache:
    build("both", cache)
    build("both again", cache)
with ProgramCache() as cache:
    build("first", cache, devices=[first])
    build("both", cache)

plant(entries(Path(os.environ["MACE_CACHE_DIR"]))[0])
for title in ("one rejected", "healed"):
    with ProgramCache() as cache:
        build(title, cache)

parts = first.create_sub_devices([cl.device_partition_property.EQUALLY, 1])[:2]
context = cl.Context(parts)
with ProgramCache() as cache:
    build("parts", cache, *parts)
source = make_source("of parts only")
for _ in range(2):
    with ProgramCache() as cache:
        build("parts", cache, *parts)

def without_vendor_id(device):
    lines = fingerprint(device).text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("device vendor id")]
    return DeviceFingerprint("".join(kept), "pocl")

request.fingerprint = without_vendor_id
context = open_context()
with ProgramCache() as cache:
    build("first of twins", cache, devices=[first])
with ProgramCache() as cache:
    build("second of twins", cache, devices=[second])
    build("twins", cache)
"""

_LEFT_OPEN = """
import os, sys, warnings
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context, scale

cache = ProgramCache()
program = cache.build(open_context(), make_source("left open"))
scale(program)
if sys.argv[1] == "fork":
    warnings.simplefilter("ignore")  # newer Pythons advise against what applications do
    child = os.fork()
    if not child:
        sys.exit()  # runs what is to be run at exit
    assert os.waitpid(child, 0)[1] == 0
    import pathlib
    assert not list(pathlib.Path(os.environ["MACE_CACHE_DIR"]).rglob("*.mclp"))
"""


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def precompiled(context: cl.Context, tmp_path: Path) -> bytes:
    """The MCLP file of one program, as an application ships it."""
    with ProgramCache(storage_path=tmp_path / "shipped") as cache:
        cache.build(context, SOURCE)
    (path,) = entries(tmp_path / "shipped")
    return path.read_bytes()


def build_plain(context: cl.Context, source: str) -> cl.Program:
    """Build as an application without any cache does."""
    no_cache: Any = False
    program = cl.Program(context, source)
    program.build(cache_dir=no_cache)
    return program


def origin_of(cache: ProgramCache, context: cl.Context, source: str = SOURCE) -> Origin:
    """Build, see that the program computes what it should, and tell where it came from."""
    program = cache.build(context, source)
    assert scale(program) == 2
    return cache.explain(program).origin


def test_source_then_memory_then_storage(context: cl.Context, cache_directory: Path) -> None:
    """Each tier gives a program that works, and says so."""
    with ProgramCache() as cache:
        built = cache.build(context, SOURCE)
        known = cache.build(context, SOURCE)
        told = cache.explain(built)
        assert (told.origin, told.tier, told.reason) == (Origin.SOURCE, "", "no tier has it")
        assert told.seconds_saved == 0
        assert cache.explain(known).origin is Origin.MEMORY
        assert cache.explain(known).key == told.key
        assert scale(built) == scale(known) == 2
        assert not cache.is_stored(known)
    (path,) = entries(cache_directory)
    assert path.stem == told.key
    plant(path, read_entry(path).binary, build_seconds=MINUTE)
    with ProgramCache() as cache:
        loaded = cache.build(context, SOURCE)
        told = cache.explain(loaded)
        assert (told.origin, told.reason) == (Origin.STORAGE, "it was stored")
        assert told.tier == str(path.parents[1])
        assert 0 < told.seconds < told.seconds_saved < MINUTE
        assert told.key == path.stem
        assert cache.is_stored(loaded)
        assert scale(loaded) == 2
        assert "from storage" in str(told)


def test_what_was_not_built_here_is_explained_too(context: cl.Context) -> None:
    """Any program may be asked about."""
    plain = build_plain(context, SOURCE)
    told = ProgramCache().explain(plain)
    assert (told.origin, told.key) == (Origin.SOURCE, "")
    assert told.reason == "it was not built through a cache"


def test_what_is_stored_is_what_is_known(context: cl.Context, cache_directory: Path) -> None:
    """An entry has all that is told of a program later."""
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE, "-DFACTOR=2")
    (path,) = entries(cache_directory)
    stored = read_entry(path)
    assert stored.kernel_names == ("scale",)
    assert "-DFACTOR=2" in stored.options
    assert stored.fingerprint == fingerprint(context.devices[0]).text
    assert 0 < stored.build_seconds <= cache.explain(program).seconds
    assert path.parents[1].name == storage_name(stored.fingerprint)


def test_options_in_every_form(context: cl.Context) -> None:
    """One text, a list and a tuple are the same options; another value isn't."""
    with ProgramCache() as cache:
        forms: list[Any] = ["-DA=1 -DFACTOR=3", ["-DA=1", "-DFACTOR=3"], ("-DA=1", "-DFACTOR=3")]
        programs = [cache.build(context, SOURCE, form) for form in forms]
        origins = [cache.explain(program).origin for program in programs]
        assert origins == [Origin.SOURCE, Origin.MEMORY, Origin.MEMORY]
        assert [scale(program) for program in programs] == [3, 3, 3]
        assert scale(cache.build(context, SOURCE)) == 2


def test_source_as_bytes(context: cl.Context) -> None:
    """Bytes are a source as well, with the same key."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        cache.flush()
        loaded = cache.build(context, SOURCE.encode())
        assert cache.explain(loaded).origin is Origin.STORAGE
        assert scale(loaded) == 2


def test_every_context_has_its_own_program(device: cl.Device, context: cl.Context) -> None:
    """Memory doesn't mix contexts; the storage serves them all."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
        cache.flush()
        assert origin_of(cache, cl.Context([device])) is Origin.STORAGE


def test_several_devices() -> None:
    """Two devices have a binary each; the parts of one share its binary, and use it as their own.

    PoCL tells its two devices apart by their vendor ids; without these they are identical.
    """
    told = run_child(_SEVERAL_DEVICES, POCL_DEVICES="pthread pthread", POCL_MAX_PTHREAD_COUNT="4")
    assert told.splitlines() == [
        "second source [2]",
        "both source [2, 2]",
        "both again memory [2, 2]",
        "first storage [2]",
        "both storage [2, 2]",
        "one rejected source [2, 2]",
        "healed storage [2, 2]",
        "parts storage [2, 2]",
        "parts source [2, 2]",
        "parts storage [2, 2]",
        "first of twins source [2]",
        "second of twins storage [2]",
        "twins storage [2, 2]",
    ]


def test_no_devices_are_all(context: cl.Context) -> None:
    """An empty list means what it means to clBuildProgram."""
    with ProgramCache() as cache:
        assert scale(cache.build(context, SOURCE, devices=[])) == 2
        assert origin_of(cache, context) is Origin.MEMORY


@pytest.mark.parametrize(
    "arguments", [{"source": 42}, {"options": 42}, {"devices": ["no device"]}, {"context": None}]
)
def test_wrong_arguments_are_pyopencls_to_refuse(
    context: cl.Context, arguments: dict[str, Any]
) -> None:
    """What can't be used raises what it raises without a cache."""
    given: dict[str, Any] = {"context": context, "source": SOURCE, **arguments}
    with pytest.raises(Exception) as plain:  # noqa: PT011 (whatever pyopencl raises)
        opencl.build_from_source(**given)
    with pytest.raises(type(plain.value)) as caught:
        ProgramCache().build(**given)
    assert str(caught.value) == str(plain.value)


def test_a_memory_hit_is_an_own_program(context: cl.Context) -> None:
    """Holders that each retrieve a kernel once don't make pyopencl warn of repeated retrieval."""
    with ProgramCache() as cache:
        holders = [cache.build(context, SOURCE) for _ in range(3)]
        assert [holder.scale.function_name for holder in holders] == ["scale"] * 3
        assert len({id(holder) for holder in holders}) == 3


@pytest.mark.parametrize(
    "source",
    ["kernel void broken( {", "#error not here", "kernel void f(global unknown *x) {}"],
    ids=["syntax", "directive", "type"],
)
def test_a_build_error_is_pyopencls(
    context: cl.Context, cache_directory: Path, source: str
) -> None:
    """Type, code and text are those of pyopencl; nothing is stored and nothing cleared."""

    def shown(error: BaseException) -> str:
        return re.sub(r"[\w/.-]*tempfile_\w+|[\w/.-]+/tmp\w+", "FILE", str(error))

    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    before = {path: path.read_bytes() for path in entries(cache_directory)}
    with pytest.raises(cl.RuntimeError) as plain:
        build_plain(context, source)
    with ProgramCache() as cache:
        for _ in range(2):
            with pytest.raises(cl.RuntimeError) as caught:
                cache.build(context, source)
            assert type(caught.value) is type(plain.value)
            assert caught.value.code == plain.value.code
            assert caught.value.routine == plain.value.routine
            assert shown(caught.value) == shown(plain.value)
    assert {path: path.read_bytes() for path in entries(cache_directory)} == before
    assert origin_of(ProgramCache(), context) is Origin.STORAGE


def test_memory_is_bounded() -> None:
    """Of more programs than are kept the least recently used goes."""
    programs = ResidentPrograms(most=2)
    kept = [cast("ResidentProgram", object()) for _ in range(3)]
    programs.insert((1, "a"), kept[0])
    programs.insert((1, "b"), kept[1])
    assert programs.find((1, "a")) is kept[0]
    programs.insert((1, "c"), kept[2])
    assert [programs.find((1, name)) for name in "abc"] == [kept[0], None, kept[2]]


def test_contexts_in_memory_are_bounded() -> None:
    """Of more contexts than are kept alive all programs of the least recently used go."""
    programs = ResidentPrograms(most_contexts=2)
    kept = [cast("ResidentProgram", object()) for _ in range(4)]
    asked = [(1, "a"), (1, "b"), (2, "a"), (3, "a")]
    for identity, program in zip(asked[:3], kept[:3], strict=True):
        programs.insert(identity, program)
    assert programs.find((1, "a")) is kept[0]
    programs.insert(asked[3], kept[3])
    assert [programs.find(identity) for identity in asked] == [kept[0], kept[1], None, kept[3]]
    programs.insert((4, "a"), kept[2])
    assert [programs.find(identity) for identity in asked] == [None, None, None, kept[3]]


def test_a_build_log_is_kept_and_not_repeated(context: cl.Context, cache_directory: Path) -> None:
    """A cold build warns as pyopencl does; a warm load warns about nothing, and keeps the log."""
    # PoCL has nothing to say of what it has compiled before: the two must not be the same to it.
    head = "#warning mind the step\nconstant int same_as_no_other = {};\n"
    source = make_source("log", head=head.format(1))
    with pytest.warns(cl.CompilerWarning) as plain:
        build_plain(context, make_source("log", head=head.format(2)))
    with ProgramCache() as cache:
        with pytest.warns(cl.CompilerWarning) as cold:
            cache.build(context, source)
        assert [str(w.message) for w in cold] == [str(w.message) for w in plain]
        cache.build(context, source)
    with warnings.catch_warnings(), ProgramCache() as cache:
        warnings.simplefilter("error")
        assert origin_of(cache, context, source) is Origin.STORAGE
    (path,) = entries(cache_directory)
    assert "mind the step" in read_entry(path).build_log


def test_precompiled_bytes(context: cl.Context, precompiled: bytes, cache_directory: Path) -> None:
    """Shipped bytes are loaded, and written to the local storage, which is asked first then."""
    with ProgramCache(binary=precompiled) as cache:
        program = cache.build(context, SOURCE)
        told = cache.explain(program)
        assert (told.origin, told.tier) == (Origin.PRECOMPILED, "precompiled bytes")
        assert scale(program) == 2
        assert len(entries(cache_directory)) == 1
    with ProgramCache(binary=precompiled) as cache:
        assert origin_of(cache, context) is Origin.STORAGE


def test_after_a_rejection_the_next_tier_is_asked(
    context: cl.Context, precompiled: bytes, cache_directory: Path
) -> None:
    """A stored binary that PoCL refuses is replaced by the shipped one, with no build."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    plant(path)
    with ProgramCache(binary=precompiled) as cache:
        program = cache.build(context, SOURCE)
        told = cache.explain(program)
        assert told.origin is Origin.PRECOMPILED
        assert "answered INVALID_BINARY, and took the next" in told.reason
        assert scale(program) == 2
    assert read_entry(path) == decode_entry(precompiled)
    with ProgramCache() as cache:
        assert origin_of(cache, context) is Origin.STORAGE


def test_the_first_precompiled_file_that_exists(
    context: cl.Context, precompiled: bytes, tmp_path: Path
) -> None:
    """Of several paths the first that exists is used, and bytes are asked after it."""
    missing, first, second = (tmp_path / name for name in ("missing", "first", "second"))
    first.write_bytes(encode([]))
    second.write_bytes(precompiled)
    with ProgramCache(url="memory:", binary_paths=[missing, second]) as cache:
        program = cache.build(context, SOURCE)
        assert cache.explain(program).tier == str(second)
    with ProgramCache(url="memory:", binary_paths=[missing, first, second]) as cache:
        assert origin_of(cache, context) is Origin.SOURCE
    with ProgramCache(url="memory:", binary_paths=[first], binary=precompiled) as cache:
        assert origin_of(cache, context) is Origin.PRECOMPILED


@pytest.mark.parametrize("place", [0, 4, 100, 700, 30_000, -60])
def test_damaged_precompiled_bytes_are_not_loaded(
    context: cl.Context,
    precompiled: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: int,
) -> None:
    """One flipped bit anywhere: the source it is, with one warning."""
    damaged = bytearray(precompiled)
    damaged[place] ^= 4
    loads = watch_loads(monkeypatch)
    for _ in range(2):
        with ProgramCache(url="memory:", binary=bytes(damaged)) as cache:
            assert origin_of(cache, context) is Origin.SOURCE
    assert loads == []
    assert len(caplog.records) == 1


def test_a_rejected_precompiled_program_is_passed_over(
    context: cl.Context, tmp_path: Path, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once, remembered as bad beside the programs, and the local storage not cleared.

    PoCL really refuses it: the file is well-formed, and the binary in it is none.
    """
    with ProgramCache() as cache:
        cache.build(context, make_source("innocent"))
        key = cache.explain(cache.build(context, SOURCE)).key
    (path,) = cache_directory.rglob(f"{key}.mclp")
    plant(path)
    bad = path.rename(tmp_path / "bad.mclp")
    with ProgramCache(binary_paths=[bad]) as cache:
        program = cache.build(context, SOURCE)
        assert "rejected" in cache.explain(program).reason
        assert scale(program) == 2
        assert cache.explain(program).origin is Origin.SOURCE
    assert len(entries(cache_directory)) == 2
    path.unlink()
    loads = watch_loads(monkeypatch)
    with ProgramCache(binary_paths=[bad]) as cache:
        assert origin_of(cache, context) is Origin.SOURCE
    assert loads == []
    told = run_child(
        "import sys; from mace_cache import ProgramCache, opencl\n"
        "from tests.helpers import make_source, open_context\n"
        "opencl.load_from_binaries = None\n"
        "cache = ProgramCache(binary_paths=sys.argv[1:], read_only=True)\n"
        "program = cache.build(open_context(), make_source('new'))\n"
        "print(cache.explain(program).reason)",
        bad,
    )
    assert told == "no tier has it\n"


def test_reuse_of_a_similar_fingerprint(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling that differs in a build-id is used under a policy, and else doesn't exist."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    stored = read_entry(path)
    path.unlink()
    sibling = stored.fingerprint + "build-id of libcompiler.so: 0123\n"
    factory = DirectoryStorageFactory(cache_directory)
    factory.create_storage(storage_name(sibling)).insert(
        stored.key, replace(stored, fingerprint=sibling)
    )
    with ProgramCache(read_only=True) as cache:
        assert origin_of(cache, context) is Origin.SOURCE
    for policy in ReusePolicy:
        with ProgramCache(reuse_policy=policy) as cache:
            program = cache.build(context, SOURCE)
            assert cache.explain(program).tier == storage_name(sibling)
            assert cache.explain(program).origin is Origin.STORAGE
            assert scale(program) == 2
    (path,) = entries(cache_directory)
    plant(path)
    loads = watch_loads(monkeypatch)
    for _ in range(2):
        with ProgramCache(reuse_policy=ReusePolicy.REUSE_SAME_GPU) as cache:
            assert scale(cache.build(context, SOURCE)) == 2
        own = storage_name(stored.fingerprint)
        for entry in (cache_directory / "v1" / own).rglob("*.mclp"):
            entry.unlink()
    assert loads == [GARBAGE], "it is passed over, and not tried again"
    assert path.exists(), "what others wrote isn't cleared"


def test_read_only(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is used; nothing is written, and no binary fetched for nothing."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    before = {path: path.stat().st_mtime_ns for path in cache_directory.rglob("*")}
    fetches = watch_fetches(monkeypatch)
    with ProgramCache(read_only=True) as cache:
        assert origin_of(cache, context) is Origin.STORAGE
        assert origin_of(cache, context, make_source("another")) is Origin.SOURCE
    assert {path: path.stat().st_mtime_ns for path in cache_directory.rglob("*")} == before
    assert fetches == []


def test_recache(
    context: cl.Context, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MACE_CACHE_RECACHE builds from source and writes again what is there."""
    with ProgramCache() as cache:
        cache.build(context, SOURCE)
    (path,) = entries(cache_directory)
    first = read_entry(path)
    monkeypatch.setenv("MACE_CACHE_RECACHE", "1")
    with ProgramCache() as cache:
        program = cache.build(context, SOURCE)
        assert cache.explain(program).reason == "MACE_CACHE_RECACHE is set"
        assert cache.explain(program).origin is Origin.SOURCE
    assert read_entry(path).created > first.created


@pytest.mark.parametrize(
    "place", ["cache_full_path", "url=file", "url=dir", "storage_path", "storage_factory"]
)
def test_every_place(context: cl.Context, tmp_path: Path, place: str) -> None:
    """Wherever it is asked to, a cache keeps its programs there and finds them again."""
    factory = MemoryStorageFactory()
    places: dict[str, dict[str, Any]] = {
        "cache_full_path": {"cache_full_path": tmp_path / "all.mclp"},
        "url=file": {"url": f"file:{tmp_path}/all.mclp"},
        "url=dir": {"url": f"dir:{tmp_path}/programs?max_size=10M"},
        "storage_path": {"storage_path": tmp_path / "programs"},
        "storage_factory": {"storage_factory": factory},
    }
    arguments = places[place]
    with ProgramCache(**arguments) as cache:
        assert origin_of(cache, context) is Origin.SOURCE
    with ProgramCache(**arguments) as cache:
        assert origin_of(cache, context) is Origin.STORAGE
    assert len(entries(tmp_path)) == (place != "storage_factory")
    assert len(factory.names()) == (place == "storage_factory")


def test_memory_only(context: cl.Context, tmp_path: Path) -> None:
    """``memory:`` lives with its cache and touches no disk."""
    with ProgramCache(url="memory:") as cache:
        assert origin_of(cache, context) is Origin.SOURCE
        assert origin_of(cache, context) is Origin.MEMORY
    with ProgramCache(url="memory:") as cache:
        assert origin_of(cache, context) is Origin.SOURCE
    assert list(tmp_path.iterdir()) == []


def test_one_place_only(tmp_path: Path) -> None:
    """Two places are a mistake that is told at once."""
    with pytest.raises(ConfigurationError, match="one place, and storage_path is given"):
        ProgramCache(storage_path=tmp_path, url="memory:")
    with pytest.raises(ConfigurationError, match="max_size"):
        ProgramCache(max_size="much")


def test_closing_twice_and_going_on(context: cl.Context, cache_directory: Path) -> None:
    """A closed cache can be closed again, and still builds; memory was let go of."""
    cache = ProgramCache()
    cache.build(context, SOURCE)
    cache.close()
    cache.close()
    assert origin_of(cache, context) is Origin.STORAGE
    cache.build(context, make_source("after the end"))
    cache.close()
    assert len(entries(cache_directory)) == 2


def test_a_collected_cache_is_written(context: cl.Context, cache_directory: Path) -> None:
    """A cache that nobody closed is flushed when it is collected, its programs alive or not."""
    cache = ProgramCache()
    program = cache.build(context, SOURCE)
    assert entries(cache_directory) == []
    del cache
    gc.collect()
    assert len(entries(cache_directory)) == 1
    assert scale(program) == 2


@pytest.mark.parametrize("trouble", ["none", "find", "insert", "flush", "rejection"])
def test_a_cache_is_let_go_of_at_once(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Whatever it met, no cycle keeps a cache, and what it has to write, until some collection."""
    factory = FakeFactory(FaultyStorage(trouble, RuntimeError("broken")))
    ProgramCache(storage_factory=factory).build(context, SOURCE)
    if trouble == "rejection":
        refuse_loads(monkeypatch)
    gc.collect()
    gc.disable()
    try:
        cache = ProgramCache(storage_factory=factory)
        cache.build(context, SOURCE)
        cache.flush()
        gone = weakref.ref(cache)
        del cache
        assert gone() is None
    finally:
        gc.enable()


def test_a_cache_left_open_is_written_at_exit(cache_directory: Path) -> None:
    """The end of the process is time enough."""
    run_child(_LEFT_OPEN, "exit")
    assert len(entries(cache_directory)) == 1


def test_a_forked_child_leaves_the_writing_to_its_parent(cache_directory: Path) -> None:
    """A child that exits writes nothing of its parent's; the parent does."""
    run_child(_LEFT_OPEN, "fork")
    assert len(entries(cache_directory)) == 1


def test_eight_threads(context: cl.Context, cache_directory: Path) -> None:
    """Threads that build one program, and different ones, at once get what they asked for."""
    barrier = threading.Barrier(8)

    def work(number: int) -> list[int]:
        barrier.wait()
        sources = [make_source("shared"), make_source(number)]
        options = [None, f"-DFACTOR={2 + number % 2}"]
        programs = [
            cache.build(context, source, option)
            for source, option in zip(sources, options, strict=True)
        ]
        return [scale(program) for program in programs]

    expected = [[2, 2 + number % 2] for number in range(8)]
    for _ in range(2):
        with ProgramCache() as cache, ThreadPoolExecutor(8) as threads:
            assert list(threads.map(work, range(8))) == expected
            threads.submit(cache.flush)
    assert len(entries(cache_directory)) == 9
    with ProgramCache() as cache:
        assert origin_of(cache, context, make_source("shared")) is Origin.STORAGE


def test_iterators_are_taken_as_pyopencl_takes_them(
    context: cl.Context, cache_directory: Path
) -> None:
    """Options and devices that can be read but once: built with them, and stored as such."""
    assert not cache_directory.exists()
    for origin in (Origin.SOURCE, Origin.STORAGE):
        with ProgramCache() as cache:
            options: Any = (option for option in ["-DFACTOR=7"])
            devices: Any = iter(context.devices)
            program = cache.build(context, make_source("once"), options, devices)
            assert scale(program) == 7
            assert cache.explain(program).origin is origin
    with ProgramCache() as cache:
        program = cache.build(context, make_source("once"), ["-DFACTOR=7"])
        assert (scale(program), cache.explain(program).origin) == (7, Origin.STORAGE)


_FIRST_BUILDS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from mace_cache import ProgramCache
from tests.helpers import make_source, open_context

context, cache = open_context(), ProgramCache()
with ThreadPoolExecutor(8) as threads:
    built = threads.map(lambda number: cache.build(context, make_source(number)), range(8))
    print(len({cache.explain(program).key for program in built}))
"""


@pytest.mark.parametrize("start", range(4))
def test_the_first_builds_of_a_process_in_threads(start: int) -> None:
    """What a first build imports and reads of the driver holds up no other thread, nor is held."""
    assert run_child(_FIRST_BUILDS, start) == "8\n"
