"""How a build goes: identify the program, ask the tiers, build what none has.

`Builder.build` reads top to bottom. Its steps are taken one by one where many programs are built.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pyopencl as cl

from mace_cache import opencl
from mace_cache._report import cause_of, warn_once
from mace_cache.errors import BinaryRejectedError, MaceCacheError
from mace_cache.explanation import Origin, Outcome
from mace_cache.keeping import Missing
from mace_cache.loading import Reading, load, read
from mace_cache.records import explain_built, explain_found, hand_out, record_of
from mace_cache.request import WantedProgram, identify

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.explanation import Explanation
    from mace_cache.fingerprint import DeviceFingerprint
    from mace_cache.flights import Flight, Flights
    from mace_cache.keeping import Keeper
    from mace_cache.request import BuildRequest
    from mace_cache.resident import ResidentProgram, ResidentPrograms
    from mace_cache.tiers import Tiers
    from mace_cache.tracing import Tracer
    from mace_cache.unwritten import Unwritten

    FromSource = Callable[[BuildRequest, Missing], tuple[cl.Program, float]]

__all__ = ["Builder", "explain_failure"]

logger = logging.getLogger(__name__)

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

_BUILT_BEFORE = "this process has built or loaded it before"


class Builder:
    """Builds the programs of one cache.

    Nothing in here leads back to the cache, so that the cache can be collected.

    Args:
        disabled_by: why nothing is cached, or an empty text.
        recached_by: why everything is built from source and written again, or an empty text.
        resident: the memory tier.
        unwritten: what is still to be written, with the tiers that were asked for.
        keeper: keeps what is built.
        flights: lets one build what many want.
        make_tiers: makes the tiers of a fingerprint.
        tracer: prints a line for every build, or None.
    """

    def __init__(
        self,
        *,
        disabled_by: str,
        recached_by: str,
        resident: ResidentPrograms,
        unwritten: Unwritten,
        keeper: Keeper,
        flights: Flights,
        make_tiers: Callable[[DeviceFingerprint], Tiers],
        tracer: Tracer | None = None,
    ) -> None:
        self._disabled_by = disabled_by
        self._recached_by = recached_by
        self._resident = resident
        self._unwritten = unwritten
        self._keeper = keeper
        self._flights = flights
        self._make_tiers = make_tiers
        self.tracer = tracer
        self._lock = threading.Lock()

    def build(self, request: BuildRequest, from_source: FromSource | None = None) -> cl.Program:
        """Give the built program of a request.

        Args:
            request: what is asked for.
            from_source: what builds it from its source, told why, and gives it with the seconds
                that took; as pyopencl does if None.

        Raises:
            pyopencl.Error: the source doesn't build.
        """
        answer = self.load(self.look_up(request))
        if isinstance(answer, Missing):
            return self.build_from_source(request, answer, from_source)
        return answer

    def look_up(self, request: BuildRequest) -> cl.Program | Reading | Missing:
        """Find a program and read it, without a call that compiles or loads.

        Returns:
            The program if it is in memory, else what was read of it, or why it must be built.
        """
        return _or_missing(self._look_up, request)

    def load(self, found: cl.Program | Reading | Missing) -> cl.Program | Missing:
        """Have the driver load what `look_up` has read; anything else is the answer already."""
        return _or_missing(self._load, found) if isinstance(found, Reading) else found

    def build_from_source(
        self, request: BuildRequest, missing: Missing, from_source: FromSource | None = None
    ) -> cl.Program:
        """Build a program that was missing, unless somebody else has built it in the meantime.

        Args:
            request: what is asked for.
            missing: why it has to be built.
            from_source: as for `build`.

        Raises:
            pyopencl.Error: the source doesn't build.
        """
        wanted = missing.wanted
        if wanted is None:
            return self._build(request, missing, from_source)
        flight = self._flights.join(wanted)
        answer: cl.Program | Missing = missing
        try:
            if flight.waited or self._is_there_now(wanted):
                answer = self.load(self.look_up(request))
            if isinstance(answer, Missing) and self._is_elsewhere_now(wanted, flight):
                earlier, answer = answer, self.load(self.look_up(request))
                answer = answer.after(earlier) if isinstance(answer, Missing) else answer
            if not isinstance(answer, Missing):
                flight.land()
                return answer
            answer = answer._replace(crashed=answer.crashed or missing.crashed)
            program = self._build(request, answer, from_source)
        except BaseException as error:
            flight.land(fails=isinstance(error, cl.Error))
            raise
        flight.leave()
        if self._keeper.harvests_later(program):  # which ends its leases, too
            flight.unlock()
        else:
            self._keeper.when_found_by_others(program, flight.land)
        return program

    def patience(self, wanted: WantedProgram) -> float:
        """Tell for how many seconds another process is waited for that builds a program."""
        return self._flights.locks.patience(wanted)

    def _is_there_now(self, wanted: WantedProgram) -> bool:
        in_memory = self._resident.find(wanted.identified.identity) is not None
        return in_memory or all(tiers.has(wanted.source.key) for tiers in wanted.tiers)

    def _is_elsewhere_now(self, wanted: WantedProgram, flight: Flight) -> bool:
        if not self._keeper.shares(wanted, built_here=flight.waited):
            return False
        when_awaited = partial(self._unwritten.harvest_soon, wanted.source.key)
        return flight.claim(wanted, self.patience(wanted), when_awaited)

    def _build(
        self, request: BuildRequest, missing: Missing, from_source: FromSource | None
    ) -> cl.Program:
        """Build from source; only what pyopencl itself raises leaves this function."""
        said, wanted = request, missing.wanted
        if wanted is not None and (missing.crashed or _is_distrusted(wanted)):
            said = _said_anew(request, wanted)
        try:
            program, seconds = (from_source or self._build_plainly)(said, missing)
        except Exception:
            self._tell(None, explain_failure(request, missing), missing)
            raise
        resident, reason = self._keeper.keep_built(program, seconds, missing)
        explanation = explain_built(request, reason, missing.outcome, missing.key)
        self._tell(program, explanation, missing)
        return hand_out(program, explanation, resident)

    def pass_by(self, program: cl.Program | None, explanation: Explanation) -> None:
        """Count and tell of a program that was built without asking the cache.

        Args:
            program: the program, built, or None where it doesn't build.
            explanation: why the cache wasn't asked.
        """
        if self._disabled_by and self.tracer is None:
            return
        missing = Missing(explanation.reason)
        if program is not None:
            self._keeper.keep_built(program, explanation.seconds, missing)
        self._tell(program, explanation, missing)

    def _tell(self, program: cl.Program | None, explanation: Explanation, missing: Missing) -> None:
        missed = self._keeper.note_missed(program, explanation, missing)
        if self.tracer is not None:
            self.tracer.tell(explanation, missed)

    def _build_plainly(self, request: BuildRequest, _why: Missing) -> tuple[cl.Program, float]:
        return opencl.build_from_source(
            request.context,
            request.source,
            request.options,
            request.devices,
            uncached=not self._disabled_by,
        )

    def retry(
        self, resident: ResidentProgram, step: Callable[[cl.Program], Result], suspicion: str
    ) -> Result:
        """Run a step that failed with a loaded program again, with one built from its source.

        Raises:
            Exception: whatever the step raises.
        """
        wanted = resident.wanted
        request = wanted.identified.request
        said = _said_anew(request, wanted)
        logger.debug("a step failed with %s: its program is rebuilt from source", suspicion)
        program, seconds = opencl.build_from_source(
            said.context, said.source, said.options, said.devices
        )
        reason = f"the step failed with {suspicion} with the stored binary"
        key = wanted.source.key
        hand_out(program, explain_built(request, reason, Outcome.REBUILD, key), None)
        result = step(program)
        rejection = BinaryRejectedError(suspicion, "the execution step")
        for tiers, found in zip(wanted.tiers, resident.loaded, strict=True):
            tiers.reject(found, rejection)
        self._keeper.keep_built(program, seconds, Missing(reason, wanted, rejected=True))
        return result

    def _look_up(self, request: BuildRequest) -> cl.Program | Reading | Missing:
        if self._disabled_by:
            return Missing(self._disabled_by)
        identified = identify(request)
        resident = self._resident.find(identified.identity)
        if resident is not None and resident.is_unchanged() and resident.wanted.is_current():
            self._unwritten.counts.memory_hits += 1
            explanation = explain_found(request, Origin.MEMORY, _BUILT_BEFORE, resident)
            if self.tracer is not None:
                self.tracer.tell(explanation)
            return hand_out(opencl.share(resident.program), explanation, resident)
        described = identified.describe()
        fingerprints = dict.fromkeys(identified.fingerprints)
        tiers = tuple([self._tiers(fingerprint) for fingerprint in fingerprints])
        for stepped_aside in [t.stepped_aside for t in tiers if t.stepped_aside]:
            return Missing(stepped_aside)
        return read(WantedProgram(identified, described, tiers))

    def _load(self, reading: Reading) -> cl.Program | Missing:
        wanted = reading.wanted
        loading = load(reading)
        if loading.program is None:
            reason = self._recached_by or loading.reason
            return Missing(reason, wanted, loading.rejected, loading.crashed)
        program = self._keeper.keep_loaded(loading.program, loading, wanted)
        if self.tracer is not None:
            self.tracer.tell(record_of(program).explanation)
        return program

    def _tiers(self, fingerprint: DeviceFingerprint) -> Tiers:
        with self._lock:
            tiers = self._unwritten.tiers.get(fingerprint)
            if tiers is None:
                tiers = self._unwritten.tiers[fingerprint] = self._make_tiers(fingerprint)
        return tiers


def explain_failure(request: BuildRequest, missing: Missing) -> Explanation:
    """Explain a program whose source doesn't build.

    Args:
        request: what was asked for.
        missing: why it had to be built.
    """
    reason = f"{missing.reason}, and it doesn't build"
    return explain_built(request, reason, missing.outcome, missing.key)


def _is_distrusted(wanted: WantedProgram) -> bool:
    return any(tiers.distrusts(wanted.source.key) for tiers in wanted.tiers)


def _said_anew(request: BuildRequest, wanted: WantedProgram) -> BuildRequest:
    """Change the source so that the driver can't answer with what it has kept of a bad binary.

    PoCL unpacks what it loads into its own directory, where a build of the same source finds it,
    whatever its comments.
    """
    families = [tiers.fingerprint.family for tiers in wanted.tiers]
    if "pocl" not in families or isinstance(request.source, bytes):
        return request
    source = f"{request.source}\n\ntypedef int mace_cache_{os.urandom(8).hex()};\n"
    return request._replace(source=source)


def _or_missing(action: Callable[[Asked], Answer], asked: Asked) -> Answer | Missing:
    """Take a step of the cache; if it fails, the program has to be built from source."""
    try:
        return action(asked)
    except MaceCacheError as error:
        return Missing(str(error))
    except Exception as error:  # noqa: BLE001 (nothing that fails here may reach the caller)
        warn_once(logger, cause_of(error), "a program was not looked up (%r)", error)
        return Missing(f"it could not be looked up ({error!r})")
