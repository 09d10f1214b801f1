"""Whether a program in another form is the same to who uses it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyopencl as cl

from mace_cache import opencl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["tells_the_same"]

logger = logging.getLogger(__name__)

_KERNEL_QUERIES = ("NUM_ARGS", "ATTRIBUTES")
_ARGUMENT_QUERIES = (
    "ADDRESS_QUALIFIER",
    "ACCESS_QUALIFIER",
    "TYPE_NAME",
    "TYPE_QUALIFIER",
    "NAME",
)
_WORK_GROUP_QUERIES = (
    "WORK_GROUP_SIZE",
    "COMPILE_WORK_GROUP_SIZE",
    "LOCAL_MEM_SIZE",
    "PREFERRED_WORK_GROUP_SIZE_MULTIPLE",
    "PRIVATE_MEM_SIZE",
)


def tells_the_same(original: cl.Program, finalised: cl.Program, device: cl.Device) -> bool:
    """Whether two built programs answer all that a user can ask of their kernels alike.

    Kernels, their number and order, their arguments and attributes, and their work-group figures
    (OpenCL specification, ``clGetKernelInfo``, ``clGetKernelArgInfo``,
    ``clGetKernelWorkGroupInfo``). A query that fails is alike where it fails with the same status.

    Args:
        original: the program as the driver built it.
        finalised: the program as loaded from what is to be stored.
        device: a device of both.
    """
    try:
        return _describe(original, device) == _describe(finalised, device)
    except cl.Error as error:
        logger.debug("a program can't be compared with its native code: %s", error)
        return False


def _describe(program: cl.Program, device: cl.Device) -> list[Any]:
    kernels = program.all_kernels()
    return [opencl.kernel_names(program), *(_describe_kernel(k, device) for k in kernels)]


def _describe_kernel(kernel: cl.Kernel, device: cl.Device) -> list[Any]:
    info, argument_info = cl.kernel_info, cl.kernel_arg_info
    group_info = cl.kernel_work_group_info
    return [
        kernel.function_name,
        *(_ask(kernel.get_info, getattr(info, name)) for name in _KERNEL_QUERIES),
        *(
            _ask(kernel.get_work_group_info, getattr(group_info, name), device)
            for name in _WORK_GROUP_QUERIES
        ),
        *(
            _ask(kernel.get_arg_info, index, getattr(argument_info, name))
            for index in range(kernel.num_args)
            for name in _ARGUMENT_QUERIES
        ),
    ]


def _ask(query: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return query(*arguments)
    except cl.Error as error:
        return opencl.status_of(error)
