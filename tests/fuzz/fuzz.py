"""Feeds the targets with what libFuzzer finds to reach new code: python tests/fuzz/fuzz.py.

Needs ``pip install atheris``. An input that fails is left in the working directory, with the
traceback on the standard error; mended, it belongs in ``corpus/<target>/``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

CORPUS = Path(__file__).parent / "corpus"
TOKENS = CORPUS.with_name("tokens.dict")
_LONGEST = 4096  # bytes: larger inputs reach nothing that these don't


def main() -> int:
    """Run the chosen targets, each in a process and for its time; 1 where one has failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="those of targets.py; all unless named")
    parser.add_argument("--seconds", type=int, default=20, help="for how long, each; 20")
    parser.add_argument("--grow", action="store_true", help="add what reached new lines to corpus/")
    arguments = parser.parse_args()
    targets = arguments.targets or sorted(path.name for path in CORPUS.iterdir())
    failed = [name for name in targets if not _run(name, arguments.seconds, grow=arguments.grow)]
    for name in failed:
        sys.stderr.write(f"{name}: an input failed\n")
    return int(bool(failed))


def _run(target: str, seconds: int, *, grow: bool) -> bool:
    seeds = CORPUS / target
    with tempfile.TemporaryDirectory() as found:
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={_LONGEST}",
            f"-dict={TOKENS}",
            "-timeout=10",  # seconds: an input that takes so long has failed
            "-verbosity=0",
        ]
        code = f"import sys; sys.path[:] = {sys.path}; from fuzz import fuzz; fuzz({target!r})"
        command = [sys.executable, "-c", code, *options, found, str(seeds)]
        done = subprocess.run(command, check=False).returncode == 0
        if done and grow:
            _grow(target, Path(found))
    return done


def fuzz(target: str) -> None:
    """Fuzz one target in this process, which ends with it; the options are libFuzzer's."""
    import atheris  # noqa: PLC0415 (only who fuzzes needs it)

    sys.path.insert(0, str(Path(__file__).parents[2]))
    with atheris.instrument_imports(include=["mace_cache", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 (instrumented)

    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


def _grow(target: str, found: Path) -> None:
    """Keep the smallest inputs that reach lines that none before has reached."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    reached: set[tuple[str, int]] = set()
    for path in (CORPUS / target).iterdir():
        reached |= _lines(target, path.read_bytes())
    for path in sorted(found.iterdir(), key=lambda path: path.stat().st_size):
        lines = _lines(target, path.read_bytes())
        if not lines <= reached:
            (CORPUS / target / path.name[:12]).write_bytes(path.read_bytes())
            reached |= lines


def _lines(target: str, data: bytes) -> set[tuple[str, int]]:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 (its path has just been added)

    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if "mace_cache" not in frame.f_code.co_filename:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        TARGETS[target](data)
    finally:
        sys.settrace(None)
    return lines


if __name__ == "__main__":
    sys.exit(main())
