"""What was measured of fleets, as the tables of ``docs/fleet.md``; kept in `RESULTS`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "harms_table", "hosts_table", "marked", "read", "write"]

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fleet.json"
DOCUMENT = ROOT / "docs" / "fleet.md"

_MANY = 10_000  # hosts
_REQUESTS = ("strlen", "getex", "evalsha", "script|load", "hello", "client|setinfo")
_LOOK = 3  # requests by which whoever measures connects
_REMOTES = ("Redis", "TLS", "S3", "HTTP")


def read() -> dict[str, Any]:
    """Give what is kept: ``harms`` and ``hosts``."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text())
    return kept


def write(results: dict[str, Any]) -> None:
    """Keep results, and put their tables into the document."""
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    tables = {"harms": harms_table(results["harms"]), "hosts": hosts_table(results["hosts"])}
    text = DOCUMENT.read_text()
    for name, table in tables.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        after = rest.partition("<!-- end -->")[2]
        assert mark
        assert after, name
        text = before + marked(name, table) + after
    DOCUMENT.write_text(text)


def marked(name: str, table: str) -> str:
    """Give a table with its marks, as it stands in the document."""
    return f"<!-- {name} -->\n{table}<!-- end -->"


def harms_table(harms: dict[str, Any]) -> str:
    """Give how long a start took beside each remote that fails."""
    rows: dict[str, dict[str, str]] = {}
    for harm, seconds in harms["seconds"].items():
        name, _, remote = harm.rpartition(", ")
        if remote not in _REMOTES:
            name, remote = harm, "" if harm == "no remote" else "Redis"
        rows.setdefault(name, {})[remote] = f"{seconds:.2f} s"
    lines = [("remote", *_REMOTES), ("---", *["---:"] * len(_REMOTES))]
    lines += [
        (name, *[taken.get(remote, taken.get("", "")) for remote in _REMOTES])
        for name, taken in rows.items()
    ]
    said = f"With `timeout={harms['timeout']:g}`, on {harms['machine']}, until the last of "
    said += f"{harms['programs']} programs is there:\n\n"
    return said + _lines(lines)


def hosts_table(hosts: dict[str, Any]) -> str:
    """Give what a host costs the server, and what so many do."""
    count, programs = hosts["hosts"], hosts["programs"]
    rows: list[tuple[str, ...]] = [("", "a host", f"{_MANY:,} hosts"), ("---", "---:", "---:")]
    rows += _costs("has all programs", hosts["a host that has all"], 1)[:1]
    rows += _costs("fetches all", hosts["all at once, on all"], count)
    rows.append(_row("memory of its connection", hosts["memory of a connection"], "B"))
    nothing = f"starts with {count - 1} others on nothing"
    rows += _costs(nothing, hosts["all at once, on nothing"], count)
    rows += [
        (what, a_host, "once in the fleet")
        for what, a_host, _ in _costs("builds all", hosts["a host that builds all"], 1)
    ]
    held = _shown(programs * hosts["memory of a program"], "B")
    rows.append(("**memory of the programs**", held, held))
    size = _shown(hosts["bytes of a program"], "B")
    said = f"{programs} programs of {size} each, on {hosts['machine']}, {hosts['server']}:\n\n"
    return said + _lines(rows)


def _costs(what: str, spent: dict[str, float], hosts: int) -> list[tuple[str, ...]]:
    requests = sum(spent.get(name, 0) for name in _REQUESTS) - _LOOK
    return [
        _row(f"**{what}**: requests", requests / hosts),
        _row("bytes to the server", spent["bytes in"] / hosts, "B"),
        _row("bytes from the server", spent["bytes out"] / hosts, "B"),
        _row("the server's processor", spent["cpu ms"] / 1000 / hosts, "s"),
    ]


def _row(what: str, a_host: float, unit: str = "") -> tuple[str, ...]:
    return what, _shown(a_host, unit), _shown(_MANY * a_host, unit)


def _shown(amount: float, unit: str) -> str:
    """Write an amount for people: three digits, and the unit's prefix where it has one."""
    if not unit:
        return f"{float(f'{amount:.3g}'):,.0f}"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m")):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {prefix}{unit}"
    return f"0 {unit}"


def _lines(rows: list[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
