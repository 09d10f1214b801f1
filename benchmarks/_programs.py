"""The programs that are measured: the face detection's, and generated ones of growing size."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mace_cache.library import ProgramSpecification, build_options, load_manifest

__all__ = ["Candidate", "candidates", "detection_programs", "generate"]

_DETECTION = ("convolution", "elementwise", "pooling", "image")

_GENERATED_KERNELS = (1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18)


class Candidate(NamedTuple):
    """A program that a driver may be able to build."""

    name: str
    source: str
    options: list[str]


def detection_programs() -> list[ProgramSpecification]:
    """Give those of the bundled programs that the face detection uses: a small library."""
    return [program for program in load_manifest().programs if program.name in _DETECTION]


def generate(kernels: int, salt: int = 0, statements: int = 6) -> str:
    """Write a source that no other salt gives, and that is as heavy as with any other.

    Args:
        kernels: how many kernels it has.
        salt: a number of at most six digits, which goes into each kernel's constants.
        statements: how many lines each kernel computes.
    """
    return "\n".join(_kernel(number, salt, statements) for number in range(kernels))


def _kernel(number: int, salt: int, statements: int) -> str:
    body = "\n".join(
        f"    value = mad(value, {number + 1}.{100 + line}f, sin(value + 1.{salt:06d}f));"
        for line in range(statements)
    )
    return (
        f"__kernel void generated_{number}(__global float *data)\n{{\n"
        f"    float value = data[get_global_id(0)];\n{body}\n"
        f"    data[get_global_id(0)] = value;\n}}\n"
    )


def candidates() -> list[Candidate]:
    """Give more programs than are measured: a device need not have half or double precision."""
    bundled = [
        Candidate(
            f"{program.name}, {variant.name}",
            Path(program.path).read_text(),
            build_options(program, variant),
        )
        for program in detection_programs()
        for variant in program.variants
    ]
    generated = [
        Candidate(f"generated, {kernels} kernels", generate(kernels, salt), [])
        for salt, kernels in enumerate(_GENERATED_KERNELS)
    ]
    # The large ones first, so that they are among those that are taken.
    return [*bundled, *reversed(generated)]
