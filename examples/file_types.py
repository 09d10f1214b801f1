"""Tell what type files are of, by what is in them, with Magika's network on OpenCL.

The programs come from the cache: the first run compiles them, later ones load them. What is printed
is the network's best guess and how sure it is; where that is not very, Magika itself says no more
than whether a file is text.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyopencl as cl
from filetypes import FileTypesError
from filetypes.features import extract_features
from filetypes.model import model_directory, read_model
from filetypes.network import Network

import mace_cache
from mace_cache.operators import Runtime

if TYPE_CHECKING:
    from filetypes.features import Features

__all__ = ["main"]


def main() -> int:
    """Run the command.

    Returns:
        The exit code: 0, or 1 after one line on standard error a file that nothing can be told of.
    """
    arguments = read_arguments()
    readable = {}
    for path in arguments.files:
        try:
            readable[path] = extract_features(path.read_bytes())
        except (OSError, FileTypesError) as error:
            print(f"file_types: {path}: {error}", file=sys.stderr)
    try:
        if readable:
            tell(readable, arguments.cache_directory)
    except (FileTypesError, cl.Error) as error:
        print(f"file_types: {error}", file=sys.stderr)
        return 1
    return int(len(readable) < len(arguments.files))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--cache-directory",
        type=Path,
        metavar="DIRECTORY",
        help="where the compiled programs are kept; else in the user's cache directory",
    )
    return parser.parse_args()


def tell(features: dict[Path, Features], cache_directory: Path | None) -> None:
    """Print each file's type, and how long the first answer took."""
    model = read_model(model_directory())
    started = time.perf_counter()
    context = cl.create_some_context(interactive=False)
    with mace_cache.ProgramCache(storage_path=cache_directory) as cache:
        network = Network(Runtime(cl.CommandQueue(context), cache), model)
        answers = network.run(np.stack(list(features.values())))
        seconds = time.perf_counter() - started
    for path, answer in zip(features, answers, strict=True):
        print(f"{path}: {model.labels[answer.argmax()]} ({answer.max():.0%})")
    print(f"{seconds:.2f} s to the first answer on {context.devices[0].name.strip()}")


if __name__ == "__main__":
    sys.exit(main())
