"""``python -m tests.fleet``: 64 hosts start together, and remotes fail while a host starts.

``--write`` measures instead how long those take, and what a host costs its server, for the tables
of ``docs/fleet.md``. ``--scene tls`` needs a server that is built with TLS, which ``REDIS_SERVER``
names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

for _name, _value in {  # before pyopencl is imported: only PyPI's PoCL, and nothing of the user's
    "OCL_ICD_VENDORS": tempfile.mkdtemp(prefix="mace-cache-no-vendors-"),
    "POCL_CACHE_DIR": tempfile.mkdtemp(prefix="mace-cache-pocl-"),
}.items():
    os.environ[_name] = _value

from tests.fleet import harms, scenes, tables  # noqa: E402 (the driver is chosen above)


def main() -> None:
    """Run all scenes, each in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--programs", type=int)
    parser.add_argument("--scene", choices=[*scenes.SCENES, "harms", "measure", "tls"])
    parser.add_argument("--json", help="a file for what a scene measures")
    parser.add_argument("--write", action="store_true", help="measure for docs/fleet.md")
    arguments = parser.parse_args()
    if arguments.write:
        sizes = ("--hosts", str(arguments.hosts), "--programs", str(arguments.programs or 20))
        tables.write({"harms": _measured("harms"), "hosts": _measured("measure", *sizes)})
    elif arguments.scene:
        figures = _run(arguments.scene, arguments.hosts, arguments.programs or 3)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(figures))
    else:
        for name in [*scenes.SCENES, "harms"]:
            sizes = ("--hosts", str(arguments.hosts), "--programs", str(arguments.programs or 3))
            _in_a_process(name, *sizes)


def _run(name: str, hosts: int, programs: int) -> dict[str, Any] | None:
    if name == "harms":
        return harms.run()
    if name == "measure":
        return scenes.measure(hosts, programs)
    scene = scenes.tls if name == "tls" else scenes.SCENES[name]
    scene(hosts, programs)
    return None


def _measured(name: str, *options: str) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        _in_a_process(name, "--json", file.name, *options)
        return json.load(file)


def _in_a_process(name: str, *options: str) -> None:
    subprocess.run([sys.executable, "-m", "tests.fleet", "--scene", name, *options], check=True)


if __name__ == "__main__":
    main()
