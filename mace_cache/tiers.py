"""The tiers of one device fingerprint: where its programs are looked for and written.

Every fault of a storage ends here: it is reported once, counted, and answered as a miss.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mace_cache._report import cause_of, warn_once
from mace_cache.errors import DamagedFileError, SignatureError
from mace_cache.explanation import Origin
from mace_cache.program import CompiledProgram
from mace_cache.rejections import Rejections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mace_cache._signing_keys import TrustedKeys
    from mace_cache.errors import BinaryRejectedError
    from mace_cache.fingerprint import DeviceFingerprint
    from mace_cache.guard import Guard
    from mace_cache.reuse import ReusePolicy
    from mace_cache.statistics import Counts
    from mace_cache.storage.base import KVStorage, KVStorageFactory
    from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage

__all__ = ["Found", "Tiers"]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


_FORGOTTEN = CompiledProgram(key="", fingerprint="", binary=b"")


class Found(NamedTuple):
    """A program that a tier has.

    Attributes:
        program: the program, verified.
        origin: the kind of tier.
        tier: the storage, as a person would name it.
        own: whether it lies in the fingerprint's own storage, which a rejection clears.
    """

    program: CompiledProgram
    origin: Origin
    tier: str
    own: bool

    def to_keep(self) -> Found:
        """Give what a rejection needs: only a foreign program is remembered by its binary.

        The build log stays too: the driver doesn't know it of what it has loaded.
        """
        if not self.own:
            return self
        log = self.program.build_log
        kept = replace(_FORGOTTEN, build_log=log) if log else _FORGOTTEN
        return self._replace(program=kept)


class Tiers:
    """Where programs of one device fingerprint are kept, and what its driver made of them.

    Args:
        fingerprint: the fingerprint.
        factory: makes the local storages.
        precompiled: shipped programs, asked when the local storage has none.
        policy: which programs of other fingerprints may be loaded as well.
        max_retries: after so many rejections in a row nothing more is loaded or written.
        recache: whether what is stored is passed over, to be built and written again.
        counts: where faults and writes are counted.
        guard: what loads binaries that aren't proven; None where they are loaded like others.
        trusted: the keys one of which must have signed what came from elsewhere signed; None where
            no signature is asked for.
    """

    def __init__(
        self,
        fingerprint: DeviceFingerprint,
        factory: KVStorageFactory,
        *,
        precompiled: Iterable[ReadOnlyByteStreamStorage] = (),
        policy: ReusePolicy | None = None,
        max_retries: int = 3,
        recache: bool = False,
        counts: Counts,
        guard: Guard | None = None,
        trusted: TrustedKeys | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.guard = guard
        self._factory = factory
        self._precompiled = precompiled
        self._policy = policy
        self._max_retries = max_retries
        self._recache = recache
        self._trusted = trusted
        self._distrusted: set[str] = set()
        self._counts = counts
        self._evicted = 0
        self._lock = threading.RLock()
        self._faults = threading.local()
        self._storage: KVStorage = factory.create_storage(fingerprint.storage_name)
        self._try("load", self._storage.load, None)
        place = factory.state_place() if self._storage.writable else None
        self._rejections = Rejections(place, fingerprint.storage_name)

    def __str__(self) -> str:
        """Name the fingerprint's own storage."""
        return str(self._storage)

    @property
    def stepped_aside(self) -> str:
        """Why nothing is loaded or written for this fingerprint, or an empty text where it is."""
        if self._rejections.in_a_row < self._max_retries:
            return ""
        return (
            f"the driver rejected {self._rejections.in_a_row} binaries in a row: the cache steps "
            f"aside for {self.fingerprint.storage_name} until the driver changes or it is cleared"
        )

    @property
    def accepts(self) -> bool:
        """Whether programs are written here."""
        return self._storage.writable and not self.stepped_aside

    def candidates(self, key: str) -> Iterator[Found]:
        """Give the programs of that key that may be loaded, the nearest tier first."""
        if not self._recache:
            yield from (found for found in self._entries(key) if not found.program.tuned)

    def tuned(self, key: str, *, fetches: bool) -> tuple[tuple[str, str, int], ...]:
        """Give the rows of the nearest record of tuned local sizes that has that key.

        Also where programs are built anew: their launches stay as they were tuned.

        Args:
            key: the record's.
            fetches: whether the remote is asked as well.
        """
        if self.stepped_aside:
            return ()
        for found in self._entries(key, fetches=fetches):
            if found.program.tuned:
                if not found.own and found.program.fingerprint == self.fingerprint.text:
                    self.keep_tuned(found.program)
                return found.program.tuned
        return ()

    def keep_tuned(self, record: CompiledProgram) -> None:
        """Write a record of tuned local sizes, for other processes to see at once."""
        if self.accepts and self._try("insert", lambda: self._insert(record), False):
            self._try("flush", self._storage.flush, None)

    def _entries(self, key: str, *, fetches: bool = True) -> Iterator[Found]:
        program = self._find_own(key)
        if program is not None:
            yield Found(program, Origin.STORAGE, str(self._storage), own=True)
        if self._policy is not None:
            yield from self._find_siblings(key)
        for stream in self._precompiled:
            for program in self._find_precompiled(stream, key):
                yield Found(program, Origin.PRECOMPILED, str(stream), own=False)
        if not fetches:
            return
        program = self._try("fetch", lambda: self._storage.fetch(key), None)
        if program is not None and self._usable(program):
            yield Found(program, Origin.REMOTE, self._storage.remote, own=False)

    @property
    def claims(self) -> bool:
        """Whether `claim` may wait for another machine."""
        return self._storage.claims and not self._recache

    def claim(self, key: str, patience: float, when_awaited: Callable[[], None]) -> bool:
        """Claim to build a program for all who share the remote; as `KVStorage.claim`."""
        if self._recache:
            return False
        claim = partial(self._storage.claim, key, patience, when_awaited)
        return self._try("claim", claim, False)

    def release(self, key: str, *, fails: bool = False) -> None:
        """What was claimed is stored, or isn't built here; as `KVStorage.release`."""
        self._try("release", lambda: self._storage.release(key, fails=fails), None)

    def find_again(self, found: Found) -> CompiledProgram | None:
        """Give what was found as it is now; None where it isn't there any more."""
        if not found.own:
            return found.program
        program = self._find_own(found.program.key)
        return program if program is not None and program.binary == found.program.binary else None

    def has(self, key: str) -> bool:
        """Whether the fingerprint's own storage has that program now."""
        program = self._find_own(key)
        return program is not None and not program.tuned

    def distrusts(self, key: str) -> bool:
        """Whether a program of that key was kept here whose signer isn't trusted any more."""
        return key in self._distrusted

    def holds(self, program: CompiledProgram) -> bool:
        """Whether the fingerprint's own storage has that very binary now."""
        own = self._find_own(program.key)
        return own is not None and own.binary == program.binary

    def needs(self, key: str) -> bool:
        """Whether that program is to be written: it can be, and nobody has since it was missed."""
        return self.accepts and (self._recache or not self.has(key))

    def known_build_seconds(self, key: str) -> float:
        """How long a program took to build for other fingerprints, as before a driver's update."""
        found = [found.program.build_seconds for found in self._find_siblings(key, any_policy=True)]
        return max(found, default=0.0)

    def take_fault(self) -> str:
        """Give the last fault of a storage in this thread, once; nothing where there was none."""
        fault, self._faults.last = getattr(self._faults, "last", ""), ""
        return fault

    def accept(self, found: Found) -> None:
        """The driver took a program: it is written to the local storage if it lay elsewhere."""
        with self._lock:
            self._rejections.reset()
        if not found.own and found.program.fingerprint == self.fingerprint.text:
            self.insert(found.program)

    def reject(self, found: Found, error: BinaryRejectedError) -> None:
        """The driver refused a program: the storage is cleared, a foreign program passed over."""
        with self._lock:
            if found.own:
                self._rejections.count()
            else:
                self._rejections.remember(found.program.binary)
        # A foreign program that failed after the driver had taken it has been written back.
        if self._storage.writable and (found.own or self.holds(found.program)):
            self._try("clear", self._storage.clear, None)
        cause, consequence = "passed over", "it is passed over from now on"
        if found.own:
            cause, consequence = "rejected", "its storage is cleared and the program rebuilt"
        warn_once(logger, cause, "%s: %s; %s", found.tier, str(error), consequence)

    def drop(self, found: Found) -> bool:
        """A process died of a program: it is counted, reported and removed; as `remove`."""
        self._counts.crashes += 1
        dropped = self.remove(found)
        warn_once(
            logger,
            "crash",
            "%s: the process that last loaded program %.12s... died: it %s and built from source",
            found.tier,
            found.program.key,
            "was dropped" if dropped else "is passed over from now on",
        )
        return dropped

    def remove(self, found: Found) -> bool:
        """Remove a program that is best not loaded.

        Returns:
            Whether it is gone; that of another tier, or of a storage that only reads, stays.
        """
        if not found.own or not self._storage.writable:
            return False
        if self.find_again(found) is None:  # another one has taken its place
            return True
        return self._try("remove", lambda: self._remove(found.program.key), False)

    def prove(self, program: CompiledProgram) -> bool:
        """A driver has loaded a program, and nothing happened; as `KVStorage.prove`."""
        try:
            return program.fingerprint == self.fingerprint.text and self._storage.prove(program)
        except Exception as error:  # noqa: BLE001 (as in _try; it costs little)
            logger.debug("%s: a program can't be proven (%r)", self._storage, error)
            return False

    def insert(self, program: CompiledProgram) -> None:
        """Write a program to the local storage, where there is one to write to."""
        if self.accepts and self._try("insert", lambda: self._insert(program), False):
            self._counts.stored += 1

    def flush(self) -> None:
        """Make what was inserted visible to other processes."""
        if self._storage.writable:
            self._try("flush", self._storage.flush, None)
        with self._lock:
            self._counts.evictions += self._storage.evicted - self._evicted
            self._evicted = self._storage.evicted

    def _insert(self, program: CompiledProgram) -> bool:
        self._storage.insert(program.key, program)
        return True

    def _remove(self, key: str) -> bool:
        self._storage.remove(key)
        return True

    def _find_own(self, key: str) -> CompiledProgram | None:
        program = self._try("find", lambda: self._find_in(self._storage, key), None)
        if program is None or program.fingerprint == self.fingerprint.text:
            return program
        logger.debug("%s holds programs of another device: it was cleared", self._storage)
        if self._storage.writable:
            self._try("clear", self._storage.clear, None)
        return None

    def _find_siblings(self, key: str, *, any_policy: bool = False) -> Iterator[Found]:
        names: list[str] = self._try("list", self._factory.names, [])
        for name in names:
            if name == self.fingerprint.storage_name:
                continue
            program = self._try("find", partial(self._find_sibling, name, key), None)
            if program is not None and (any_policy or self._usable(program)):
                # What is proven there is so for another driver's build.
                program = replace(program, proven=False)
                yield Found(program, Origin.STORAGE, name, own=False)

    def _find_sibling(self, name: str, key: str) -> CompiledProgram | None:
        storage = self._factory.create_storage(name)
        storage.load()
        return self._find_in(storage, key)

    def _find_in(self, storage: KVStorage, key: str) -> CompiledProgram | None:
        program = storage.find(key)
        if program is not None and program.signer:  # as what was built here never is
            from mace_cache.signing import check_signer  # noqa: PLC0415 (few need it)

            try:
                check_signer(program, self._trusted, str(storage))
            except SignatureError:
                self._distrusted.add(key)
                raise
        return program

    def _find_precompiled(
        self, stream: ReadOnlyByteStreamStorage, key: str
    ) -> list[CompiledProgram]:
        """Give what may be loaded, the fingerprint's own program before those of others."""
        nothing: list[CompiledProgram] = []
        programs = self._try("find", lambda: list(stream.candidates(key)), nothing)
        usable = [program for program in programs if self._usable(program)]
        return sorted(usable, key=lambda program: program.fingerprint != self.fingerprint.text)

    def _usable(self, program: CompiledProgram) -> bool:
        from mace_cache.reuse import may_reuse  # noqa: PLC0415 (few need it: kept out of the import of the package)

        allowed = program.fingerprint == self.fingerprint.text or may_reuse(
            self._policy, program.fingerprint, self.fingerprint.text
        )
        return allowed and not self._rejections.remembers(program.binary)

    def _try(self, what: str, action: Callable[[], Answer], otherwise: Answer) -> Answer:
        # A storage is other people's code on other people's disks: whatever it raises is its fault
        # and not the application's.
        try:
            return action()
        except DamagedFileError as error:
            self._faults.last = str(error)
            warn_once(logger, "damaged", "%s; it was dropped and is rebuilt", error)
        except SignatureError as error:
            self._faults.last = str(error)
            warn_once(logger, f"signature {error.tier}", "%s; it is built from source", error)
        except Exception as error:  # noqa: BLE001 (see above)
            # Not the error itself: its traceback would keep the cache alive.
            self._faults.last = f"{self._storage}: {what} failed ({_said(error)})"
            consequence = "%s; programs are built from source"
            warn_once(logger, cause_of(error), consequence, self._faults.last)
        self._counts.failures += 1
        return otherwise


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return where + error.strerror
    return str(error)
