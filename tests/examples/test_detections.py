"""From raw outputs to faces, on arrays made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from blazeface.detections import Face, anchors, decode, overlap, suppress
from hypothesis import given
from hypothesis import strategies as st

COUNT = 896


def make_face(left: float, top: float, size: float, score: float = 0.9) -> Face:
    """A square face without landmarks."""
    return Face(score, (left, top, left + size, top + size), ())


def test_anchors_are_the_cells_centres() -> None:
    """Two anchors for each of 16x16 cells, then six for each of 8x8, row by row."""
    centres = anchors()
    assert centres.shape == (COUNT, 2)
    assert centres[:4].tolist() == [[1 / 32, 1 / 32]] * 2 + [[3 / 32, 1 / 32]] * 2
    assert centres[32].tolist() == [1 / 32, 3 / 32]
    assert centres[512:519].tolist() == [[1 / 16, 1 / 16]] * 6 + [[3 / 16, 1 / 16]]
    assert centres[-1].tolist() == [15 / 16, 15 / 16]


def test_decode_places_the_box_around_its_anchor() -> None:
    """Offsets are pixels of the input, from the anchor's centre."""
    boxes = np.zeros((COUNT, 16), np.float32)
    scores = np.full((COUNT, 1), -50, np.float32)
    boxes[-1] = [0, 8, 32, 16, *range(12)]
    scores[-1] = 0
    (face,) = decode(boxes, scores, 0.5)
    assert face.score == 0.5
    assert face.box == pytest.approx(
        (15 / 16 - 1 / 8, 15 / 16 + 1 / 16 - 1 / 16, 15 / 16 + 1 / 8, 15 / 16 + 1 / 8)
    )
    assert face.landmarks[0] == pytest.approx((15 / 16, 15 / 16 + 1 / 128))
    assert face.landmarks[5] == pytest.approx((15 / 16 + 10 / 128, 15 / 16 + 11 / 128))


def test_decode_gives_the_best_first_and_none_below_the_threshold() -> None:
    """Scores go through the sigmoid, however large, and are sorted."""
    scores = np.full((COUNT, 1), -1e6, np.float32)
    scores[[3, 700, 20], 0] = [1, 1e6, -1]
    found = [face.score for face in decode(np.zeros((COUNT, 16), np.float32), scores, 0.5)]
    assert found == pytest.approx([1, 1 / (1 + np.exp(-1))])


def test_decode_finds_nothing() -> None:
    """No score above the threshold is no face."""
    empty = np.zeros((COUNT, 16), np.float32)
    assert decode(empty, empty[:, :1], 0.6) == []


@pytest.mark.parametrize(
    ("left", "expected"), [(0.0, 1.0), (0.5, 1 / 3), (1.0, 0.0), (-0.5, 1 / 3), (7.0, 0.0)]
)
def test_overlap(left: float, expected: float) -> None:
    """The shared part of both areas."""
    assert overlap(make_face(0, 0, 1), make_face(left, 0, 1)) == pytest.approx(expected)


def test_empty_boxes_overlap_nothing() -> None:
    """A box without an area divides nothing by zero."""
    assert overlap(make_face(0, 0, 0), make_face(0, 0, 0)) == 0


def test_suppress_keeps_the_best_of_each_face() -> None:
    """What covers a better one goes, what stands beside it stays."""
    best, worse, beside = make_face(0, 0, 1), make_face(0.1, 0, 1, 0.8), make_face(2, 0, 1, 0.7)
    assert suppress([best, worse, beside]) == [best, beside]


squares = st.builds(
    make_face, *[st.floats(0, 1) for _ in range(2)], st.floats(0, 0.5), st.floats(0.5, 1)
)


@given(st.lists(squares, max_size=12))
def test_suppress_leaves_apart_what_it_keeps(candidates: list[Face]) -> None:
    """No two that are kept cover each other, and each that goes covers one that is kept."""
    kept = suppress(candidates)
    for number, face in enumerate(kept):
        assert all(overlap(face, other) <= 0.3 for other in kept[:number])
    for face in candidates:
        assert face in kept or any(overlap(face, other) > 0.3 for other in kept)
