"""Signatures: what an attacker can do to a signed file, and that it does them no good."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache import ProgramCache
from mace_cache._report import forget_reported
from mace_cache._signing_keys import (
    NO_KEY,
    PRIVATE,
    PUBLIC,
    SHARED,
    Key,
    TrustedKeys,
    make_key,
    parse_key,
    read_signing_key,
    read_trusted_keys,
)
from mace_cache._trust import Trust
from mace_cache.config import Settings
from mace_cache.container import Bundle, decode_entry, encode
from mace_cache.container.structures import HEADER
from mace_cache.errors import ConfigurationError, DamagedFileError, SignatureError
from mace_cache.explanation import Origin
from mace_cache.signing import Verifier, check_signature, sign, verifier_of
from mace_cache.storage.memory import MemoryStorage
from tests.fuzz.targets import _sealed
from tests.helpers import FakeFactory, entries, make_source
from tests.storage.conformance import FINGERPRINT, OTHER_FINGERPRINT, make_program
from tests.test_tiers import make_tiers

if TYPE_CHECKING:
    from pathlib import Path

    import pyopencl as cl

    from mace_cache.program import CompiledProgram

PRIVATE_KEY, SHARED_KEY = Key(PRIVATE, b"p" * 32), Key(SHARED, b"s" * 32)
KEYS = [PRIVATE_KEY, SHARED_KEY]
TRUSTED = TrustedKeys((PRIVATE_KEY.public(), SHARED_KEY))
VERIFIER = Verifier(TRUSTED)
OURS, OTHER = make_program(0, b"ours" * 10), make_program(1, b"other" * 10)
THEIRS = make_program(0, b"ours" * 10, OTHER_FINGERPRINT)
PARTS = struct.Struct("<4sI16s")


@pytest.fixture(params=KEYS, ids=["ed25519", "hmac"])
def key(request: pytest.FixtureRequest) -> Key:
    """A key that is trusted, of each kind."""
    given: Key = request.param
    return given


def refused(data: bytes, verifier: Verifier = VERIFIER) -> str:
    """Why a file isn't believed."""
    with pytest.raises((SignatureError, DamagedFileError)) as caught:
        verifier.verify(data, "a remote")
    return str(caught.value)


def test_another_binary_under_a_signed_index(key: Key) -> None:
    """The file's own digest can be made by anybody: every way to read looks at the signed one."""
    signed = sign(encode([OURS]), key)
    forged = signed.replace(b"ours" * 10, b"evil" * 10)
    end = Bundle(signed).header.digest_offset
    forged = forged[:end] + hashlib.sha256(forged[:end]).digest() + forged[end + 32 :]
    assert len(forged) == len(signed)
    for read in (
        decode_entry,
        lambda data: list(Bundle(data).programs()),
        lambda data: Bundle(data).find(FINGERPRINT, OURS.key),
        lambda data: Bundle(data).verify(),
    ):
        read(VERIFIER.verify(signed, "a remote"))
        with pytest.raises(DamagedFileError):
            read(VERIFIER.verify(forged, "a remote"))


def signature_of(data: bytes) -> bytes:
    """What follows a file's digest."""
    return Bundle(data).signature


def with_signature(data: bytes, signature: bytes) -> bytes:
    """Give a file another signature, of which nothing but the signature itself can be told."""
    bundle = Bundle(data)
    end = bundle.header.digest_offset + 32
    file = bytearray(data[:end] + signature)
    header = bundle.header._replace(signature_size=len(signature), total_size=len(file))
    file[: HEADER.size] = HEADER.pack(*header)
    sealed = _sealed(bytes(file))
    Bundle(sealed).verify()
    return sealed


def test_a_signed_file(key: Key) -> None:
    """It is believed, read as ever, and the same each time it is made."""
    for programs in ([OURS], [OURS, OTHER, THEIRS], []):
        signed = sign(encode(programs), key)
        assert VERIFIER.verify(signed, "a remote") is signed
        assert signed == sign(encode(programs[::-1]), key) == sign(signed, key)
        bundle = Bundle(signed)
        bundle.verify()
        assert list(bundle.programs()) == list(Bundle(encode(programs)).programs())
    assert decode_entry(sign(encode([OURS]), key)) == OURS


def test_the_bytes_of_a_signature(key: Key) -> None:
    """They are what the specification says."""
    magic, algorithm, identifier = PARTS.unpack_from(signature_of(sign(encode([OURS]), key)))
    assert (magic, algorithm, identifier) == (b"MSIG", key.algorithm, key.identifier)
    assert len(signature_of(sign(encode([OURS]), key))) == {1: 88, 2: 56}[algorithm]


def test_a_signature_as_the_specification_computes_it() -> None:
    """With nothing of the library but the file: what a second implementation would do."""
    signed = sign(encode([OURS]), SHARED_KEY)
    table_end = int.from_bytes(signed[0x20:0x24], "little") + 0x58
    index_digest = hashlib.sha256(signed[:0x30] + signed[0x50:table_end]).digest()
    identifier = hmac.digest(b"s" * 32, b"mace-cache key identifier", "sha256")[:16]
    head = b"MSIG" + b"\2\0\0\0" + identifier
    value = hmac.digest(b"s" * 32, b"MCLP signature 1" + head + index_digest, "sha256")
    assert signed.endswith(hashlib.sha256(signed[: -32 - 56]).digest() + head + value)


def test_strip(key: Key) -> None:
    """Without its signature it is an unsigned file, which nobody is to believe."""
    stripped = with_signature(sign(encode([OURS]), key), b"")
    assert stripped == encode([OURS])
    assert "isn't signed" in refused(stripped)
    assert refused(stripped).startswith(f"a remote: the program {OURS.key[:12]}")
    assert VERIFIER._replace(allow_unsigned=True).verify(stripped, "a remote") is stripped


def test_swap(key: Key) -> None:
    """The signature of one file says nothing of another: not of a binary, name or option."""
    signature = signature_of(sign(encode([OURS]), key))
    for forged in (
        replace(OURS, binary=b"evil" * 10),
        replace(OURS, options="-DEVIL"),
        replace(OURS, kernel_names=("evil",)),
        replace(OURS, created=0.0),
    ):
        assert "wrong signature" in refused(with_signature(encode([forged]), signature))


def test_replay_under_another_key_or_fingerprint(key: Key) -> None:
    """A valid program that is renamed isn't valid: both names are signed."""
    signed = sign(encode([OURS]), key)
    for renamed in (replace(OURS, key=OTHER.key), replace(OURS, fingerprint=OTHER_FINGERPRINT)):
        assert "wrong signature" in refused(with_signature(encode([renamed]), signature_of(signed)))
        harmed = signed.replace(OURS.fingerprint.encode(), renamed.fingerprint.encode())
        harmed = harmed.replace(bytes.fromhex(OURS.key), bytes.fromhex(renamed.key))
        refused(harmed)


def test_replay_of_one_program_of_a_bundle(key: Key) -> None:
    """A bundle is signed as a whole: nothing is taken out of it, put in or left out."""
    signature = signature_of(sign(encode([OURS, OTHER]), key))
    for programs in ([OURS], [OTHER], [OURS, OTHER, THEIRS], []):
        assert "wrong signature" in refused(with_signature(encode(programs), signature))
    assert "wrong signature" in refused(
        with_signature(encode([OURS, OTHER]), signature_of(sign(encode([OURS]), key)))
    )


def test_sections_of_two_signed_bundles_that_change_places(key: Key) -> None:
    """Each section is bound to its row, and the row to the signature."""
    mine, others = (
        sign(encode([make_program(0, letter * 40), make_program(1, letter * 40)]), key)
        for letter in (b"A", b"B")
    )
    mixed = mine.replace(b"A" * 40, b"B" * 40, 1)
    assert mixed not in (mine, others)
    bundle = Bundle(mixed)
    check_signature(bundle, TRUSTED, "a bundle")  # its index is as it was signed
    with pytest.raises(DamagedFileError):
        bundle.find(FINGERPRINT, make_program(0).key)
    assert "wrong signature" in refused(_sealed(mixed))


def test_forge(key: Key) -> None:
    """A signature by somebody's own key is good for nothing, whatever key it claims to be by."""
    own = make_key(key.kind)
    forged = sign(encode([OURS]), own)
    assert own.identifier.hex() in refused(forged)
    assert "isn't trusted" in refused(forged)
    signature = bytearray(signature_of(forged))
    signature[8:24] = key.identifier
    assert "wrong signature" in refused(with_signature(encode([OURS]), bytes(signature)))


def test_algorithm_confusion() -> None:
    """A public key, which everybody knows, is no secret for another algorithm."""
    public = PRIVATE_KEY.public()
    trusting = Verifier(TrustedKeys((public,)))
    as_secret = Key(SHARED, public.material)
    assert "isn't trusted" in refused(sign(encode([OURS]), as_secret), trusting)
    unsigned = with_signature(encode([OURS]), bytes(56))
    head = PARTS.pack(b"MSIG", 2, public.identifier)
    index_digest = Bundle(unsigned).header.index_digest
    value = as_secret.sign(b"MCLP signature 1" + head + index_digest)
    assert "wrong signature" in refused(with_signature(unsigned, head + value), trusting)


@pytest.mark.parametrize("algorithm", [0, 1, 2, 3, 2**32 - 1])
def test_downgrade(key: Key, algorithm: int) -> None:
    """No algorithm is weaker, and none stands for "none"."""
    signature = bytearray(signature_of(sign(encode([OURS]), key)))
    if algorithm != key.algorithm:
        signature[4:8] = algorithm.to_bytes(4, "little")
        refused(with_signature(encode([OURS]), bytes(signature)))
    for size in (0, 32, 64):
        empty = PARTS.pack(b"MSIG", algorithm, key.identifier) + bytes(size)
        refused(with_signature(encode([OURS]), empty))


def test_truncate(key: Key) -> None:
    """Cut off anywhere it is refused, as it lies and with every digest set right."""
    signed = sign(encode([OURS]), key)
    signature = signature_of(signed)
    for size in range(len(signature)):
        refused(signed[: len(signed) - len(signature) + size])
        refused(with_signature(signed, signature[:size]))
    refused(with_signature(signed, signature + b"\0"))
    refused(with_signature(signed, signature * 2))


@given(st.data())
def test_no_bit_can_be_flipped(data: st.DataObject) -> None:
    """Of what is signed or the signature: not even where the digests are set right afterwards."""
    key = data.draw(st.sampled_from(KEYS))
    signed = bytearray(sign(encode([OURS, THEIRS]), key))
    digest = Bundle(signed).header.digest_offset
    place = data.draw(st.integers(0, len(signed) - 1).filter(lambda n: not 0 <= n - digest < 32))
    signed[place] ^= 1 << data.draw(st.integers(0, 7))
    for harmed in (bytes(signed), _sealed(bytes(signed))):
        try:
            bundle = Bundle(harmed)
            check_signature(bundle, TRUSTED, "a remote")
            programs = list(bundle.programs())
        except (SignatureError, DamagedFileError):
            continue
        # sealing mends what the digests and the header's own sizes say, and nothing else
        assert programs == [OURS, THEIRS]
        assert harmed == sign(encode(programs), key)


def test_other_keys() -> None:
    """Only what is configured is believed; nothing configured is no key at all."""
    signed = sign(encode([OURS]), PRIVATE_KEY)
    for trusted in (NO_KEY, TrustedKeys((SHARED_KEY,))):
        assert PRIVATE_KEY.identifier.hex() in refused(signed, Verifier(trusted))
        assert "isn't trusted" in refused(signed, Verifier(trusted, allow_unsigned=True))
    assert verifier_of(Settings(None)) is None
    assert verifier_of(Settings(None, trusted_keys=TRUSTED)) == VERIFIER


def test_identifiers_tell_keys_apart() -> None:
    """The private half has the public one's; a secret of the same bytes has its own."""
    keys = [Key(kind, material) for kind in (PUBLIC, SHARED) for material in (b"a" * 32, b"b" * 32)]
    assert len({key.identifier for key in keys}) == 4
    assert PRIVATE_KEY.identifier == PRIVATE_KEY.public().identifier
    assert SHARED_KEY.material.hex() not in repr(KEYS) + str(TRUSTED) + repr(VERIFIER)


def test_keys_are_text() -> None:
    """One line each."""
    for kind in (PUBLIC, PRIVATE, SHARED):
        made = make_key(kind)
        assert parse_key(made.to_text()) == made
    for text in ("", "ed25519:", "ed25519:" + "g" * 64, "rsa:" + "0" * 64, "ed25519:" + "0" * 63):
        assert parse_key(text) is None


def keep(path: Path, text: str, mode: int = 0o600) -> str:
    """Write a key file."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_trusted_keys_are_read(tmp_path: Path) -> None:
    """From the setting itself, and from files with comments."""
    public = PRIVATE_KEY.public().to_text()
    file = keep(tmp_path / "keys", f"# the fleet's\n\n{SHARED_KEY.to_text()}\n")
    assert read_trusted_keys(f"{public}, {file}") == TRUSTED
    assert read_trusted_keys("") == NO_KEY
    assert read_signing_key(file) == SHARED_KEY


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (SHARED_KEY.to_text(), 0o604, "others can't read"),
        (SHARED_KEY.to_text(), 0o640, "others can't read"),
        (PRIVATE_KEY.public().to_text(), 0o602, "any other user can write"),
        (PRIVATE_KEY.to_text(), 0o600, "public keys, not the private"),
        ("ed25519:123", 0o600, "keys as mace-cache keygen"),
        ("", 0o600, "keys as mace-cache keygen"),
        ("\udc80", 0o600, "keys as mace-cache keygen"),
    ],
)
def test_key_files_that_are_refused(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    """A secret that isn't one, and what others could have written, is no key."""
    path = tmp_path / "keys"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        read_trusted_keys(str(path), "trusted_keys")
    assert SHARED_KEY.material.hex() not in str(caught.value)


def test_secrets_stand_in_no_variable(tmp_path: Path) -> None:
    """They are refused there, and not repeated in the message."""
    for key in KEYS:
        with pytest.raises(ConfigurationError, match="a file") as caught:
            read_trusted_keys(key.to_text())
        assert key.material.hex() not in str(caught.value)
    with pytest.raises(ConfigurationError):
        read_signing_key(keep(tmp_path / "public", PRIVATE_KEY.public().to_text()))
    with pytest.raises(ConfigurationError):
        read_signing_key(tmp_path / "absent")


def test_without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ed25519 says what to install; HMAC needs nothing."""
    signed = sign(encode([OURS]), PRIVATE_KEY)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "mace-cache[signing]" in refused(signed)
    assert VERIFIER.verify(sign(encode([OURS]), SHARED_KEY), "a remote")


def test_a_storage_that_refuses_a_signature_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    """One warning that names tier and key, however many programs are refused."""
    forget_reported()

    class Forged(MemoryStorage):
        def find(self, key: str) -> CompiledProgram | None:
            raise SignatureError("redis://fleet", f"the program {key[:4]}... has a wrong signature")

    tiers = make_tiers(FakeFactory(Forged()))
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert list(tiers.candidates(make_program(number).key)) == []
    (record,) = caplog.records
    assert record.getMessage().startswith("redis://fleet: the program 0000...")
    assert "wrong signature" in tiers.take_fault()


def test_a_cache_loads_what_is_signed_and_builds_the_rest(
    context: cl.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end: a bundle with a good signature is used; one without is as if it weren't there."""
    with ProgramCache(storage_path=tmp_path / "made") as cache:
        cache.build(context, make_source("signed"))
    (entry,) = entries(tmp_path / "made")
    key, unsigned = make_key(PRIVATE), entry.read_bytes()
    public = key.public().to_text()
    for number, (data, origin) in enumerate(
        [
            (sign(unsigned, key), Origin.PRECOMPILED),
            (unsigned, Origin.SOURCE),
            (sign(unsigned, make_key(PRIVATE)), Origin.SOURCE),
        ]
    ):
        with ProgramCache(url="memory:", binary=data, trusted_keys=public) as cache:
            program = cache.build(context, make_source("signed"))
            assert cache.explain(program).origin is origin, number
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", "garbage")  # is no reason to believe everything
    with ProgramCache(url="memory:", binary=unsigned) as cache:
        assert cache.settings.trusted_keys == NO_KEY
        program = cache.build(context, make_source("signed"))
        assert cache.explain(program).origin is Origin.SOURCE
    with pytest.raises(ConfigurationError, match="trusted_keys="):
        ProgramCache(trusted_keys="garbage")


def test_who_signed_is_not_what_a_file_says(context: cl.Context, tmp_path: Path) -> None:
    """A shipped program can't say of itself that it was built here, or signed by another key."""
    with ProgramCache(storage_path=tmp_path / "made") as cache:
        cache.build(context, make_source("signed"))
    (entry,) = entries(tmp_path / "made")
    program, (theirs, other) = decode_entry(entry.read_bytes()), (make_key(SHARED) for _ in "12")
    for number, claimed in enumerate(["", other.identifier.hex()]):
        data = sign(encode([replace(program, signer=claimed)]), theirs)
        place, trusted = tmp_path / str(number), keep(tmp_path / f"key {number}", theirs.to_text())
        with ProgramCache(storage_path=place, binary=data, trusted_keys=trusted) as cache:
            loaded = cache.build(context, make_source("signed"))
            assert cache.explain(loaded).origin is Origin.PRECOMPILED
        (entry,) = entries(place)
        assert decode_entry(entry.read_bytes()).signer == theirs.identifier.hex()
        trusted = keep(tmp_path / f"other {number}", other.to_text())
        with ProgramCache(storage_path=place, binary=data, trusted_keys=trusted) as cache:
            built = cache.build(context, make_source("signed"))
            assert cache.explain(built).origin is Origin.SOURCE


def test_every_pair_of_trusted_keys_stands_alone() -> None:
    """That another key is trusted too changes nothing about a wrong signature."""
    for signer, victim in itertools.permutations(KEYS, 2):
        signature = bytearray(signature_of(sign(encode([OURS]), signer)))
        signature[8:24] = victim.identifier
        refused(with_signature(encode([OURS]), bytes(signature)))


def test_a_group_that_is_trusted_may_read_a_secret(tmp_path: Path) -> None:
    """As it may write what is loaded; and anybody may read a public key."""
    file = keep(tmp_path / "keys", SHARED_KEY.to_text(), 0o640)
    group = (tmp_path / "keys").stat().st_gid
    assert read_signing_key(file, trust=Trust(groups=frozenset({group}))) == SHARED_KEY
    public = keep(tmp_path / "public", PRIVATE_KEY.public().to_text(), 0o644)
    assert read_trusted_keys(public).keys == (PRIVATE_KEY.public(),)
