"""What the tests of the command share: running it in this process, and a cache with programs."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from click.testing import CliRunner

from mace_cache.cli import main
from mace_cache.fingerprint import storage_name
from mace_cache.program import CompiledProgram
from mace_cache.storage.directory import DirectoryStorageFactory

if TYPE_CHECKING:
    from pathlib import Path

FINGERPRINT = "platform name: Portable Computing Language\ndevice name: a first device\n"
OTHER_FINGERPRINT = "platform name: Portable Computing Language\ndevice name: a second device\n"
STORAGE = storage_name(FINGERPRINT)
OTHER_STORAGE = storage_name(OTHER_FINGERPRINT)


class Ran(NamedTuple):
    """What a command answered."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """The output, which must be JSON and nothing else."""
        return json.loads(self.output)


def run(*arguments: object) -> Ran:
    """Run ``mace-cache`` in this process, with pipes for its streams."""
    with CliRunner().isolation() as (output, errors, _both):
        code = main([str(argument) for argument in arguments])
        return Ran(code, output.getvalue().decode(), errors.getvalue().decode())


def one_line(ran: Ran, *, code: int) -> str:
    """Give the complaint of a command that failed as it should: one line, and no output."""
    assert ran.code == code
    assert ran.output == ""
    assert ran.errors.startswith("mace-cache: ")
    assert ran.errors.count("\n") == 1
    return ran.errors


def make_program(name: str, fingerprint: str = FINGERPRINT, **known: Any) -> CompiledProgram:
    """Make a program that no device can run."""
    values = {
        "binary": name.encode() * 50,
        "kernel_names": (f"{name}_one", f"{name}_two"),
        "options": f"-DNAME={name}",
        "build_log": f"{name} was compiled\nwith a warning",
        "build_seconds": 1.25,
        "components": (("source", "5" * 64),),
        "created": 1_700_000_000.0,
    }
    key = sha256(name.encode()).hexdigest()
    return CompiledProgram(key=key, fingerprint=fingerprint, **{**values, **known})


@pytest.fixture
def store(cache_directory: Path) -> Store:
    """An empty cache directory, where `MACE_CACHE_DIR` points."""
    return Store(cache_directory)


class Store:
    """Puts programs into a cache directory, and finds their files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.factory = DirectoryStorageFactory(directory)

    def insert(self, program: CompiledProgram) -> Path:
        """Store a program, and give its file."""
        name = storage_name(program.fingerprint)
        self.factory.create_storage(name).insert(program.key, program)
        return self.path(program)

    def path(self, program: CompiledProgram) -> Path:
        """Give the file of a program."""
        storage = self.directory / "v1" / storage_name(program.fingerprint)
        return storage / program.key[:2] / f"{program.key}.mclp"

    def contents(self) -> dict[Path, tuple[bytes, int]]:
        """Give the bytes and the time of every file."""
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
