"""The application that ships source, bundle and warm-up in one wheel, made, installed and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mace_cache
from mace_cache._signing_keys import PRIVATE, make_key

if TYPE_CHECKING:
    import pytest

ROOT = Path(mace_cache.__file__).parents[1]


def run(path: Path, *arguments: str) -> str:
    """Run Python with that directory on its path, and give what it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{path}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_example_ships(
    examples: Path, tmp_path: Path, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first start after the installation loads what the wheel brought, as signed."""
    key = make_key(PRIVATE)
    (tmp_path / "release.key").touch(0o600)
    (tmp_path / "release.key").write_text(key.to_text())
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", key.public().to_text())
    project, installed = tmp_path / "project", tmp_path / "installed"
    shutil.copytree(examples / "shipping", project, ignore=shutil.ignore_patterns("__pycache__"))
    bundle = "contrast/bundles/this-machine.mclp"
    record = ("-m", "mace_cache", "record", "--output", str(project / bundle))
    signing = ("--sign", str(tmp_path / "release.key"))
    assert "0.00 to 1.00, from source" in run(project, *record, *signing, "-m", "contrast")
    assert not cache_directory.exists()

    pip = ("-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index")
    run(project, *pip, "--target", str(installed), str(project))
    shutil.rmtree(project)
    assert f"0.00 to 1.00, from precompiled ({installed / bundle})" in run(
        installed, "-m", "contrast"
    )
    assert "0.00 to 1.00, from storage" in run(installed, "-m", "contrast")

    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", make_key(PRIVATE).public().to_text())
    shutil.rmtree(cache_directory)
    assert "0.00 to 1.00, from source" in run(installed, "-m", "contrast")

    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", key.public().to_text())
    shutil.rmtree(cache_directory)
    assert ": present" in run(installed, "-m", "contrast.warm")
