"""One start of the detector in this process: from the first call of OpenCL to the faces."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

import mace_cache
from blazeface import BlazeFaceError
from blazeface.detections import INPUT_SIZE, Face, decode, suppress
from blazeface.network import Network
from blazeface.picture import View, in_photo, make_view
from mace_cache.operators import Runtime, resize_normalise

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from blazeface.model import Model

__all__ = ["choose_device", "find_faces", "start_once"]


class _Listener:
    """Hands builds on to a cache and writes down where each program came from."""

    def __init__(self, cache: mace_cache.ProgramCache) -> None:
        self._cache = cache
        self.origins: list[str] = []

    def build(self, context: cl.Context, source: str, options: list[str] | None = None) -> Any:
        program = self._cache.build(context, source, options=options)
        self.origins.append(self._cache.explain(program).origin.value)
        return program


def start_once(
    photo: Image.Image,
    model: Model,
    *,
    device: str | None,
    cache_directory: Path | None,
    threshold: float,
    float16: bool,
) -> dict[str, Any]:
    """Find the faces in a photograph, with nothing of OpenCL there beforehand.

    Args:
        photo: the photograph.
        model: the network.
        device: as `choose_device` takes it.
        cache_directory: where the cache keeps the programs; None is the user's cache directory.
        threshold: the least score that counts, 0 to 1.
        float16: whether tensors are stored as float16.

    Returns:
        What can be written as JSON: the device's name, the seconds to the first detection and those
        of a second one, where each program came from, and the faces in pixels of the photograph.

    Raises:
        BlazeFaceError: there is no such device, or it failed.
    """
    started = time.perf_counter()
    chosen = choose_device(device)
    try:
        context = cl.Context([chosen])
        queue = cl.CommandQueue(context)
        with mace_cache.ProgramCache(storage_path=cache_directory) as cache:
            listener = _Listener(cache)
            runtime = Runtime(queue, listener, np.float16 if float16 else np.float32)
            network = Network(runtime, model)
            view = make_view(photo)
            faces = find_faces(network, view, threshold)
            first = time.perf_counter()
            find_faces(network, view, threshold)
            again = time.perf_counter()
    except cl.Error as error:
        reason = str(error).partition("\n")[0]
        raise BlazeFaceError(f"{_describe(chosen)}: OpenCL failed: {reason}") from error
    return {
        "device": _describe(chosen),
        "first_seconds": first - started,
        "again_seconds": again - first,
        "origins": listener.origins,
        "faces": [asdict(face) for face in faces],
    }


def find_faces(network: Network, view: View, threshold: float) -> list[Face]:
    """The faces in a photograph, best first, in its pixels.

    Args:
        network: what finds them.
        view: the photograph as the network sees it.
        threshold: the least score that counts, 0 to 1.
    """
    image = resize_normalise(
        network.runtime,
        network.runtime.to_device(view.pixels),
        (INPUT_SIZE, INPUT_SIZE),
        scale=1 / 127.5,
        offset=-1.0,
        rectangle=view.rectangle,
    )
    outputs = network.run(image)
    candidates = decode(outputs["regressors"][0], outputs["classificators"][0], threshold)
    return [in_photo(face, view) for face in suppress(candidates)]


def choose_device(wanted: str | None) -> cl.Device:
    """An OpenCL device: the first there is, the one of that number, or the first of that name.

    Args:
        wanted: a number counted from 0 over all platforms, or a part of the device's or platform's
            name in any case.

    Raises:
        BlazeFaceError: there is none.
    """
    devices = _all_devices()
    if not devices:
        raise BlazeFaceError(
            "there is no OpenCL device here: install a driver, such as the one for CPUs that "
            "'pip install pocl-binary-distribution' brings"
        )
    for number, device in enumerate(devices):
        if wanted in (None, str(number)) or wanted.lower() in _describe(device).lower():
            return device
    known = ", ".join(f"{number}: {_describe(device)}" for number, device in enumerate(devices))
    raise BlazeFaceError(f"there is no OpenCL device {wanted!r}; there are {known}")


def _all_devices() -> list[cl.Device]:
    try:
        return [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error:
        return []


def _describe(device: cl.Device) -> str:
    return f"{device.name.strip()} ({device.platform.name.strip()})"
