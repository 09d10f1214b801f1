"""What a caller asks to be built, and what identifies it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from mace_cache import opencl
from mace_cache.errors import UncacheableError
from mace_cache.fingerprint import fingerprint
from mace_cache.source import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyopencl as cl

    from mace_cache.fingerprint import DeviceFingerprint
    from mace_cache.source import ProgramSource
    from mace_cache.tiers import Tiers

__all__ = [
    "BuildRequest",
    "IdentifiedProgram",
    "ProgramRequest",
    "WantedProgram",
    "begun",
    "identify",
    "make_request",
]


class ProgramRequest(NamedTuple):
    """One of the programs of `ProgramCache.build_many`; a plain tuple does as well.

    Attributes:
        source: OpenCL C.
        options: build options, as `pyopencl.Program.build` takes them.
    """

    source: str | bytes
    options: str | Sequence[str] | None = None


class BuildRequest(NamedTuple):
    """The arguments of one call to build a program, as they were given.

    Attributes:
        context: the context to build in.
        source: OpenCL C.
        options: as `pyopencl.Program.build` takes them.
        devices: the devices to build for; all of the context if None.
        started: when the call began, in seconds of `time.perf_counter`.
    """

    context: cl.Context
    source: str | bytes
    options: str | Sequence[str] | None
    devices: Sequence[cl.Device] | None
    started: float


class IdentifiedProgram(NamedTuple):
    """A request, identified as far as no file has to be read for it.

    Attributes:
        request: what was asked for.
        devices: the devices to build for.
        fingerprints: a fingerprint a device; identical devices have the same.
        driver_options: the options as the driver gets them.
        identity: what the memory tier finds the program by.
    """

    request: BuildRequest
    devices: Sequence[cl.Device]
    fingerprints: tuple[DeviceFingerprint, ...]
    driver_options: bytes
    identity: tuple[object, ...]

    @property
    def options_text(self) -> str:
        """The driver's options as text, from which their bytes can be had back."""
        return self.driver_options.decode("utf-8", "surrogateescape")

    def describe(self) -> ProgramSource:
        """Read what the program key is made of.

        Raises:
            UncacheableError: the key can't be known.
        """
        return describe(self.request.source, self.options_text)


class WantedProgram(NamedTuple):
    """A program that can be cached, and the tiers that are asked for it.

    Attributes:
        identified: the request and its devices.
        source: the program key and what it is made of.
        tiers: the tiers of each different fingerprint, in the order of its first device.
    """

    identified: IdentifiedProgram
    source: ProgramSource
    tiers: tuple[Tiers, ...]

    def is_current(self) -> bool:
        """Whether all that the program key is made of is still as it was read.

        Raises:
            UncacheableError: the key can't be known any longer.
        """
        return not self.source.has_headers or self.identified.describe().key == self.source.key

    def device_of(self, tiers: Tiers) -> cl.Device:
        """Give the first device that has the fingerprint of these tiers."""
        return self.identified.devices[self.identified.fingerprints.index(tiers.fingerprint)]


def make_request(
    context: cl.Context,
    source: str | bytes,
    options: Iterable[str] | str | None,
    devices: Iterable[cl.Device] | None,
) -> BuildRequest:
    """Take down what a caller asks for, now.

    Options and devices are copied: pyopencl takes iterators too, which can be read but once. The
    devices are taken in the order of the context's: PoCL hands out binaries in that of the build.
    """
    started = time.perf_counter()
    if isinstance(options, Iterable) and not isinstance(options, str):
        options = tuple(options)
    devices = None if devices is None else _in_order(context, list(devices))
    return BuildRequest(context, source, options, devices, started)


def _in_order(context: cl.Context, devices: list[cl.Device]) -> list[cl.Device]:
    known = context.devices if len(devices) > 1 else []
    if all(device in known for device in devices):
        return sorted(devices, key=known.index)
    return devices  # pyopencl says what is wrong with them


def begun(request: BuildRequest) -> BuildRequest:
    """Give a request that waited for others as if it had been made now."""
    return request._replace(started=time.perf_counter())


def identify(request: BuildRequest) -> IdentifiedProgram:
    """Identify what is asked for.

    Raises:
        FingerprintError: a device can't be identified.
        UncacheableError: there is no source, a device isn't one of the context's, or nobody could
            build with such arguments: pyopencl says what is wrong with them.
    """
    context, source = request.context, request.source
    if not isinstance(source, str | bytes):
        raise UncacheableError(f"its source is {type(source)}")
    if not source:
        raise UncacheableError("its source is empty")  # rusticl dies when it is asked for a binary
    try:
        devices = _devices(request)
        driver_options = opencl.driver_options(context, request.options)
    except Exception as error:
        raise UncacheableError(f"its arguments can't be used ({error!r})") from error
    fingerprints = tuple([fingerprint(device) for device in devices])
    handles = tuple([device.int_ptr for device in devices])
    identity = (context.int_ptr, handles, fingerprints, driver_options, source)
    return IdentifiedProgram(request, devices, fingerprints, driver_options, identity)


def _devices(request: BuildRequest) -> Sequence[cl.Device]:
    devices = request.context.devices
    if not request.devices:  # none at all are all of them, as for clBuildProgram
        return devices
    if not set(devices).issuperset(request.devices):
        raise ValueError("a device isn't one of the context's")
    return list(request.devices)
