"""``devices``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pyopencl as cl

from mace_cache.cli import devices
from mace_cache.errors import FingerprintError
from mace_cache.fingerprint import fingerprint
from tests.cli.conftest import Store, make_program, one_line, run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_devices_are_described(store: Store, device: cl.Device) -> None:
    """Name, driver, family, storage, and what is stored for it."""
    identity = fingerprint(device)
    size = store.insert(make_program("add", identity.text)).stat().st_size
    listed = run("devices", "--json")
    assert listed.code == 0
    (described,) = listed.json["devices"]
    components = described.pop("fingerprint")
    assert described == {
        "name": device.name,
        "platform": device.platform.name,
        "driver_version": device.driver_version,
        "family": "pocl",
        "storage": identity.storage_name,
        "problem": None,
        "entries": 1,
        "bytes": size,
    }
    assert components["device name"] == device.name
    printed = run("devices").output
    assert identity.storage_name in printed
    assert "1 program, " in printed
    assert "works" in printed


def test_full_shows_the_fingerprint(cache_directory: Path) -> None:
    """Only where it is asked for."""
    assert "device OpenCL C version" in run("devices", "--full").output
    assert "device OpenCL C version" not in run("devices").output
    assert not cache_directory.exists()


def test_a_device_without_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told, and the command goes on."""

    def fail(_device: cl.Device) -> NoReturn:
        raise FingerprintError("CL_DRIVER_VERSION", "INVALID_VALUE")

    monkeypatch.setattr(devices, "fingerprint", fail)
    printed = run("devices", "--full")
    assert printed.code == 0
    assert "off: the device doesn't answer CL_DRIVER_VERSION (INVALID_VALUE)" in printed.output
    (described,) = run("devices", "--json").json["devices"]
    assert described["storage"] is None
    assert "CL_DRIVER_VERSION" in described["problem"]


def test_a_driver_without_an_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failure is a line on the standard error, and the other drivers' devices are shown."""

    class Silent:
        def get_devices(self) -> NoReturn:
            raise cl.LogicError("clGetDeviceIDs failed: OUT_OF_HOST_MEMORY")

    platforms = [Silent(), *cl.get_platforms()]
    monkeypatch.setattr(cl, "get_platforms", lambda: platforms)
    listed = run("devices", "--json")
    assert len(listed.json["devices"]) == 1
    assert listed.errors.startswith("mace-cache: a driver was passed over: ")


def test_no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said in one line."""

    def fail() -> NoReturn:
        raise cl.LogicError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")

    monkeypatch.setattr(cl, "get_platforms", fail)
    assert "pip install 'mace-cache[pocl]'" in one_line(run("devices"), code=1)
    assert run("devices", "--json").json["devices"] == []
