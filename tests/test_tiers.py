"""The tiers of one fingerprint: the order in which they are asked, and what becomes of faults."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache import Origin, ReusePolicy
from mace_cache._report import forget_reported
from mace_cache.container import encode
from mace_cache.errors import BinaryRejectedError, DamagedFileError
from mace_cache.fingerprint import DeviceFingerprint
from mace_cache.program import CompiledProgram
from mace_cache.statistics import Counts
from mace_cache.storage.bytestream import ReadOnlyByteStreamStorage
from mace_cache.storage.memory import MemoryStorage
from mace_cache.tiers import Found, Tiers
from tests.helpers import FakeFactory, FaultyStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mace_cache.storage.base import KVStorage

KEY = "ab" * 32
OWN = DeviceFingerprint(
    "platform name: A platform\nplatform version: 1.0\ndevice name: A device\n", "other"
)
SIBLING = DeviceFingerprint(OWN.text + "build-id of libcompiler.so: 01\n", "other")
STRANGER = DeviceFingerprint(OWN.text.replace("1.0", "2.0"), "other")
REJECTION = BinaryRejectedError("INVALID_BINARY", "clBuildProgram")


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


def make_program(binary: bytes = b"own", of: DeviceFingerprint = OWN) -> CompiledProgram:
    """A program of the one key."""
    return CompiledProgram(KEY, of.text, binary)


def make_tiers(factory: FakeFactory, **arguments: Any) -> Tiers:
    """The tiers of OWN."""
    return Tiers(OWN, factory, counts=Counts(), **arguments)


def holding(*programs: CompiledProgram) -> MemoryStorage:
    """A storage that has a program."""
    storage = MemoryStorage()
    for program in programs:
        storage.insert(program.key, program)
    return storage


def shipped(*programs: CompiledProgram) -> ReadOnlyByteStreamStorage:
    """A precompiled file of programs."""
    stream = ReadOnlyByteStreamStorage(encode(programs))
    stream.load()
    return stream


def told(tiers: Tiers) -> list[tuple[Origin, bytes, bool]]:
    """What may be loaded, in order."""
    return [(f.origin, bytes(f.program.binary), f.own) for f in tiers.candidates(KEY)]


def test_the_nearest_first() -> None:
    """The own storage, a sibling's, a precompiled one for this device, one for a sibling."""
    storages: dict[str, KVStorage] = {
        OWN.storage_name: holding(make_program()),
        SIBLING.storage_name: holding(make_program(b"sibling", SIBLING)),
        STRANGER.storage_name: holding(make_program(b"stranger", STRANGER)),
    }
    programs = [
        make_program(b"shipped sibling", SIBLING),
        make_program(b"shipped"),
        make_program(b"shipped stranger", STRANGER),
    ]
    factory, stream = FakeFactory(**storages), shipped(*programs)
    same_gpu = make_tiers(factory, precompiled=[stream], policy=ReusePolicy.REUSE_SAME_GPU)
    assert told(same_gpu) == [
        (Origin.STORAGE, b"own", True),
        (Origin.STORAGE, b"sibling", False),
        (Origin.PRECOMPILED, b"shipped", False),
        (Origin.PRECOMPILED, b"shipped sibling", False),
    ]
    assert told(make_tiers(factory, precompiled=[stream])) == [
        (Origin.STORAGE, b"own", True),
        (Origin.PRECOMPILED, b"shipped", False),
    ]
    assert told(make_tiers(factory, precompiled=[stream], recache=True)) == []


def test_later_tiers_are_not_asked_before_they_are_needed() -> None:
    """A hit in the own storage costs one look-up."""
    own, sibling = FaultyStorage(), FaultyStorage()
    own.insert(KEY, make_program())
    factory = FakeFactory(**{OWN.storage_name: own, SIBLING.storage_name: sibling})
    tiers = make_tiers(factory, policy=ReusePolicy.REUSE_SAME_GPU)
    assert next(tiers.candidates(KEY)).own
    assert own.calls == ["insert", "load", "find"]
    assert sibling.calls == []


def test_a_program_of_another_device_clears_the_storage() -> None:
    """As MACE does where platform or device differ: what lies in the wrong place is nothing."""
    storage = holding(make_program(b"stranger", STRANGER))
    assert told(make_tiers(FakeFactory(storage))) == []
    assert list(storage.keys()) == []


def test_what_was_accepted_elsewhere_is_written_here() -> None:
    """A precompiled program of this device is; one of a sibling keeps its own fingerprint."""
    factory = FakeFactory()
    tiers = make_tiers(factory)
    tiers.accept(Found(make_program(b"sibling", SIBLING), Origin.STORAGE, "there", own=False))
    assert not tiers.has(KEY)
    tiers.accept(Found(make_program(), Origin.PRECOMPILED, "there", own=False))
    assert tiers.has(KEY)


def test_a_rejection_clears_its_own_storage_only() -> None:
    """A foreign program is passed over instead, and nothing cleared."""
    storage = holding(make_program())
    stream = shipped(make_program(b"shipped"))
    tiers = make_tiers(FakeFactory(storage), precompiled=[stream])
    own, foreign = tiers.candidates(KEY)
    tiers.reject(foreign, REJECTION)
    assert told(tiers) == [(Origin.STORAGE, b"own", True)]
    tiers.reject(own, REJECTION)
    assert told(tiers) == []


def test_many_foreign_rejections_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A shipped file of many programs that a driver rejects doesn't flood the output."""
    tiers = make_tiers(FakeFactory())
    for number in range(20):
        program = make_program(bytes([number]))
        tiers.reject(Found(program, Origin.PRECOMPILED, "shipped.mclp", own=False), REJECTION)
    (warning,) = caplog.records
    assert warning.getMessage().startswith("shipped.mclp: the driver rejected the binary")


def test_stepping_aside() -> None:
    """After so many rejections in a row nothing is needed or written; a success counts anew."""
    storage = MemoryStorage()
    tiers = make_tiers(FakeFactory(storage), max_retries=2)
    own = Found(make_program(), Origin.STORAGE, "here", own=True)
    tiers.reject(own, REJECTION)
    tiers.accept(own)
    tiers.reject(own, REJECTION)
    assert tiers.stepped_aside == ""
    assert tiers.needs(KEY)
    tiers.reject(own, REJECTION)
    assert tiers.stepped_aside.startswith("the driver rejected 2 binaries in a row")
    assert not tiers.needs(KEY)
    tiers.insert(make_program())
    assert list(storage.keys()) == []


def test_what_is_needed() -> None:
    """A program that is there isn't, unless all is to be written again; nor where nothing can."""
    storage = holding(make_program())
    assert not make_tiers(FakeFactory(storage)).needs(KEY)
    assert make_tiers(FakeFactory(storage), recache=True).needs(KEY)
    assert make_tiers(FakeFactory()).needs(KEY)
    storage = MemoryStorage()
    storage.writable = False
    assert not make_tiers(FakeFactory(storage)).needs(KEY)


def test_a_storage_that_only_reads_is_only_read() -> None:
    """Nothing but ``load`` and ``find`` is called."""
    storage = FaultyStorage()
    storage.insert(KEY, make_program())
    storage.writable = False
    tiers = make_tiers(FakeFactory(storage))
    (found,) = tiers.candidates(KEY)
    tiers.reject(found, REJECTION)
    tiers.insert(make_program())
    tiers.flush()
    assert set(storage.calls[1:]) == {"load", "find"}


def test_faults_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each fault counts; a cause is warned of once, and the last fault can be taken once."""
    counts = Counts()
    storage = FaultyStorage("find", OSError(errno.EIO, "Input/output error"))
    tiers = Tiers(OWN, FakeFactory(storage), counts=counts)
    for _ in range(3):
        assert list(tiers.candidates(KEY)) == []
    assert counts.failures == 3
    assert len(caplog.records) == 1
    assert "find failed (Input/output error)" in tiers.take_fault()
    assert tiers.take_fault() == ""


def test_two_causes_are_two_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk says nothing of a file that can't be read."""
    for error in (OSError(errno.ENOSPC, "full"), OSError(errno.EACCES, "closed")):
        tiers = make_tiers(FakeFactory(FaultyStorage("find", error)))
        assert list(tiers.candidates(KEY)) == []
    assert [r.getMessage().count("built from source") for r in caplog.records] == [1, 1]


def test_damage_is_a_miss_that_says_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """The file and what is wrong with it are told."""

    class Damaged(MemoryStorage):
        def find(self, key: str) -> CompiledProgram | None:
            raise DamagedFileError("a digest differs", 0x10, f"/programs/{key[:2]}.mclp")

    tiers = make_tiers(FakeFactory(Damaged()))
    assert list(tiers.candidates(KEY)) == []
    expected = "/programs/ab.mclp: not a valid MCLP file: a digest differs at offset 0x10"
    assert tiers.take_fault() == expected
    assert [r.getMessage() for r in caplog.records] == [
        f"{expected}; it was dropped and is rebuilt"
    ]


def test_writes_and_evictions_are_counted() -> None:
    """Counts are what was really written and removed."""
    counts, storage = Counts(), FaultyStorage()
    tiers = Tiers(OWN, FakeFactory(storage), counts=counts)
    tiers.insert(make_program())
    storage.evicted = 3
    tiers.flush()
    tiers.flush()
    assert (counts.stored, counts.evictions) == (1, 3)
    failing = FaultyStorage("insert", OSError(errno.ENOSPC, "full"))
    Tiers(OWN, FakeFactory(failing), counts=counts).insert(make_program())
    assert (counts.stored, counts.failures) == (1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_fault_passes_through(error: type[BaseException]) -> None:
    """The user's interrupt is nobody's fault, and not swallowed."""

    class Interrupted(MemoryStorage):
        def find(self, key: str) -> CompiledProgram | None:
            raise error(key)

    with pytest.raises(error):
        list(make_tiers(FakeFactory(Interrupted())).candidates(KEY))


def test_damaged_siblings_are_passed_over() -> None:
    """A sibling that fails, or whose program has another fingerprint than its name, is none."""
    storages: dict[str, KVStorage] = {
        "a-broken-one": FaultyStorage("find", OSError(errno.EIO, "Input/output error")),
        SIBLING.storage_name: holding(replace(make_program(b"sibling"), fingerprint=STRANGER.text)),
    }
    factory = FakeFactory(**storages)
    assert told(make_tiers(factory, policy=ReusePolicy.REUSE_SAME_GPU)) == []
