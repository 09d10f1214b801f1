"""BlazeFace, the face detector of Bazarevsky et al. (2019, arXiv:1907.05047), on OpenCL.

- ``download``: get the model's file, once, and check it.
- ``model``: read the TFLite file.
- ``network``: run its operations on a device.
- ``detections``: from the network's raw outputs to faces.
- ``picture``: read a photograph, draw the faces into it.
"""

from __future__ import annotations

__all__ = ["BlazeFaceError"]


class BlazeFaceError(Exception):
    """What went wrong and what to do about it, in one line for the user."""
