"""Magika, Google's file-type recognition (Fratantonio et al., 2024, arXiv:2409.13768), on OpenCL.

- ``features``: from a file's bytes to what the network reads.
- ``model``: find and read the weights that the PyPI package ``magika`` carries.
- ``network``: run it on a device.
"""

from __future__ import annotations

__all__ = ["FileTypesError"]


class FileTypesError(Exception):
    """What went wrong and what to do about it, in one line for the user."""
