"""The crash guard: a binary that takes the process down does so once.

Before a driver is given a binary that none has loaded on this fingerprint, that is noted on disk
(``_notes``). Whoever finds the note of a process that died drops the binary. What was loaded, and
launched where the driver compiles there (``_launches``), counts as proven: the storage keeps note
of it, or a mark does where it can't.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from mace_cache import opencl
from mace_cache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyopencl as cl

    from mace_cache._directories import Place
    from mace_cache._launches import FirstLaunches
    from mace_cache._notebook import Notebook
    from mace_cache._notes import Note
    from mace_cache._trial_process import TrialProcess
    from mace_cache.tiers import Found, Tiers

    GuardMode = Literal["journal", "subprocess", "off"]

__all__ = ["BusyError", "ChangedError", "Guard", "PassedOverError", "make_guard"]

# Families that compile at the first launch (docs/drivers.md): that is guarded too.
_COMPILE_LATE = frozenset({"pocl", "rusticl"})
_CLOSE_TIMEOUT = 1.0  # seconds


class PassedOverError(Exception):
    """A binary isn't loaded; the text says why.

    Attributes:
        binary: the binary.
        crashed: whether a process died of it.
    """

    crashed = True

    def __init__(self, reason: str, binary: bytes | memoryview) -> None:
        super().__init__(reason)
        self.binary = binary


class BusyError(PassedOverError):
    """Another process is just loading it, and takes too long."""

    crashed = False


class ChangedError(Exception):
    """What was to be loaded isn't stored any more: look again."""


class _Trial(NamedTuple):
    tiers: Tiers
    found: Found
    name: str
    note: Note | None  # none where none could be made

    def end(self, deaths: int = 0) -> None:
        if self.note is not None:
            self.note.end(deaths)


def make_guard(mode: GuardMode, state_place: Place | None, timeout: float) -> Guard | None:
    """Make what a user has chosen.

    Args:
        mode: ``journal``, ``subprocess`` or ``off``.
        state_place: where what must outlive a process is kept, or None where the storages have
            no such place.
        timeout: how long to wait for another process that loads the same binary, in seconds.

    Raises:
        ConfigurationError: there is no such mode.
    """
    if mode not in ("journal", "subprocess", "off"):
        raise ConfigurationError("guard", mode, "journal, subprocess or off")
    if mode == "off":
        return None
    return Guard(state_place, timeout, in_subprocess=mode == "subprocess")


class Guard:
    """Loads binaries that aren't proven yet.

    Args:
        state_place: as for `make_guard`.
        timeout: as for `make_guard`.
        in_subprocess: whether a child process has to load them first.

    Attributes:
        watched: the first launches of programs that were loaded and are not proven yet.
    """

    def __init__(
        self, state_place: Place | None, timeout: float, *, in_subprocess: bool = False
    ) -> None:
        self._state_place = state_place
        self._notebook: Notebook | None = None
        self._timeout = timeout
        self._in_subprocess = in_subprocess
        self._child: TrialProcess | None = None
        self._process = os.getpid()
        self._child_lock = threading.Lock()
        self.watched: list[FirstLaunches] = []

    def load(
        self, candidates: Sequence[tuple[Tiers, Found]], action: Callable[[], cl.Program]
    ) -> cl.Program:
        """Load a program whose binaries aren't all proven.

        Args:
            candidates: the binaries, one a fingerprint.
            action: hands them to the driver.

        Returns:
            What *action* returns.

        Raises:
            PassedOverError: a binary is best not loaded.
            ChangedError: a binary isn't stored any more.
            Exception: whatever *action* raises.
        """
        trials: list[_Trial] = []
        late = any(tiers.fingerprint.family in _COMPILE_LATE for tiers, _ in candidates)
        try:
            # In one order for all: two processes may want two of them each.
            for tiers, found in sorted(candidates, key=lambda pair: pair[0].fingerprint.digest):
                trial = self._begin(tiers, found)
                if trial is not None:
                    trials.append(trial)
            program = action()
            opencl.create_kernels(program, candidates[0][1].program.kernel_names)
        except BaseException:  # The process lives.
            for trial in trials:
                trial.end()
            raise
        if late and trials:
            self._watch(program, candidates[0][1].program.kernel_names, trials)
        else:
            self._prove(trials)
            for trial in trials:
                trial.end()
        return program

    def settle(self) -> None:
        """Some time has gone by: what was launched since it was loaded is proven."""
        for launches in list(self.watched):
            if launches.settle():
                with suppress(ValueError):  # another thread was faster
                    self.watched.remove(launches)

    def close(self) -> None:
        """End the child process if there is one; another is started when it is needed."""
        if not self._is_mine() or self._child is None:
            return
        # A thread may wait for it still: then it ends with this process.
        if self._child_lock.acquire(timeout=_CLOSE_TIMEOUT):
            self._child.close()
            self._child_lock.release()

    def _is_mine(self) -> bool:
        # A forked child has a copy of all this; notes and child process are its parent's.
        return os.getpid() == self._process

    def _begin(self, tiers: Tiers, found: Found) -> _Trial | None:
        """Begin the trial of a binary, if it needs one."""
        from mace_cache._notebook import ProvenError, note_name  # noqa: PLC0415 (few starts need it)
        from mace_cache._notes import NoteBusyError  # noqa: PLC0415 (as above)

        if found.program.proven:
            return None
        name = note_name(tiers.fingerprint.storage_name, found.program)
        try:
            note = self._notes().take(name)
        except ProvenError:
            return None
        except NoteBusyError as error:
            raise BusyError(str(error), found.program.binary) from None
        trial = _Trial(tiers, found, name, note)
        try:
            if note is not None and self._examine(note, trial):
                trial.end()
                return None
            if self._in_subprocess:
                self._let_child_die(trial)
        except BaseException:
            trial.end(0 if note is None else note.deaths)
            raise
        return trial

    def _examine(self, note: Note, trial: _Trial) -> bool:
        """See what happened until the note was ours; begin, unless the binary is proven by now."""
        from mace_cache._notes import MOST_DEATHS, UNCLEAR  # noqa: PLC0415 (as above)

        binary = trial.found.program.binary
        if note.died:
            _drop(trial)
            reason = f"the process that last loaded its binary died while {note.died} it"
            raise PassedOverError(reason, binary)
        if note.deaths == UNCLEAR:
            self._clear_up(note, trial)
        if note.deaths >= MOST_DEATHS:
            trial.tiers.remove(trial.found)
            reason = "a process that loaded its binary died: it isn't loaded again"
            raise PassedOverError(reason, binary)
        now = trial.tiers.find_again(trial.found)
        if now is None:
            raise ChangedError
        if not now.proven:
            if note.in_use:
                note.watch()  # it can be loaded: many processes that start together needn't wait
            note.begin()
        return now.proven

    def _let_child_die(self, trial: _Trial) -> None:
        died = self._try_in_child(trial)
        if died:
            if trial.note is not None:
                trial.note.blame()
            _drop(trial)
            raise PassedOverError(died, trial.found.program.binary)

    def _clear_up(self, note: Note, trial: _Trial) -> None:
        """A process died in the middle of loading it; it may just have been killed."""
        died = self._try_in_child(trial)
        if died:
            note.blame()
        else:  # where no child could try, it counts as one death
            note.deaths = 0 if died is not None else 1

    def _try_in_child(self, trial: _Trial) -> str | None:
        """Have a child load a binary first, if there can be one.

        Returns:
            How the child died of it, or nothing; None where no child could try.
        """
        from mace_cache._trial_process import ChildDiedError, TrialProcess  # noqa: PLC0415 (as above)

        if not self._is_mine():
            return None
        device = trial.tiers.fingerprint.storage_name
        with self._child_lock:
            if self._child is None:
                self._child = TrialProcess()
            try:
                return "" if self._child.try_loading(device, trial.found.program) else None
            except ChildDiedError as error:
                return str(error)

    def _watch(self, program: cl.Program, kernels: Sequence[str], trials: list[_Trial]) -> None:
        from mace_cache._launches import FirstLaunches  # noqa: PLC0415 (few starts need it)

        notes = [trial.note for trial in trials if trial.note is not None]
        for note in notes:
            note.watch()
            note.rest()
        self.watched.append(FirstLaunches(program, kernels, notes, lambda: self._prove(trials)))

    def _prove(self, trials: Sequence[_Trial]) -> None:
        for trial in trials:
            if not trial.tiers.prove(trial.found.program):
                self._notes().mark(trial.name)

    def _notes(self) -> Notebook:
        from mace_cache._notebook import Notebook  # noqa: PLC0415 (few starts need it)

        if self._notebook is None:
            self._notebook = Notebook(self._state_place, self._timeout)
        return self._notebook


def _drop(trial: _Trial) -> None:
    """See that a binary that a process died of isn't loaded again."""
    from mace_cache._notes import MOST_DEATHS  # noqa: PLC0415 (as above)

    tiers, program = trial.tiers, trial.found.program
    dropped = tiers.drop(trial.found)
    # What is shipped comes again and again, and so does what can't be removed.
    stays = not dropped or any(
        other.program.binary == program.binary for other in tiers.candidates(program.key)
    )
    if trial.note is not None and stays:
        trial.note.deaths = max(trial.note.deaths, MOST_DEATHS)
