"""A child process that loads binaries before this one does."""

from __future__ import annotations

import base64
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from mace_cache._warm_process import WorkerDiedError, WorkerProcess
from mace_cache.errors import BinaryRejectedError

if TYPE_CHECKING:
    from mace_cache.program import CompiledProgram

__all__ = ["ChildDiedError", "TrialProcess"]

logger = logging.getLogger(__name__)

# Seconds. A driver that takes so long hangs: to load a binary takes a second at most on those that
# we have measured, and what is to be saved, a build, seldom takes minutes.
_LONGEST = 300.0


class ChildDiedError(Exception):
    """The driver took the child down with a binary; the text says how."""


class TrialProcess:
    """One child for many programs, started with the first and again after one that killed it.

    Where no child can be started, or it doesn't see the device, nothing is tried.
    """

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self._seen: dict[str, bool] = {}  # whether the child sees a device, by its storage name

    def try_loading(self, device: str, program: CompiledProgram) -> bool:
        """Have the child load a program and create its kernels.

        Args:
            device: the storage name of the device's fingerprint.
            program: the program.

        Returns:
            Whether a child has done so.

        Raises:
            ChildDiedError: the driver ended the child, or hung in it.
            BinaryRejectedError: the driver refused the binary.
        """
        if not self._sees(device):
            return False
        message = {
            "try": device,
            "binary": base64.b64encode(program.binary).decode(),
            "options": program.options,
            "kernels": program.kernel_names,
        }
        try:
            rejection = self._ask(message)
        except WorkerDiedError as error:
            raise ChildDiedError(f"a child process that tried its binary died: {error}") from None
        if rejection is not None:
            raise BinaryRejectedError(*rejection)
        return True

    def close(self) -> None:
        """End the child."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _sees(self, device: str) -> bool:
        seen = self._seen.get(device)
        if seen is None or (seen and self._worker is None):
            try:
                self._seen[device] = self._ask({"open": device})
            # While the interpreter ends, Python starts no process any more: a RuntimeError.
            except (WorkerDiedError, OSError, RuntimeError) as error:
                logger.debug("no child process can try binaries for %s: %s", device, error)
                self._seen[device] = False
        return self._seen[device]

    def _ask(self, message: dict[str, Any]) -> Any:
        if self._worker is None:
            # In a frozen or embedded application it would start the application again.
            if not os.path.basename(sys.executable or "").startswith(("python", "pypy")):
                raise WorkerDiedError("this application has no Python interpreter")
            self._worker = WorkerProcess()
        try:
            return self._worker.ask(message, _LONGEST)
        except BaseException:
            self.close()
            raise
