"""What pyopencl builds to find something out, and what its commands of IPython build."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.array
import pyopencl.characterize.performance
import pyopencl.tools

from tests.dropin.tiny import each, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]

characterize: Any = pyopencl.characterize  # much of these is untyped
tools: Any = pyopencl.tools


def structures(queue: cl.CommandQueue) -> Results:
    """What asks the device for sizes and offsets of structures."""
    dtype = np.dtype([("id", np.int32), ("place", np.float64)])
    matched, declaration = tools.match_dtype_to_c_struct(
        queue.device, "mace_id_place", dtype, queue.context
    )
    assert "double place" in declaration
    registered = tools.get_or_register_dtype("mace_id_place", matched)
    assert tools.dtype_to_c_struct(queue.device, registered) == declaration
    return [np.array([matched.itemsize, *(matched.fields[name][1] for name in matched.names)])]


class _Clock:
    """Stands for a timer: each measurement takes twice as long as the one before."""

    seconds = 1.0

    def __init__(self, queue: cl.CommandQueue) -> None:
        self.queue = queue

    def start(self) -> None:
        """Nothing to start."""

    def add_event(self, event: cl.Event | None) -> None:
        """Nothing to do with what is measured."""

    def stop(self) -> None:
        """Be slower than before."""
        self.queue.finish()
        _Clock.seconds *= 2

    def get_elapsed(self) -> float:
        """Seconds."""
        return _Clock.seconds


def characteristics(queue: cl.CommandQueue) -> Results:
    """What `pyopencl.characterize` builds."""
    multiple = characterize.reasonable_work_group_size_multiple(queue.device, queue.context)
    group = characterize.get_simd_group_size(queue.device, 4)
    fault = characterize._check_for_pocl_arg_count_bug(queue.device, queue.context)
    return [np.array([multiple, group or 0, fault])]


def performance(queue: cl.CommandQueue) -> Results:
    """What `pyopencl.characterize.performance` builds; not how fast the device is."""
    _Clock.seconds = 1.0
    empty = characterize.performance.get_empty_kernel_time(queue, _Clock)
    rate = characterize.performance.get_add_rate(queue, timer_factory=_Clock)
    return [np.array([empty, rate > 0])]


def modules_of_arrays(queue: cl.CommandQueue) -> Results:
    """What `array_module` gives for arrays."""
    a, b = integers(queue), integers(queue, 2)
    module = tools.array_module(a)
    (together,) = each(lambda: module.hstack([a, b]))
    tools.clear_first_arg_caches()
    products = [module.dot(a, b)]
    tools.clear_first_arg_caches()
    return [together, *products, module.vdot(a, b)]


def notebook(queue: cl.CommandQueue) -> Results:
    """The commands of `pyopencl.ipython_ext`, in a shell of IPython."""
    from IPython.core.interactiveshell import InteractiveShell  # noqa: PLC0415 (few have it)

    shell: Any = InteractiveShell()
    shell.run_line_magic("load_ext", "pyopencl.ipython_ext")
    shell.user_ns["cl_ctx"] = queue.context
    source = "kernel void {}(global int *x) {{ x[get_global_id(0)] *= FACTOR; }}"
    shell.run_cell_magic("cl_kernel", "-o '-DFACTOR=2'", source.format("twice"))
    with tempfile.NamedTemporaryFile("w", suffix=".cl") as file:
        file.write(source.format("thrice"))
        file.flush()
        shell.run_line_magic("cl_kernel_from_file", f"-o '-DFACTOR=3' -f {file.name}")
    a = integers(queue)
    for name in ("twice", "thrice"):
        shell.user_ns[name](queue, a.shape, None, a.data)
    return [a.get()]


FUNCTIONS: tuple[Callable[[cl.CommandQueue], Results], ...] = (
    structures,
    characteristics,
    performance,
    modules_of_arrays,
    notebook,
)
