"""A process that builds programs one after the other: messages are JSON, a line each."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["READY", "WorkerDiedError", "WorkerProcess", "cores", "has_interpreter"]

_SHOWN_OF_ITS_OUTPUT = 2000
_SHOWN = 80  # bytes of an answer
READY = b"mace-cache worker\n"

# The worker's modules are found where this process finds them, and nowhere else: ``python -m``
# would look in the working directory first, and not in a path that a script has added.
_START = "import sys; sys.path[:] = {path!r}; from mace_cache._warm_worker import main; main()"


def cores() -> int:
    """Give the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_interpreter() -> bool:
    """Whether ``sys.executable`` is Python, and not an application that would start once more."""
    return os.path.basename(sys.executable or "").startswith(("python", "pypy"))


class WorkerDiedError(Exception):
    """The process ended before it answered."""


class WorkerProcess:
    """A running ``mace_cache._warm_worker``, or another process that answers as it does.

    A process of its own rather than `multiprocessing`: an installer's script needs no main guard,
    and nothing but text passes between the two.

    Args:
        arguments: what the interpreter is started with; None for ``_warm_worker``.
        environment: variables that it has beside those of this process.

    Raises:
        OSError: no process can be started.
    """

    def __init__(
        self, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        import subprocess  # noqa: PLC0415 (where no worker is worth its start)
        import tempfile  # noqa: PLC0415 (as above)

        # A site's own start-up code may print before it is ready.
        self._is_ready = arguments is not None
        arguments = arguments or ["-c", _START.format(path=sys.path)]
        self._given_up = ""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own code, and no shell)
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                env={**os.environ, **(environment or {})},
            )
        except BaseException:
            self._output.close()
            raise

    def ask(self, message: dict[str, Any] | None, patience: float | None = None) -> Any:
        """Send a message and wait for its answer.

        Args:
            message: what can be told as JSON.
            patience: after so many seconds without an answer the process is killed; never if None.

        Raises:
            WorkerDiedError: the process ended instead; the text says how.
        """
        if patience is None:
            return self._ask(message)
        # A thread, since a process that hangs doesn't read a long message either.
        impatience = threading.Timer(patience, self._give_up, [patience])
        impatience.daemon = True
        with suppress(RuntimeError):  # too many threads, or the interpreter ends
            impatience.start()
        try:
            return self._ask(message)
        finally:
            impatience.cancel()

    def _ask(self, message: dict[str, Any] | None) -> Any:
        assert self._process.stdin is not None  # noqa: S101 (both are pipes)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            while not self._is_ready and answer:
                self._is_ready = answer == READY
                answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise WorkerDiedError(self._how_it_ended())
        try:
            return json.loads(answer)
        except ValueError:
            self._process.kill()
            raise WorkerDiedError(f"a worker answered {answer[:_SHOWN]!r}") from None

    def kill(self) -> None:
        """Have the process end; another thread may be waiting for its answer."""
        self._process.kill()

    def close(self) -> None:
        """End the process and wait for that."""
        self._process.kill()
        self._process.communicate()
        self._output.close()

    def _give_up(self, seconds: float) -> None:
        self._given_up = f"it was killed after {seconds:g} s without an answer"
        self._process.kill()

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if self._given_up:
            return self._given_up
        try:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        except ValueError:
            how = f"by signal {-code}"
        self._output.seek(0, 2)
        self._output.seek(max(0, self._output.tell() - _SHOWN_OF_ITS_OUTPUT))
        said = self._output.read().decode("utf-8", "replace").strip()
        return f"the driver ended its process {how}" + (f"; it had said: {said}" if said else "")
