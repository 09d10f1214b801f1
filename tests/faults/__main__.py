"""Run the campaign: ``python -m tests.faults``."""
from __future__ import annotations
import tempfile, sys, os
from pathlib import Path
from tests.faults.campaign import all_faults, run_all
from tests.faults.world import World

if __name__ == "__main__":
    world = World(Path(tempfile.mkdtemp()))
    try:
        faults=[f for f in all_faults(world) if not sys.argv[1:] or sys.argv[1] in f.group+f.name]
        outcomes = run_all(world, iter(faults))
    finally:
        world.end()
