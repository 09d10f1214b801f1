"""What the fuzzer has found to matter is tried in every run of the tests."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz import CORPUS
from tests.fuzz.targets import TARGETS

_LARGEST_CORPUS = 200 << 10


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus(target: str) -> None:
    """No input raises anything but what its room documents, nor gets a wrong answer."""
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[target](path.read_bytes())


def test_the_corpus_is_small() -> None:
    """It lies in the repository."""
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < _LARGEST_CORPUS
