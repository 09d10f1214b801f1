"""``devices``: which OpenCL devices there are, and what is stored for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pyopencl as cl

from mace_cache import opencl
from mace_cache.cli.driver_health import NO_DEVICE
from mace_cache.cli.entries import StoredFile, files_of
from mace_cache.cli.options import cache_directory_option, json_option, open_factory
from mace_cache.cli.output import (
    complain,
    print_json,
    print_line,
    print_properties,
    spoken_number,
    spoken_size,
)
from mace_cache.errors import FingerprintError
from mace_cache.fingerprint import components, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["devices", "list_devices"]


@click.command()
@click.option("--full", is_flag=True, help="Show the devices' fingerprints.")
@cache_directory_option
@json_option
def devices(full: bool, cache_directory: str | None, as_json: bool) -> int:
    """Show the OpenCL devices and what is stored for them."""
    factory = open_factory(cache_directory)
    files = files_of(factory)
    described = [_describe(device, files) for device in list_devices()]
    if as_json:
        print_json({"directory": str(factory.root), "devices": described})
    for number, device in enumerate([] if as_json else described):
        if number:
            print_line()
        _print_device(device, full=full)
    if not described:
        complain(NO_DEVICE)
    return int(not described)


def list_devices() -> Iterator[cl.Device]:
    """Give the devices of all drivers; one that can't be asked is complained of."""
    try:
        platforms = cl.get_platforms()
    except cl.Error:  # the loader's way to say that there is no driver
        return
    for platform in platforms:
        try:
            yield from platform.get_devices()
        except cl.Error as error:
            complain(f"a driver was passed over: {error}")


def _describe(device: cl.Device, files: list[StoredFile]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": _answer(lambda: opencl.device_info(device, "NAME")),
        "platform": _answer(lambda: opencl.platform_info(device.platform, "NAME")),
        "driver_version": _answer(lambda: opencl.device_info(device, "DRIVER_VERSION")),
        "family": None,
        "storage": None,
        "problem": None,
        "entries": 0,
        "bytes": 0,
        "fingerprint": {},
    }
    try:
        identity = fingerprint(device)
    except FingerprintError as error:
        return {**described, "problem": str(error)}
    stored = [file.size for file in files if file.storage == identity.storage_name]
    return {
        **described,
        "family": identity.family,
        "storage": identity.storage_name,
        "entries": len(stored),
        "bytes": sum(stored),
        "fingerprint": components(identity.text),
    }


def _answer(ask: Callable[[], int | str]) -> str:
    try:
        return str(ask())
    except (FingerprintError, cl.Error):
        return "unknown"


def _print_device(device: dict[str, Any], *, full: bool) -> None:
    print_line(device["name"], "bold")
    properties = [("platform", device["platform"]), ("driver", device["driver_version"])]
    if device["problem"] is None:
        stored = spoken_number(device["entries"], "program"), spoken_size(device["bytes"])
        properties += [
            ("family", device["family"]),
            ("storage", device["storage"]),
            ("caching", "works"),
            ("stored", ", ".join(stored)),
        ]
    else:
        properties.append(("caching", f"off: {device['problem']}"))
    print_properties(properties, indent=2)
    if full:
        print_line("  fingerprint")
        print_properties(device["fingerprint"].items(), indent=4)
