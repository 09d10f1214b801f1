"""Settings: an argument decides, then the environment, then the default."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import pwd
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_cache import ProgramCache, config
from mace_cache._report import forget_reported
from mace_cache._signing_keys import NO_KEY, Key, TrustedKeys
from mace_cache._trust import OWN_ONLY, Trust
from mace_cache.config import Settings, parse_boolean, parse_size, read_settings
from mace_cache.errors import ConfigurationError
from mace_cache.statistics import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyopencl as cl

VARIABLES = [
    # variable, attribute, default, text, what it means
    ("MACE_CACHE_DISABLE", "disabled", False, "1", True),
    ("MACE_CACHE_READ_ONLY", "read_only", False, "yes", True),
    ("MACE_CACHE_RECACHE", "recache", False, "on", True),
    ("MACE_CACHE_MAX_SIZE", "max_size", 1 << 30, "500M", 500 << 20),
    ("MACE_CACHE_MAX_SIZE", "max_size", 1 << 30, "0", 0),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", 30.0, "0.25", 0.25),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", 30.0, "0", 0.0),
    ("MACE_CACHE_TRUST", "trust", OWN_ONLY, "uid:7", Trust(owners=frozenset({7}))),
    ("MACE_CACHE_TRACE", "trace", False, "1", True),
    ("MACE_CACHE_RECORD", "record", None, "/there/../here", "/here"),
    ("MACE_CACHE_REMOTE", "remote", None, "redis://host", "redis://host"),
    ("MACE_CACHE_ALLOW_UNSIGNED", "allow_unsigned", False, "1", True),
    (
        "MACE_CACHE_TRUSTED_KEYS",
        "trusted_keys",
        None,
        "ed25519:" + "a1" * 32,
        TrustedKeys((Key("ed25519", b"\xa1" * 32),)),
    ),
]

MALFORMED = [
    ("MACE_CACHE_MAX_SIZE", "max_size", "much", 1 << 30),
    ("MACE_CACHE_MAX_SIZE", "max_size", "9" * 400, 1 << 30),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", "soon", 30.0),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", "-1", 30.0),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", "nan", 30.0),
    ("MACE_CACHE_LOCK_TIMEOUT", "lock_timeout", "inf", 30.0),
    ("MACE_CACHE_TRUST", "trust", "everybody", OWN_ONLY),
    ("MACE_CACHE_TRUSTED_KEYS", "trusted_keys", "ed25519:1", NO_KEY),  # and not: no one asks
    ("MACE_CACHE_SIGNING_KEY", "signing_key", "/dev/null", None),
]


@pytest.fixture(autouse=True)
def _report_afresh() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        (4096, 4096),
        ("4096B", 4096),
        ("1k", 1 << 10),
        ("500M", 500 << 20),
        ("2G", 2 << 30),
        ("2GB", 2 << 30),
        ("2GiB", 2 << 30),
        (" 1.5 GiB ", 3 << 29),
        ("1T", 1 << 40),
        (sys.maxsize, sys.maxsize),
        ("0.5", 0),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    """A number of bytes, with or without a unit of a power of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "M", "-1", -1, "1.5.2", "1e9", "1X", "1MM", "1 iB", "0x10", ".5", "1,5G", "inf"],
)
def test_no_sizes(text: str | int) -> None:
    """What isn't a size is refused, with the name it was given under."""
    with pytest.raises(ConfigurationError) as caught:
        parse_size(text, "max_size")
    assert caught.value.setting == "max_size"
    assert caught.value.value == text


@given(st.one_of(st.text(), st.integers(), st.floats()))
def test_any_size_is_taken_or_refused(given: Any) -> None:
    """Nothing but the one error leaves the parser, and no size is negative."""
    with suppress(ConfigurationError):
        assert parse_size(given) >= 0


@given(st.integers(min_value=0, max_value=1 << 64))
def test_a_number_of_bytes_is_exact(number: int) -> None:
    """No byte is lost to a rounded number."""
    assert parse_size(number) == parse_size(str(number)) == number


@pytest.mark.parametrize("text", ["", " ", "0", "false", "FALSE", "off", "Off", "no", " no "])
def test_false(text: str) -> None:
    """The spellings of a switch that is off."""
    assert parse_boolean(text) is False


@pytest.mark.parametrize("text", ["1", "true", "on", "yes", "2", "anything"])
def test_true(text: str) -> None:
    """All else is on."""
    assert parse_boolean(text) is True


def test_defaults(cache_directory: Path) -> None:
    """Nothing is said: these hold."""
    assert read_settings() == Settings(
        directory=str(cache_directory),
        disabled=False,
        max_size=1 << 30,
        read_only=False,
        recache=False,
        lock_timeout=30.0,
    )


@pytest.mark.parametrize(("name", "attribute", "default", "text", "value"), VARIABLES)
def test_variables(
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    attribute: str,
    default: object,
    text: str,
    value: object,
) -> None:
    """Each variable decides its setting; an empty one is as good as none."""
    assert getattr(read_settings(), attribute) == default
    monkeypatch.setenv(name, "")
    assert getattr(read_settings(), attribute) == default
    monkeypatch.setenv(name, text)
    assert getattr(read_settings(), attribute) == value


@pytest.mark.parametrize(("name", "attribute", "text", "default"), MALFORMED)
def test_a_malformed_variable_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    name: str,
    attribute: str,
    text: str,
    default: object,
) -> None:
    """One line that names variable, value and what is used instead; never an error."""
    monkeypatch.setenv(name, text)
    with caplog.at_level(logging.WARNING, "mace_cache"):
        assert getattr(read_settings(), attribute) == default
        assert getattr(ProgramCache().settings, attribute) == default
    (record,) = caplog.records
    line = record.getMessage()
    assert name in line
    assert repr(text) in line
    assert f"{default} is used instead" in line
    assert "\n" not in line


def test_a_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It builds everything; one that is kept apart writes nothing where it must not, and so may."""
    monkeypatch.setenv("MACE_CACHE_RECORD_ONLY", "1")
    alone = read_settings(read_only=True)
    assert (alone.record_only, alone.read_only, alone.rebuilding) == (False, True, "")
    monkeypatch.setenv("MACE_CACHE_RECORD", "/there")
    apart = read_settings(read_only=True)
    assert (apart.record_only, apart.read_only) == (True, False)
    assert "rehearsal" in apart.rebuilding
    monkeypatch.setenv("MACE_CACHE_RECORD_ONLY", "0")
    assert read_settings(read_only=True).read_only is True


def test_an_argument_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it says the opposite, and where the variable is malformed."""
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", "much")
    settings = read_settings(tmp_path / "here", "2K", read_only=False)
    assert settings.directory == str(tmp_path / "here")
    assert settings.max_size == 2048
    assert settings.read_only is False
    assert read_settings(max_size=0).max_size == 0
    assert not caplog.records


@pytest.mark.parametrize("size", ["much", -1, "-5M", "", True])
def test_a_bad_argument_is_an_error(size: Any) -> None:
    """Who writes code can mend it: the error names the argument."""
    with pytest.raises(ConfigurationError, match="max_size=") as caught:
        ProgramCache(max_size=size)
    assert caught.value.setting == "max_size"
    assert isinstance(caught.value, ValueError)


def test_two_places_are_an_error(tmp_path: Path) -> None:
    """Programs can't be kept in two places."""
    with pytest.raises(ConfigurationError, match="one place, and storage_path is given"):
        ProgramCache(storage_path=tmp_path, url="memory:")


def test_read_when_a_cache_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither at import nor later: a change shows in the next cache and not in this one."""
    first = ProgramCache()
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("MACE_CACHE_DISABLE", "1")
    second = ProgramCache()
    assert first.settings.directory != str(tmp_path / "other")
    assert not first.disabled_by
    assert second.settings.directory == str(tmp_path / "other")
    assert "MACE_CACHE_DISABLE" in second.disabled_by
    with pytest.raises(AttributeError):
        second.settings.disabled = False  # type: ignore[misc]  # that it can't be set is the test


def test_the_import_reads_nothing(tmp_path: Path) -> None:
    """A malformed variable isn't reported, and no file touched, before a cache is made."""
    program = "import mace_cache.config; print('imported')"
    environment = {
        **os.environ,
        "MACE_CACHE_MAX_SIZE": "much",
        "MACE_CACHE_DIR": str(tmp_path / "cache"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("imported\n", "")
    assert not (tmp_path / "cache").exists()


def test_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without argument and variable, the place that the platform has for caches."""
    monkeypatch.setenv("MACE_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert read_settings().directory == str(tmp_path / "xdg" / "mace_cache")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_settings().directory == str(tmp_path / "home" / ".cache" / "mace_cache")


def test_relative_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory is made absolute when the cache is made: the process may change its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CACHE_DIR", "here")
    assert read_settings().directory == str(tmp_path / "here")
    assert read_settings("~/there").directory == str(tmp_path / "home" / "there")
    assert read_settings(Path("x", "..", "y")).directory == str(tmp_path / "y")


@pytest.mark.parametrize("answer", ["nothing", "a relative path"])
def test_no_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, context: cl.Context, answer: str
) -> None:
    """As in a container of an unknown user: nothing is cached, nothing littered, all works."""

    def nobody(_number: int) -> pwd.struct_passwd:
        raise KeyError("uid not found")

    monkeypatch.chdir(tmp_path)
    for name in ("MACE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    if answer == "a relative path":  # as releases of platformdirs gave once
        monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache/mace_cache")
    assert read_settings().directory is None
    cache = ProgramCache()
    assert "there is no home" in cache.disabled_by
    program = cache.build(context, "kernel void no_home() {}")
    assert cache.explain(program).reason == cache.disabled_by
    cache.close()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "named"))
    assert read_settings().directory == str(tmp_path / "named")
    assert not ProgramCache(url="memory:").disabled_by


def test_every_setting_is_documented() -> None:
    """Each variable and each argument has its line in ``docs/configuration.md``."""
    text = Path(__file__).parent.parent.joinpath("docs", "configuration.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    variables = set(re.findall(r"MACE_CACHE_[A-Z_]+", Path(config.__file__).read_text("utf-8")))
    assert len(variables) == 15
    counts = {field.name for field in dataclasses.fields(Counts)}
    arguments = set(inspect.signature(ProgramCache).parameters)
    assert documented == variables | arguments | counts | {"WARNING", "INFO", "DEBUG"}
