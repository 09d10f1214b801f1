"""From a file's bytes to the 2048 numbers that the network reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from filetypes import FileTypesError

__all__ = ["FEATURES", "Features", "extract_features"]

Features = np.ndarray[Any, np.dtype[np.int32]]

_PART = 1024
_BLOCK = 4096  # what is looked at of a file's beginning, and of its end
_PADDING = 256  # no byte has this value
_LEAST = 8  # fewer bytes than that aren't given to the network

FEATURES = 2 * _PART
"""How many numbers the network reads of a file."""


def extract_features(content: bytes) -> Features:
    """Give the first and the last bytes of a file, white space around the whole left out.

    As Magika's model of version 3 defines it (``beg_size``, ``end_size`` and ``block_size`` in its
    ``config.min.json``): what is missing of the first bytes is filled after them, of the last bytes
    before them.

    Args:
        content: the file's bytes.

    Returns:
        int32 of shape (2048,): bytes, or 256 where there is none.

    Raises:
        FileTypesError: there are fewer than 8 bytes without the white space before them.
    """
    first = content[:_BLOCK].lstrip()[:_PART]
    last = content[-_BLOCK:].rstrip()[-_PART:]
    if len(first) < _LEAST:
        raise FileTypesError(f"fewer than {_LEAST} bytes are too few to tell")
    features = np.full(FEATURES, _PADDING, np.int32)
    features[: len(first)] = np.frombuffer(first, np.uint8)
    if last:
        features[-len(last) :] = np.frombuffer(last, np.uint8)
    return features
