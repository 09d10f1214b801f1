"""What an examination of this machine came to, one line each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Finding", "note", "ok", "problem"]


class Finding(NamedTuple):
    """Something that was looked at.

    Attributes:
        state: ``ok``; ``note``, which is worth knowing; or ``problem``.
        about: what was looked at.
        text: how it is, in a line.
        remedy: what to do about it; empty where there is nothing to do.
    """

    state: str
    about: str
    text: str
    remedy: str = ""


def ok(about: str, text: str) -> Finding:
    """All is in order."""
    return Finding("ok", about, text)


def note(about: str, text: str, remedy: str = "") -> Finding:
    """Nothing is wrong, but it may surprise."""
    return Finding("note", about, text, remedy)


def problem(about: str, text: str, remedy: str = "") -> Finding:
    """It keeps the cache, or the driver, from working."""
    return Finding("problem", about, text, remedy)
