"""Tuning the bundled kernels by typical calls of their operators, in processes of its own.

Trials make PoCL compile a kernel for every size. So that this is in no stored binary, they run with
a compiler cache of their own, and another process builds anew what is to be stored.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mace_cache._progress import progress_bar
from mace_cache._trials import Trials
from mace_cache._warm_process import WorkerDiedError, WorkerProcess
from mace_cache.cache import ProgramCache
from mace_cache.errors import ConfigurationError
from mace_cache.library import load_manifest
from mace_cache.warm import Task, choose_devices, manifest_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyopencl as cl
    from typing_extensions import Self

__all__ = ["TuneReport", "TuneResult", "tune_library"]


@dataclass(frozen=True)
class TuneResult:
    """What was found for one launch.

    Attributes:
        program: the program's name in the manifest.
        variant: the variant's name.
        device: the storage name of the device's fingerprint.
        kernel: the kernel.
        shape: the class of shapes (`mace_cache.local_sizes.shape_class`).
        before: the time of a launch with the usual local size, in seconds.
        local_size: the best local size.
        seconds: the time of a launch with that.
    """

    program: str
    variant: str
    device: str
    kernel: str
    shape: str
    before: float
    local_size: int
    seconds: float

    @property
    def gain(self) -> float:
        """How many times as fast it is now."""
        return self.before / self.seconds if self.seconds > 0 else 1.0


@dataclass(frozen=True)
class TuneReport:
    """What `tune_library` did.

    Attributes:
        results: one a kernel and class of shapes.
        notes: what failed or was passed over, and why.
    """

    results: list[TuneResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 1 where something failed, or nothing could be tuned or kept."""
        return int(bool(self.notes))

    def to_json(self) -> str:
        """The report as JSON: ``results``, ``notes`` and ``exit_code``."""
        return json.dumps({**asdict(self), "exit_code": self.exit_code}, indent=2)


def tune_library(
    programs: Sequence[str] = (),
    devices: Sequence[cl.Device | str] | None = None,
    cache: ProgramCache | None = None,
    *,
    progress: bool = True,
) -> TuneReport:
    """Find the best local sizes for typical calls of the bundled kernels' operators, and keep them.

    Kernels that require one size are left out. Where a stored binary holds the code of launches
    (PoCL), the program is built and stored anew with that of the best sizes.

    Args:
        programs: names in the manifest; all if there are none.
        devices: devices, or the beginnings of their storage names; all of the machine if None.
        cache: the cache to keep them in; if None, the default one. It must be one that other
            processes can open.
        progress: whether a progress bar is shown, where there is a terminal.

    Returns:
        What was found. Nothing else should run on the machine meanwhile.

    Raises:
        ConfigurationError: there is no program of a name, or other processes can't open the cache.
        ManifestError: the bundled kernels can't be read.
    """
    tasks = _tasks(programs)
    cache = cache or ProgramCache()
    if cache.disabled_by:
        return TuneReport(notes=[f"nothing was tuned: {cache.disabled_by}"])
    if cache.settings.read_only:
        return TuneReport(notes=["nothing was tuned: the cache is read-only"])
    arguments = cache.reopening_arguments()
    with _Worker() as trials, _Worker() as stores:
        names, passed_over, notes = choose_devices(devices, trials.ask)
        notes += [f"{one.device}: {one.message}" for one in passed_over]
        report = TuneReport(notes=notes)
        with progress_bar(len(tasks) * len(names), shown=progress) as advance:
            for name in names:
                for task in tasks:
                    results, message = _tune(task, name, arguments, trials, stores)
                    report.results.extend(results)
                    if message:
                        where = f"{task.program} [{task.variant}] on {name}"
                        report.notes.append(f"{where}: {message}")
                    advance(f"{task.program} [{task.variant}]")
    return report


def _tasks(programs: Sequence[str]) -> list[Task]:
    tasks = list(manifest_tasks(load_manifest()))
    names = list(dict.fromkeys(task.program for task in tasks))
    for program in programs:
        if program not in names:
            raise ConfigurationError("program", program, f"one of {', '.join(names)}")
    return [task for task in tasks if not programs or task.program in programs]


def _tune(
    task: Task, device: str, cache_arguments: dict[str, Any], trials: _Worker, stores: _Worker
) -> tuple[list[TuneResult], str]:
    """Tune one program on one device; give what was found, and what went wrong."""
    said = {
        "source": task.source,
        "options": task.options,
        "launches": [asdict(launch) for launch in task.launches],
    }
    never = {"harvest": "deferred", "harvest_after": math.inf}
    results: list[TuneResult] = []
    try:
        named = {"tune": device, "program": task.program, "variant": task.variant}
        answer = trials.ask({**named, "cache": {**cache_arguments, **never}, **said})
        for kernel, shape, tried in answer["rows"]:
            name = task.program, task.variant, device
            results.append(TuneResult(*name, kernel, shape, *Trials(*tried)))
        if answer["stale"]:
            answer = stores.ask({"device": device, "cache": cache_arguments, **said})
    except WorkerDiedError as error:
        return results, str(error)
    return results, answer["message"]


class _Worker:
    """One worker process, which builds everything anew, without what PoCL has compiled before.

    It is started when it is first asked, and again after it has died.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(
            prefix="mace-cache-tune-", ignore_cleanup_errors=True
        )
        self._process: WorkerProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._close()
        self._directory.cleanup()

    def ask(self, message: dict[str, Any] | None) -> Any:
        """Ask it.

        Raises:
            WorkerDiedError: it ended instead of answering.
        """
        if self._process is None:
            directory = self._directory.name
            environment = {"MACE_CACHE_RECACHE": "1", "POCL_CACHE_DIR": directory}
            self._process = WorkerProcess(environment=environment)
        try:
            return self._process.ask(message)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()
