"""Processes that cost little: forked off one that has imported everything and opened no driver.

Each is a process of its own from its first call of OpenCL to the end of its interpreter.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.faults.application import Orders

__all__ = ["Ended", "Nursery", "read_ended"]

# The superuser without its capabilities: files of other modes and owners are as closed to it as to
# any user.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if not os.geteuid() else ()
INTERPRETER = (sys.executable, "-W", "error", "-m")
REPOSITORY = Path(__file__).parents[2]
_PATIENCE = 60.0  # seconds, after which a process counts as hung


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: the exit status, or the negative number of the signal that it died of.
        seen: what the application printed; nothing if it didn't get there.
        errors: its error output.
    """

    status: int
    seen: dict[str, Any]
    errors: str

    @property
    def right(self) -> bool:
        """Whether all results were right."""
        return bool(self.seen) and all(program["right"] for program in self.seen["programs"])

    @property
    def hit(self) -> bool:
        """Whether all programs were loaded."""
        return bool(self.seen) and all(p["origin"] == "storage" for p in self.seen["programs"])

    @property
    def _shown(self) -> str:
        return " | ".join(self.errors.splitlines()[-3:])

    @property
    def warnings(self) -> int:
        """How many lines there were on the error output."""
        return len(self.errors.splitlines())

    @property
    def fault(self) -> str:
        """What is wrong with it, apart from where its programs came from."""
        if self.status:
            return f"ended with {self.status}: {self._shown}"
        if not self.right:
            return f"a wrong result: {self.seen}"
        return f"warned more than once: {self._shown}" if self.warnings > 1 else ""


def read_ended(status: int, output: str, errors: str) -> Ended:
    """Put together how a process ended."""
    lines = output.splitlines()
    return Ended(status, json.loads(lines[-1]) if lines else {}, errors)


class Nursery:
    """Where processes are forked off, one at a time.

    Args:
        directory: where their output goes.
        environment: their variables, which orders can add to.
    """

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._files = directory / "output", directory / "errors"
        self._process = subprocess.Popen(
            [*UNPRIVILEGED, *INTERPRETER, "tests.faults.nursery", *map(str, self._files)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, orders: Orders) -> int:
        """Start a process, to be waited for: its process number."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        self._process.stdin.flush()
        self._child = self._read()
        return self._child

    def wait(self) -> Ended:
        """Wait for the process that was started; one that hangs is killed."""
        assert self._process.stdout is not None
        hung = not select.select([self._process.stdout], [], [], _PATIENCE)[0]
        if hung:
            self.kill()
        status = os.waitstatus_to_exitcode(self._read())
        output, errors = [path.read_text(errors="surrogateescape") for path in self._files]
        return read_ended(status, "" if status else output, "it hung" if hung else errors)

    def kill(self) -> None:
        """Kill the process that was started, still to be waited for."""
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self._child, signal.SIGKILL)

    def run(self, orders: Orders) -> Ended:
        """Start a process and wait for it."""
        self.start(orders)
        return self.wait()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=_PATIENCE)

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return int(line)


def _serve(*files: str) -> Orders | None:
    """Fork off what is asked for: None when nothing more is, in a child its orders."""
    import filelock.asyncio  # noqa: F401, PLC0415 (else each process imports it when it stores)

    import mace_cache._notebook  # noqa: F401, PLC0415 (as above)

    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            for number, path in enumerate(("/dev/null", *files)):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                descriptor = os.open(path, flags, 0o600)
                os.dup2(descriptor, number)
                os.close(descriptor)
            orders: Orders = json.loads(line)
            return orders
        os.write(1, b"%d\n" % child)
        os.write(1, b"%d\n" % os.waitpid(child, 0)[1])
    return None


if __name__ == "__main__":
    from tests.faults.application import become, run, work_for_ever

    told = _serve(*sys.argv[1:])
    if told is not None:
        become(told)
        (work_for_ever if told.get("for_ever") else run)(told)
