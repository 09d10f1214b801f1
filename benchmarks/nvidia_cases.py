"""The programs of ``nvidia_equality.py``: the bundled kernels, and a kernel a feature of OpenCL C.

A launch returns the bytes of all that a kernel can write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

from mace_cache import library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Case", "all_cases"]

ITEMS = 1024
GROUP = 64
SIDE = 32  # of the images, in pixels

SOURCE = r"""
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
typedef struct { float scale; int shift; double offset; } Parameters;
__constant float table[8] = {1.5f, -2.25f, 3.125f, 0.1f, 7.0f, -0.3f, 11.0f, 0.7f};
__constant sampler_t fixed =
    CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_LINEAR;

__kernel void local_by_size(__global float *a, __local float *tile) {
  int i = get_global_id(0), l = get_local_id(0), n = get_local_size(0);
  tile[l] = a[i];
  barrier(CLK_LOCAL_MEM_FENCE);
  a[i] = tile[n - 1 - l] * 3.0f + tile[(l + 1) % n];
}
__kernel void local_arrays(__global float *a) {
  __local double wide[64];
  __local char narrow[3];
  int i = get_global_id(0), l = get_local_id(0);
  wide[l] = a[i];
  if (l < 3) narrow[l] = l + 5;
  barrier(CLK_LOCAL_MEM_FENCE);
  __local double *none = 0;
  a[i] = wide[63 - l] + narrow[l % 3] + (&wide[0] == none) * 1000 + (narrow == 0) * 2000;
}
__kernel void constants(__global float *a, __constant float *b) {
  int i = get_global_id(0);
  a[i] = a[i] * table[i & 7] + b[i & 15];
}
__kernel void images(read_only image2d_t in, sampler_t passed, write_only image2d_t out) {
  int2 at = (int2)(get_global_id(0), get_global_id(1));
  float2 near = convert_float2(at) * 0.93f + 0.21f;
  write_imagef(out, at, read_imagef(in, fixed, near) + 2.0f * read_imagef(in, passed, near / 32.0f)
                        + read_imagef(in, at));
}
__kernel void prints(__global float *a) {
  int i = get_global_id(0);
  a[i] += 1.0f;
  if (i < 3) printf("item %d has %.3f and %s\n", i, a[i], "text");
}
__kernel void atomics(__global int *a, __global int *sums) {
  int i = get_global_id(0);
  atomic_add(&sums[i & 7], a[i] & 255);
  atomic_max(&sums[8 + (i & 7)], a[i]);
  atomic_xor(&sums[16], a[i]);
}
__kernel void doubles(__global double *a, __global double *b) {
  int i = get_global_id(0);
  double x = a[i], y = b[i];
  a[i] = sqrt(fabs(x)) / y + rsqrt(fabs(y)) + exp(x) * sin(y) + pow(fabs(x), y);
}
__kernel void halves(__global half *a, __global float *b) {
  int i = get_global_id(0);
  float x = vload_half(i, a);
  vstore_half_rte(x * b[i] + native_exp(x), i, a);
}
__kernel void structs(__global float *a, Parameters p) {
  int i = get_global_id(0);
  a[i] = a[i] * p.scale + (float)(i << p.shift) + (float)p.offset;
}
__kernel __attribute__((reqd_work_group_size(32, 2, 1))) void required_size(__global float *a) {
  int i = get_global_id(1) * get_global_size(0) + get_global_id(0);
  a[i] = a[i] * get_local_id(0) + get_local_size(1);
}
__kernel void long_division(__global long *a, __global long *b) {
  int i = get_global_id(0);
  long d = b[i] | 1;
  a[i] = a[i] / d + (a[i] % d) * 3 + (ulong)a[i] / (ulong)(i + 3);
}
float __attribute__((noinline)) helper(float x, int n) {
  for (int k = 0; k < n; ++k) x = sin(x) * 1.1f + cos(x) / (x + 2.0f);
  return x;
}
__kernel void functions(__global float *a, __global float *b) {
  int i = get_global_id(0);
  float x = a[i], y = b[i];
  a[i] = helper(x, i & 7) * y + mad(x, y, 0.5f) + sqrt(fabs(y)) + pow(fabs(x), y) + x / y
         + tan(y * 1e5f) + isnan(x);
}
"""

OPTIONS = {  # what a user may name, by how a row of the table is called
    "no options": [],
    "fast maths": ["-cl-fast-relaxed-math", "-cl-mad-enable"],
    "unsafe maths": ["-cl-unsafe-math-optimizations", "-cl-denorms-are-zero"],
    "exact division": ["-cl-fp32-correctly-rounded-divide-sqrt"],
    "CL3.0": ["-cl-std=CL3.0"],
    "argument info": ["-cl-kernel-arg-info"],
    "verbose": ["-cl-nv-verbose"],
    "level 0": ["-cl-nv-opt-level=0"],
    "24 registers": ["-cl-nv-maxrregcount=24"],
    "debug": ["-g"],
    # The last: after it the driver's PTX of the same source is another one than in a new process.
    "unoptimised": ["-cl-opt-disable"],
}


@dataclass(frozen=True)
class Case:
    """A program, how it is built, and what runs of it.

    Attributes:
        name: the program and its variant.
        source: OpenCL C.
        options: its build options.
        launches: by kernel, what launches it with random data and gives all that it wrote.
    """

    name: str
    source: str
    options: tuple[str, ...]
    launches: Mapping[str, Callable[[cl.Program, cl.CommandQueue], list[bytes]]]


def all_cases() -> list[Case]:
    """Every variant of the bundled programs, and the features with every set of options."""
    cases = []
    for program in library.load_manifest().programs:
        for variant in program.variants:
            options = tuple(library.build_options(program, variant))
            name = f"{program.name} {variant.name}"
            kind = np.float16 if variant.name == "half" else np.float32
            launches = {launch.kernel: _bundled(launch, kind) for launch in program.launches}
            cases.append(Case(name, program.read_source(), options, launches))
    cases += [
        Case(f"features, {name}", SOURCE, tuple(options), FEATURES)
        for name, options in OPTIONS.items()
    ]
    return cases


def _random(kind: Any, items: int, seed: int = 0) -> np.ndarray[Any, Any]:
    values = np.random.default_rng((items, seed)).standard_normal(items)
    scale = 2.0**40 if np.dtype(kind) == np.int64 else 2.0**20 if np.dtype(kind).kind == "i" else 1
    return (values * scale).astype(kind)


def _launch(
    program: cl.Program,
    queue: cl.CommandQueue,
    kernel: str,
    sizes: tuple[tuple[int, ...], tuple[int, ...] | None],
    *arguments: Any,
) -> list[bytes]:
    """Run a kernel; an array is a buffer, and what is in it afterwards is given back."""
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    given = [
        cl.Buffer(queue.context, flags, hostbuf=a) if isinstance(a, np.ndarray) else a
        for a in arguments
    ]
    made = cl.Kernel(program, kernel)
    made.set_args(*given)
    cl.enqueue_nd_range_kernel(queue, made, *sizes).wait()
    outputs = []
    for buffer, array in zip(given, arguments, strict=True):
        if isinstance(array, np.ndarray):
            output = np.empty_like(array)
            cl.enqueue_copy(queue, output, buffer).wait()
            outputs.append(output.tobytes())
    return outputs


def _bundled(launch: library.Launch, kind: Any) -> Callable[..., list[bytes]]:
    def make(seed: int, argument: library.Argument) -> Any:
        if argument.value is None:
            return None
        if argument.kind == "buffer":
            return _random(kind, int(argument.value) // np.dtype(kind).itemsize, seed)
        if argument.kind == "local":
            return cl.LocalMemory(int(argument.value))
        return np.dtype(argument.kind).type(argument.value)

    def run(program: cl.Program, queue: cl.CommandQueue) -> list[bytes]:
        arguments = [make(seed, argument) for seed, argument in enumerate(launch.arguments)]
        sizes = (launch.global_size, launch.local_size)
        return _launch(program, queue, launch.kernel, sizes, *arguments)

    return run


def _feature(kernel: str, *arguments: Any, sizes: Any = ((ITEMS,), (GROUP,))) -> Any:
    def run(program: cl.Program, queue: cl.CommandQueue) -> list[bytes]:
        return _launch(program, queue, kernel, sizes, *arguments)

    return run


def _images(program: cl.Program, queue: cl.CommandQueue) -> list[bytes]:
    form = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
    pixels = _random(np.float32, SIDE * SIDE * 4)
    origin, region = (0, 0), (SIDE, SIDE)
    given = cl.Image(queue.context, cl.mem_flags.READ_ONLY, form, shape=(SIDE, SIDE))
    cl.enqueue_copy(queue, given, pixels, origin=origin, region=region).wait()
    made = cl.Image(queue.context, cl.mem_flags.WRITE_ONLY, form, shape=(SIDE, SIDE))
    passed = cl.Sampler(queue.context, True, cl.addressing_mode.REPEAT, cl.filter_mode.LINEAR)
    _launch(program, queue, "images", ((SIDE, SIDE), (8, 8)), given, passed, made)
    output = np.empty_like(pixels)
    cl.enqueue_copy(queue, output, made, origin=origin, region=region).wait()
    return [output.tobytes()]


def _floats(seed: int = 0) -> np.ndarray[Any, Any]:
    return _random(np.float32, ITEMS, seed)


_PARAMETERS = np.array([(0.75, 2, 1e-3)], [("scale", "f4"), ("shift", "i4"), ("offset", "f8")])
FEATURES: dict[str, Callable[[cl.Program, cl.CommandQueue], list[bytes]]] = {
    "local_by_size": _feature("local_by_size", _floats(), cl.LocalMemory(4 * GROUP)),
    "local_arrays": _feature("local_arrays", _floats()),
    "constants": _feature("constants", _floats(), _random(np.float32, 16)),
    "images": _images,
    "prints": _feature("prints", _floats()),
    "atomics": _feature("atomics", _random(np.int32, ITEMS), np.zeros(17, np.int32)),
    "doubles": _feature("doubles", _random(np.float64, ITEMS), _random(np.float64, ITEMS, 1)),
    "halves": _feature("halves", _random(np.float16, ITEMS), _floats(1)),
    "structs": _feature("structs", _floats(), _PARAMETERS.tobytes()),
    "required_size": _feature("required_size", _floats(), sizes=((64, 16), (32, 2))),
    "long_division": _feature(
        "long_division", _random(np.int64, ITEMS), _random(np.int64, ITEMS, 1)
    ),
    "functions": _feature("functions", _floats(), _floats(1)),
}
