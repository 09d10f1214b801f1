"""What warming a cache came to, for a person and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Literal

__all__ = ["Status", "WarmReport", "WarmResult"]

Status = Literal["built", "present", "skipped", "failed"]


@dataclass(frozen=True)
class WarmResult:
    """What became of one program on one device.

    Attributes:
        program: the program's name in the manifest, or its file.
        variant: the variant's name.
        device: the storage name of the device's fingerprint.
        status: ``built``, ``present`` (it was there already), ``skipped`` or ``failed``.
        seconds: what it took: build, launches and storing.
        message: why it was skipped, or how it failed, with the build log.
    """

    program: str
    variant: str
    device: str
    status: Status
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class WarmReport:
    """What `warm_cache` did.

    Attributes:
        results: one a program, variant and device.
        notes: what concerns no single program, such as that there is no device.
    """

    results: list[WarmResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a program failed or nothing could be warmed."""
        statuses = {result.status for result in self.results}
        return int(bool(self.notes) or "failed" in statuses or statuses == {"skipped"})

    def count(self, status: Status) -> int:
        """How many results have that status."""
        return sum(result.status == status for result in self.results)

    def to_json(self) -> str:
        """The report as JSON: ``results``, ``notes`` and ``exit_code``."""
        report = {**asdict(self), "exit_code": self.exit_code}
        return json.dumps(report, indent=2)

    def __str__(self) -> str:
        """The report for a person: what isn't in order line by line, and a summary."""
        lines = list(self.notes)
        for result in self.results:
            if result.status in ("skipped", "failed"):
                name = f"{result.program} [{result.variant}] on {result.device}"
                lines.append(f"{result.status}: {name}: {result.message}")
        counts = Counter(result.status for result in self.results)
        lines.append(
            f"{counts['built']} built, {counts['present']} already there, "
            f"{counts['skipped']} skipped, {counts['failed']} failed"
        )
        return "\n".join(lines)
