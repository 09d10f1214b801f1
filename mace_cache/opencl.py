"""The only room that calls the driver: what a device says, how programs are built and loaded."""

from __future__ import annotations

import pyopencl as cl

from mace_cache.errors import FingerprintError

__all__ = ["device_info", "platform_info"]


def device_info(device: cl.Device, name: str) -> int | str:
    """Ask a device for one of its properties.

    Args:
        device: the device.
        name: the query's name without its prefix, such as ``DRIVER_VERSION`` (OpenCL specification,
            4.2, ``clGetDeviceInfo``).

    Raises:
        FingerprintError: the driver didn't answer.
    """
    return _info(device, getattr(cl.device_info, name), f"CL_DEVICE_{name}")


def platform_info(platform: cl.Platform, name: str) -> int | str:
    """Ask a platform for one of its properties; as `device_info` (OpenCL specification, 4.1)."""
    return _info(platform, getattr(cl.platform_info, name), f"CL_PLATFORM_{name}")


def _info(asked: cl.Device | cl.Platform, query: int, name: str) -> int | str:
    try:
        answer = asked.get_info(query)  # type: ignore[arg-type]
    except (cl.Error, UnicodeDecodeError) as error:
        raise FingerprintError(name, str(error).partition("\n")[0]) from error
    if not isinstance(answer, int | str):
        raise FingerprintError(name, f"a {type(answer).__name__}")
    return answer
