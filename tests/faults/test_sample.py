"""A sample of the campaign: one of every kind that needs neither root nor another driver."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.faults.calls import count_calls, failing_calls, kills_at_calls
from tests.faults.crowd import kill_many
from tests.faults.endings import ENDINGS, ending_faults
from tests.faults.entry_bytes import byte_faults, swap_faults
from tests.faults.faults import PRECIOUS, USERS_OWN, After, Fault, Outcome, try_fault
from tests.faults.places import place_faults
from tests.faults.surroundings import clock_faults, path_faults, removal_faults
from tests.faults.table import make_table
from tests.faults.world import Scene, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.faults.nursery import Ended


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One place for all tries."""
    world = World(tmp_path_factory.mktemp("faults") / "world")
    yield world
    world.end()


def problems(world: World, faults: Iterable[Fault], each: int) -> list[str]:
    """Try one fault in *each*: what went wrong."""
    chosen = [fault for number, fault in enumerate(faults) if number % each == 0]
    assert chosen
    tried = [try_fault(world, fault) for fault in chosen]
    return [f"{one.fault.group}: {one.fault.name}: {one.problem}" for one in tried if one.problem]


def test_bytes_of_entries(world: World) -> None:
    """Damaged, or another file's."""
    assert problems(world, byte_faults(world, "proven", "directory"), 60) == []
    assert problems(world, swap_faults("written"), 3) == []


def test_things_in_places(world: World) -> None:
    """In the way, or closed."""
    faults = [fault for fault in place_faults() if "another user" not in fault.name]
    assert problems(world, faults, 90) == []
    hard_links = [fault for fault in faults if ": a hard link, proven" in fault.name]
    assert problems(world, hard_links[5:8], 1) == []  # what is written in place


def test_calls_that_fail(world: World) -> None:
    """Once or for ever."""
    assert problems(world, failing_calls(world, ("EIO", "ENOSPC")), 120) == []


def test_kills(world: World) -> None:
    """At calls, and at random moments."""
    assert problems(world, kills_at_calls(world, "empty"), 60) == []
    assert kill_many(world, 12, 3).problem == ""


def test_surroundings(world: World) -> None:
    """Clocks, paths, a directory that goes."""
    clocks = [fault for fault in clock_faults() if "libfaketime" not in fault.group]
    assert problems(world, [*clocks, *path_faults(), *removal_faults()], 20) == []


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(world: World, name: str) -> None:
    """No deadlock, no traceback."""
    faults = [fault for fault in ending_faults(1) if fault.group.endswith(name.replace("_", " "))]
    assert problems(world, faults, 3) == []


def _write_own(scene: Scene) -> None:
    (scene.root / USERS_OWN).write_bytes(PRECIOUS)


def _spoil_own(scene: Scene) -> Ended:
    (scene.root / USERS_OWN).write_bytes(b"")
    return scene.run()


def test_the_campaign_sees_what_is_wrong(world: World) -> None:
    """A wrong result, a death, too many warnings, a miss, a hit that can't be: all are failures."""
    calls = count_calls(world, "empty")
    assert calls > 50, "the calls of the library are counted"
    for fault, expected in (
        (Fault("", "", harm=(["be_wrong"],)), "a wrong result"),
        (Fault("", "", harm=(["kill_at_call", 3, "before"],)), "ended with -9"),
        (Fault("", "", harm=(["say_much"],)), "warned more than once"),
        (Fault("", "", after=After.BUILT), "a hit, which can't be"),
        (Fault("", "", _write_own, run=_spoil_own), "the user's own was changed"),
        (Fault("", "", harm=(["no_such_harm"],)), "ended with 1"),
        (
            Fault(
                "", "", prepared="empty", harm=(["fail_calls", 1, errno.EIO, 10**9],), lasting=True
            ),
            "no hit",
        ),
    ):
        assert expected in try_fault(world, fault).problem


def test_the_table() -> None:
    """A row a group, with its counts."""
    fault = Fault("a group", "one")
    outcomes = [Outcome(fault, True, True, 1, ""), Outcome(fault, True, False, 0, "no hit")]
    table = make_table(outcomes)
    assert "| a group | 2 | 2 | 1 | 1 | 1 | 1 |\n" in table
    assert table.endswith("|\n\n1 passed, 1 failed\n")
