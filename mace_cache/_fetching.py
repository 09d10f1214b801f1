"""Fetching a program's binaries while other threads run; and its IL.

Some drivers compile when they are asked for a binary, for seconds. pyopencl holds the interpreter
for all that time; the same call through `ctypes` doesn't (OpenCL specification, 5.8.7,
``clGetProgramInfo``).
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyopencl as cl
from pyopencl import _cl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["driver_loader", "fetch_all_binaries", "fetch_il"]

logger = logging.getLogger(__name__)

_DESCRIPTORS_OF_COMPILER = 16  # PoCL and the linker that it runs were seen to need 9
_SUCCESS = 0
_BINARY_SIZES = 0x1165  # CL_PROGRAM_BINARY_SIZES, cl.h
_BINARIES = 0x1166  # CL_PROGRAM_BINARIES, cl.h
_IL = 0x1169  # CL_PROGRAM_IL, cl.h


def driver_loader() -> str:
    """Give the library through which OpenCL is called as pyopencl calls it, whatever its name.

    A symbol that is looked up in pyopencl's own module is found in the libraries that it is linked
    with, as the dynamic linker has bound them for pyopencl itself.
    """
    return str(_cl.__file__)


def fetch_all_binaries(program: cl.Program) -> list[bytes]:
    """Give the binaries of a built program, in the driver's order, empty where there is none.

    Args:
        program: the program.

    Raises:
        pyopencl.Error: the driver didn't answer.
        OSError: the process may open too few files: PoCL, which compiles now, would abort.
    """
    _check_descriptors()
    binaries = _fetch_released(program)
    if binaries is None:
        binaries = program.get_info(cl.program_info.BINARIES)  # type: ignore[assignment] # pyopencl states object
    return binaries  # type: ignore[return-value] # as above


def fetch_il(program: Any) -> bytes:
    """Give the SPIR-V that a program was made of; nothing for another program.

    pyopencl itself takes it for text.

    Args:
        program: the program, or pyopencl's own object within it.
    """
    ask = _get_program_info()
    if ask is None:
        return b""
    size = ctypes.c_size_t()
    if ask(program.int_ptr, _IL, 0, None, ctypes.byref(size)) != _SUCCESS or not size.value:
        return b""
    il = ctypes.create_string_buffer(size.value)
    fetched = ask(program.int_ptr, _IL, size.value, il, None) == _SUCCESS
    return il.raw if fetched else b""


def _check_descriptors() -> None:
    with ExitStack() as opened:
        for _ in range(_DESCRIPTORS_OF_COMPILER):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _fetch_released(program: cl.Program) -> list[bytes] | None:
    """Fetch through `ctypes`, or give None where that doesn't go: pyopencl then says why."""
    ask = _get_program_info()
    if ask is None:
        return None
    stated = ctypes.c_size_t()
    if ask(program.int_ptr, _BINARY_SIZES, 0, None, ctypes.byref(stated)) != _SUCCESS:
        return None
    sizes = (ctypes.c_size_t * (stated.value // ctypes.sizeof(ctypes.c_size_t)))()
    if ask(program.int_ptr, _BINARY_SIZES, ctypes.sizeof(sizes), sizes, None) != _SUCCESS:
        return None
    # The driver writes nothing where the pointer is null (table of clGetProgramInfo).
    buffers = [ctypes.create_string_buffer(size) if size else None for size in sizes]
    addresses = [None if buffer is None else ctypes.addressof(buffer) for buffer in buffers]
    pointers = (ctypes.c_void_p * len(addresses))(*addresses)
    if ask(program.int_ptr, _BINARIES, ctypes.sizeof(pointers), pointers, None) != _SUCCESS:
        return None
    return [b"" if buffer is None else buffer.raw for buffer in buffers]


@functools.cache
def _get_program_info() -> Callable[..., int] | None:
    """Find ``clGetProgramInfo`` in the very loader that pyopencl calls."""
    try:
        function = ctypes.CDLL(driver_loader()).clGetProgramInfo
    except (OSError, AttributeError, TypeError) as error:
        logger.debug("clGetProgramInfo wasn't found (%s): binaries are fetched by pyopencl", error)
        return None
    function.restype = ctypes.c_int32
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return function
