"""SIGKILL at every system call that touches files, from the last launch to the process's end.

``strace`` counts the calls and sends the signal: between the call before and the one counted,
nothing else happens.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.faults import After, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.nursery import Ended
    from tests.faults.world import Scene, World

__all__ = ["system_call_kills"]

_CALLS = "%file,%desc"
_NEVER = 65535  # the most that strace counts to


def system_call_kills(world: World, prepared: str) -> Iterator[Fault]:
    """Give a SIGKILL at each system call of the end of a process that finds that cache."""
    with world.scene("proven"):  # the driver's own cache is warm from here on
        pass
    with world.scene(prepared) as scene:
        calls = scene.root / "calls"
        ended = _run(scene, _CALLS, _NEVER, calls)
        assert not ended.fault, ended
        made = Counter(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
    doing = "a store" if prepared == "empty" else "the end of a first load"
    for call, count in made.items():
        for number in range(1, count + 1):
            yield Fault(
                f"SIGKILL at a system call of {doing}",
                f"{call} {number} of {count}",
                prepared=prepared,
                run=partial(_run, call=call, number=number),
                killed=True,
                after=After.HEALED,
            )


def _run(scene: Scene, call: str, number: int, log: Path = Path(os.devnull)) -> Ended:
    """Start a process, attach to it where it waits, let it go on."""
    gate = scene.root / "gate"
    os.mkfifo(gate, 0o600)
    nursery = scene.world.nursery(scene.driver)
    process = nursery.start(scene.ordered(["wait_for_gate", str(gate)]))
    writer = os.open(gate, os.O_WRONLY)  # waits until the process is there
    inject = f"inject={call}:signal=KILL:when={number}"
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={_CALLS}", "-e", inject]
    with subprocess.Popen([*command, "-p", str(process)]) as strace:
        while _is_free(process) and strace.poll() is None:
            time.sleep(0.001)
        os.close(writer)
        ended = nursery.wait()
    gate.unlink()
    return ended


def _is_free(process: int) -> bool:
    """Whether a thread of a process isn't traced yet."""
    return any(
        "TracerPid:\t0" in status.read_text()
        for status in Path(f"/proc/{process}/task").glob("*/status")
    )
