"""Stretches the contrast of a grey ramp, and says where its program came from."""

from __future__ import annotations

import numpy as np
import pyopencl as cl

import mace_cache
from contrast import build, stretch


def main() -> None:
    """Run once, as an application does from its start to its end."""
    context = cl.create_some_context(interactive=False)
    picture = np.linspace(0.25, 0.5, 200, dtype=np.float32)
    with mace_cache.ProgramCache() as cache:  # it finds the bundles that packages ship
        program = build(cache, context)
        stretched = stretch(program, cl.CommandQueue(context), picture)
        print(f"{stretched.min():.2f} to {stretched.max():.2f}, {cache.explain(program)}")


if __name__ == "__main__":
    main()
