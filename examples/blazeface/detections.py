"""From the network's raw outputs to faces: anchors, decoding, non-maximum suppression.

The numbers are those of MediaPipe's graph ``face_detection_short_range``: one anchor's centre for
each cell of its feature maps, offsets in pixels of the 128x128 input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from blazeface.model import Array

__all__ = ["LANDMARKS", "Face", "anchors", "decode", "overlap", "suppress"]

INPUT_SIZE = 128
LANDMARKS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")
# Four layers of strides 8, 16, 16, 16 with two anchors a cell; those of one stride share cells.
_CELLS_AND_ANCHORS = ((INPUT_SIZE // 8, 2), (INPUT_SIZE // 16, 6))
_SCORE_LIMIT = 100.0


@dataclass(frozen=True)
class Face:
    """A face, in fractions of the network's input, or in pixels of a photograph.

    Attributes:
        score: how sure the network is, 0 to 1.
        box: left, top, right, bottom.
        landmarks: x and y of each of `LANDMARKS`.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]


def anchors() -> Array:
    """The anchors' centres, (896, 2): x and y as fractions of the input, row by row."""
    layers = []
    for cells, count in _CELLS_AND_ANCHORS:
        centres = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(centres, centres)
        layers.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), count, axis=0))
    return np.concatenate(layers)


def decode(boxes: Array, scores: Array, threshold: float) -> list[Face]:
    """The candidates that the network found, best first.

    Args:
        boxes: (896, 16): the offset of the box's centre from the anchor, its width and height, then
            the six landmarks' offsets, all in pixels of the input.
        scores: (896, 1): what the sigmoid makes a score of.
        threshold: the least score that counts, 0 to 1.
    """
    values = np.clip(scores[:, 0].astype(np.float64), -_SCORE_LIMIT, _SCORE_LIMIT)
    probabilities = 1.0 / (1.0 + np.exp(-values))
    chosen = np.flatnonzero(probabilities >= threshold)
    chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
    points = boxes[chosen].reshape(-1, 8, 2).astype(np.float64) / INPUT_SIZE
    centre = anchors()[chosen]
    half_size = points[:, 1] / 2
    corners = np.hstack([centre + points[:, 0] - half_size, centre + points[:, 0] + half_size])
    landmarks = centre[:, None] + points[:, 2:]
    return [
        Face(
            score=float(probabilities[number]),
            box=tuple(box.tolist()),
            landmarks=tuple((x, y) for x, y in marks.tolist()),
        )
        for number, box, marks in zip(chosen, corners, landmarks, strict=True)
    ]


def overlap(one: Face, other: Face) -> float:
    """The area that two boxes share over the area that they cover together, 0 to 1."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    covered = _area(one) + _area(other) - shared
    return shared / covered if covered else 1.0  # boxes so small that their areas are 0


def suppress(candidates: list[Face], most: float = 0.3) -> list[Face]:
    """Keep the best of the candidates that show the same face.

    Args:
        candidates: best first, as `decode` gives them.
        most: how much of each other two faces may cover (`overlap`).
    """
    kept: list[Face] = []
    for candidate in candidates:
        if all(overlap(candidate, face) <= most for face in kept):
            kept.append(candidate)
    return kept


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return max(right - left, 0.0) * max(bottom - top, 0.0)
