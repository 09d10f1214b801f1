"""What a fault is, how it is tried, and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.nursery import Ended
    from tests.faults.world import Scene, World

__all__ = ["PRECIOUS", "USERS_OWN", "After", "Fault", "Outcome", "try_fault"]

USERS_OWN = "the user's own"  # a file of that name has to stay as it is
PRECIOUS = b"precious" * 20


class After(Enum):
    """What the next process has to find, once that of the fault has ended."""

    HIT = "a hit"
    HEALED = "at once or by one more build, a hit"
    BUILT = "nothing: it builds from source"
    EITHER = "a hit, or nothing"


def _nothing(_scene: Scene) -> None:
    """Harm or mend nothing."""


@dataclass(frozen=True)
class Fault:
    """One try of the campaign.

    Attributes:
        group: the row of the table that it counts for.
        name: what tells it from others of its group.
        prepare: harms the scene.
        prepared: what the scene's cache is before that (`PREPARED`).
        kind: as `Scene.kind`.
        driver: the driver's name.
        harm: what harms the process (``harms.py``).
        after: what comes of it for the next process.
        lasting: whether the next process is harmed in the same way.
        mend: undoes the harm to the scene, before the last process.
        run: runs the process in another way than `Scene.run`.
        killed: whether the process may be killed by the fault.
    """

    group: str
    name: str
    prepare: Callable[[Scene], object] = _nothing
    prepared: str = "proven"
    kind: str = "directory"
    driver: str = "pocl-3.0"
    harm: tuple[Any, ...] = ()
    after: After = After.HIT
    lasting: bool = False
    mend: Callable[[Scene], object] = _nothing
    run: Callable[[Scene], Ended] | None = None
    killed: bool = False


class Outcome(NamedTuple):
    """What came of a try.

    Attributes:
        fault: what was tried.
        right: whether the process had the right results (or was killed, as it should be).
        hit: whether the next one found its program.
        warned: how many of the processes gave a warning.
        problem: what should not be so, or nothing.
    """

    fault: Fault
    right: bool
    hit: bool
    warned: int
    problem: str


def try_fault(world: World, fault: Fault) -> Outcome:
    """Try a fault: a process with it, then the next one."""
    try:
        with world.scene(fault.prepared, fault.kind, fault.driver) as scene:
            fault.prepare(scene)
            before = _users_own(scene)
            processes = list(_processes(scene, fault))
            after = _users_own(scene)
    except Exception as error:  # noqa: BLE001 (a try that can't be made fails, and others go on)
        return Outcome(fault, right=False, hit=False, warned=0, problem=f"not tried: {error!r}")
    problems = [problem for problem, _ in processes if problem]
    last = processes[-1][1]
    if before != after:
        problems.append("a file of the user's own was changed")
    if fault.after in (After.HIT, After.HEALED) and not last.hit:
        problems.append(f"then no hit: {last.seen}")
    if fault.after is After.BUILT and last.hit:
        problems.append("then a hit, which can't be")
    return Outcome(
        fault,
        right=not processes[0][0],
        hit=last.hit,
        warned=sum(bool(ended.warnings) for _, ended in processes),
        problem="; ".join(problems),
    )


def _users_own(scene: Scene) -> dict[Path, tuple[bytes, int, float]]:
    """Give the user's own files, with what must not change."""
    status = {path: path.stat() for path in scene.root.rglob(USERS_OWN)}
    return {path: (path.read_bytes(), one.st_mode, one.st_mtime) for path, one in status.items()}


def _processes(scene: Scene, fault: Fault) -> Iterator[tuple[str, Ended]]:
    """Run the processes of a try: what is wrong with each, and how it ended."""
    for _ in range(2 if fault.lasting else 1):
        ended = fault.run(scene) if fault.run else scene.run(*fault.harm)
        killed = fault.killed and ended.status == -9
        yield "" if killed else ended.fault, ended
    if fault.mend is not _nothing:
        fault.mend(scene)
    elif fault.lasting:
        return
    for _ in range(2 if fault.after is After.HEALED else 1):
        ended = scene.run()
        yield ended.fault, ended
