"""The bundled kernels, and manifests of any kind."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache import library
from mace_cache.errors import ManifestError
from mace_cache.library import (
    Argument,
    Launch,
    ProgramSpecification,
    Variant,
    build_options,
    kernels_directory,
    launch_once,
    load_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BUNDLED = load_manifest().programs


def _document() -> Any:
    """A manifest of one program, made of JSON values."""
    launch = {
        "kernel": "work",
        "global_size": [64],
        "local_size": [64],
        "arguments": [{"buffer": 256}, {"buffer": None}, {"local": 64}, {"int32": -7}],
    }
    variants = [{"name": "plain", "options": []}, {"name": "fast", "options": ["-DFAST"]}]
    program = {"name": "one", "source": "one.cl", "variants": variants, "launches": [launch]}
    return {"version": 1, "programs": [program]}


def _write(directory: Path, document: object) -> Path:
    (directory / "one.cl").write_text("kernel void work() {}")
    path = directory / "manifest.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(
    scope="module",
    params=[(program, variant) for program in _BUNDLED for variant in program.variants],
    ids=[f"{program.name}-{variant.name}" for program in _BUNDLED for variant in program.variants],
)
def built(
    request: pytest.FixtureRequest, context: cl.Context
) -> tuple[ProgramSpecification, cl.Program]:
    """Each bundled program, built in each of its variants."""
    specification, variant = request.param
    options = build_options(specification, variant)
    return specification, cl.Program(context, specification.read_source()).build(options)


def test_the_manifest_lists_every_kernel(
    built: tuple[ProgramSpecification, cl.Program],
) -> None:
    """A kernel that is added to a source must be added to the manifest."""
    specification, program = built
    names = str(program.get_info(cl.program_info.KERNEL_NAMES)).split(";")
    assert {launch.kernel for launch in specification.launches} == {*names}


def test_every_launch_of_the_manifest_runs(
    built: tuple[ProgramSpecification, cl.Program], queue: cl.CommandQueue
) -> None:
    """The typical launches give every argument that the kernel takes."""
    specification, program = built
    for launch in specification.launches:
        assert cl.Kernel(program, launch.kernel).num_args == len(launch.arguments)
        launch_once(program, queue, launch)


def test_the_manifest_lists_every_source() -> None:
    """A program that is added to the directory must be added to the manifest."""
    sources = {name for name in os.listdir(kernels_directory()) if name.endswith(".cl")}
    assert {os.path.basename(program.path) for program in _BUNDLED} == sources


def test_kernels_are_found_in_the_wheel_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside the package, then beside it, then an error that names the place."""
    package = tmp_path / "site" / "mace_cache"
    package.mkdir(parents=True)
    monkeypatch.setattr(library, "__file__", str(package / "library.py"))
    with pytest.raises(ManifestError, match="the bundled kernels are missing"):
        kernels_directory()
    for place in (tmp_path / "site" / "kernels", package / "kernels"):
        place.mkdir()
        (place / "manifest.json").touch()
        assert kernels_directory() == str(place)


def test_a_manifest_of_ones_own_is_read(tmp_path: Path) -> None:
    """Every member arrives, with the source found beside the manifest."""
    path = _write(tmp_path, _document())
    manifest = load_manifest(path)
    assert manifest.path == str(path)
    (program,) = manifest.programs
    assert program.path == str(tmp_path / "one.cl")
    assert program.read_source() == "kernel void work() {}"
    assert program.variants == (Variant("plain", ()), Variant("fast", ("-DFAST",)))
    assert program.variant("fast") is program.variants[1]
    arguments = (
        Argument("buffer", 256),
        Argument("buffer", None),
        Argument("local", 64),
        Argument("int32", -7),
    )
    assert program.launches == (Launch("work", (64,), (64,), arguments),)


def test_the_local_size_may_be_the_drivers(tmp_path: Path) -> None:
    """A local size of null is None."""
    document = _document()
    document["programs"][0]["launches"][0]["local_size"] = None
    (program,) = load_manifest(_write(tmp_path, document)).programs
    assert program.launches[0].local_size is None


_LAUNCH = "programs[0].launches[0]"


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (["version"], 2, "version: expected 1, found 2"),
        (["extra"], 1, "manifest: extra is not known"),
        (["programs"], [], "programs: expected at least one"),
        (["programs"], {}, "programs: expected a list"),
        (["programs", 0], "one", "programs[0]: expected an object"),
        (["programs", 0, "name"], "", "programs[0].name: expected text that isn't empty"),
        (["programs", 0, "source"], "two.cl", "programs[0].source: there is no file"),
        (["programs", 0, "source"], "a\0b", "programs[0].source: expected text"),
        (["programs", 0, "variants"], [], "programs[0].variants: expected at least one"),
        (
            ["programs", 0, "variants", 1, "name"],
            "plain",
            "variants[1].name: 'plain' is there twice",
        ),
        (["programs", 0, "variants", 0, "options"], "-D", "variants[0].options: expected a list"),
        (["programs", 0, "variants", 0, "options"], [1], "options[0]: expected text"),
        (
            ["programs", 0, "launches", 0, "global_size"],
            [],
            f"{_LAUNCH}.global_size: expected 1 to 3",
        ),
        (["programs", 0, "launches", 0, "global_size"], [0], "global_size[0]: expected a whole"),
        (["programs", 0, "launches", 0, "global_size"], [2**31], "found 2147483648"),
        (["programs", 0, "launches", 0, "global_size"], [True], "found True"),
        (["programs", 0, "launches", 0, "global_size"], [100], "expected to divide global_size"),
        (["programs", 0, "launches", 0, "local_size"], [8, 8], "as many dimensions as global_size"),
        (
            ["programs", 0, "launches", 0, "arguments", 0],
            7,
            "arguments[0]: expected an object of one",
        ),
        (["programs", 0, "launches", 0, "arguments", 0], {}, "expected an object of one member"),
        (
            ["programs", 0, "launches", 0, "arguments", 0],
            {"image": 1},
            "expected one of buffer, local",
        ),
        (
            ["programs", 0, "launches", 0, "arguments", 0],
            {"buffer": 0},
            "arguments[0].buffer: expected",
        ),
        (["programs", 0, "launches", 0, "arguments", 0], {"local": None}, "found None"),
        (["programs", 0, "launches", 0, "arguments", 0], {"int8": 128}, "a number that int8 holds"),
        (
            ["programs", 0, "launches", 0, "arguments", 0],
            {"int32": 0.5},
            "a number that int32 holds",
        ),
        (["programs", 0, "launches", 0, "arguments", 0], {"float16": 7e4}, "that float16 holds"),
        (["programs", 0, "launches", 0, "arguments", 0], {"float64": "1"}, "that float64 holds"),
        (["programs", 0, "launches", 0, "arguments", 0], {"float32": True}, "that float32 holds"),
    ],
)
def test_another_form_is_refused_with_its_place(
    tmp_path: Path, place: list[Any], value: object, reason: str
) -> None:
    """The error names the file, the place in it and what is expected there."""
    document = _document()
    _put(document, place, value)
    path = _write(tmp_path, document)
    with pytest.raises(ManifestError) as raised:
        load_manifest(path)
    assert raised.value.path == str(path)
    assert reason in raised.value.reason


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    """Every member must be there."""
    document = _document()
    del document["programs"][0]["launches"][0]["kernel"]
    with pytest.raises(ManifestError, match=r"launches\[0\]: kernel is missing"):
        load_manifest(_write(tmp_path, document))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def _places(value: Any) -> list[tuple[Any, ...]]:
    """Give the way to every member of every container in a document."""
    if not isinstance(value, dict | list):
        return []
    members = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, member in members:
        found += [(key,), *((key, *way) for way in _places(member))]
    return found


def _put(document: Any, way: Sequence[Any], value: object) -> None:
    *steps, last = way
    for step in steps:
        document = document[step]
    document[last] = value


@given(st.sampled_from(_places(_document())), _JSON)
def test_any_value_anywhere_gives_a_manifest_or_its_error(
    tmp_path_factory: pytest.TempPathFactory, way: tuple[Any, ...], value: object
) -> None:
    """Whatever JSON stands anywhere, nothing but ManifestError is raised."""
    document = _document()
    _put(document, way, value)
    path = _write(tmp_path_factory.getbasetemp(), document)
    try:
        manifest = load_manifest(path)
    except ManifestError:
        return
    assert manifest.programs


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    """Anything but a JSON object ends in the one error."""
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError):
        load_manifest(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error says what the system said."""
    with pytest.raises(ManifestError, match=r"gone\.json: can't be read: No such file"):
        load_manifest(tmp_path / "gone.json")


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A source that goes away after the manifest was read is an error of the manifest's tree."""
    (program,) = load_manifest(_write(tmp_path, _document())).programs
    os.remove(program.path)
    with pytest.raises(ManifestError, match=r"one\.cl: the source can't be read"):
        program.read_source()


def test_a_variant_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error tells the program and the variant."""
    (program,) = load_manifest(_write(tmp_path, _document())).programs
    with pytest.raises(ManifestError, match="program one has no variant 'slow'"):
        program.variant("slow")


def test_a_directory_with_a_space_is_quoted(tmp_path: Path) -> None:
    """Options are joined by spaces: a path that holds one must stay one word."""
    directory = tmp_path / "two words"
    directory.mkdir()
    (program,) = load_manifest(_write(directory, _document())).programs
    assert build_options(program, program.variant("fast")) == ["-DFAST", "-I", f'"{directory}"']


_PROBE = """
kernel void probe(global int *zeros, global int *absent, local int *shared,
                  char a, ushort b, long c, float d) {
    shared[get_local_id(0)] = 1;
    barrier(CLK_LOCAL_MEM_FENCE);
    const int right = zeros[15] == 0 && !absent && shared[3] == 1 && a == -7 && b == 60000 &&
                c == -5000000000 && d == 0.5f && get_local_size(0) == 4;
    if (get_local_id(0) == 0) zeros[0] = right;
}
"""


def test_every_kind_of_argument_reaches_the_kernel(
    context: cl.Context, queue: cl.CommandQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers of zeros, null, local memory and scalars arrive in their order, with their values."""
    buffers = []
    make = cl.Buffer

    def keep(*arguments: Any, **options: Any) -> cl.Buffer:
        buffers.append(make(*arguments, **options))
        return buffers[-1]

    monkeypatch.setattr(cl, "Buffer", keep)
    arguments = (
        Argument("buffer", 64),
        Argument("buffer", None),
        Argument("local", 16),
        Argument("int8", -7),
        Argument("uint16", 60000),
        Argument("int64", -5_000_000_000),
        Argument("float32", 0.5),
    )
    launch_once(cl.Program(context, _PROBE).build(), queue, Launch("probe", (4,), (4,), arguments))
    answer = np.empty(1, np.int32)
    cl.enqueue_copy(queue, answer, buffers[0])
    assert answer[0] == 1
