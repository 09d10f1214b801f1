"""Which programs may have variables that keep their values, so that nobody may share them."""

from __future__ import annotations

import struct

import pytest

from mace_cache._variables import may_keep_values

KERNEL = "kernel void f(global int *x) { x[0] = 1; }\n"
NONE = [
    "",
    KERNEL * 2,
    "// int x;\n/* int x; */" + KERNEL,
    '#pragma OPENCL EXTENSION x : enable // "\n' + KERNEL,
    "typedef struct { int x; } pair;\nstruct one { int x; };;\nenum { A, B };" + KERNEL,
    KERNEL + "constant int x = 1, y[] = {1, 2};\nconst __constant int z = 1;" + KERNEL,
    "#define TWICE(x) ((x) * \\\n 2)\n#ifdef A\nint f(void) { return 1; }\n#endif\n" + KERNEL,
    "#define C constant\n" + KERNEL,
    "kernel void f(global int *x) {\n#if A\n{ int y; }\n#else\nprintf(\"{;}\", '{');\n#endif\n}",
    "kernel void\n#if A\nf\n#elif B\ng\n#endif\n(global int *x) { if (1) { int y = 0; } }",
]
MAYBE = [
    "global int x;\n" + KERNEL,
    KERNEL + "int x = 0;",
    KERNEL + "int x[] = {0};" + KERNEL,
    "int\nx\n;" + KERNEL,
    "kernel void f(global int *x) { static int y; x[0] = ++y; }",
    "constant int *x;" + KERNEL,
    "global int4 x = (int4) {0};" + KERNEL,
    "struct one { int x; } y;" + KERNEL,
    "int f(int);" + KERNEL,
    "VARIABLE(x);" + KERNEL,
    '#include "x.h"\n' + KERNEL,
    '#  /* */ include "x.h"\n' + KERNEL,
    "#define X int \\\n x;\nX\n" + KERNEL,
    "#if 0\n{\n#endif\nint x;\n#if 0\n}\n#endif\n" + KERNEL,
    "#if 0\n}\n#endif\nint x;\n#if 0\n{\n#endif\n" + KERNEL,
    "#else\nint x;" + KERNEL,
    "}\nint x;\n{" + KERNEL,
    "// \rint x;\n" + KERNEL,
    "/\\\n/ {\nint x; // }\n" + KERNEL,
    "kernel void f(global int *x) <% x[0] = 1; %>",
    'kernel void f() { "}"; // }\n}\nint x;',
    "kernel void f(global int *x) {",
    "#define constant global\nconstant int x = 0;" + KERNEL,
    "# define /* */ __constant \\\n global\n__constant int x = 0;" + KERNEL,
]


@pytest.mark.parametrize("source", NONE)
def test_programs_without(source: str) -> None:
    """Functions, types and constants, whatever stands in comments and in strings."""
    assert not may_keep_values(source, ["-cl-std=CL2.0"])
    assert not may_keep_values(source.encode(), ["-cl-std=CL2.0"])


@pytest.mark.parametrize("source", MAYBE)
def test_programs_that_may_have_some(source: str) -> None:
    """Variables, and whatever isn't plain."""
    assert may_keep_values(source, ["-cl-std=CL2.0"])
    assert may_keep_values(source.encode(), ["-cl-std=CL2.0"])


@pytest.mark.parametrize(
    ("settings", "some"),
    [
        ([], False),
        (["-DX -cl-std=CL1.2 -cl-mad-enable"], False),
        (["-cl-std=CL1.2", "build-id of libx-x86.so: 1"], False),
        (["-cl-std=CL3.0"], True),
        (["-cl-std=CL1.2 -cl-std=CLC++"], True),
        (["-std=clc++1.0"], True),
        (["-x clcpp"], True),
        (["", "device name: x\nenvironment POCL_EXTRA_BUILD_FLAGS: -cl-std=CL2.0\n"], True),
    ],
)
def test_since_which_language(settings: list[str], some: bool) -> None:
    """Before OpenCL C 2.0 there were none; the environment may say which it is."""
    assert may_keep_values("global int x;" + KERNEL, settings) is some


def test_variables_in_an_option() -> None:
    """A macro may be defined there as well."""
    assert may_keep_values("X " + KERNEL, ['-cl-std=CL2.0 -DX="int x;"'])
    for option in ("-Dconstant=global", "-D constant=", '-D "constant=global"'):
        assert may_keep_values(KERNEL, [f"-cl-std=CL2.0 {option}"])
    assert not may_keep_values(KERNEL, ["-cl-std=CL2.0 -DX=constant -Dconstants=1"])


HEADER = struct.pack("<5I", 0x07230203, 0x10000, 0, 9, 0)
FUNCTION = struct.pack("<5I", 5 << 16 | 54, 1, 2, 0, 3)


def variable(storage_class: int) -> bytes:
    """An instruction that declares one."""
    return struct.pack("<4I", 4 << 16 | 59, 1, 2, storage_class)


@pytest.mark.parametrize(
    ("il", "some"),
    [
        (HEADER + FUNCTION, False),
        (HEADER + variable(0) + variable(1) + variable(4) + FUNCTION, False),
        (HEADER + variable(1) + variable(5) + FUNCTION, True),
        (HEADER + FUNCTION + variable(7), False),  # of the function
        (HEADER + struct.pack("<2I", 2 << 16 | 59, 1), True),
        (HEADER[3::-1] + HEADER[4:] + FUNCTION, True),
    ],
)
def test_spirv(il: bytes, some: bool) -> None:
    """What is in global memory; in the other byte order it isn't read."""
    assert may_keep_values(il, []) is some
