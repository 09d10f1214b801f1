"""A local storage with a remote one behind it: what one machine builds the others fetch.

To whoever asks it is its local storage. The remote is asked by `TieredStorage.fetch` only, which
`Tiers` calls when no nearer tier has a program, and written to in the background.
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from mace_cache.errors import MaceCacheError
from mace_cache.storage._failing_open import access_to
from mace_cache.storage._renewal import Claim, Renewal
from mace_cache.storage._uploads import Uploads
from mace_cache.storage.base import KVStorage, KVStorageFactory, check_key, check_program
from mace_cache.storage.remote import RemoteStorage, RemoteStorageFactory, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mace_cache._directories import Place
    from mace_cache.program import CompiledProgram
    from mace_cache.storage._failing_open import FailingOpen
    from mace_cache.storage.remote_settings import RemoteSettings

__all__ = ["TieredStorage", "TieredStorageFactory"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.05  # seconds between two looks at what another machine builds
_LONGEST_PAUSE = 1.0
_RENEWALS = 3  # within the time of a lease, at least
_LONGEST_RENEWAL = 0.5  # seconds: others wait until it is known that they do


class TieredStorage(KVStorage):
    """The programs of one fingerprint, here and on a remote; made by `TieredStorageFactory`.

    Args:
        local: the storage here.
        remote: the one on the remote.
        access: asks the remote.
        uploads: writes to it.
        renewal: renews what was claimed there.
        settings: how the remote is used.
    """

    def __init__(
        self,
        local: KVStorage,
        remote: KVStorage,
        *,
        access: FailingOpen,
        uploads: Uploads,
        renewal: Renewal,
        settings: RemoteSettings,
    ) -> None:
        self._local = local
        self._remote = remote
        self._access = access
        self._uploads = uploads
        self._renewal = renewal
        self._settings = settings
        self._remote_is_loaded = False
        self._fetched: set[tuple[str, float, int]] = set()
        self._claimed: set[str] = set()
        self._waited_for: set[str] = set()
        self._missed: set[str] = set()
        self.writable = local.writable
        self.remote = str(remote)
        leases = isinstance(remote, RemoteStorage) and remote.leases
        self.claims = leases and settings.reads and settings.writes

    def __str__(self) -> str:
        """Name the local place."""
        return str(self._local)

    @property
    def evicted(self) -> int:  # type: ignore[override] # counted by the local storage
        """How many programs were removed here to keep within the size."""
        return self._local.evicted

    def load(self) -> None:
        """Make the local storage ready; the remote is when it is first asked."""
        self._local.load()

    def find(self, key: str) -> CompiledProgram | None:
        """Give the local program of that key; see `KVStorage.find`."""
        return self._local.find(key)

    def fetch(self, key: str) -> CompiledProgram | None:
        """Give the remote's program of that key; see `KVStorage.fetch`."""
        check_key(key)
        if self._settings.writes:
            self._uploads.start()  # what isn't there is likely to be built
        if not self._settings.reads:  # so what is built replaces whatever is there
            return None
        self._missed.add(key)
        began = time.monotonic()
        program = self._access.ask("read", partial(self._find_remote, key), None)
        taken = time.monotonic() - began
        if key in self._waited_for:
            self._waited_for.discard(key)
            if program is None:
                self._access.set_aside("lease", "waited for a program that isn't there")
        if program is None:
            self._access.spend(taken)
        else:
            self._access.spend(max(0.0, taken - program.build_seconds))
            self._fetched.add(_identity(program))
        return program

    def claim(
        self, key: str, patience: float, when_awaited: Callable[[], None] = lambda: None
    ) -> bool:
        """Wait for another machine that builds a program; see `KVStorage.claim`."""
        remote = self._remote
        if not self.claims or not isinstance(remote, RemoteStorage):
            return False
        began = time.monotonic()
        turn, waited = self._wait_for_turn(partial(remote.turn, key), began + patience)
        if waited and turn is Turn.FETCH:
            self._waited_for.add(key)
        elif waited:
            self._access.wait_in_vain(time.monotonic() - began, patience)
        if turn is Turn.BUILD:
            self._claimed.add(key)
            claim = Claim(partial(self._renew, remote), when_awaited)
            self._renewal.keep(self.remote, key, claim)
        return turn is Turn.FETCH

    def release(self, key: str, *, fails: bool = False) -> None:
        """Let other machines go on when what was built here has gone up; as `KVStorage.release`."""
        if key in self._claimed:
            self._claimed.discard(key)
            self._uploads.submit(partial(self._release, key, fails=fails))

    def insert(self, key: str, program: CompiledProgram) -> None:
        """Put a program here at once, and in the background on the remote if it isn't from there.

        Raises:
            ValueError: *key* isn't the program's own, or the program can't be stored.
            StorageReadOnlyError: the local storage only reads.
            OSError: the local storage can't be written; the program goes to the remote anyhow.
        """
        check_program(key, program)
        if self.writable and self._settings.writes and self._is_of_this_machine(program):
            self._uploads.submit(partial(self._upload, program))
        self._local.insert(key, program)

    def remove(self, key: str) -> None:
        """Remove the local program of that key; see `KVStorage.remove`."""
        self._local.remove(key)

    def prove(self, program: CompiledProgram) -> bool:
        """Keep note here that a program was loaded; see `KVStorage.prove`."""
        return self._local.prove(program)

    def clear(self) -> None:
        """Remove every local program: what one machine finds bad may be good for the others."""
        self._local.clear()

    def flush(self) -> None:
        """Flush the local storage; the factory's ``wait`` waits for the remote."""
        self._local.flush()

    def keys(self) -> Iterator[str]:
        """Give the keys of the local programs."""
        return self._local.keys()

    def _wait_for_turn(self, ask: Callable[[], Turn], until: float) -> tuple[Turn | None, bool]:
        """Ask until it is this machine's turn, or until then; and whether that took a wait."""
        pause, waited = _FIRST_PAUSE, False
        while True:
            asked = time.monotonic()
            turn = self._access.ask("lease", ask, None)
            if turn is not Turn.FETCH:
                self._access.spend(time.monotonic() - asked)
            rest = until - time.monotonic()
            if turn is not Turn.WAIT or rest <= 0:
                return turn, waited
            time.sleep(min(rest, pause * random.uniform(0.5, 1.5)))  # noqa: S311 (as others wait)
            pause, waited = min(2 * pause, _LONGEST_PAUSE), True

    def _find_remote(self, key: str) -> CompiledProgram | None:
        if not self._remote_is_loaded:
            self._remote.load()
            self._remote_is_loaded = True
        try:
            program = self._remote.find(key)
        except MaceCacheError:
            self._missed.discard(key)
            raise
        if program is not None:
            self._missed.discard(key)
        return program

    def _is_of_this_machine(self, program: CompiledProgram) -> bool:
        """Tell what was built here from what was fetched, and from what was made of that.

        Else what another key has signed would go up again under this machine's own.
        """
        key = self._settings.signing_key
        own = {"", key.identifier.hex()} if key is not None else {""}
        return program.signer in own and _identity(program) not in self._fetched

    def _upload(self, program: CompiledProgram) -> None:
        # What was asked for and wasn't there goes where still nothing is. Whatever else is written
        # replaces what is there: a bad program, what was built anew, what has become more complete.
        key, remote = program.key, self._remote
        is_new = key in self._missed and isinstance(remote, RemoteStorage)
        self._missed.discard(key)

        def write() -> None:
            if is_new and isinstance(remote, RemoteStorage):
                remote.insert_built(key, program)
            else:
                remote.insert(key, program)
            remote.flush()

        self._access.ask("write", write, None)

    def _renew(self, remote: RemoteStorage, keys: list[str]) -> dict[str, bool]:
        return self._access.ask("renewal", partial(remote.renew, keys), {})

    def _release(self, key: str, *, fails: bool) -> None:
        self._renewal.drop(self.remote, key)
        if isinstance(self._remote, RemoteStorage):
            self._access.ask("renewal", partial(self._remote.release, key, fails=fails), None)


def _identity(program: CompiledProgram) -> tuple[str, float, int]:
    """Tell a program from another build of it, without a look at its bytes."""
    return program.key, program.created, len(program.binary)


class TieredStorageFactory(KVStorageFactory):
    """Makes storages that have a remote behind them.

    Args:
        local: makes the local storages.
        remote: makes those on the remote.
        settings: how the remote is used.
    """

    def __init__(
        self, local: KVStorageFactory, remote: KVStorageFactory, settings: RemoteSettings
    ) -> None:
        self._local = local
        self._remote = remote
        self._settings = settings
        self._access = access_to(remote, settings)
        prepare = remote.prepare if isinstance(remote, RemoteStorageFactory) else _nothing
        self._uploads = Uploads(prepare)
        self._renewal = Renewal(min(settings.lease / _RENEWALS, _LONGEST_RENEWAL))
        self.state_directory = local.state_directory
        weakref.finalize(self, self._uploads.stop).atexit = False

    def __str__(self) -> str:
        """Name the local place."""
        return str(self._local)

    def state_place(self) -> Place | None:
        """Give where state is kept; see `KVStorageFactory.state_place`."""
        return self._local.state_place()

    def create_storage(self, name: str) -> TieredStorage:
        """Make the storage of that name; see `KVStorageFactory.create_storage`."""
        remote = self._remote.create_storage(name)
        if isinstance(remote, RemoteStorage):
            remote.writable = remote.writable and self._settings.writes
        return TieredStorage(
            self._local.create_storage(name),
            remote,
            access=self._access,
            uploads=self._uploads,
            renewal=self._renewal,
            settings=self._settings,
        )

    def names(self) -> list[str]:
        """Give the names of the local storages that have been written to, sorted."""
        return self._local.names()

    def wait(self, seconds: float) -> bool:
        """Wait until the remote has what was built here; see `KVStorageFactory.wait`."""
        return self._uploads.wait(seconds)


def _nothing() -> None:
    """Other people's storages import what they need by themselves."""
