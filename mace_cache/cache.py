"""The cache: a program comes from memory, a storage, a precompiled file, or else its source.

How a build goes reads top to bottom in ``building.py``.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pyopencl as cl

from mace_cache import opencl
from mace_cache._program_locks import ProgramLocks
from mace_cache.background import Background
from mace_cache.building import Builder
from mace_cache.config import parse_seconds, read_settings
from mace_cache.errors import ConfigurationError
from mace_cache.flights import Flights
from mace_cache.guard import make_guard
from mace_cache.harvest.policy import check_policy
from mace_cache.keeping import Keeper
from mace_cache.records import explain, record_of
from mace_cache.request import make_request
from mace_cache.resident import ResidentPrograms
from mace_cache.storage.factory import choose_factory
from mace_cache.storage.memory import MemoryStorageFactory
from mace_cache.storage.precompiled import Precompiled
from mace_cache.tiers import Tiers
from mace_cache.unwritten import Unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from types import TracebackType
    from typing import SupportsIndex

    from typing_extensions import Self

    from mace_cache.explanation import Explanation
    from mace_cache.guard import GuardMode
    from mace_cache.harvest.policy import HarvestPolicy
    from mace_cache.request import ProgramRequest
    from mace_cache.reuse import ReusePolicy
    from mace_cache.storage.base import KVStorageFactory

    Path = str | os.PathLike[str]

__all__ = ["ProgramCache"]

Result = TypeVar("Result")


class ProgramCache:
    """Builds OpenCL programs once, and loads their binaries after that.

    Whatever goes wrong with the cache ends in a build from source; the only errors that `build`
    raises are those of the source itself, as pyopencl raises them.

    Args:
        storage_path: the cache directory. Without it ``MACE_CACHE_DIR`` decides, then the user's
            cache directory.
        cache_full_path: one file that keeps all programs, instead of a directory.
        url: a storage URL (`ConfigKVStorageFactory`), instead of a directory.
        storage_factory: what makes the storages, instead of a directory.
        binary_paths: precompiled MCLP files; the first that exists is used, read-only.
        binary: the bytes of a precompiled MCLP file, used after *binary_paths*.
        precompiled: more precompiled MCLP files, each of which is used after those; those that
            installed packages ship (entry points ``mace_cache.bundles``) if None.
        trusted_keys: public keys, and files of keys, with commas between them: what is precompiled
            or comes from the remote is used only if one of them has signed it. Unless set, anything
            precompiled is used, and a remote is refused.
        allow_unsigned: whether what has no signature is used nevertheless.
        signing_key: the file of the key that signs what is written to the remote.
        reuse_policy: which programs of other device fingerprints may be loaded as well; none
            unless set.
        max_size: the size that the programs on disk are kept within, in bytes or as ``500M``;
            1 GiB unless set, 0 for no limit.
        read_only: whether nothing is written.
        trust: who may own what is kept on disk, or write to it, beside this user, and whether the
            cache directory may be a link: such as ``uid:1000,gid:100,links``. Nobody unless set.
        harvest: when the binaries of programs built from source are taken: ``eager``, right after
            the build, to be written a moment later; ``deferred``, in a quiet moment, at `flush`,
            `close` or exit, with what the driver has compiled for the launches until then;
            ``auto``, as the driver needs it.
        harvest_after: a quiet moment: so many seconds after the last build.
        exit_timeout: for how many seconds the exit of the process may be held up by writing.
        max_retries: after so many binaries of one fingerprint that its driver rejects in a row the
            cache steps aside for that fingerprint.
        guard: what is done so that a binary which crashes the driver takes down one process at
            most: ``journal``, a note on disk while a binary is loaded that wasn't before;
            ``subprocess``, a child process that loads it first; ``off``, nothing.
        remote: what other machines share with this one, asked when no nearer tier has a program and
            written to in the background: a URL (`RedisStorageFactory`, `ObjectStorageFactory`), or
            a storage factory. Without it ``MACE_CACHE_REMOTE`` decides.

    Attributes:
        settings: what the cache was told.
        factory: what makes its storages.
        disabled_by: why nothing is cached, or an empty text.
        builder: takes the steps of its builds, one by one for whoever needs them so.

    Raises:
        ConfigurationError: an argument can't be used, more than one says where the programs are, or
            nobody verifies what comes from the remote and *allow_unsigned* isn't set.
    """

    def __init__(
        self,
        *,
        storage_path: Path | None = None,
        cache_full_path: Path | None = None,
        url: str | None = None,
        storage_factory: KVStorageFactory | None = None,
        binary_paths: Sequence[Path] = (),
        binary: bytes | memoryview | None = None,
        precompiled: Sequence[Path] | None = None,
        trusted_keys: str | None = None,
        allow_unsigned: bool | None = None,
        signing_key: Path | None = None,
        reuse_policy: ReusePolicy | None = None,
        max_size: int | str | None = None,
        read_only: bool | None = None,
        trust: str | None = None,
        harvest: HarvestPolicy = "auto",
        harvest_after: float = 10.0,
        exit_timeout: float = 60.0,
        max_retries: int = 3,
        guard: GuardMode = "journal",
        remote: str | KVStorageFactory | None = None,
    ) -> None:
        check_policy(harvest)
        self.settings = read_settings(
            storage_path,
            max_size,
            read_only,
            trust,
            trusted_keys=trusted_keys,
            signing_key=signing_key,
            allow_unsigned=allow_unsigned,
        )
        factory, self.disabled_by = choose_factory(
            self.settings,
            storage_path=storage_path,
            cache_full_path=cache_full_path,
            url=url,
            storage_factory=storage_factory,
            remote=remote,
        )
        self.factory = factory or MemoryStorageFactory()  # disabled: it is never asked
        self._resident = ResidentPrograms()
        self._has_own_factory = storage_factory is not None
        self._trusted_keys = trusted_keys
        self._precompiled = None if precompiled is None else list(map(os.path.abspath, precompiled))
        self._place: dict[str, Any] = {
            "storage_path": self.settings.directory if storage_path is not None else None,
            "cache_full_path": None
            if cache_full_path is None
            else os.path.abspath(cache_full_path),
            "url": url,
            "remote": remote if isinstance(remote, str) else None,
            "signing_key": None if signing_key is None else os.path.abspath(signing_key),
        }
        read_only = self.settings.read_only
        statistics_directory = None if read_only else self.factory.state_place()
        quiet = parse_seconds(harvest_after, "harvest_after", bounded=False)
        longest = parse_seconds(exit_timeout, "exit_timeout", bounded=False)
        rehearsed = self.settings.record is not None
        if rehearsed:  # all launches are to be in what is harvested
            harvest, quiet = "deferred", math.inf
        own_guard = make_guard(guard, self.factory.state_place(), self.settings.lock_timeout)
        locks = ProgramLocks(statistics_directory, self.settings.lock_timeout)
        wait = self.factory.wait
        self._unwritten = Unwritten(statistics_directory, quiet, locks, own_guard, wait)
        make_tiers = partial(
            Tiers,
            factory=self.factory,
            precompiled=Precompiled(self.settings, precompiled, binary_paths, binary),
            policy=reuse_policy,
            max_retries=max_retries,
            recache=bool(self.settings.rebuilding),
            counts=self._unwritten.counts,
            guard=own_guard,
            trusted=self.settings.trusted_keys,
        )
        tracer = None
        if self.settings.trace:
            from mace_cache.tracing import Tracer  # noqa: PLC0415 (few trace)

            tracer = Tracer(factory)
        keeper = Keeper(self._resident, self._unwritten, harvest)
        self.builder = Builder(
            disabled_by=self.disabled_by,
            recached_by=self.settings.rebuilding,
            resident=self._resident,
            unwritten=self._unwritten,
            keeper=keeper,
            flights=Flights(locks),
            make_tiers=make_tiers,
            tracer=tracer,
        )
        self._background = Background()
        self._harvests_late = harvest == "deferred"  # whatever the driver
        if rehearsed:
            self._unwritten.finish_at_exit()
        else:  # Runs when the cache is collected, or at exit if it never is.
            weakref.finalize(self, self._unwritten.finish, longest)

    def build(
        self,
        context: cl.Context,
        source: str | bytes,
        options: str | Sequence[str] | None = None,
        devices: Sequence[cl.Device] | None = None,
    ) -> cl.Program:
        """Give the built program of a source.

        Args:
            context: the context to build it in.
            source: OpenCL C.
            options: build options, as `pyopencl.Program.build` takes them.
            devices: the devices to build for; all of the context if None.

        Returns:
            A built `pyopencl.Program`.

        Raises:
            pyopencl.Error: the source doesn't build.
        """
        return self.builder.build(make_request(context, source, options, devices))

    def build_many(
        self,
        context: cl.Context,
        requests: Iterable[ProgramRequest | tuple[Any, ...] | str | bytes],
        jobs: int | None = None,
    ) -> list[cl.Program]:
        """Give the built programs of many sources, such as those of a whole model.

        While one is loaded the next ones are read and verified. What is nowhere stored is built
        from source; on drivers that gain from it, worker processes compile as well.

        Args:
            context: the context to build them in, for all of its devices.
            requests: of each program its source, or its source and options (`ProgramRequest`). One
                that is asked for twice is built once.
            jobs: how many processes compile at once, this one among them; one a core that this
                process may use if None.

        Returns:
            Built programs in the order given, each as `build` would give it.

        Raises:
            pyopencl.Error: a source doesn't build. Of several, it is the first in the order
                given; all before it are built and kept, not all after it.
            ConfigurationError: *jobs* is less than one.
        """
        from mace_cache.many import build_many  # noqa: PLC0415 (most applications build singly)

        return build_many(self.builder, context, requests, jobs, self._arguments_of_workers())

    def build_async(
        self,
        context: cl.Context,
        source: str | bytes,
        options: str | Sequence[str] | None = None,
        devices: Sequence[cl.Device] | None = None,
    ) -> Future[cl.Program]:
        """Build a program in a thread: an application can show its window meanwhile.

        Programs of one cache are built one after the other, in the order asked for. `close` waits
        for them; the exit of the process waits for the one that is being built and cancels the
        others. Whoever asks while the interpreter ends, as a handler of `atexit`, or where no
        thread can be started, waits here, and the future is done.

        A forked child has none of the threads that build. In it a future fails with `ForkedError`
        if its program wasn't built before the fork, and runs no callback; the parent's go on.

        Args:
            context: as for `build`; all arguments are copied now.
            source: as for `build`.
            options: as for `build`.
            devices: as for `build`.

        Returns:
            What will have the program, or the error that `build` would raise; in a forked child
            maybe `ForkedError`. It can be cancelled until its build begins.
        """
        request = make_request(context, source, options, devices)
        # It holds the cache, which would be finished before what is built is stored.
        return self._background.submit(lambda: self.builder.build(request))

    def execute(
        self,
        build_arguments: Sequence[Any] | Mapping[str, Any],
        step: Callable[[cl.Program], Result],
    ) -> Result:
        """Build a program and run a step with it; run it again if the binary was to blame.

        A driver may take a binary and fail with it only at a kernel's creation or launch. If *step*
        fails with an OpenCL error that a bad binary can cause, and the program came from a binary,
        it is rebuilt from source and the step run again. If that works, the storage is cleared and
        the program written again; if it doesn't, the binary was innocent and stays.

        Args:
            build_arguments: the arguments of `build`, by position or by name.
            step: what to run; it should wait for what it launches, so that it fails where it fails.

        Returns:
            What *step* returns.

        Raises:
            pyopencl.Error: the source doesn't build, or *step* fails with its program too.
            Exception: whatever else *step* raises.
        """
        if isinstance(build_arguments, Mapping):
            program = self.build(**build_arguments)
        else:
            program = self.build(*build_arguments)
        try:
            return step(program)
        except (cl.Error, AttributeError) as error:
            suspicion = opencl.suspicion_of(error)
            resident = record_of(program).resident
            if suspicion is None or resident is None or not resident.loaded:
                raise
        return self.builder.retry(resident, step, suspicion)

    def explain(self, program: cl.Program) -> Explanation:
        """Tell where a program came from, and why.

        Args:
            program: what `build` returned.
        """
        return explain(program)

    def is_stored(self, program: cl.Program) -> bool:
        """Whether another process would find a program in the local storage now.

        Args:
            program: what `build` returned.
        """
        resident = record_of(program).resident
        return resident is not None and all(
            tiers.has(resident.wanted.source.key) for tiers in resident.wanted.tiers
        )

    def tuned_sizes(self, program: cl.Program) -> dict[tuple[str, str], int]:
        """Give the local sizes that were kept for a program's launches.

        They count for the fingerprint of its first device, and for this source and these options.
        Whoever uses one checks it against the limits of kernel and device.

        Args:
            program: what `build` returned.

        Returns:
            Local sizes by kernel and shape, as `keep_tuned_sizes` was given them; none where none
            are kept, or nothing is cached.
        """
        from mace_cache.tuning import find_sizes  # noqa: PLC0415 (few applications tune)

        return find_sizes(program)

    def keep_tuned_sizes(
        self, program: cl.Program, sizes: Mapping[tuple[str, str], SupportsIndex]
    ) -> None:
        """Keep local sizes beside a program, with those that are kept already.

        Nothing is kept where nothing may be written. Of processes that do this at the same time the
        last one may win.

        Args:
            program: what `build` returned.
            sizes: local sizes by kernel and shape, which is any text that tells launches apart.
                Each is a whole number from 1 to 2147483647, Python's or numpy's. Of more than 1,000
                in all the last 1,000 are kept.

        Raises:
            ConfigurationError: a kernel or shape is no text, or a size no such number; nothing is
                kept then.
        """
        from mace_cache.tuning import keep_sizes  # noqa: PLC0415 (as above)

        keep_sizes(program, sizes)

    def reopening_arguments(self) -> dict[str, Any]:
        """Give arguments with which another process opens the same cache, as JSON can hold them.

        Raises:
            ConfigurationError: no other process can: it was made with a storage factory or is
                kept in memory.
        """
        if self.factory.state_directory is None and not self.settings.read_only:
            raise ConfigurationError("cache", str(self.factory), "a cache on disk")
        if self._has_own_factory:
            raise ConfigurationError(
                "storage_factory", str(self.factory), "a path or a URL instead"
            )
        settings = self.settings
        return {
            **self._place,
            "max_size": settings.max_size,
            "read_only": settings.read_only,
            "trust": str(settings.trust),
            "precompiled": self._precompiled,
            "trusted_keys": self._trusted_keys,
            "allow_unsigned": settings.allow_unsigned,
        }

    def _arguments_of_workers(self) -> dict[str, Any] | None:
        """Give `reopening_arguments` where a program that a worker stores would be found here."""
        settings = self.settings
        if self.disabled_by or settings.read_only or settings.rebuilding or self._harvests_late:
            return None
        try:
            return {**self.reopening_arguments(), "precompiled": []}  # this process has asked them
        except ConfigurationError:
            return None

    def flush(self) -> None:
        """Harvest the programs that wait for it, and write all that isn't written yet.

        In a rehearsal (``mace-cache record``) that waits for the exit: more launches may come.
        """
        if self.settings.record is None:
            self._unwritten.flush()

    def close(self) -> None:
        """Wait for what `build_async` has begun, flush, and let go of the programs in memory."""
        self._background.wait()
        self.flush()
        if self._unwritten.guard is not None:
            self._unwritten.guard.close()
        self._resident.clear()

    def __enter__(self) -> Self:
        """Give the cache itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the cache."""
        self.close()
