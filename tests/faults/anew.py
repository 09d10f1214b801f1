"""Processes that are started anew: for locales, users, and what an interpreter does at its end."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from tests.faults.nursery import INTERPRETER, REPOSITORY, Ended, read_ended

if TYPE_CHECKING:
    from tests.faults.world import Scene

__all__ = ["run_anew"]


def run_anew(
    scene: Scene,
    prefix: tuple[str, ...] = (),
    module: tuple[str, ...] = ("tests.faults.application",),
    environment: dict[str, str] | None = None,
) -> Ended:
    """Run the application in a process that isn't forked, from the start of its interpreter.

    Args:
        scene: where.
        prefix: what starts it, in front of its own command.
        module: what is run, and its first arguments.
        environment: variables to add.
    """
    done = subprocess.run(
        [*prefix, *INTERPRETER, *module, json.dumps(scene.orders)],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            **scene.world.environment(scene.driver),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    output, errors = done.stdout.decode(), done.stderr.decode("utf-8", "backslashreplace")
    return read_ended(done.returncode, output, errors)
