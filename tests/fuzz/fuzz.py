"""Feeds the targets with what libFuzzer finds to reach new code: python tests/fuzz/fuzz.py.

Needs ``pip install atheris``. An input that fails is left in the working directory, with the
traceback on the standard error; mended, it belongs in ``corpus/<target>/``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TOKENS = CORPUS.with_name("tokens.dict")
_LONGEST = 4096  # bytes: larger inputs reach nothing that these don't


def main() -> int:
    """Run the chosen targets, each in a process and for its time; 1 where one has failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="those of targets.py; all unless named")
    parser.add_argument("--seconds", type=int, default=20, help="for how long, each; 20")
    parser.add_argument("--grow", action="store_true", help="add what reached new code to corpus/")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        return _fuzz(arguments.here)
    targets = arguments.targets or sorted(path.name for path in CORPUS.iterdir())
    failed = [name for name in targets if not _run(name, arguments.seconds, arguments.grow)]
    for name in failed:
        sys.stderr.write(f"{name}: an input failed\n")
    return int(bool(failed))


def _run(target: str, seconds: int, grow: bool) -> bool:
    seeds = CORPUS / target
    with tempfile.TemporaryDirectory() as found:
        limits = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=10"]
        done = _libfuzzer(target, *limits, f"-dict={TOKENS}", "-verbosity=0", found, str(seeds))
        if done and grow:
            _libfuzzer(target, "-merge=1", str(seeds), found)
    return done


def _libfuzzer(target: str, *arguments: str) -> bool:
    command = [sys.executable, __file__, "--here", target]
    options = os.pathsep.join(arguments)
    environment = {**os.environ, "FUZZ_OPTIONS": options, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, check=False).returncode == 0


def _fuzz(target: str) -> int:
    import atheris  # noqa: PLC0415 (only who fuzzes needs it)

    sys.path.insert(0, str(Path(__file__).parents[2]))
    with atheris.instrument_imports(include=["mace_cache", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 (instrumented)

    options = os.environ["FUZZ_OPTIONS"].split(os.pathsep)
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
