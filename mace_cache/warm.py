"""Install time: every program is built, launched and stored before the application first starts.

The work is done in processes of its own (``_warm_worker``), so that a driver that crashes takes one
program down and not the installation.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mace_cache._warm_process import WorkerDiedError, WorkerProcess
from mace_cache.cache import ProgramCache
from mace_cache.errors import ConfigurationError, FingerprintError
from mace_cache.fingerprint import fingerprint
from mace_cache.library import build_options, load_manifest
from mace_cache.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyopencl as cl

    Programs = str | os.PathLike[str] | Manifest | Sequence[str | os.PathLike[str]] | None

__all__ = ["WarmReport", "WarmResult", "warm_cache"]

Status = Literal["built", "present", "skipped", "failed"]


@dataclass(frozen=True)
class WarmResult:
    """What became of one program on one device.

    Attributes:
        program: the program's name in the manifest, or its file.
        variant: the variant's name.
        device: the storage name of the device's fingerprint.
        status: ``built``, ``present`` (it was there already), ``skipped`` or ``failed``.
        seconds: what it took: build, launches and storing.
        message: why it was skipped, or how it failed, with the build log.
    """

    program: str
    variant: str
    device: str
    status: Status
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class WarmReport:
    """What `warm_cache` did.

    Attributes:
        results: one a program, variant and device.
        notes: what concerns no single program, such as that there is no device.
    """

    results: list[WarmResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a program failed or nothing could be warmed."""
        return int(bool(self.notes) or any(r.status == "failed" for r in self.results))

    def count(self, status: Status) -> int:
        """How many results have that status."""
        return sum(result.status == status for result in self.results)

    def to_json(self) -> str:
        """The report as JSON: ``results``, ``notes`` and ``exit_code``."""
        report = {**asdict(self), "exit_code": self.exit_code}
        return json.dumps(report, indent=2)

    def __str__(self) -> str:
        """The report for a person: what isn't in order line by line, and a summary."""
        lines = list(self.notes)
        for result in self.results:
            if result.status in ("skipped", "failed"):
                name = f"{result.program} [{result.variant}] on {result.device}"
                lines.append(f"{result.status}: {name}: {result.message}")
        counts = Counter(result.status for result in self.results)
        lines.append(
            f"{counts['built']} built, {counts['present']} already there, "
            f"{counts['skipped']} skipped, {counts['failed']} failed"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Task:
    """One program to build with one set of options."""

    program: str
    variant: str
    source: str
    options: tuple[str, ...]
    launches: tuple[Launch, ...] = ()


def warm_cache(
    programs: Programs = None,
    devices: Sequence[cl.Device | str] | None = None,
    cache: ProgramCache | None = None,
    jobs: int | None = None,
    launch: bool = True,
    progress: bool = True,
) -> WarmReport:
    """Make the cache ready before an application's first start.

    Every program and variant is built for every device, in processes of its own, each kernel is
    launched once as the manifest says, and the binaries are stored. What is stored already is not
    built again. One program that fails doesn't stop the others.

    Args:
        programs: a manifest or its JSON file, a directory with a ``manifest.json`` or of ``.cl``
            files, or a sequence of ``.cl`` files and source texts (a text has a line break or a
            brace); the bundled kernels if None. Only a manifest tells options and launches.
        devices: devices, or the beginnings of their storage names; all of the machine if None.
        cache: the cache to fill; if None, the default one. It must be one that other processes can
            open: a directory, a file or a URL of either.
        jobs: how many processes work at once; one a core that this process may use if None.
        launch: whether kernels are launched; without, a driver that compiles at the first launch
            compiles again then.
        progress: whether a progress bar is shown (with the extra ``cli``, on a terminal).

    Returns:
        What was built, already there, skipped and failed.

    Raises:
        ConfigurationError: the cache can't be opened by other processes, or *jobs* is no number of
            them.
        ManifestError: the programs can't be read.
    """
    if jobs is not None and jobs < 1:
        raise ConfigurationError("jobs", jobs, "at least one process")
    tasks = list(_tasks(programs))
    with _Crew(cache or ProgramCache()) as crew:
        names, results, notes = crew.find_devices(devices)
        work = [(task, name) for name in names for task in tasks]
        with (
            progress_bar(len(work), shown=progress) as advance,
            ThreadPoolExecutor(jobs or _cores()) as pool,
        ):
            futures = [pool.submit(crew.warm, task, name, launch) for task, name in work]
            for future in as_completed(futures):
                advance(future.result().program)
    return WarmReport([*results, *[future.result() for future in futures]], notes)


class _Crew:
    """The worker processes: one a thread, another where one died."""

    def __init__(self, cache: ProgramCache) -> None:
        self._arguments = cache.reopening_arguments()
        self._idle: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        for worker in self._idle:
            worker.close()

    def find_devices(
        self, devices: Sequence[cl.Device | str] | None
    ) -> tuple[list[str], list[WarmResult], list[str]]:
        """Give the storage names of the devices asked for, those passed over, and what to say."""
        try:
            listed = self._ask(None)
        except WorkerDiedError as error:
            return [], [], [f"the devices could not be listed: {error}"]
        for device in listed:
            pass
        return [], [], []
