"""Loads PTX programs, so that the driver compiles them and keeps the native code.

Run as ``python -m mace_cache.harvest._nvidia_loader``, in a directory that ``nvidia.py`` has
written: ``task.json`` and a file of PTX a program.
"""

from __future__ import annotations

import json
import sys

import pyopencl as cl

from mace_cache import opencl
from mace_cache.errors import BinaryRejectedError, FingerprintError
from mace_cache.harvest.nvidia import place_of

__all__: list[str] = []


def main() -> None:
    """Load every program of the working directory on the device that its task names.

    Raises:
        SystemExit: the device isn't to be seen from here, or the driver refused a program.
    """
    with open("task.json", encoding="utf-8") as file:
        task = json.load(file)
    device = _find(task["place"])
    context = cl.Context([device])
    refused = []
    for number, options in enumerate(task["options"]):
        with open(f"{number}.ptx", "rb") as file:
            ptx = file.read()
        try:
            opencl.load_from_binaries(
                context, [device], [ptx], options.encode("utf-8", "surrogateescape")
            )
        except BinaryRejectedError as error:
            refused.append(str(error))
    if refused:
        sys.exit(refused[0])


def _find(place: list[int]) -> cl.Device:
    for platform in cl.get_platforms():
        for device in platform.get_devices():
            try:
                if place_of(device) == place:
                    return device
            except FingerprintError:  # not NVIDIA's
                continue
    sys.exit(f"no device at PCI address {place}")


if __name__ == "__main__":
    main()
