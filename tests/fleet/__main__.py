"""``python -m tests.fleet``: 64 hosts start together, and remotes fail while a host starts.

``--measure`` prints what a host costs its server instead, for ``docs/fleet.md``. ``--scene tls``
needs a server that is built with TLS, which ``REDIS_SERVER`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

for _name, _value in {  # before pyopencl is imported: only PyPI's PoCL, and nothing of the user's
    "OCL_ICD_VENDORS": tempfile.mkdtemp(prefix="mace-cache-no-vendors-"),
    "POCL_CACHE_DIR": tempfile.mkdtemp(prefix="mace-cache-pocl-"),
}.items():
    os.environ[_name] = _value

from tests.fleet import harms, scenes  # noqa: E402 (the driver is chosen above)


def main() -> None:
    """Run all scenes, each in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--programs", type=int, default=3)
    parser.add_argument("--scene", choices=[*scenes.SCENES, "harms", "measure", "tls"])
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    if arguments.scene == "harms":
        harms.run()
    elif arguments.scene == "measure":
        print(json.dumps(scenes.measure(arguments.hosts, arguments.programs), indent=2))  # noqa: T201 (its output)
    elif arguments.scene == "tls":
        scenes.tls(arguments.hosts, arguments.programs)
    elif arguments.scene:
        scenes.SCENES[arguments.scene](arguments.hosts, arguments.programs)
    else:
        names = ["measure"] if arguments.measure else [*scenes.SCENES, "harms"]
        for name in names:
            command = [sys.executable, "-m", "tests.fleet", "--scene", name]
            sizes = ["--hosts", str(arguments.hosts), "--programs", str(arguments.programs)]
            subprocess.run([*command, *sizes], check=True)


if __name__ == "__main__":
    main()
