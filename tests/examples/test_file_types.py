"""Magika on OpenCL against its own package and ONNX Runtime, and the example as a user runs it."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from filetypes import FileTypesError
from filetypes.features import FEATURES, extract_features
from filetypes.model import Model, model_directory, read_model
from filetypes.network import Network
from magika import Magika
from magika.types import Seekable
from PIL import Image

import mace_cache
from mace_cache.operators import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyopencl as cl


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "what is in it " * 100)
    return buffer.getvalue()


def _picture(form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def _program() -> bytes:
    with open(sys.executable, "rb") as file:
        return file.read()


def _own_source() -> bytes:
    with open(__file__, "rb") as file:
        return file.read()


FILES = {
    "program": _program(),
    "zip": _zipped(),
    "gzip": gzip.compress(b"nothing new " * 200, mtime=0),
    "png": _picture("PNG"),
    "jpeg": _picture("JPEG"),
    "gif": _picture("GIF"),
    "python": _own_source(),
    "json": json.dumps([{"name": f"entry {n}", "value": n / 3} for n in range(40)]).encode(),
    "html": b"<!DOCTYPE html>\n<html><head><title>Page</title></head><body><p>Hi</p></body></html>",
    "c": b'#include <stdio.h>\n\nint main(void) {\n    printf("hello\\n");\n    return 0;\n}\n',
    "shell": b'#!/bin/sh\nset -e\nfor name in *.txt; do\n    echo "$name"\ndone\n' * 5,
    "blank around": b"  \n\t" * 300
    + b"SELECT name, price FROM goods WHERE price > 10;\n"
    + b" " * 5000,
    "noise": np.random.default_rng(1).integers(0, 255, 3000, np.uint8).tobytes(),
    "eight bytes": b"abcdefgh",
}


@pytest.fixture(scope="session")
def magika() -> Magika:
    """The package that the model comes from."""
    return Magika()


@pytest.fixture(scope="session")
def file_types() -> Model:
    """The model as the example reads it."""
    return read_model(model_directory())


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mace_cache.ProgramCache]:
    """One cache for all that runs in this process."""
    with mace_cache.ProgramCache(storage_path=tmp_path_factory.mktemp("programs")) as cache:
        yield cache


@pytest.mark.parametrize("name", FILES)
def test_features_are_the_packages(magika: Magika, name: str) -> None:
    """First and last bytes, stripped and filled up, are what the package gives its model."""
    config = magika._model_config
    expected = magika._extract_features_from_seekable(
        Seekable(io.BytesIO(FILES[name])),
        config.beg_size,
        config.mid_size,
        config.end_size,
        config.padding_token,
        config.block_size,
        config.use_inputs_at_offsets,
    )
    assert extract_features(FILES[name]).tolist() == [*expected.beg, *expected.end]


@pytest.mark.parametrize("content", [b"", b"1234567", b" " * 100 + b"short"])
def test_too_few_bytes_are_an_error(content: bytes) -> None:
    """What the network was not made for isn't given to it."""
    with pytest.raises(FileTypesError, match="too few to tell"):
        extract_features(content)


@pytest.mark.parametrize(("data_type", "close"), [("float32", 1e-4), ("float16", 2e-2)])
def test_the_network_agrees_with_its_reference(
    *,
    queue: cl.CommandQueue,
    programs: mace_cache.ProgramCache,
    magika: Magika,
    file_types: Model,
    data_type: str,
    close: float,
) -> None:
    """Every probability is ONNX Runtime's, and every file's type the one that the package tells."""
    features = np.stack([extract_features(content) for content in FILES.values()])
    session = onnxruntime.InferenceSession(
        model_directory() / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(["target_label"], {"bytes": features})
    answers = Network(Runtime(queue, programs, data_type), file_types).run(features)
    assert answers.shape == (len(FILES), len(file_types.labels))
    # Where nearly all is padding the reference is off itself: it takes the tiny variance as the
    # difference of two means in float32. In float64 the network gives this runtime's answer.
    few = list(FILES).index("eight bytes")
    np.testing.assert_allclose(answers[few], expected[few], rtol=0, atol=max(close, 2e-3))
    others = np.arange(len(FILES)) != few
    np.testing.assert_allclose(answers[others], expected[others], rtol=0, atol=close)
    told = [file_types.labels[number] for number in answers.argmax(axis=1)]
    assert told == [str(magika.identify_bytes(content).dl.label) for content in FILES.values()]


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Weights under the right names may still be another network's."""
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "config.min.json").write_text('{"target_labels_space": []}')
    with pytest.raises(FileTypesError, match=r"model\.onnx isn't the model"):
        read_model(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(FileTypesError, match=r"can't be read"):
        read_model(tmp_path)


def test_the_example_tells_types_and_names_what_it_cannot_read(
    examples: Path, tmp_path: Path, cache_directory: Path
) -> None:
    """A second process has its programs from the cache that the first one filled."""
    source = tmp_path / "main.c"
    source.write_bytes(FILES["c"])
    command = [sys.executable, str(examples / "file_types.py"), str(source), "nowhere"]
    environment = {**os.environ, "MACE_CACHE_TRACE": "1"}
    runs = [
        subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        for _ in range(2)
    ]
    for run in runs:
        assert run.returncode == 1
        assert f"{source}: c (" in run.stdout
        assert "file_types: nowhere: " in run.stderr
    assert "mace-cache: miss" in runs[0].stderr
    assert "mace-cache: miss" not in runs[1].stderr
    assert FEATURES == 2048
    assert cache_directory.is_dir()
