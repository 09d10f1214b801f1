"""What becomes of a program that is there: it is counted, kept in memory, stored if it is new."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from mace_cache import opencl
from mace_cache._locking import prepare_locks
from mace_cache._report import warn_once
from mace_cache._variables import may_keep_values
from mace_cache.errors import MaceCacheError, UncacheableError
from mace_cache.explanation import Origin, Outcome
from mace_cache.harvest.finalise import Harvested, can_be_finalised
from mace_cache.harvest.policy import harvests_late
from mace_cache.missed import Missed
from mace_cache.records import explain_found, hand_out, record_of
from mace_cache.resident import ResidentProgram, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyopencl as cl

    from mace_cache.explanation import Explanation
    from mace_cache.harvest.policy import HarvestPolicy
    from mace_cache.loading import Loading
    from mace_cache.request import WantedProgram
    from mace_cache.resident import ResidentPrograms
    from mace_cache.tiers import Found
    from mace_cache.unwritten import Unwritten

__all__ = ["Keeper", "Missing"]

logger = logging.getLogger(__name__)


class Missing(NamedTuple):
    """A program that has to be built from source.

    Attributes:
        reason: why.
        wanted: what it is to be stored as, or None where it is not.
        rejected: whether a driver rejected its binary.
        crashed: whether a process died of its binary.
    """

    reason: str
    wanted: WantedProgram | None = None
    rejected: bool = False
    crashed: bool = False

    def after(self, earlier: Missing) -> Missing:
        """Give what is true of it when it was looked up again: a bad binary isn't forgotten."""
        return self._replace(
            rejected=self.rejected or earlier.rejected, crashed=self.crashed or earlier.crashed
        )

    @property
    def outcome(self) -> Outcome:
        """What came of asking the cache for it."""
        if self.wanted is None:
            return Outcome.BYPASS
        return Outcome.REBUILD if self.rejected else Outcome.MISS

    @property
    def key(self) -> str:
        """The program key, or nothing where the program can't be cached."""
        return "" if self.wanted is None else self.wanted.source.key


class Keeper:
    """Keeps programs for one cache.

    Args:
        resident: the memory tier.
        unwritten: what is still to be written.
        policy: when binaries are taken.
    """

    def __init__(
        self, resident: ResidentPrograms, unwritten: Unwritten, policy: HarvestPolicy
    ) -> None:
        self._policy = policy
        self._resident = resident
        self._unwritten = unwritten

    def keep_loaded(
        self, program: cl.Program, loading: Loading, wanted: WantedProgram
    ) -> cl.Program:
        """Count a program that the driver took, keep it in memory and hand it out."""
        build_seconds = max(found.program.build_seconds for found in loading.loaded)
        loaded = tuple([found.to_keep() for found in loading.loaded])
        resident = self._keep_in_memory(program, wanted, loaded, build_seconds)
        request, origin = wanted.identified.request, loading.loaded[0].origin
        explanation = explain_found(request, origin, loading.reason, resident)
        self._unwritten.counts.hits += 1
        self._unwritten.counts.fetched += any(f.origin is Origin.REMOTE for f in loading.loaded)
        self._unwritten.counts.seconds_saved += explanation.seconds_saved
        guard = self._unwritten.guard
        if guard is not None and guard.watched:
            self._unwritten.prove_later()
        for tiers, found in zip(wanted.tiers, loading.loaded, strict=True):
            stored = Harvested(program, wanted, tiers, found.program)
            if can_be_finalised(stored) and found.own and tiers.accepts:
                self._unwritten.finalise_later(stored)
        return hand_out(program, explanation, resident)

    def keep_built(
        self, program: cl.Program, seconds: float, missing: Missing
    ) -> tuple[ResidentProgram | None, str]:
        """Keep a program built from source if that can be done.

        Args:
            program: the program.
            seconds: what the build took.
            missing: why it had to be built.

        Returns:
            The program as it is kept, or None, and the reason for which it was built.
        """
        try:
            return self._keep_built(program, seconds, missing), missing.reason
        except MaceCacheError as error:
            return None, f"{missing.reason}; it was not stored: {error}"
        except Exception as error:  # noqa: BLE001 (the program is built: nothing may take it away)
            warn_once(logger, "keep", "a built program could not be kept (%r)", error)
            return None, missing.reason

    def note_missed(
        self, program: cl.Program | None, explanation: Explanation, missing: Missing
    ) -> Missed | None:
        """Note what had to be built, and why; nothing where that can't be known.

        Args:
            program: the program, built, or None where it doesn't build.
            explanation: why it was built.
            missing: what it would have been found by.
        """
        if missing.wanted is None and not self._unwritten.takes_notes:
            return None
        try:
            missed = _describe(program, explanation, missing)
        except Exception as error:  # noqa: BLE001 (the program is built: nothing may take it away)
            logger.debug("a miss could not be noted (%r)", error)
            return None
        self._unwritten.note_missed(missed)
        return missed

    def when_found_by_others(self, program: cl.Program, action: Callable[[], None]) -> None:
        """Run something as soon as other processes needn't compile a program that was built here.

        Args:
            program: what `keep_built` was given.
            action: what to run; it must not raise.
        """
        if record_of(program).resident is None:
            action()
        else:
            self._unwritten.when_written(action)

    def harvests_later(self, program: cl.Program) -> bool:
        """Whether a program that was built here is stored much later."""
        resident = record_of(program).resident
        return resident is not None and self._is_late(resident.wanted)

    def shares(self, wanted: WantedProgram, *, built_here: bool) -> bool:
        """Whether a program is built for other machines too, or waited for where one builds it.

        Args:
            wanted: the program.
            built_here: whether another process of this machine has just built it: where it is
                stored late, the driver's own cache has it.
        """
        return self._policy != "deferred" and not (built_here and self._is_late(wanted))

    def _is_late(self, wanted: WantedProgram) -> bool:
        return harvests_late(self._policy, [tiers.fingerprint.family for tiers in wanted.tiers])

    def _keep_built(
        self, program: cl.Program, seconds: float, missing: Missing
    ) -> ResidentProgram | None:
        counts, wanted = self._unwritten.counts, missing.wanted
        if wanted is None:
            counts.bypasses += 1
            return None
        if missing.rejected:
            counts.rebuilds += 1
        else:
            counts.misses += 1
        if not wanted.is_current():
            raise UncacheableError("a header changed while the program was built")
        resident = self._keep_in_memory(program, wanted, (), seconds)
        prepare_locks()
        unwritten = self._unwritten
        late = self._is_late(wanted)
        store = unwritten.harvest_later if late else unwritten.harvest_now
        store(resident)
        return resident

    def _keep_in_memory(
        self,
        program: cl.Program,
        wanted: WantedProgram,
        loaded: tuple[Found, ...],
        build_seconds: float,
    ) -> ResidentProgram:
        """Keep a program for whoever asks next, unless its variables would be theirs too."""
        identified = wanted.identified
        state = opencl.state_of(program, identified.devices)
        resident = ResidentProgram(program, wanted, loaded, build_seconds, state)
        watch(program)
        environment = [fingerprint.text for fingerprint in identified.fingerprints]
        settings = identified.options_text, *environment
        if not may_keep_values(identified.request.source, settings):
            self._resident.insert(identified.identity, resident)
        return resident


def _describe(program: cl.Program | None, explanation: Explanation, missing: Missing) -> Missed:
    said = Missed(explanation.outcome.value, explanation.reason, explanation.seconds)
    if program is not None:  # a subclass may answer in its own way
        said = said._replace(kernel_names=opencl.kernel_names(opencl.share(program)))
    wanted = missing.wanted
    if wanted is None:
        return said
    return said._replace(
        key=wanted.source.key,
        fingerprints=tuple(tiers.fingerprint.text for tiers in wanted.tiers),
        components=wanted.source.components,
        options=wanted.identified.options_text,
    )
