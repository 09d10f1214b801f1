"""The only room that calls the driver: device queries, builds, loads and fetched binaries."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import pyopencl as cl
from pyopencl.tools import is_spirv

from mace_cache._fetching import fetch_all_binaries
from mace_cache.errors import BinaryRejectedError, FingerprintError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "LAUNCHING",
    "PROGRAM",
    "build_from_source",
    "build_log",
    "create_kernels",
    "device_info",
    "driver_options",
    "fetch_binaries",
    "handle_of",
    "kernel_names",
    "load_from_binaries",
    "make_unbuilt",
    "platform_info",
    "share",
    "state_of",
    "status_of",
    "suspicion_of",
]

# pyopencl's own class, where an application has put its own in the place of it.
PROGRAM: type[cl.Program] = next(one for one in cl.Program.__mro__ if "_get_prg" in vars(one))

# What a call can answer when the binary is at fault. Where it is not, the step fails again after
# the rebuild, and that failure is the caller's. Memory and queue errors are left out: no rebuild
# mends them.
_BINARY_MAY_BE_AT_FAULT = frozenset(
    {
        "BUILD_PROGRAM_FAILURE",
        "COMPILE_PROGRAM_FAILURE",
        "INVALID_ARG_INDEX",
        "INVALID_ARG_SIZE",
        "INVALID_ARG_VALUE",
        "INVALID_BINARY",
        "INVALID_KERNEL",
        "INVALID_KERNEL_DEFINITION",
        "INVALID_KERNEL_NAME",
        "INVALID_OPERATION",
        "INVALID_PROGRAM",
        "INVALID_PROGRAM_EXECUTABLE",
        "INVALID_VALUE",
        "INVALID_WORK_GROUP_SIZE",
        "LINK_PROGRAM_FAILURE",
        "OUT_OF_RESOURCES",
    }
)

# pyopencl's routines that launch a kernel: whose attribute, its name, and which argument the kernel
# is. The last is the second under the name that users know.
LAUNCHING: tuple[tuple[Any, str, int], ...] = (
    (cl.Kernel, "__call__", 0),
    (cl._cl, "enqueue_nd_range_kernel", 1),
    (cl, "enqueue_nd_range_kernel", 1),
)


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


def driver_options(context: cl.Context, options: str | Sequence[str] | None) -> bytes:
    """Give the options as pyopencl hands them to the driver.

    pyopencl adds its own include path, options for some platforms and ``PYOPENCL_BUILD_OPTIONS``.

    Args:
        context: the context that the program is built in.
        options: as `pyopencl.Program.build` takes them.
    """
    split = _split(options) if isinstance(options, str) else options
    return PROGRAM._process_build_options(context, split)[0]


@functools.lru_cache(maxsize=256)
def _split(options: str) -> tuple[str, ...]:
    # The split that pyopencl makes, which would cost more than the rest of a memory hit.
    import shlex  # noqa: PLC0415 (most give their options as a sequence)

    return tuple(shlex.split(options))


def build_from_source(
    context: cl.Context,
    source: str | bytes,
    options: str | Sequence[str] | None = None,
    devices: Sequence[cl.Device] | None = None,
    *,
    uncached: bool = True,
) -> tuple[cl.Program, float]:
    """Build a program exactly as `pyopencl.Program.build` does.

    Args:
        context: the context to build it in.
        source: OpenCL C, or SPIR-V.
        options: as `pyopencl.Program.build` takes them.
        devices: the devices to build for; all of the context if None.
        uncached: whether pyopencl's own cache is left out.

    Returns:
        The program and the seconds it took.

    Raises:
        pyopencl.Error: the source doesn't build, with the type, code and log that pyopencl gives.
    """
    started = time.perf_counter()
    program = PROGRAM(context, source)
    cache_directory: Any = False if uncached else None
    # Where `install` has put the cache in its place, this is what it replaced.
    build = getattr(PROGRAM.build, "replaced", PROGRAM.build)
    build(program, options, devices=devices, cache_dir=cache_directory)
    return program, time.perf_counter() - started


def load_from_binaries(
    context: cl.Context,
    devices: Sequence[cl.Device],
    binaries: Sequence[bytes | memoryview],
    options: bytes,
) -> cl.Program:
    """Make a program of binaries and build it (OpenCL specification, 5.8.1 and 5.8.2).

    A build log is passed over: it was shown when the program was built from source.

    Args:
        context: the context to load it into.
        devices: one device a binary.
        binaries: what the driver gave for the same devices, verified.
        options: as `driver_options` gives them.

    Raises:
        BinaryRejectedError: the driver refused them, with whatever status.
    """
    try:
        program = PROGRAM(context, devices, binaries)  # type: ignore[arg-type] # any buffer will do
        # pyopencl's public build() would warn about a log that the first build has shown already.
        program._get_prg()._build(options, devices)
    except cl.Error as error:
        raise BinaryRejectedError(status_of(error), error.routine) from error
    return program


def create_kernels(program: cl.Program, names: Sequence[str]) -> None:
    """Create a built program's kernels once, and let go of them.

    One that can't be created is passed over: its user will see the error.
    """
    for name in names:
        try:
            cl.Kernel(program, name)
        except cl.Error:
            continue


def fetch_binaries(program: cl.Program, devices: Sequence[cl.Device]) -> list[bytes]:
    """Ask a built program for its binaries, one a device, in the order of *devices*.

    Other threads run meanwhile: some drivers compile when they are asked.

    A device that has none, or whose binary can't be told from the others', is given an empty one
    (OpenCL specification, 5.8.7, ``CL_PROGRAM_BINARIES``).

    Raises:
        pyopencl.Error: the driver didn't answer.
    """
    # Of pyopencl's own object: where `install` holds, a loaded program answers as one of a source.
    built_for: list[cl.Device] = program._get_prg().get_info(cl.program_info.DEVICES)  # type: ignore[assignment] # pyopencl states object
    binaries = fetch_all_binaries(program)
    if len(binaries) == len(devices) == 1:
        return binaries  # PoCL names the parent of a sub-device, and devices not built for.
    by_device = dict(zip(built_for, binaries)) if len(built_for) == len(binaries) else {}  # noqa: B905 (checked)
    return [by_device.get(device, b"") for device in devices]


def kernel_names(program: cl.Program) -> tuple[str, ...]:
    """Give the names of a program's kernels, or none where the driver doesn't tell."""
    try:
        names = str(program.get_info(cl.program_info.KERNEL_NAMES))
    except (cl.Error, UnicodeDecodeError):
        return ()
    return tuple(name for name in names.split(";") if name)


def build_log(program: cl.Program, device: cl.Device) -> str:
    """Give what the compiler said when it built a program, or nothing where it doesn't tell."""
    try:
        log = program.get_build_info(  # type: ignore[no-untyped-call] # pyopencl leaves it untyped
            device, cl.program_build_info.LOG
        )
        return str(log)
    except (cl.Error, UnicodeDecodeError):
        return ""


def share(program: cl.Program) -> cl.Program:
    """Give another `pyopencl.Program` over the same built program.

    Each holder counts for itself the kernels it has retrieved, about which pyopencl warns.
    """
    return PROGRAM(cl._cl._Program.from_int_ptr(handle_of(program), True))


def state_of(program: cl.Program, devices: Sequence[cl.Device]) -> tuple[object, ...]:
    """Give what a driver tells of a program that changes when it is built or compiled in place.

    Args:
        program: the program.
        devices: the devices that it was built for.
    """
    about, asked = cl.program_build_info, program._get_prg()
    state = [_told(asked.get_info, cl.program_info.KERNEL_NAMES)]
    for device in devices:
        state.append(_told(asked.get_build_info, device, about.OPTIONS))
        state.append(_told(asked.get_build_info, device, about.BINARY_TYPE))
    return tuple(state)


def _told(ask: Callable[..., object], *query: object) -> object:
    try:
        return ask(*query)
    except (cl.Error, UnicodeDecodeError):
        return None


def handle_of(program: cl.Program) -> int:
    """Give what tells an OpenCL program from others while it lives; a subclass can't change it."""
    handle: int = program._get_prg().int_ptr
    return handle


def make_unbuilt(context: cl.Context, source: str | bytes) -> Any:
    """Make what a `pyopencl.Program` holds before its build, of OpenCL C or SPIR-V.

    Raises:
        pyopencl.Error: the driver refused it.
    """
    if is_spirv(source):
        return cl._cl._create_program_with_il(context, source)
    return cl._cl._Program(context, source)


def status_of(error: cl.Error) -> str:
    """Name an error's status code, such as ``INVALID_BINARY``."""
    name: str = cl.status_code.to_string(error.code, "status %d")  # type: ignore[operator] # as above
    return name


def suspicion_of(error: cl.Error | AttributeError) -> str | None:
    """Name the status of an error that a bad binary can cause, or None where it can't.

    Args:
        error: what a step raised; pyopencl turns the failure to make a kernel that is asked for as
            an attribute into an `AttributeError`.
    """
    cause = error.__cause__ if isinstance(error, AttributeError) else error
    if not isinstance(cause, cl.Error):
        return None
    status = status_of(cause)
    return status if status in _BINARY_MAY_BE_AT_FAULT else None
