"""Install time: every program is built, launched and stored before the application first starts.

The work is done in processes of its own (``_warm_worker``), so that a driver that crashes takes one
program down and not the installation.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mace_cache._progress import progress_bar
from mace_cache._warm_process import WorkerDiedError, WorkerProcess, cores
from mace_cache.cache import ProgramCache
from mace_cache.errors import ConfigurationError, FingerprintError, ManifestError
from mace_cache.fingerprint import fingerprint
from mace_cache.library import build_options, load_manifest
from mace_cache.manifest import Launch, Manifest
from mace_cache.warm_report import WarmReport, WarmResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    import pyopencl as cl
    from typing_extensions import Self

    Path = str | os.PathLike[str]

__all__ = ["Task", "WarmReport", "WarmResult", "choose_devices", "manifest_tasks", "warm_cache"]

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Task:
    """One program to build with one set of options.

    Attributes:
        program: its name.
        variant: the name of the options.
        source: its text.
        options: the options.
        launches: typical launches.
    """

    program: str
    variant: str
    source: str
    options: tuple[str, ...] = ()
    launches: tuple[Launch, ...] = ()


def warm_cache(  # noqa: PLR0917 (the order is part of the interface)
    programs: Path | Manifest | Sequence[Path] | None = None,
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
        launch: whether kernels are launched; without it, a driver that compiles at the first launch
            compiles again then, and the crash guard has still to see its first launch.
        progress: whether a progress bar is shown, where there is a terminal.

    Returns:
        What was built, already there, skipped and failed.

    Raises:
        ConfigurationError: other processes can't open the cache, or *jobs* is less than one.
        ManifestError: the programs can't be read.
    """
    if jobs is not None and jobs < 1:
        raise ConfigurationError("jobs", jobs, "at least one process")
    tasks = list(_tasks(programs))
    cache = cache or ProgramCache()
    if cache.disabled_by:
        return WarmReport([], [f"nothing was warmed: {cache.disabled_by}"])
    if cache.settings.read_only:
        return WarmReport([], ["nothing was warmed: the cache is read-only"])
    with _Crew(cache.reopening_arguments(), launch=launch) as crew:
        names, results, notes = choose_devices(devices, crew.ask)
        work = [(task, name) for name in names for task in tasks]
        with (
            progress_bar(len(work), shown=progress) as advance,
            ThreadPoolExecutor(jobs or cores()) as pool,
        ):
            futures = [pool.submit(crew.warm, task, name) for task, name in work]
            try:
                for future in as_completed(futures):
                    advance(f"{future.result().program} [{future.result().variant}]")
            finally:
                pool.shutdown(cancel_futures=True)  # Whoever interrupts it waits for no more.
    return WarmReport([*results, *[future.result() for future in futures]], notes)


class _Crew:
    """The worker processes: as many as there are threads that ask; where one died, another."""

    def __init__(self, cache_arguments: dict[str, Any], *, launch: bool) -> None:
        self._cache_arguments = cache_arguments
        self._launch = launch
        self._idle: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        for worker in self._idle:
            worker.close()

    def warm(self, task: Task, device: str) -> WarmResult:
        """Have one program built, launched and stored."""
        launches = task.launches if self._launch else ()
        message = {
            "cache": self._cache_arguments,
            "device": device,
            "source": task.source,
            "options": task.options,
            "launches": [asdict(launch) for launch in launches],
        }
        try:
            answer = self.ask(message)
        except WorkerDiedError as error:
            answer = {"status": "failed", "message": str(error), "seconds": 0.0}
        return WarmResult(task.program, task.variant, device, **answer)

    def ask(self, message: dict[str, Any] | None) -> Any:
        """Ask an idle worker, or a new one.

        Raises:
            WorkerDiedError: it ended instead of answering.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = WorkerProcess()
        try:
            answer = worker.ask(message)
        except BaseException:
            worker.close()
            raise
        self._idle.append(worker)
        return answer


def choose_devices(
    devices: Sequence[cl.Device | str] | None, ask: Callable[[None], Any]
) -> tuple[list[str], list[WarmResult], list[str]]:
    """Choose devices.

    Args:
        devices: devices, or the beginnings of their storage names; all of the machine if None.
        ask: asks a worker process.

    Returns:
        Their storage names, what is passed over, and what else is to be said.
    """
    try:
        listed = ask(None) if devices is None or _has_names(devices) else []
    except WorkerDiedError as error:
        return [], [], [f"the devices could not be listed: {error}"]
    if devices is not None:
        listed = [found for device in devices for found in _match(device, listed)]
    passed_over = [
        WarmResult("(all)", "(all)", found["name"], "skipped", 0.0, found["problem"])
        for found in listed
        if found["problem"]
    ]
    names = dict.fromkeys(found["name"] for found in listed if not found["problem"])
    if names or passed_over:
        return list(names), passed_over, []
    asked = "" if devices is None else " that was asked for"
    help_ = "`mace-cache devices` lists them; pip install 'mace-cache[pocl]' brings one for the CPU"
    return [], [], [f"there is no OpenCL device{asked}: nothing was done ({help_})"]


def _has_names(devices: Sequence[cl.Device | str]) -> bool:
    return any(isinstance(device, str) for device in devices)


def _match(device: cl.Device | str, listed: list[dict[str, str]]) -> list[dict[str, str]]:
    if isinstance(device, str):
        return [found for found in listed if found["name"].startswith(device)]
    try:
        return [{"name": fingerprint(device).storage_name, "problem": ""}]
    except FingerprintError as error:
        return [{"name": str(device), "problem": str(error)}]


def _tasks(programs: Path | Manifest | Sequence[Path] | None) -> Iterator[Task]:
    if programs is None:
        yield from manifest_tasks(load_manifest())
    elif isinstance(programs, Manifest):
        yield from manifest_tasks(programs)
    elif isinstance(programs, str | os.PathLike):
        yield from _path_tasks(os.fspath(programs))
    else:
        for number, item in enumerate(programs):
            if isinstance(item, str) and ("\n" in item or "{" in item):
                yield Task(f"source {number}", "default", item)
            else:
                yield from _path_tasks(os.fspath(item))


def _path_tasks(path: str) -> Iterator[Task]:
    manifest = os.path.join(path, _MANIFEST)
    if path.endswith(".json"):
        yield from manifest_tasks(load_manifest(path))
    elif os.path.isfile(manifest):
        yield from manifest_tasks(load_manifest(manifest))
    elif os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.endswith(".cl"))
        if not names:
            raise ManifestError(path, f"there is neither a {_MANIFEST} nor a .cl file in it")
        for name in names:
            yield from _path_tasks(os.path.join(path, name))
    else:
        yield Task(path, "default", _read(path))


def manifest_tasks(manifest: Manifest) -> Iterator[Task]:
    """Give each program of a manifest with each set of options.

    Raises:
        ManifestError: a source can't be read.
    """
    for program in manifest.programs:
        source = program.read_source()
        for variant in program.variants:
            options = tuple(build_options(program, variant))
            yield Task(program.name, variant.name, source, options, program.launches)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(path, f"the source can't be read: {error}") from error
