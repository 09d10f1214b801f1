"""The command ``mace-cache``; ``docs/command-line.md`` describes it.

click and rich come with the extra ``cli``: they are imported no earlier than here it is known what
to say where they are missing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mace_cache._on_import import unwatch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what follows the command's name; those of the process if None.

    Returns:
        The exit code: 0 where all is in order, 1 where something is not, 2 where the arguments
        can't be used, 130 after an interrupt.
    """
    unwatch()  # this command needs no hook, and its output nothing that the hook has to say
    try:
        from mace_cache.cli.application import run  # noqa: PLC0415 (needs the extra)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(f"mace-cache: {missing} is missing: install 'mace-cache[cli]'\n")
        return 2
    return run(sys.argv[1:] if arguments is None else list(arguments))
