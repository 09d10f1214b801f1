"""What kernels of one's own expressions build: elementwise, reductions, scans, templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.elementwise
import pyopencl.reduction
import pyopencl.scan
import pyopencl.tools

from tests.dropin.tiny import COUNT, floats, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]

elementwise: Any = pyopencl.elementwise  # much of these is untyped
reduction: Any = pyopencl.reduction
scan: Any = pyopencl.scan
tools: Any = pyopencl.tools

_INT = np.dtype(np.int32)
_TYPES = (("value_t", _INT), ("reduction_t", _INT), ("scan_t", _INT))


def elementwise_kernel(queue: cl.CommandQueue) -> Results:
    """`ElementwiseKernel`, with a preamble and options, and of a range."""
    a = floats(queue)
    kernel = elementwise.ElementwiseKernel(
        queue.context,
        "float a, float *x",
        "x[i] = SCALE(x[i], a) + OFFSET",
        "scale",
        options=["-DOFFSET=2.0f"],
        preamble="#define SCALE(x, a) ((x) * (a))",
    )
    kernel(np.float32(3), a)
    kernel(np.float32(3), a, range=slice(0, 10, 2))
    return [a.get()]


def reduction_kernel(queue: cl.CommandQueue) -> Results:
    """`ReductionKernel`."""
    kernel = reduction.ReductionKernel(
        queue.context,
        np.int32,
        neutral="0",
        reduce_expr="a > b ? a : b",
        map_expr="x[i] * x[i]",
        arguments="__global const int *x",
    )
    return [kernel(integers(queue)).get()]


def elementwise_template(queue: cl.CommandQueue) -> Results:
    """`ElementwiseTemplate`, of a structure that the device is asked about."""
    dtype = np.dtype([("id", np.int32), ("weight", np.float64)])
    dtype, _declaration = tools.match_dtype_to_c_struct(
        queue.device, "mace_id_weight", dtype, queue.context
    )
    dtype = tools.get_or_register_dtype("mace_id_weight", dtype)
    template = elementwise.ElementwiseTemplate(
        "value_t *x, mace_id_weight *y", "x[i] = 2 * x[i] + y[i].id", name="twice"
    )
    a = integers(queue)
    structures = pyopencl.array.zeros(queue, COUNT, dtype)
    template.build(queue.context, _TYPES, declare_types=(dtype,))(a, structures)
    return [a.get()]


def reduction_template(queue: cl.CommandQueue) -> Results:
    """`ReductionTemplate`, and a kernel that is rendered."""
    a = integers(queue)
    total = reduction.ReductionTemplate("value_t *x", "0", "a + b", "x[i]", name_prefix="total")
    summed = total.build(queue.context, _TYPES)(a).get()
    renderer = total.get_renderer((), (), queue.context, None)
    renderer.context = queue.context  # which pyopencl forgets
    rendered = renderer.get_rendered_kernel(
        "kernel void three(global int *x) { x[get_global_id(0)] *= 3; }", "three"
    )
    rendered(queue, (COUNT,), None, a.data)
    return [summed, a.get()]


def scan_template(queue: cl.CommandQueue) -> Results:
    """`ScanTemplate`."""
    a = integers(queue)
    running = scan.ScanTemplate("value_t *x", "x[i]", "a + b", "0", "x[i] = item;")
    running.build(queue.context, _TYPES)(a)
    return [a.get()]


def scans(queue: cl.CommandQueue) -> Results:
    """Every kind of scan."""
    a, out = integers(queue), integers(queue)
    results = []
    for kind in (scan.GenericScanKernel, scan.GenericDebugScanKernel):
        kind(
            queue.context,
            np.int32,
            arguments="__global int *x, __global int *y",
            input_expr="x[i]",
            scan_expr="a + b",
            neutral="0",
            output_statement="y[i] = item;",
        )(a, out, queue=queue)
        results.append(out.get())
    results.append(scan.InclusiveScanKernel(queue.context, np.int32, "a + b", "0")(a.copy()).get())
    results.append(scan.ExclusiveScanKernel(queue.context, np.int32, "a + b", "0")(a.copy()).get())
    return results


FUNCTIONS: tuple[Callable[[cl.CommandQueue], Results], ...] = (
    elementwise_kernel,
    reduction_kernel,
    elementwise_template,
    reduction_template,
    scan_template,
    scans,
)
