"""What `pyopencl.algorithm` and `pyopencl.bitonic_sort` build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl
import pyopencl.algorithm
import pyopencl.array
import pyopencl.bitonic_sort
import pyopencl.scan

from tests.dropin.tiny import COUNT, integers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dropin.tiny import Results

__all__ = ["FUNCTIONS"]

algorithm: Any = pyopencl.algorithm  # much of these is untyped
cla: Any = pyopencl.array
networks: Any = pyopencl.bitonic_sort
scan: Any = pyopencl.scan


def selections(queue: cl.CommandQueue) -> Results:
    """What copies some elements and leaves others."""
    a = integers(queue)
    chosen, count, _event = algorithm.copy_if(a, "ary[i] > 20")
    rest, left, _event = algorithm.remove_if(a, "ary[i] > 20")
    true, false, number, _event = algorithm.partition(a, "ary[i] % 2 == 0")
    sorted_numbers = cla.to_device(queue, np.sort(a.get()))
    single, singles, _event = algorithm.unique(sorted_numbers)
    found = [(chosen, count), (rest, left), (true, number), (single, singles)]
    numbers = [array.get()[: int(length.get())] for array, length in found]
    return [*numbers, false.get()[: COUNT - int(number.get())]]


def radix_sort(queue: cl.CommandQueue) -> Results:
    """`RadixSort`, on the scan that is quick to compile: `key_value_sort` has the other."""
    sort = algorithm.RadixSort(
        queue.context,
        "int *ary",
        "ary[i]",
        ["ary"],
        key_dtype=np.int32,
        scan_kernel=scan.GenericDebugScanKernel,
    )
    (result,), _event = sort(integers(queue), key_bits=6)
    return [result.get()]


def sort_in_a_network(queue: cl.CommandQueue) -> Results:
    """`BitonicSort`."""
    numbers = np.random.default_rng(3).random(64, dtype=np.float32)
    result, _event = networks.BitonicSort(queue.context)(cla.to_device(queue, numbers))
    return [result.get()]


def lists(queue: cl.CommandQueue) -> Results:
    """`ListOfListsBuilder`, with the option for which it builds most."""
    template = """
    void generate(LIST_ARG_DECL USER_ARG_DECL index_type i)
    {
        for (int j = 0; j < i % 4; ++j) { APPEND_mine(i); }
    }
    """
    builder = algorithm.ListOfListsBuilder(
        queue.context,
        [("mine", np.int32)],
        template,
        arg_decls=[],
        eliminate_empty_output_lists=["mine"],
    )
    found, _event = builder(queue, COUNT)
    return [found["mine"].starts.get(), found["mine"].lists.get()]


def key_value_sort(queue: cl.CommandQueue) -> Results:
    """`KeyValueSorter`, which builds from a template of `ElementwiseTemplate`."""
    keys, values = integers(queue), integers(queue, 2)
    starts, sorted_values, _event = algorithm.KeyValueSorter(queue.context)(
        queue, keys, values, 50, np.int32
    )
    return [starts.get(), sorted_values.get()]


FUNCTIONS: tuple[Callable[[cl.CommandQueue], Results], ...] = (
    selections,
    radix_sort,
    sort_in_a_network,
    lists,
    key_value_sort,
)
