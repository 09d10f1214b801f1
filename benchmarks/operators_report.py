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
REASONS = [
    (
        (
            "crop",
            "concatenate",
            "gather",
            "tile",
            "pad",
            "cast",
            "transpose",
            "batch_to",
            "space_to",
        ),
        "copies: one thread already moves as much as the memory gives, and a launch costs 40 us",
    ),
    (
        ("fully_connected, 1 row", "lstm_cell"),
        "the weights are read once, as fast as the memory gives, and a launch costs 40 us",
    ),
    (("global_max_pool", "reduce_"), "reads once what numpy reads once; a launch costs 40 us"),
    (
        ("matrix_product", "convolution", "pointwise", "winograd"),
        "OpenBLAS has AVX-512; PoCL 3.0 compiles for AVX2",
    ),
    (
        ("",),
        "numpy's loops have AVX-512, PoCL 3.0 compiles for AVX2, and a launch costs 40 us",
    ),
]


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
        times = shown_seconds(case["seconds"]), shown_seconds(case["numpy_seconds"])
        there = shown_seconds(on_gpu[case["name"]])
        lines.append(f"| {case['name']} | {times[0]} | {times[1]} | {ratio} | {there} |")
    lines += ["", f"{len(slow)} of {len(pocl['cases'])} cases are slower than numpy:", ""]
    reasons: dict[str, list[str]] = {}
    for case in slow:
        reasons.setdefault(reason(case["name"]), []).append(case["name"])
    lines += [f"- {'; '.join(names)}: {why}." for why, names in reasons.items()]
    return "\n".join([*lines, ""])


def reason(name: str) -> str:
    """Say why an operator is slower."""
    return next(why for starts, why in REASONS if name.startswith(starts))


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
                f"{shown_seconds(each['seconds'])}, {each['gigaflops'] / 1e3:.1f} TFLOP/s"
                for each in (row, theirs)
            ]
            lines.append(f"| {title} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
