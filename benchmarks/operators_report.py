"""Tables of what ``operators.py`` and ``matrix.py`` measured.

    python benchmarks/operators_report.py [--write]

Reads ``operators-pocl.json``, ``operators-h100.json`` and ``matrix-h100.json`` in ``results``.
``--write`` puts the tables into docs/kernels.md. A ratio that misses its aim is bold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _common import replace_marked, shown_seconds

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
AIM = 3.0  # times of the best code to compare with

# Why an operator is slower than numpy on PoCL, by the start of its name; the first that fits.
COPIES = "copies: one thread moves nearly as much as the memory gives, and the call is added"
WEIGHTS = "numbers that are read once, which one thread does nearly as fast; the call is added"
PRODUCTS = "OpenBLAS has AVX-512; PoCL 3.0 compiles for AVX2"
LOOPS = (
    "one thread computes nearly as fast as caches and memory give the numbers (with AVX-512, where "
    "PoCL 3.0 compiles for AVX2), and the call is added"
)
POWERS = "a logarithm in two floats, so that powers are nearly rounded; numpy's have AVX-512"
REASONS = {
    "power": POWERS,
    "crop": COPIES,
    "concatenate": COPIES,
    "split": COPIES,
    "strided_slice": COPIES,
    "gather": COPIES,
    "tile": COPIES,
    "pad": COPIES,
    "cast": COPIES,
    "transpose ": COPIES,
    "batch_to": COPIES,
    "space_to": COPIES,
    "depth_to": COPIES,
    "channel_shuffle": COPIES,
    "extract_image": COPIES,
    "fully_connected, 1 row": WEIGHTS,
    "lstm_cell": WEIGHTS,
    "global_": WEIGHTS,
    "reduce_": WEIGHTS,
    "fully_connected": PRODUCTS,
    "matrix_product": PRODUCTS,
    "convolution": PRODUCTS,
    "pointwise": PRODUCTS,
    "winograd": PRODUCTS,
    "": LOOPS,
}


def main() -> None:
    """Print the tables, and write them where they belong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/kernels.md")
    arguments = parser.parse_args()
    tables = {
        "operators": operators_table(read("operators-pocl"), read("operators-h100")),
        "matrix": matrix_table(read("matrix-h100")),
    }
    for name, table in tables.items():
        print(table)
        if arguments.write:
            replace_marked(ROOT / "docs" / "kernels.md", name, table)


def read(name: str) -> dict[str, Any]:
    """Give the figures of a file in ``results``."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def operators_table(pocl: dict[str, Any], gpu: dict[str, Any]) -> str:
    """Give every operator's times, and why some are slower than numpy."""
    on_gpu = {case["name"]: case["seconds"] for case in gpu["cases"]}
    slow = [case for case in pocl["cases"] if case["ratio"] < 1]
    lines = [
        "| operator | PoCL 3.0, two cores | numpy, one thread | numpy / PoCL | H100 |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for case in pocl["cases"]:
        ratio = f"{case['ratio']:.2f}" if case["ratio"] < 10 else f"{case['ratio']:.0f}"
        ratio = f"**{ratio}**" if case["ratio"] < 1 else ratio
        times = shown(case["seconds"]), shown(case["numpy_seconds"])
        there = shown(on_gpu[case["name"]])
        lines.append(f"| {case['name']} | {times[0]} | {times[1]} | {ratio} | {there} |")
    call = shown(pocl["call_seconds"])
    lines += [
        "",
        f"A call costs {call}, for one number as for a million: Python's part and PoCL's launch.",
        f"{len(slow)} of {len(pocl['cases'])} cases are slower than numpy:",
        "",
    ]
    reasons: dict[str, list[str]] = {}
    for case in slow:
        reasons.setdefault(reason(case["name"]), []).append(case["name"])
    lines += [f"- {'; '.join(names)}: {why}." for why, names in reasons.items()]
    return "\n".join([*lines, ""])


def shown(seconds: float) -> str:
    """Give a time for people, in microseconds where there are few."""
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else shown_seconds(seconds)


def reason(name: str) -> str:
    """Say why an operator is slower."""
    return next(why for starts, why in REASONS.items() if name.startswith(starts))


def matrix_table(found: dict[str, Any]) -> str:
    """Give products and convolutions beside CLBlast's."""
    lines = [
        "| on an H100 | here | CLBlast 1.5.3 | here / CLBlast |",
        "| --- | ---: | ---: | ---: |",
    ]
    works: dict[str, dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        works.setdefault(row["work"], {})[row["contender"]] = row
    for work, contenders in works.items():
        theirs = contenders.pop("CLBlast")
        for name, row in contenders.items():
            ratio = f"{row['ratio']:.2f}"
            ratio = f"**{ratio}**" if row["ratio"] > AIM else ratio
            title = work if name == "ours" else f"{work}, {name}"
            cells = [
                f"{shown(each['seconds'])}, {each['gigaflops'] / 1e3:.1f} TFLOP/s"
                for each in (row, theirs)
            ]
            lines.append(f"| {title} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
