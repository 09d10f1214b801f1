"""The storage in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cache.storage.memory import MemoryStorage, MemoryStorageFactory
from tests.storage.conformance import NAME, OTHER_NAME, WritableConformance, make_program

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryStorage(WritableConformance):
    """`MemoryStorage` does what every storage does."""

    def make_factory(self, directory: Path) -> MemoryStorageFactory:  # noqa: ARG002 (as others)
        """Need no directory."""
        return MemoryStorageFactory()


def test_a_name_always_means_the_same_storage() -> None:
    """Two parts of a process that ask for one name share its programs."""
    factory = MemoryStorageFactory()
    factory.create_storage(NAME).insert(make_program().key, make_program())
    assert factory.create_storage(NAME).find(make_program().key) == make_program()
    assert factory.create_storage(OTHER_NAME).find(make_program().key) is None


def test_nothing_outlives_the_process() -> None:
    """There is no place for state on disk."""
    assert MemoryStorageFactory().state_directory is None
    assert MemoryStorage().writable
