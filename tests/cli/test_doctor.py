"""``doctor``: each harm is done to a directory, a machine or a driver, and has to be named."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyopencl as cl
import pytest

from mace_cache._mounts import Mount
from mace_cache._report import forget_reported
from mace_cache._trust import OWN_ONLY
from mace_cache.cli import doctor, driver_health, driver_probe, place_health
from mace_cache.rejections import Rejections
from tests.cli.conftest import STORAGE, Store, make_program, run
from tests.helpers import REPOSITORY, run_child, start_child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DRIVERS = driver_health.examine_drivers

_AS_NOBODY = """
import os, sys
from mace_cache._trust import OWN_ONLY
from mace_cache.cli.place_health import examine_directory
import filelock
os.chmod(sys.argv[1], 0o500)
if os.geteuid() == 0:
    os.chown(sys.argv[1], 65534, 65534)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
for finding in examine_directory(sys.argv[1], OWN_ONLY, read_only=False):
    if finding.state == "problem":
        print(finding.about, finding.text, finding.remedy, sep=": ")
"""


@pytest.fixture(autouse=True)
def _report_anew() -> Iterator[None]:
    forget_reported()
    yield
    forget_reported()


@pytest.fixture(autouse=True)
def _no_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is about a directory needs no driver: those tests that do ask for it."""
    monkeypatch.setattr(doctor, "examine_drivers", lambda _seconds: iter(()))


@pytest.fixture
def _drivers(_no_drivers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine_drivers", _DRIVERS)


def problems(*arguments: object) -> list[str]:
    """Run the command, and give its problems, each a line; its answers have to agree."""
    told = run("doctor", *arguments, "--json")
    findings: list[dict[str, Any]] = told.json["findings"]
    found = [one for one in findings if one["state"] == "problem"]
    assert told.code == int(bool(found))
    assert told.json["healthy"] is not bool(found)
    assert all("\n" not in one["text"] for one in findings)
    return [": ".join([one["about"], one["text"], one["remedy"] or ""]) for one in found]


@pytest.mark.usefixtures("_drivers")
def test_a_healthy_machine(store: Store) -> None:
    """Every line is told as text and as JSON, and nothing is left behind or changed."""
    store.insert(make_program("add"))
    before = store.contents()
    told = run("doctor")
    assert told.code == 0, told.output
    assert told.output.endswith("\nall is well\n")
    found = run("doctor", "--json").json
    assert found["directory"] == str(store.directory)
    assert found["healthy"] is True
    about = [finding["about"].partition(" ")[0] for finding in found["findings"]]
    assert about == [
        *("settings", "settings", "cache", "cache", "locks", "file", "space", "programs"),
        *("guard", "PoCL's", "device"),
    ]
    assert {finding["state"] for finding in found["findings"]} <= {"ok", "note"}
    for finding in found["findings"][:5]:
        assert f"{finding['about']}: {finding['text']}" in told.output
    assert store.contents() == before


def test_a_directory_that_is_not_there(cache_directory: Path) -> None:
    """It isn't made, and that is no problem; one that can't be made is."""
    assert problems() == []
    assert not cache_directory.exists()
    (found,) = problems("--cache-directory", "/proc/none/below")
    assert "/proc/none/below can't be made" in found
    cache_directory.write_text("mine")
    (found,) = problems()
    assert "Not a directory" in found


@pytest.mark.parametrize("below", ["", "v1", f"v1/{STORAGE}"])
@pytest.mark.parametrize("harm", ["mode", "group", "link", "owner"])
def test_a_directory_that_is_not_used(
    store: Store, monkeypatch: pytest.MonkeyPatch, below: str, harm: str
) -> None:
    """Which one, why, and what can be done."""
    store.insert(make_program("add"))
    place = store.directory / below
    if harm == "mode":
        place.chmod(0o777)
        why = "chmod o-w"
    elif harm == "group":
        place.chmod(0o770)
        why = f"MACE_CACHE_TRUST=gid:{place.stat().st_gid}"
    elif harm == "link":
        place.rename(store.directory.with_name("elsewhere"))
        place.symlink_to(store.directory.with_name("elsewhere"))
        why = "MACE_CACHE_TRUST=links" if not below else ""
    else:
        owner = 12345 if os.geteuid() == 0 else os.geteuid()
        why = f"MACE_CACHE_TRUST=uid:{owner}"
        if os.geteuid() == 0:
            os.chown(place, owner, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
            place = store.directory
    found = problems()
    (line,) = found
    assert line.startswith(f"cache directory: {place}")
    assert why in line


def test_a_directory_that_can_not_be_written() -> None:
    """Tried for real, by a user who has no right to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # pytest's own is closed to others
        (line,) = run_child(_AS_NOBODY, directory).splitlines()
        os.chmod(directory, 0o700)
    assert f"{directory} can't be written: Permission denied" in line
    assert "MACE_CACHE_READ_ONLY" in line


def test_a_cache_that_is_only_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried that writes, and that it only reads is noted."""
    store.insert(make_program("add"))
    monkeypatch.setenv("MACE_CACHE_READ_ONLY", "1")
    told = run("doctor").output
    assert "MACE_CACHE_READ_ONLY is set" in told
    assert "locks" not in told
    assert "can be written" not in told


@pytest.mark.parametrize("held", [True, False])
def test_locks_that_do_not_work(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    """A file system that gives a lock to everybody, or to nobody."""
    store.insert(make_program("add"))

    @contextmanager
    def lock(_path: str, _timeout: float) -> Iterator[bool]:
        yield held

    monkeypatch.setattr(place_health, "file_lock", lock)
    (line,) = problems()
    assert "locks don't work in" in line
    assert "local disk" in line


def test_a_network(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noted, with what it means."""
    store.insert(make_program("add"))
    monkeypatch.setattr(place_health, "mount_of", lambda _path: Mount("/home", "nfs4"))
    told = run("doctor")
    assert told.code == 0
    assert "note     file system: " in told.output
    assert "is on a network (nfs4)" in told.output


def test_a_driver_that_was_given_up(store: Store) -> None:
    """Which, and the command that takes it back; once it is run, all is well."""
    store.insert(make_program("add"))
    for _ in range(3):
        assert problems() == []
        Rejections(store.factory.place, STORAGE).count()
    (line,) = problems()
    assert "its driver rejected 3 binaries in a row" in line
    command = line.partition("mace-cache ")[2].split()
    assert run(*command, "--yes").code == 0
    assert problems() == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MACE_CACHE_DISABLE", "1", "caching is off: MACE_CACHE_DISABLE is set"),
        ("MACE_CACHE_MAX_SIZE", "much", "MACE_CACHE_MAX_SIZE='much' can't be used"),
        ("MACE_CACHE_TRUST", "friends", "MACE_CACHE_TRUST='friends' can't be used"),
    ],
)
def test_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """The one that is to blame is named."""
    monkeypatch.setenv(name, value)
    (line,) = problems()
    assert said in line


def test_variables_that_are_worth_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no fault."""
    monkeypatch.setenv("MACE_CACHE_RECACHE", "1")
    monkeypatch.setenv("MACE_CACHE_TRUST", "gid:5,uid:1")
    told = run("doctor")
    assert told.code == 0
    assert "MACE_CACHE_RECACHE is set" in told.output
    assert "MACE_CACHE_TRUST is uid:1,gid:5" in told.output


def test_what_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what has set it: a variable, none that could, or the defaults."""
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "7")
    told = run("doctor").output
    assert "stored up to 1.0 GiB (the default)" in told
    assert "waited for 7 s (MACE_CACHE_LOCK_TIMEOUT)" in told
    assert "guard is journal, harvest is auto, harvest_after is 10.0" in told
    monkeypatch.setenv("MACE_CACHE_LOCK_TIMEOUT", "soon")
    monkeypatch.setenv("MACE_CACHE_MAX_SIZE", "0")
    monkeypatch.setenv("MACE_CACHE_RECORD", "/nowhere")
    told = run("doctor").output
    assert "stored without a limit (MACE_CACHE_MAX_SIZE)" in told
    assert "waited for 30 s (the default)" in told
    assert "harvest is deferred by MACE_CACHE_RECORD" in told


def test_a_process_with_elevated_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said why there is no cache."""
    monkeypatch.setattr(os, "getresuid", lambda: (1, 0, 0))
    assert "caching is off: this process runs for another user" in problems()[0]


@pytest.mark.parametrize("shortage", ["bytes", "files"])
def test_a_disk_that_is_nearly_full(
    store: Store, monkeypatch: pytest.MonkeyPatch, shortage: str
) -> None:
    """Bytes and inodes are counted."""
    store.insert(make_program("add"))
    real = list(os.statvfs(store.directory))
    real[4 if shortage == "bytes" else 7] = 12  # f_bavail, f_favail
    real[5] = 10**6  # f_files
    told = os.statvfs_result(real)
    monkeypatch.setattr(os, "statvfs", lambda _path: told)
    (line,) = problems()
    assert line.startswith("space: only ")
    assert "MACE_CACHE_DIR" in line


_IN_A_SMALL_MOUNT = """
set -e
mount -t tmpfs -o size=1m,noexec,mode=700 none "$1"
mkdir -m 700 "$1/mace"
head -c 1000000 /dev/zero > "$1/mace/full"
shift
"$@" || test $? = 1
"""


def test_a_full_disk_and_one_that_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real mount, full and noexec: PoCL aborts there; without the right to mount, a told one."""
    place = tmp_path / "mount"
    place.mkdir()
    command = [sys.executable, "-m", "mace_cache", "doctor", "--json"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _IN_A_SMALL_MOUNT, "sh", place, *command],
        cwd=REPOSITORY,
        env=os.environ | {"MACE_CACHE_DIR": f"{place}/mace", "POCL_CACHE_DIR": f"{place}/pocl"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        found = [one for one in json.loads(done.stdout)["findings"] if one["state"] == "problem"]
        about = [one["about"].partition(" ")[0] for one in found]
        assert about == ["cache", "space", "PoCL's", "device"]
        assert "No space left on device" in found[0]["text"]
        assert "mounted noexec" in found[2]["text"]
        return
    flags = os.statvfs_result([*list(os.statvfs(place))[:8], os.ST_NOEXEC, 255])
    monkeypatch.setattr(os, "statvfs", lambda _path: flags)
    (finding,) = driver_health._examine_pocl_directory(str(place / "pocl"))
    assert finding.state == "problem"
    assert "mounted noexec" in finding.text


@pytest.mark.usefixtures("_drivers")
def test_a_driver_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """PoCL with a thread count that it doesn't check: only the child dies of it."""
    monkeypatch.setenv("POCL_MAX_PTHREAD_COUNT", "-1")
    lines = problems()
    assert lines
    assert "crashed (SIG" in lines[0]
    assert "fails without mace-cache too" in lines[0]


@pytest.mark.usefixtures("_drivers")
def test_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loader waits for ever for what describes this driver: a FIFO that nobody writes to."""
    os.mkfifo(tmp_path / "hanging.icd")
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    (line,) = problems("--timeout", "2")
    assert "hung and was stopped after 2 s" in line
    assert "while looking for drivers" in line


_INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from mace_cache.cli import main
sys.exit(main(["doctor"]))
"""


def test_an_interruption_leaves_no_process_behind(tmp_path: Path) -> None:
    """Ctrl-C while a driver hangs: it ends with the command, which says nothing more."""
    os.mkfifo(tmp_path / "hanging.icd")
    process = start_child(_INTERRUPTIBLE, OCL_ICD_VENDORS=str(tmp_path))
    hanging = _open_to_write(tmp_path / "hanging.icd")  # there is a reader, which waits from now on
    try:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in output + errors
        readers_gone = select.poll()
        readers_gone.register(hanging, 0)
        assert readers_gone.poll(10_000) == [(hanging, select.POLLERR)]
    finally:
        os.close(hanging)
        process.kill()


def _open_to_write(fifo: Path) -> int:
    """Open a FIFO once somebody reads from it."""
    for _ in range(6000):
        with suppress(OSError):  # ENXIO
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.01)
    raise AssertionError("no driver was looked for")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a device, and how it gets one."""
    monkeypatch.setattr(driver_health, "_run", lambda *_: driver_health._Tried([], ""))
    (finding,) = _DRIVERS(1)
    assert "pip install 'mace-cache[pocl]'" in finding.text


def test_a_driver_that_fails_with_its_own_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was doing is said, and that the cache can be done without."""
    died = driver_health._Tried([{"doing": "loading the binary back"}], "crashed (SIGABRT)")
    monkeypatch.setattr(driver_health, "_run", lambda *_: died)
    finding = driver_health._examine("any", [0, 0], 1)
    assert finding.text == "its driver crashed (SIGABRT) while loading the binary back"
    assert "MACE_CACHE_DISABLE=1" in finding.remedy


def test_wrong_results_are_seen(context: cl.Context) -> None:
    """A driver that computes something else isn't healthy."""
    source = "kernel void mace_cache_doctor(global int *x) { x[get_global_id(0)] *= 2; }"
    with pytest.raises(OSError, match="results are wrong"):
        driver_probe._launch(context, cl.Program(context, source).build())


def test_pocls_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PoCL says that it is."""
    monkeypatch.setenv("POCL_CACHE_DIR", "/named")
    assert driver_health.pocl_directory() == "/named"
    monkeypatch.delenv("POCL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert driver_health.pocl_directory() == "/xdg/pocl/kcache"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert driver_health.pocl_directory() == "/home/me/.cache/pocl/kcache"


def test_a_directory_of_another_user_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root would make nothing there."""
    home = tmp_path / "home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = list(place_health.examine_directory(str(home / "cache"), OWN_ONLY, read_only=False))
    assert "this is root" in found[0].text
    assert found[0].state == "problem"
