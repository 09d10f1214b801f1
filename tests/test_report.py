"""Warnings: one line a cause and process."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mace_cache._report import forget_reported, warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("mace_cache.some_room")


@pytest.fixture(autouse=True)
def _report_afresh(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    forget_reported()
    with caplog.at_level(logging.DEBUG, "mace_cache"):
        yield
    forget_reported()


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the levels of what was logged, in order."""
    return [record.levelname for record in caplog.records]


def test_a_cause_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first line is a warning of the room it happened in; the others are details."""
    for path in ("a", "b", "c"):
        warn_once(logger, "full", "%s can't be written", path)
    assert levels(caplog) == ["WARNING", "DEBUG", "DEBUG"]
    assert [record.getMessage()[0] for record in caplog.records] == ["a", "b", "c"]
    assert {record.name for record in caplog.records} == {"mace_cache.some_room"}


def test_another_cause_is_reported_too(caplog: pytest.LogCaptureFixture) -> None:
    """One fault doesn't hide another."""
    warn_once(logger, "full", "the disk is full")
    warn_once(logger, "damaged", "a file is damaged")
    assert levels(caplog) == ["WARNING", "WARNING"]


def test_threads_report_a_cause_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whichever is first."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: warn_once(logger, "full", "%d", number), range(64)))
    assert levels(caplog).count("WARNING") == 1
    assert len(caplog.records) == 64


def test_forgotten_causes_are_reported_again(caplog: pytest.LogCaptureFixture) -> None:
    """What tests rely on."""
    warn_once(logger, "full", "once")
    forget_reported()
    warn_once(logger, "full", "twice")
    assert levels(caplog) == ["WARNING", "WARNING"]
