"""CLBlast's C interface, as far as `matrix.py` compares with it."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyopencl as cl

    from mace_cache.operators import Tensor

__all__ = ["CLBlast"]

_ROW_MAJOR, _AS_IT_IS, _CROSS_CORRELATION = 101, 111, 151


class CLBlast:
    """Products and convolutions of the library; its status codes become RuntimeError.

    Args:
        path: the library, or None for the one that the system finds.

    Raises:
        OSError: there is none.
    """

    def __init__(self, path: str | None = None) -> None:
        name = path or ctypes.util.find_library("clblast")
        if name is None:
            raise OSError("there is no libclblast here; --clblast names one")
        self._library = ctypes.CDLL(name)

    def multiply(self, queue: cl.CommandQueue, a: Tensor, b: Tensor, output: Tensor) -> None:
        """Enqueue output = a * b, matrices of float32."""
        rows, depth = a.shape
        sizes = map(ctypes.c_size_t, (rows, output.shape[1], depth))
        one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        how = (_ROW_MAJOR, _AS_IT_IS, _AS_IT_IS)
        tensors = (one, *_matrix(a), *_matrix(b), zero, *_matrix(output))
        self._call(self._library.CLBlastSgemm, queue, *how, *sizes, *tensors)

    def convolve(self, queue: cl.CommandQueue, x: Tensor, weights: Tensor, output: Tensor) -> None:
        """Enqueue a convolution that keeps the image's size: (batch, channels, height, width)."""
        batch, channels, height, width = x.shape
        filters, _, kernel_height, kernel_width = weights.shape
        sizes = (channels, height, width, kernel_height, kernel_width)
        padding = (kernel_height // 2, kernel_width // 2)
        steps = (1, 1, 1, 1)  # strides and dilations
        numbers = map(ctypes.c_size_t, (*sizes, *padding, *steps, filters, batch))
        tensors = (*_place(x), *_place(weights), *_place(output))
        self._call(self._library.CLBlastSconvgemm, queue, _CROSS_CORRELATION, *numbers, *tensors)

    @staticmethod
    def _call(function: Any, queue: cl.CommandQueue, *arguments: Any) -> None:
        pointer = ctypes.c_void_p(queue.int_ptr)
        status = function(*arguments, ctypes.byref(pointer), None)
        if status:
            raise RuntimeError(f"{function.__name__} gave status {status}")


def _place(tensor: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    return ctypes.c_void_p(tensor.buffer.int_ptr), ctypes.c_size_t(0)


def _matrix(tensor: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]:
    return *_place(tensor), ctypes.c_size_t(tensor.shape[1])
