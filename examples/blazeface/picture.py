"""Photographs: read one, make it a square for the network, draw the faces into it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from blazeface import BlazeFaceError
from blazeface.detections import INPUT_SIZE, Face

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from blazeface.model import Array

__all__ = ["View", "draw_faces", "in_photo", "make_view", "read_photo"]

_BOX_COLOUR = (0, 255, 64)
_LANDMARK_COLOUR = (255, 64, 0)


@dataclass(frozen=True)
class View:
    """What the network sees: a square with the photograph in its middle and black around it.

    Attributes:
        pixels: (height, width, 3), uint8: the photograph, shrunk by *factor*.
        factor: how many of the photograph's pixels one of them is wide.
        side: the square's side in pixels of the photograph.
        left: where the square's left edge is in the photograph: 0, or negative beside it.
        top: where its top edge is.
    """

    pixels: Array
    factor: int
    side: float
    left: float
    top: float

    @property
    def rectangle(self) -> tuple[float, float, float, float]:
        """The square in *pixels*: top, left, height, width."""
        side = self.side / self.factor
        return self.top / self.factor, self.left / self.factor, side, side


def read_photo(path: Path | None) -> Image.Image:
    """A photograph, upright, in RGB.

    Args:
        path: the file, or None for ``astronaut`` (Eileen Collins, NASA, public domain), which
            scikit-image carries.

    Raises:
        BlazeFaceError: it can't be read.
    """
    if path is None:
        try:
            astronaut = files("skimage") / "data" / "astronaut.png"
        except ModuleNotFoundError:
            raise BlazeFaceError("scikit-image isn't installed: name a photo by --image") from None
        with as_file(astronaut) as file:
            return read_photo(file)
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise BlazeFaceError(f"{path}: not an image that can be read") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BlazeFaceError(f"{path}: the image can't be read: {error}") from error


def make_view(photo: Image.Image) -> View:
    """Shrink a photograph by a whole factor to about the network's input, and square it.

    The device resizes it the rest of the way, by less than half: at more than that, the four pixels
    that a bilinear resize reads for one of its own leave others unread.
    """
    side = max(photo.size)
    factor = max(1, side // INPUT_SIZE)
    return View(
        pixels=np.asarray(photo.reduce(factor)),
        factor=factor,
        side=side,
        left=(photo.width - side) / 2,
        top=(photo.height - side) / 2,
    )


def in_photo(face: Face, view: View) -> Face:
    """A face that was found in a view, in pixels of the photograph."""

    def place(x: float, y: float) -> tuple[float, float]:
        return x * view.side + view.left, y * view.side + view.top

    return Face(
        score=face.score,
        box=(*place(*face.box[:2]), *place(*face.box[2:])),
        landmarks=tuple(place(x, y) for x, y in face.landmarks),
    )


def draw_faces(photo: Image.Image, faces: Sequence[Face], path: Path) -> None:
    """Write a copy of a photograph with boxes, scores and landmarks as a PNG.

    Args:
        photo: the photograph.
        faces: in its pixels, as `in_photo` gives them.
        path: the file to write.

    Raises:
        BlazeFaceError: it can't be written.
    """
    picture = photo.copy()
    draw = ImageDraw.Draw(picture)
    width = max(2, max(photo.size) // 256)
    for face in faces:
        left, top, right, bottom = face.box
        draw.rectangle((left, top, right, bottom), outline=_BOX_COLOUR, width=width)
        draw.text((left, bottom + width), f"{face.score:.2f}", fill=_BOX_COLOUR)
        for x, y in face.landmarks:
            draw.ellipse((x - width, y - width, x + width, y + width), fill=_LANDMARK_COLOUR)
    try:
        picture.save(path, format="PNG")
    except OSError as error:
        raise BlazeFaceError(f"{path}: the picture can't be written: {error}") from error
