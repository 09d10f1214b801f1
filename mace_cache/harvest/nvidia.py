"""NVIDIA: from the PTX text that the driver hands out to the native code that it runs.

The driver keeps the native code of every PTX that it compiles in a cache of its own, whose place
``CUDA_CACHE_PATH`` names. A short process, for which that is an empty directory, loads the PTX;
what the driver has put there is the machine code that it would run itself, byte for byte.
``docs/drivers.md`` says why the linker in libcuda doesn't do.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
import time
from typing import TYPE_CHECKING

from mace_cache import opencl
from mace_cache._filesystem import publish
from mace_cache.errors import FingerprintError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyopencl as cl

__all__ = ["finalise", "finalise_all", "is_ptx", "kept_code", "place_of"]

logger = logging.getLogger(__name__)

_PTX_STARTS_WITHIN = 4096  # bytes: the directives follow a comment of some lines
# Of the ELF header (gABI, "ELF Header"): class, byte order, machine; where the program headers and
# the sections are, and the size and number of each.
_ELF_HEADER = struct.Struct("<4xBB12xH12xQQ6xHHHH2x")
_CUBIN = (2, 1, 190)  # 64 bits, little-endian, EM_CUDA
_SHOWN_OF_ITS_OUTPUT = 500  # characters


def is_ptx(binary: bytes) -> bool:
    """Whether a binary is PTX text (PTX ISA, ".version" and ".target" open every module)."""
    start = binary[:_PTX_STARTS_WITHIN]
    return not start.startswith(b"\x7fELF") and b"\n.version " in start and b"\n.target " in start


def finalise(ptx: bytes, device: cl.Device, options: str, seconds: float = 60) -> bytes | None:
    """Give the native code of one program; as `finalise_all`."""
    return finalise_all([(ptx, options)], device, seconds)[0]


def finalise_all(
    programs: Sequence[tuple[bytes, str]], device: cl.Device, seconds: float = 60
) -> list[bytes | None]:
    """Give the native code of programs, as the driver itself compiles them for a device.

    It takes about a second, and a tenth more a program; the caller's thread waits without the GIL.
    Whatever goes wrong is a line at DEBUG.

    Args:
        programs: of each, the binary that the driver gave and the options that it was built with.
        device: the device that gave them.
        seconds: how long it may take at most.

    Returns:
        A cubin a program, in their order, which ``clCreateProgramWithBinary`` takes in the PTX's
        place; None where there is none and the PTX is all there is to store.
    """
    until = time.monotonic() + seconds
    found: dict[tuple[bytes, str], bytes | None] = {}
    for batch in _batches(programs):
        codes = _compile(batch, device, until - time.monotonic())
        found.update({(ptx, options): codes.get(ptx) for ptx, options in batch.items()})
    return [found.get(program) for program in programs]


def _batches(programs: Sequence[tuple[bytes, str]]) -> Iterator[dict[bytes, str]]:
    """Split programs so that none holds a PTX twice: by it alone its code is found again."""
    waiting = [program for program in dict.fromkeys(programs) if is_ptx(program[0])]
    while waiting:
        batch = dict(reversed(waiting))
        yield batch
        waiting = [program for program in waiting if batch[program[0]] != program[1]]


def _compile(
    programs: Mapping[bytes, str], device: cl.Device, seconds: float
) -> dict[bytes, bytes]:
    import tempfile  # noqa: PLC0415 (no cost to a start that finds all compiled)

    try:
        place = place_of(device)
        with tempfile.TemporaryDirectory(prefix="mace-cache-nvidia-") as directory:
            _write_task(directory, programs, place)
            said = _load_in_a_process(directory, seconds)
            found = {ptx: kept_code(os.path.join(directory, "kept"), ptx) for ptx in programs}
    except (OSError, FingerprintError, RuntimeError) as error:
        found, said = {}, str(error)
    codes = {ptx: code for ptx, code in found.items() if code is not None}
    if len(codes) < len(programs):
        missing = len(programs) - len(codes)
        logger.debug("%d NVIDIA program(s) stay PTX: %s", missing, said or "no code was found")
    return codes


def place_of(device: cl.Device) -> list[int]:
    """Give a device's PCI address (cl_nv_device_attribute_query): it outlives the process."""
    queries = ("PCI_DOMAIN_ID_NV", "PCI_BUS_ID_NV", "PCI_SLOT_ID_NV")
    return [int(opencl.device_info(device, query)) for query in queries]


def _write_task(directory: str, programs: Mapping[bytes, str], place: list[int]) -> None:
    for number, ptx in enumerate(programs):
        publish(os.path.join(directory, f"{number}.ptx"), ptx)
    task = {"place": place, "options": list(programs.values())}
    publish(os.path.join(directory, "task.json"), json.dumps(task).encode())


def _load_in_a_process(directory: str, seconds: float) -> str:
    """Run ``_nvidia_loader`` in a directory.

    Returns:
        What went wrong, one line, or nothing.
    """
    import subprocess  # noqa: PLC0415 (as above)

    from mace_cache._warm_process import has_interpreter  # noqa: PLC0415 (as above)

    if not has_interpreter():
        return "this application has no Python interpreter that could load them"
    environment = {
        **os.environ,
        "MACE_CACHE_DISABLE": "1",
        "CUDA_CACHE_PATH": os.path.join(directory, "kept"),
        "CUDA_CACHE_DISABLE": "0",
        "CUDA_CACHE_MAXSIZE": str(2**32),  # the most that the driver takes: 4 GiB
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    }
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "mace_cache.harvest._nvidia_loader"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the driver took more than {seconds:.1f} s"
    if not ended.returncode:
        return ""
    last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"their process ended with {ended.returncode}: {last[:_SHOWN_OF_ITS_OUTPUT]}"


def kept_code(directory: str, ptx: bytes) -> bytes | None:
    """Find a program's native code in a cache directory of the driver.

    The driver's files aren't documented. They were seen to hold the PTX, a zero byte, the
    compiler's options and the code, to the end of the file; anything else is passed over.

    Args:
        directory: what ``CUDA_CACHE_PATH`` named.
        ptx: the program, as the driver gave it.

    Returns:
        The cubin, a whole ELF image, or None.
    """
    text = ptx.rstrip(b"\0") + b"\0"
    for parent, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                _, its_text, rest = file.read().partition(text)
            _, its_magic, code = rest.partition(b"\x7fELF")
            if its_text and _is_whole_cubin(its_magic + code):
                return its_magic + code
    return None


def _is_whole_cubin(code: bytes) -> bool:
    if len(code) < _ELF_HEADER.size:
        return False
    kind = _ELF_HEADER.unpack_from(code)
    programs, sections, program_size, program_count, section_size, section_count = kind[3:]
    end = max(programs + program_size * program_count, sections + section_size * section_count)
    return kind[:3] == _CUBIN and end == len(code)
