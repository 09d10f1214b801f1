"""Every public function of pyopencl that builds a program internally, on tiny data.

``python functions.py PLATFORM RESULTS [NAME...]`` runs them in this order and writes their results;
what the environment says of a cache, and whether one is installed, is the caller's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.algorithm
import pyopencl.array
import pyopencl.bitonic_sort
import pyopencl.characterize.performance
import pyopencl.clmath
import pyopencl.clrandom
import pyopencl.elementwise
import pyopencl.reduction
import pyopencl.scan
import pyopencl.tools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Results = list[np.ndarray[Any, Any]]

__all__ = ["FUNCTIONS", "run"]

# Much of these is untyped.
algorithm: Any = pyopencl.algorithm
cla: Any = pyopencl.array
characterize: Any = pyopencl.characterize
clmath: Any = pyopencl.clmath
clrandom: Any = pyopencl.clrandom
networks: Any = pyopencl.bitonic_sort
reduction: Any = pyopencl.reduction
scan: Any = pyopencl.scan
tools: Any = pyopencl.tools

COUNT = 60


def _integers(queue: cl.CommandQueue, seed: int = 1) -> Any:
    numbers = np.random.default_rng(seed).integers(0, 50, COUNT, dtype=np.int32)
    return cla.to_device(queue, numbers)


def _floats(queue: cl.CommandQueue) -> Any:
    return cla.to_device(queue, np.linspace(0.1, 0.9, COUNT, dtype=np.float32))


def arithmetic(queue: cl.CommandQueue) -> Results:
    """Element by element: what `pyopencl.array.Array` does with its operators."""
    a, b = _integers(queue), _integers(queue, 2)
    return [(a + b).get(), (a * b - 3).get(), (-a).get(), a.astype(np.float32).get()]


def comparisons(queue: cl.CommandQueue) -> Results:
    """Comparisons, choices and extremes of two arrays."""
    a, b = _integers(queue), _integers(queue, 2)
    return [
        (a < b).get(),
        cla.if_positive(a - b, a, b).get(),
        cla.maximum(a, b).get(),
        cla.minimum(a, b).get(),
    ]


def making(queue: cl.CommandQueue) -> Results:
    """Arrays that are made, filled, picked and put together on the device.

    Not `multi_take`: it fails in pyopencl itself.
    """
    a, indices = _integers(queue), cla.arange(queue, 0, COUNT, 2, dtype=np.int32)
    filled = cla.empty(queue, COUNT, np.float32).fill(1.5)
    return [
        indices.get(),
        cla.zeros(queue, COUNT, np.int32).get(),
        filled.get(),
        cla.take(a, indices).get(),
        cla.concatenate([a, indices]).get(),
        a.reverse().get(),
    ]


def putting(queue: cl.CommandQueue) -> Results:
    """Elements put into an array, and differences of neighbours."""
    a, indices = _integers(queue), cla.arange(queue, 0, COUNT, 2, dtype=np.int32)
    (placed,) = cla.multi_put([cla.take(a, indices)], indices, out=[cla.zeros_like(a)])
    return [placed.get(), cla.diff(a).get()]


def logic(queue: cl.CommandQueue) -> Results:
    """Truth values, bits and complex numbers."""
    a = _integers(queue)
    parts = (_floats(queue) + 1j * _floats(queue)).astype(np.complex64)
    return [
        cla.logical_and(a, a - 1).get(),
        (a & 3).get(),
        parts.conj().get(),
        parts.imag.get(),
        abs(parts).get(),
    ]


def reductions(queue: cl.CommandQueue) -> Results:
    """Sums, products and extremes."""
    a, b = _integers(queue), _integers(queue, 2)
    return [
        cla.sum(a).get(),
        cla.dot(a, b).get(),
        cla.vdot(a, b).get(),
        cla.max(a).get(),
        cla.min(a).get(),
        a.any().get(),
        a.all().get(),
    ]


def subsets(queue: cl.CommandQueue) -> Results:
    """Reductions over chosen elements."""
    a, indices = _integers(queue), cla.arange(queue, 0, COUNT, 3, dtype=np.int32)
    return [
        cla.subset_dot(indices, a, a).get(),
        cla.subset_max(indices, a).get(),
        cla.subset_min(indices, a).get(),
    ]


def functions_of_mathematics(queue: cl.CommandQueue) -> Results:
    """`pyopencl.clmath`: of one argument, of two, and with two results."""
    a = _floats(queue)
    fraction, exponent = clmath.frexp(a)
    part, whole = clmath.modf(a)
    results = [clmath.sin(a), clmath.atan2(a, a), clmath.atan2pi(a, a), clmath.fmod(a, a)]
    results += [fraction, exponent, part, whole, clmath.ldexp(a, exponent)]
    return [result.get() for result in results]


def bessel(queue: cl.CommandQueue) -> Results:
    """Bessel and Hankel functions, which include pyopencl's own headers."""
    a = _floats(queue).astype(np.float64)
    b = a.astype(np.complex128)
    h0, h1 = clmath.hankel_01(b)
    return [clmath.bessel_jn(1, a).get(), clmath.bessel_yn(1, a).get(), h0.get(), h1.get()]


def elementwise_kernel(queue: cl.CommandQueue) -> Results:
    """`ElementwiseKernel`, with a preamble and options."""
    a = _floats(queue)
    kernel: Any = pyopencl.elementwise.ElementwiseKernel(
        queue.context,
        "float a, float *x",
        "x[i] = SCALE(x[i], a) + OFFSET",
        "scale",
        options=["-DOFFSET=2.0f"],
        preamble="#define SCALE(x, a) ((x) * (a))",
    )
    kernel(np.float32(3), a)
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
    return [kernel(_integers(queue)).get()]


def templates(queue: cl.CommandQueue) -> Results:
    """Templates of reductions and scans, and a kernel that is rendered."""
    a = _integers(queue)
    total = reduction.ReductionTemplate("value_t *x", "0", "a + b", "x[i]", name_prefix="total")
    number = np.dtype(np.int32)
    types = (("value_t", number), ("reduction_t", number), ("scan_t", number))
    summed = total.build(queue.context, types)(a).get()
    running = scan.ScanTemplate("value_t *x", "x[i]", "a + b", "0", "x[i] = item;")
    running.build(queue.context, types)(a)
    renderer = total.get_renderer((), (), queue.context, None)
    renderer.context = queue.context  # which pyopencl forgets
    rendered = renderer.get_rendered_kernel(
        "kernel void three(global int *x) { x[get_global_id(0)] *= 3; }", "three"
    )
    rendered(queue, (COUNT,), None, a.data)
    return [summed, a.get()]


def scans(queue: cl.CommandQueue) -> Results:
    """Every kind of scan."""
    a, out = _integers(queue), _integers(queue)
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
    scan.get_cumsum_kernel(queue.context, a.dtype, a.dtype)(a, out)
    results.append(out.get())
    return results


def random_numbers(queue: cl.CommandQueue) -> Results:
    """Both generators, of both distributions."""
    results = []
    for kind in (clrandom.PhiloxGenerator, clrandom.ThreefryGenerator):
        generator = kind(queue.context, seed=15)
        results.append(generator.uniform(queue, COUNT, np.float32).get())
        results.append(generator.normal(queue, COUNT, np.float32).get())
        results.append(generator.uniform(queue, COUNT, np.int32, a=0, b=9).get())
    return results


def random_numbers_of_nobody(queue: cl.CommandQueue) -> Results:
    """`rand` and `fill_rand`, whose seed is the clock: only shape and bounds can be compared."""
    filled = cla.empty(queue, COUNT, np.float32)
    clrandom.fill_rand(filled, a=2, b=3)
    made = clrandom.rand(queue, COUNT, np.float32, a=2, b=3)
    return [(filled.get() // 1).clip(2, 2), (made.get() // 1).clip(2, 2)]


def selections(queue: cl.CommandQueue) -> Results:
    """What copies some elements and leaves others."""
    a = _integers(queue)
    chosen, count, _event = algorithm.copy_if(a, "ary[i] > 20")
    rest, left, _event = algorithm.remove_if(a, "ary[i] > 20")
    true, false, number, _event = algorithm.partition(a, "ary[i] % 2 == 0")
    sorted_numbers = cla.to_device(queue, np.sort(a.get()))
    single, singles, _event = algorithm.unique(sorted_numbers)
    found = [(chosen, count), (rest, left), (true, number), (single, singles)]
    numbers = [array.get()[: int(length.get())] for array, length in found]
    return [*numbers, false.get()[: COUNT - int(number.get())]]


def radix_sort(queue: cl.CommandQueue) -> Results:
    """`RadixSort`."""
    sort = algorithm.RadixSort(queue.context, "int *ary", "ary[i]", ["ary"], key_dtype=np.int32)
    (result,), _event = sort(_integers(queue), key_bits=6)
    return [result.get()]


def sort_in_a_network(queue: cl.CommandQueue) -> Results:
    """`BitonicSort`."""
    numbers = np.random.default_rng(3).random(64, dtype=np.float32)
    result, _event = networks.BitonicSort(queue.context)(cla.to_device(queue, numbers))
    return [result.get()]


def lists(queue: cl.CommandQueue) -> Results:
    """`ListOfListsBuilder`, of every row of its options."""
    results = []
    template = """
    void generate(LIST_ARG_DECL USER_ARG_DECL index_type i)
    {
        for (int j = 0; j < i % 4; ++j) { APPEND_mine(i); }
    }
    """
    for options in ({}, {"eliminate_empty_output_lists": ["mine"]}):
        builder = algorithm.ListOfListsBuilder(
            queue.context, [("mine", np.int32)], template, arg_decls=[], **options
        )
        found, _event = builder(queue, COUNT)
        results += [found["mine"].starts.get(), found["mine"].lists.get()]
    return results


def key_value_sort(queue: cl.CommandQueue) -> Results:
    """`KeyValueSorter`, which builds from a template of `ElementwiseTemplate`."""
    keys, values = _integers(queue), _integers(queue, 2)
    starts, sorted_values, _event = algorithm.KeyValueSorter(queue.context)(
        queue, keys, values, 50, np.int32
    )
    return [starts.get(), sorted_values.get()]


def structures(queue: cl.CommandQueue) -> Results:
    """`match_dtype_to_c_struct`, which asks the device for sizes and offsets."""
    dtype = np.dtype([("id", np.int32), ("place", np.float64)])
    matched, declaration = tools.match_dtype_to_c_struct(
        queue.device, "mace_id_place", dtype, queue.context
    )
    assert "double place" in declaration
    return [np.array([matched.itemsize, *(matched.fields[name][1] for name in matched.names)])]


def characteristics(queue: cl.CommandQueue) -> Results:
    """What `pyopencl.characterize` builds to find something out."""
    multiple = characterize.reasonable_work_group_size_multiple(queue.device, queue.context)
    fault = characterize._check_for_pocl_arg_count_bug(queue.device, queue.context)
    assert characterize.performance.get_empty_kernel_time(queue) > 0
    return [np.array([multiple, fault])]


FUNCTIONS: dict[str, Callable[[cl.CommandQueue], Results]] = {
    function.__name__: function
    for function in (
        arithmetic,
        comparisons,
        making,
        putting,
        logic,
        reductions,
        subsets,
        functions_of_mathematics,
        bessel,
        elementwise_kernel,
        reduction_kernel,
        templates,
        scans,
        random_numbers,
        random_numbers_of_nobody,
        selections,
        radix_sort,
        sort_in_a_network,
        lists,
        key_value_sort,
        structures,
        characteristics,
    )
}


def run(names: Sequence[str], device: cl.Device) -> dict[str, Results]:
    """Run functions in a context of their own, for which pyopencl has no kernel yet.

    Args:
        names: which; all if empty.
        device: where.

    Returns:
        The results by the names of the functions.
    """
    queue = cl.CommandQueue(cl.Context([device]))
    return {name: FUNCTIONS[name](queue) for name in names or FUNCTIONS}


def main(platform: str, path: str, names: Sequence[str]) -> None:
    """Write results to a file of numpy's, an array each."""
    (chosen,) = [one for one in cl.get_platforms() if one.name == platform]
    device = chosen.get_devices()[0]
    results = run(names, device)
    arrays = {f"{name}-{n}": array for name in results for n, array in enumerate(results[name])}
    np.savez(path, **arrays)  # type: ignore[arg-type] # any name will do


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
