"""BlazeFace on OpenCL against the reference interpreter, and the example as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pytest
from ai_edge_litert.interpreter import Interpreter
from blazeface import BlazeFaceError
from blazeface.detections import LANDMARKS, Face
from blazeface.download import read_model_file
from blazeface.model import Array, Model, read_model
from blazeface.network import Network
from blazeface.picture import draw_faces, make_view, read_photo
from blazeface.start import choose_device, find_faces
from PIL import Image

import mace_cache
from mace_cache.operators import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

ASTRONAUT_BOX = (179, 82, 274, 177)


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    """The network as it was read."""
    return read_model(read_model_file(model_file))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mace_cache.ProgramCache]:
    """One cache for all that runs in this process."""
    with mace_cache.ProgramCache(storage_path=tmp_path_factory.mktemp("programs")) as cache:
        yield cache


@pytest.fixture(scope="session")
def network(queue: cl.CommandQueue, cache: mace_cache.ProgramCache, model: Model) -> Network:
    """The network in float32."""
    return Network(Runtime(queue, cache), model)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """The photograph that the example takes by default."""
    return read_photo(None)


@pytest.fixture(scope="session", params=["photograph", "noise"])
def image(request: pytest.FixtureRequest, astronaut: Image.Image) -> Array:
    """An input of the network."""
    if request.param == "photograph":
        return (make_view(astronaut).pixels[None] / 127.5 - 1).astype(np.float32)
    return np.random.default_rng(0).uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def reference(model_file: Path, image: Array) -> dict[str, Array]:
    """What the reference interpreter makes of it."""
    interpreter = Interpreter(str(model_file))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return {
        output["name"]: interpreter.get_tensor(output["index"])
        for output in interpreter.get_output_details()
    }


def run(network: Network, image: Array) -> dict[str, Array]:
    """The network's outputs for an image that is ready."""
    return network.run(network.runtime.to_device(image))


def test_model_is_what_was_promised(model: Model) -> None:
    """The shapes are BlazeFace's, and all weights are constants in float32."""
    assert model.shapes[model.input] == (1, 128, 128, 3)
    assert {name: model.shapes[number] for name, number in model.outputs.items()} == {
        "regressors": (1, 896, 16),
        "classificators": (1, 896, 1),
    }
    convolutions = [o for o in model.operations if o.name.endswith("CONV_2D")]
    weights = [model.constants[number] for o in convolutions for number in o.inputs[1:]]
    assert len(convolutions) == 37
    assert {str(weight.dtype) for weight in weights} == {"float32"}


def test_raw_outputs_are_the_references(
    network: Network, image: Array, reference: dict[str, Array]
) -> None:
    """Boxes and scores are within 1e-3 of the reference interpreter's."""
    outputs = run(network, image)
    assert outputs.keys() == reference.keys()
    for name, expected in reference.items():
        np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=1e-3)


def test_float16_is_close_to_the_reference(
    queue: cl.CommandQueue,
    cache: mace_cache.ProgramCache,
    model: Model,
    image: Array,
    reference: dict[str, Array],
) -> None:
    """Stored as float16, values of up to 150 stay within a quarter."""
    outputs = run(Network(Runtime(queue, cache, np.float16), model), image)
    for name, expected in reference.items():
        np.testing.assert_allclose(outputs[name], expected, rtol=0, atol=0.25)


def test_fusing_changes_nothing(network: Network, model: Model, image: Array) -> None:
    """Each RELU is taken in by what it follows, with the outputs as they were."""
    unfused = Network(network.runtime, model)
    unfused.operations = model.operations
    assert "RELU" in {operation.name for operation in unfused.operations}
    assert "RELU" not in {operation.name for operation in network.operations}
    expected = run(unfused, image)
    for name, output in run(network, image).items():
        np.testing.assert_array_equal(output, expected[name])


def test_astronauts_face_is_found(network: Network, astronaut: Image.Image) -> None:
    """One face, as sure and in the place that the reference gives."""
    (face,) = find_faces(network, make_view(astronaut), 0.5)
    assert face.score == pytest.approx(0.92, abs=0.005)
    assert face.box == pytest.approx(ASTRONAUT_BOX, abs=2)
    left, top, right, bottom = face.box
    for name, (x, y) in zip(LANDMARKS, face.landmarks, strict=True):
        assert left - 5 < x < right + 5, name
        assert top < y < bottom, name


@pytest.mark.parametrize("part", [(0, 0, 512, 401), (77, 0, 400, 512), (30, 20, 331, 290)])
def test_photos_need_not_be_square(
    network: Network, astronaut: Image.Image, part: tuple[int, int, int, int]
) -> None:
    """In a part of the photograph, wide, high or small, the face is where it was."""
    face = find_faces(network, make_view(astronaut.crop(part)), 0.5)[0]
    expected = [value - part[axis % 2] for axis, value in enumerate(ASTRONAUT_BOX)]
    assert face.box == pytest.approx(expected, abs=8)


def test_upright_photos_are_read_as_they_are_shown(tmp_path: Path) -> None:
    """An orientation in the file's EXIF data is followed."""
    photo = Image.new("RGB", (3, 2))
    exif = photo.getexif()
    exif[0x0112] = 6  # rotated by a quarter (EXIF 2.32, 4.6.4, Orientation)
    photo.save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(tmp_path / "turned.jpg").size == (2, 3)


def test_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(BlazeFaceError, match=r"none/faces\.png: the picture can't be written"):
        draw_faces(Image.new("RGB", (4, 4)), [], tmp_path / "none" / "faces.png")


@pytest.mark.parametrize("wanted", [None, "0", "portable COMPUTING"])
def test_device_is_chosen(device: cl.Device, wanted: str | None) -> None:
    """By default, by number, and by a part of a name."""
    assert choose_device(wanted) == device


def test_unknown_device_lists_those_there_are() -> None:
    """One line tells what could be asked for."""
    with pytest.raises(BlazeFaceError, match="no OpenCL device 'abacus'; there are 0: ") as info:
        choose_device("abacus")
    assert "\n" not in str(info.value)


def test_no_device_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a platform the error names a driver that pip can bring."""

    def find_none() -> Any:
        raise cl.LogicError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")

    monkeypatch.setattr(cl, "get_platforms", find_none)
    with pytest.raises(BlazeFaceError, match="pip install pocl-binary-distribution"):
        choose_device(None)


def run_example(examples: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The example in a process of its own."""
    command = [sys.executable, str(examples / "face_detection.py"), *map(str, arguments)]
    # The library that is tested, wherever another one is installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(mace_cache.__file__).parents[1])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_example_starts_from_source_then_from_the_cache(
    examples: Path, model_file: Path, astronaut: Image.Image, tmp_path: Path
) -> None:
    """The second start compiles nothing, and the picture shows what was found."""
    picture = tmp_path / "faces.png"
    done = run_example(
        examples, "--model", model_file, "--output", picture, "--cache-directory", tmp_path / "new"
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = [line for line in done.stdout.splitlines() if "programs:" in line]
    assert "from source" in first
    assert "programs: 4 compiled, 0 from the cache" in first
    assert "from the cache" in second
    assert "programs: 0 compiled, 4 from the cache" in second
    assert "face 0.92: (180, 82) to (274, 176)" in done.stdout
    with Image.open(picture) as drawn:
        assert drawn.size == astronaut.size
        assert drawn.getpixel((180, 130)) != astronaut.getpixel((180, 130))


@pytest.mark.parametrize(
    ("option", "name", "expected"),
    [
        ("--image", "none.jpg", "none.jpg: the image can't be read"),
        ("--image", "text.jpg", "text.jpg: not an image that can be read"),
        ("--model", "text.jpg", "not the model face_detection_short_range.tflite"),
    ],
)
def test_errors_are_one_line(  # noqa: PLR0917 (pytest passes them by name)
    examples: Path, model_file: Path, tmp_path: Path, option: str, name: str, expected: str
) -> None:
    """A file that can't be used ends the example with a line and a status."""
    (tmp_path / "text.jpg").write_text("no picture")
    done = run_example(examples, "--model", model_file, option, tmp_path / name)
    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_error_of_a_start_is_told_once(examples: Path, model_file: Path) -> None:
    """What goes wrong in the process that starts is one line of the whole."""
    done = run_example(examples, "--model", model_file, "--device", "abacus")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no OpenCL device 'abacus'" in done.stderr


def test_drawing_reaches_beyond_the_edge(tmp_path: Path) -> None:
    """A face that is partly outside the photograph is drawn all the same."""
    face = Face(0.5, (-3.0, -3.0, 2.0, 2.0), ((-1.0, 1.0),))
    draw_faces(Image.new("RGB", (8, 8)), [face], tmp_path / "faces.png")
    with Image.open(tmp_path / "faces.png") as drawn:
        assert drawn.getpixel((2, 2)) == (0, 255, 64)
