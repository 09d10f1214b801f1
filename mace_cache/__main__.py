"""``python -m mace_cache``: the same as the command ``mace-cache``."""

from __future__ import annotations

import sys

from mace_cache.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
