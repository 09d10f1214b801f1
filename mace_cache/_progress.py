"""A progress bar on a terminal, where rich is installed; else nothing."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show how far something is.

    Args:
        total: how many steps there are.
        shown: whether it is to be shown at all.

    Yields:
        What to call after each step, with the step's name.
    """
    try:
        from rich.console import Console  # noqa: PLC0415 (an extra)
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        shown = False
    if not (shown and total and sys.stderr.isatty()):
        yield lambda _name: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("warming", total=total)
        yield lambda name: progress.update(bar, advance=1, description=name)
