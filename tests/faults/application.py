"""What one process of the campaign does: builds a program through a cache, launches it, closes.

It is told what to do by its `Orders`, and prints a line of JSON. What is harmed inside the process
is a harm by name (``harms.py``), called before the cache is made.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any, TypedDict

import numpy as np
import pyopencl as cl

from mace_cache import ProgramCache
from tests.faults import harms

__all__ = ["FACTOR", "Orders", "become", "build", "launch", "open_driver", "run", "work_for_ever"]

FACTOR = 3
_FLUSHED, _CLEARED = 0.5, 0.3  # how often, after a program and after all
SOURCE = """// {tag}
#include "factor.h"
kernel void scale(global int *x) {{ x[get_global_id(0)] *= FACTOR; }}
"""


class Orders(TypedDict, total=False):
    """What a process is told.

    Attributes:
        platform: part of the name and version of the driver's platform.
        cache: arguments of `ProgramCache`.
        include: the directory that the program's header is in.
        tags: the programs to build, one after the other.
        directory: the working directory.
        environment: variables to set, or with None to unset.
        harm: names and arguments of functions in ``harms.py``.
        for_ever: whether it goes on until it is killed (`work_for_ever`).
        abrupt: whether the process ends without an interpreter's shutdown, after `close`.
    """

    platform: str
    cache: dict[str, Any]
    include: str
    tags: list[str]
    directory: str
    environment: dict[str, str | None]
    harm: list[list[Any]]
    for_ever: bool
    abrupt: bool


def become(orders: Orders) -> None:
    """Take over the environment and the working directory."""
    for name, value in orders.get("environment", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:  # whatever the locale: these are bytes
            os.environb[name.encode()] = value.encode("utf-8", "surrogateescape")
    os.chdir(orders.get("directory", "/"))


def run(orders: Orders) -> None:
    """Be the application once."""
    context, queue = open_driver(orders)
    for name, *arguments in orders.get("harm", []):
        getattr(harms, name)(*arguments)
    seen = []
    with ProgramCache(**orders["cache"]) as cache:
        harms.reach("opened")
        for tag in orders.get("tags", ["one"]):
            program = build(cache, context, orders, tag)
            harms.reach("built")
            told = cache.explain(program)
            right = launch(queue, program) == [FACTOR] * 4
            seen.append({"right": right, "origin": told.origin.value, "why": str(told)})
            harms.reach("launched")
    harms.reach("closed")
    sys.stdout.write(json.dumps({"programs": seen, "calls": harms.calls_made()}) + "\n")
    sys.stdout.flush()
    if orders.get("abrupt", False):
        os._exit(0)


def work_for_ever(orders: Orders) -> None:
    """Build, launch, flush, and sometimes clear, until somebody ends it."""
    context, queue = open_driver(orders)
    while True:
        with ProgramCache(**orders["cache"]) as cache:
            for tag in random.sample(orders["tags"], len(orders["tags"])):
                program = build(cache, context, orders, tag)
                assert launch(queue, program) == [FACTOR] * 4
                if random.random() < _FLUSHED:  # noqa: S311 (no secret)
                    cache.flush()
            if random.random() < _CLEARED:  # noqa: S311 (no secret)
                for name in cache.factory.names():
                    cache.factory.create_storage(name).clear()


def open_driver(orders: Orders) -> tuple[cl.Context, cl.CommandQueue]:
    """Open the driver's first device."""
    (platform,) = [p for p in cl.get_platforms() if orders["platform"] in f"{p.name} {p.version}"]
    context = cl.Context(platform.get_devices()[:1])
    return context, cl.CommandQueue(context)


def build(cache: ProgramCache, context: cl.Context, orders: Orders, tag: str) -> cl.Program:
    """Build the program of a tag."""
    return cache.build(context, SOURCE.format(tag=tag), ["-I", orders["include"]])


def launch(queue: cl.CommandQueue, program: cl.Program) -> list[int]:
    """Multiply four ones by FACTOR."""
    numbers = np.ones(4, np.int32)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
    buffer = cl.Buffer(queue.context, flags, hostbuf=numbers)
    cl.Kernel(program, "scale")(queue, (4,), None, buffer)
    cl.enqueue_copy(queue, numbers, buffer)
    result: list[int] = numbers.tolist()
    return result


if __name__ == "__main__":
    told: Orders = json.loads(sys.argv[1])
    become(told)
    run(told)
