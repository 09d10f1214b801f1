"""``push`` and what ``doctor`` says of a remote: on real servers, and on what is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from mace_cache._report import forget_reported
from mace_cache._signing_keys import PRIVATE, TrustedKeys, make_key
from mace_cache.cli.remote_health import examine_remote
from mace_cache.config import Settings
from mace_cache.signing import Verifier
from mace_cache.storage.redis import RedisStorageFactory
from mace_cache.storage.remote_settings import RemoteSettings
from tests.cli.conftest import (
    OTHER_FINGERPRINT,
    OTHER_STORAGE,
    STORAGE,
    Store,
    flip,
    make_program,
    one_line,
    run,
)
from tests.servers import free_port, listening, running_valkey, silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Valkey

KEY = make_key(PRIVATE)
TRUSTED = TrustedKeys((KEY.public(),))
PROGRAMS = [make_program("add"), make_program("mul"), make_program("max", OTHER_FINGERPRINT)]


@pytest.fixture(autouse=True)
def _report_afresh() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture
def stored(store: Store) -> Store:
    """A cache of three programs for two devices."""
    for program in PROGRAMS:
        store.insert(program)
    return store


@pytest.fixture
def url(valkey: Valkey, tmp_path: Path) -> str:
    """A remote of the test's own."""
    return f"{valkey.url}?prefix={tmp_path}&timeout=30"


@pytest.fixture
def _signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.key"
    path.touch(0o600)
    path.write_text(KEY.to_text() + "\n")
    monkeypatch.setenv("MACE_CACHE_SIGNING_KEY", str(path))
    monkeypatch.setenv("MACE_CACHE_TRUSTED_KEYS", KEY.public().to_text())


@pytest.mark.usefixtures("_signing")
def test_push(stored: Store, url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the remote lacks goes there, signed; what it has stays; what is bad is replaced."""
    before = stored.contents()
    told = run("push", "--remote", url, "--device", STORAGE, "--json").json
    assert sorted(told["pushed"]) == sorted(program.key for program in PROGRAMS[:2])
    assert told["remote"] == valkey.url
    monkeypatch.setenv("MACE_CACHE_REMOTE", url)
    assert run("push").output == f"pushed 1 program to {valkey.url}; 2 programs were there\n"
    factory = RedisStorageFactory(url, RemoteSettings(verifier=Verifier(TRUSTED)))
    for name, program in zip((STORAGE, STORAGE, OTHER_STORAGE), PROGRAMS, strict=True):
        assert factory.create_storage(name).find(program.key) == program
    unsigned = RedisStorageFactory(url, RemoteSettings(allow_unsigned=True)).create_storage(STORAGE)
    unsigned.insert(PROGRAMS[0].key, PROGRAMS[0])
    assert run("push", "--json").json["pushed"] == [PROGRAMS[0].key]
    assert run("push", "--json").json["present"] == 3
    assert stored.contents() == before


@pytest.mark.usefixtures("_signing")
def test_what_can_not_be_pushed(
    stored: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged program is left out and told; a remote that fails, or only reads, is one line."""
    flip(stored.path(PROGRAMS[0]))
    told = run("push", "--remote", url)
    assert told.code == 1
    assert "left out" in told.errors
    assert "pushed 2 programs" in told.output
    assert "there is no remote" in one_line(run("push"), code=2)
    assert "is read-only" in one_line(run("push", "--remote", url + "&policy=read-only"), code=1)
    dead = f"redis://user:S3KRET@127.0.0.1:{free_port()}?timeout=0.3"
    said = one_line(run("push", "--remote", dead), code=1)
    assert "0 programs were pushed" in said
    assert "S3KRET" not in said
    monkeypatch.delenv("MACE_CACHE_SIGNING_KEY")
    shared = run("push", "--remote", f"file://{tmp_path}/shared")
    assert "MACE_CACHE_SIGNING_KEY isn't set" in one_line(shared, code=1)


def examine(remote: str, **options: Any) -> list[tuple[str, str]]:
    """Give what is said of a remote, each with its state."""
    findings = list(examine_remote(Settings(None, remote=remote, **options)))
    assert {finding.about for finding in findings} <= {"remote"}
    assert not any("S3KRET" in f"{one.text} {one.remedy}" for one in findings)
    return [(finding.state, finding.text) for finding in findings]


def test_a_remote_that_answers(url: str, valkey: Valkey, s3: str) -> None:
    """How soon, who is believed, and who may write; nothing is left there."""
    (answered, trusts, signs, writes) = examine(url, trusted_keys=TRUSTED, signing_key=KEY)
    assert answered[0] == trusts[0] == signs[0] == writes[0] == "ok"
    assert f"{valkey.url} answered in" in answered[1]
    assert KEY.identifier.hex() in signs[1]
    (_, _, writes) = examine(url, trusted_keys=TRUSTED)
    assert writes == ("note", "nothing is written there: there is no key to sign with")
    (_, _, writes) = examine(url + "&policy=read-only", trusted_keys=TRUSTED)
    assert writes[0] == "ok"
    objects = f"s3://programs/doctor?region=us-east-1&endpoint={s3}"
    (answered, allows, writes) = examine(objects, allow_unsigned=True)
    assert (answered[0], allows[0], writes[0]) == ("ok", "note", "ok")
    assert "nobody has signed" in allows[1]
    assert list(valkey.client().scan_iter(f"{url.partition('prefix=')[2]}*")) == []


def test_a_remote_that_will_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is said without a password: unsigned, unknown, missing, dead or hung."""
    user = "user:S3KRET@"
    dead = f"redis://{user}127.0.0.1:{free_port()}?timeout=0.3"
    (unsigned,) = examine(dead)
    assert unsigned[0] == "problem"
    assert "allow_unsigned=True written out" in unsigned[1]
    (unknown,) = examine(f"reddis://{user}host", allow_unsigned=True)
    assert unknown[0] == "problem"
    with listening(silent) as port:
        for remote in (dead, f"redis://{user}127.0.0.1:{port}?timeout=0.3"):
            answered, *_ = examine(remote, allow_unsigned=True)
            assert answered[0] == "problem"
            assert "doesn't answer" in answered[1]
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (missing,) = examine(dead, allow_unsigned=True)
    assert missing[0] == "problem"
    assert "mace-cache[redis]" in missing[1]


def test_a_remote_that_takes_nothing(tmp_path: Path) -> None:
    """It is full, or the account only reads: it is tried, and not only looked up."""
    reader = "ACL SETUSER reader on >S3KRET ~* -@all +@connection +strlen +get"
    with running_valkey(tmp_path) as server:
        client: Any = server.client()
        client.execute_command(*reader.split())
        *_, writes = examine(server.url, allow_unsigned=True)
        assert writes[0] == "ok"
        url = server.url.replace("//", "//reader:S3KRET@")
        *_, writes = examine(url, allow_unsigned=True)
        assert writes[0] == "problem"
        assert "doesn't take what is built here" in writes[1]
        client.config_set("maxmemory", "1")
        *_, writes = examine(server.url, allow_unsigned=True)
        assert writes[0] == "problem"
        assert "maxmemory" in writes[1]
        assert client.keys() == []


def test_keys_that_will_not_do(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is signed here isn't believed here, or nothing can be signed."""
    other = make_key(PRIVATE)
    findings = examine(url, trusted_keys=TRUSTED, signing_key=other)
    assert ("problem", findings[2][1]) == findings[2]
    assert other.identifier.hex() in findings[2][1]
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    findings = examine(url, trusted_keys=TRUSTED, signing_key=KEY)
    assert "needs the package cryptography" in findings[2][1]
    assert findings[2][0] == "problem"


@pytest.mark.parametrize(
    ("remote", "plain"),
    [
        ("redis://nowhere.invalid?timeout=0.3", True),
        ("rediss://nowhere.invalid?timeout=0.3", False),
        ("redis://[::1]:9?timeout=0.3", False),
        ("s3://b?region=r&timeout=0.3&endpoint=http://nowhere.invalid", True),
    ],
)
def test_a_connection_that_is_not_encrypted(remote: str, plain: bool) -> None:
    """It is noted, unless it leads to this machine."""
    said = [text for state, text in examine(remote, allow_unsigned=True) if state == "note"]
    assert any("isn't encrypted" in text for text in said) is plain


def test_doctor_looks_at_the_remote(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the variable; where there is none, nothing is said."""
    store.insert(PROGRAMS[0])
    monkeypatch.setattr("mace_cache.cli.doctor.examine_drivers", lambda _seconds: iter(()))
    assert " remote" not in run("doctor").output
    monkeypatch.setenv("MACE_CACHE_REMOTE", "redis://user:S3KRET@127.0.0.1")
    told = run("doctor")
    assert told.code == 1
    assert "problem  remote: " in told.output
    assert "S3KRET" not in told.output
