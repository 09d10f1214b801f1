"""What Python imports first in a program that ``mace-cache run`` started, and in its children.

The directory of this file stands in their ``PYTHONPATH``. Where they had a ``sitecustomize`` of
their own, it is imported nevertheless.
"""  # noqa: INP001 (it must not be in a package: Python looks for it by its name alone)

import importlib
import os
import sys
from contextlib import suppress


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    with suppress(ImportError):  # a child may be of another Python
        from mace_cache._on_import import watch  # noqa: PLC0415 (see above)

        watch()
    ours = sys.modules.pop("sitecustomize")
    try:
        with suppress(ImportError):
            importlib.import_module("sitecustomize")
    finally:
        sys.modules.setdefault("sitecustomize", ours)  # which is being imported


if __name__ == "sitecustomize":
    _start()
