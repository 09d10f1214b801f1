"""What runs in the processes that `warm_cache` has its programs built in.

It reads a message a line and answers each with a line; ``_warm_process`` is the other end.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache import opencl
from mace_cache._warm_process import READY
from mace_cache.cache import ProgramCache
from mace_cache.errors import BinaryRejectedError, FingerprintError
from mace_cache.explanation import Explanation, Origin
from mace_cache.fingerprint import fingerprint
from mace_cache.harvest.policy import harvests_late
from mace_cache.library import launch_once
from mace_cache.local_sizes import LOCAL_SIZE, tuned_launches
from mace_cache.manifest import Argument, Launch

if TYPE_CHECKING:
    from mace_cache._trials import Trials

__all__ = ["main"]


def main() -> None:
    """Answer messages until there are no more."""
    # Drivers and their compilers write to the standard output as they like.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answers.write(READY.decode())
    worker = _Worker()
    for line in sys.stdin:
        message = json.loads(line)
        answer = worker.answer(message)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class _Worker:
    """The devices of this machine, with a context each, and the cache."""

    def __init__(self) -> None:
        self._queues: dict[str, cl.CommandQueue] = {}
        self._caches: dict[str, ProgramCache] = {}

    def answer(self, message: dict[str, Any] | None) -> Any:
        """Do what a message asks for."""
        if message is None:
            return self.list_devices()
        if "open" in message:
            return self.open(message["open"])
        if "tune" in message:
            return self.tune(message)
        return self.try_loading(message) if "try" in message else self.warm(message)

    def open(self, name: str) -> bool:
        """Make a device ready, by its storage name, and tell whether it is there."""
        if not any(_identify(device)["name"] == name for device in _all_devices()):
            return False
        self._queue(name)
        return True

    def try_loading(self, task: dict[str, Any]) -> tuple[str, str] | None:
        """Load a binary and create its kernels; tell the status and the call of a rejection."""
        context = self._queue(task["try"]).context
        binary = base64.b64decode(task["binary"])
        options = task["options"].encode("utf-8", "surrogateescape")
        try:
            program = opencl.load_from_binaries(context, context.devices, [binary], options)
        except BinaryRejectedError as error:
            return error.status, error.routine
        opencl.create_kernels(program, task["kernels"])
        return None

    def list_devices(self) -> list[dict[str, str]]:
        """Tell the storage name of every device, or why it has none."""
        return [_identify(device) for device in _all_devices()]

    def warm(self, task: dict[str, Any]) -> dict[str, Any]:
        """Build, launch and store one program."""
        started = time.perf_counter()
        cache = self._cache(task["cache"])
        try:
            status, text = self._warm(cache, task)
        except cl.Error as error:
            status, text = "failed", str(error)
        return {"status": status, "message": text, "seconds": time.perf_counter() - started}

    def tune(self, task: dict[str, Any]) -> dict[str, Any]:
        """Try local sizes for typical calls of a program, and keep the best; store no program."""
        # Imported here: numpy and all operators are more than other messages need.
        from mace_cache.operators.typical import tune_typical_calls  # noqa: PLC0415 (as above)

        cache, context = self._cache(task["cache"]), self._queue(task["tune"]).context
        profiles = cl.command_queue_properties.PROFILING_ENABLE
        queue = cl.CommandQueue(context, properties=profiles)
        tried: dict[tuple[str, str], Trials] = {}
        try:
            program = cache.build(context, task["source"], task["options"])
            message = cache.explain(program).reason
            if cache.explain(program).key:
                tried = tune_typical_calls(queue, program, task["program"], task["variant"])
                message = _keep(cache, program, tried)
        except cl.Error as error:
            return {"rows": [], "stale": False, "message": str(error)}
        late = harvests_late("auto", [fingerprint(queue.device).family])
        stale = late and any(size != LOCAL_SIZE for size in cache.tuned_sizes(program).values())
        rows = [(*launch, trials) for launch, trials in tried.items()]
        return {"rows": rows, "stale": stale, "message": message}

    def _warm(self, cache: ProgramCache, task: dict[str, Any]) -> tuple[str, str]:
        queue = self._queue(task["device"])
        program, explanation = _use(cache, queue, task)
        if not explanation.key:
            return "skipped", explanation.reason
        if not cache.is_stored(program):
            return "failed", f"it was built, but could not be stored in {cache.factory}"
        if explanation.origin is not Origin.SOURCE:
            return "present", ""
        if not cache.settings.rebuilding:  # An application's first start finds it proven.
            _program, explanation = _use(cache, queue, task)
            if explanation.origin is Origin.SOURCE:
                return "failed", f"it was built, but can't be loaded: {explanation.reason}"
        return "built", ""

    def _queue(self, name: str) -> cl.CommandQueue:
        if name not in self._queues:
            (device, *_others) = [d for d in _all_devices() if _identify(d)["name"] == name]
            self._queues[name] = cl.CommandQueue(cl.Context([device]))
        return self._queues[name]

    def _cache(self, arguments: dict[str, Any]) -> ProgramCache:
        identity = json.dumps(arguments)
        if identity not in self._caches:
            self._caches[identity] = ProgramCache(**arguments)
        return self._caches[identity]


def _keep(cache: ProgramCache, program: cl.Program, tried: dict[tuple[str, str], Trials]) -> str:
    """Keep the best sizes, and say so where they couldn't be kept."""
    best = {launch: trials.local_size for launch, trials in tried.items()}
    cache.keep_tuned_sizes(program, best)
    if best.items() <= cache.tuned_sizes(program).items():
        return ""
    return f"its local sizes were found, but could not be kept in {cache.factory}"


def _use(
    cache: ProgramCache, queue: cl.CommandQueue, task: dict[str, Any]
) -> tuple[cl.Program, Explanation]:
    """Build or load a program, launch it and let go of it."""
    program = cache.build(queue.context, task["source"], task["options"])
    explanation = cache.explain(program)
    if explanation.key:
        kept = cache.tuned_sizes(program) if task["launches"] else {}
        for typical in map(_launch, task["launches"]):
            for launch in tuned_launches(program, typical, kept, queue.device):
                launch_once(program, queue, launch)
        cache._unwritten.flush()  # noqa: SLF001 (a rehearsal itself would wait for the exit)
        cache.close()
    return program, explanation


def _all_devices() -> list[cl.Device]:
    try:
        platforms = cl.get_platforms()
    except cl.Error:  # the loader's way to say that there is no driver
        return []
    devices = []
    for platform in platforms:
        try:
            devices += platform.get_devices()
        except cl.Error:  # a driver without a device
            continue
    return devices


def _identify(device: cl.Device) -> dict[str, str]:
    try:
        return {"name": fingerprint(device).storage_name, "problem": ""}
    except FingerprintError as error:
        return {"name": str(device), "problem": str(error)}


def _launch(stated: dict[str, Any]) -> Launch:
    local = stated["local_size"]
    return Launch(
        kernel=stated["kernel"],
        global_size=tuple(stated["global_size"]),
        local_size=None if local is None else tuple(local),
        arguments=tuple(Argument(**argument) for argument in stated["arguments"]),
    )
