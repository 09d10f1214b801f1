"""A process that builds programs one after the other: messages are JSON, a line each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["WorkerDiedError", "WorkerProcess"]

_SHOWN_OF_ITS_OUTPUT = 2000

# The worker's modules are found where this process finds them, and nowhere else: ``python -m``
# would look in the working directory first, and not in a path that a script has added.
_START = "import sys; sys.path[:] = {path!r}; from mace_cache._warm_worker import main; main()"


class WorkerDiedError(Exception):
    """The process ended before it answered."""


class WorkerProcess:
    """A running ``mace_cache._warm_worker``.

    A process of its own rather than `multiprocessing`: an installer's script needs no main guard,
    and nothing but text passes between the two.

    Raises:
        OSError: it can't be started.
    """

    def __init__(self) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own code, and no shell)
                [sys.executable, "-c", _START.format(path=sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
            )
        except BaseException:
            self._output.close()
            raise

    def ask(self, message: dict[str, Any] | None) -> Any:
        """Send a message and wait for its answer.

        Raises:
            WorkerDiedError: the process ended instead; the text says how.
        """
        assert self._process.stdin is not None  # noqa: S101 (both are pipes)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise WorkerDiedError(self._how_it_ended())
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._output.close()

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        try:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        except ValueError:
            how = f"by signal {-code}"
        self._output.seek(0, 2)
        self._output.seek(max(0, self._output.tell() - _SHOWN_OF_ITS_OUTPUT))
        said = self._output.read().decode("utf-8", "replace").strip()
        return f"the driver ended its process {how}" + (f"; it had said: {said}" if said else "")
