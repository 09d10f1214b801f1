"""Run the campaign: ``python -m tests.faults``, as root; exit code 1 if anything failed.

Disks are mounted for it, in a name space of its own that ends with it. ``--write`` puts the table
into ``docs/faults.md``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.campaign import all_faults, run_all, run_crowds
from tests.faults.table import make_table, write_table
from tests.faults.world import World

_INSIDE = "MACE_CACHE_FAULTS_INSIDE"


def main(arguments: list[str]) -> int:
    """Run the campaign."""
    if _INSIDE not in os.environ:
        command = ["unshare", "--mount", sys.executable, "-m", "tests.faults", *arguments]
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "1"})  # noqa: S606 (no shell)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", directory], check=True)
        world = World(Path(directory, "world"))
        try:
            outcomes = [*run_all(world, all_faults(world)), *run_crowds(world)]
        finally:
            world.end()
            subprocess.run(["umount", directory], check=True)
    table = make_table(outcomes)
    sys.stdout.write(table)
    if "--write" in arguments:
        write_table(table)
    return int(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
