"""Calls of the operating system that fail, each one of a store and of a load in turn."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tests.faults.faults import After, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.world import World

__all__ = ["count_calls", "failing_calls", "kills_at_calls"]

_FOR_EVER = 10**9
_DOING = {
    "empty": "a store",
    "written": "the first load",
    "proven": "a load",
}
# Of a store and of a load; the first load, which is guarded, has both kinds of call.
_ERRORS = {
    "EIO": errno.EIO,
    "ENOSPC": errno.ENOSPC,
    "EDQUOT": errno.EDQUOT,
    "EACCES": errno.EACCES,
    "EROFS": errno.EROFS,
    "EMFILE": errno.EMFILE,
    "ENOENT": errno.ENOENT,
    "ESTALE": errno.ESTALE,
    "ENOSYS": errno.ENOSYS,
    "EINTR": errno.EINTR,
}


def count_calls(world: World, prepared: str, driver: str = "pocl-3.0") -> int:
    """How many calls a process makes that finds that."""
    with world.scene(prepared, driver=driver) as scene:
        ended = scene.run(["count_calls"])
        assert not ended.fault, ended
        calls: int = ended.seen["calls"]
        return calls


def failing_calls(
    world: World,
    names: tuple[str, ...] = tuple(_ERRORS),
    driver: str = "pocl-3.0",
    each: int = 1,
    first: int = 1,
) -> Iterator[Fault]:
    """Give every call of every phase, failing once, and with the first error also from there on.

    Args:
        world: where they are tried.
        names: the errors.
        driver: the driver.
        each: of all calls only one in so many fails, from the *first* on.
        first: see *each*.
    """
    suffix = "" if driver == "pocl-3.0" else f" ({driver})"
    for prepared, doing in _DOING.items():
        calls = count_calls(world, prepared, driver)
        after = After.HEALED if prepared == "empty" else After.HIT
        for name in names:
            for number in range(first, calls + 1, each):
                yield Fault(
                    f"calls: one of {doing} fails with {_shown(name)}{suffix}",
                    f"{name}, call {number} of {calls}",
                    prepared=prepared,
                    driver=driver,
                    harm=(["fail_calls", number, _ERRORS[name], 1],),
                    after=after,
                )
        for number in range(first, calls + 1, 3 * each):
            yield Fault(
                f"calls: all of {doing} from one on fail with {_shown(names[0])}{suffix}",
                f"{names[0]}, call {number} of {calls}",
                prepared=prepared,
                driver=driver,
                harm=(["fail_calls", number, _ERRORS[names[0]], _FOR_EVER],),
                # A disk that goes while a binary is loaded looks like a process that died of it.
                after=After.EITHER if prepared == "written" else After.HEALED,
            )


def _shown(name: str) -> str:
    return name if name == "EIO" else "another error"


def kills_at_calls(world: World, prepared: str, each: int = 1) -> Iterator[Fault]:
    """Give a SIGKILL before and after every call, or one in *each*."""
    calls = count_calls(world, prepared)
    for number in range(1, calls + 1, each):
        for when in ("before", "after"):
            yield Fault(
                f"SIGKILL at a call of {_DOING[prepared]}",
                f"{when} call {number} of {calls}",
                prepared=prepared,
                harm=(["kill_at_call", number, when],),
                after=After.HEALED,
                killed=True,
            )
