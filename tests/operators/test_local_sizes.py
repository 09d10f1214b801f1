"""Local sizes are tried, the best is kept, later runs use it, and nothing absurd is launched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyopencl as cl
import pytest

from mace_cache import ProgramCache, _trials, local_sizes, operators
from mace_cache._trials import try_sizes
from mace_cache.local_sizes import (
    LOCAL_SIZE,
    MOST_WORK_ITEMS,
    candidates,
    grid,
    shape_class,
    tuned_launches,
)
from mace_cache.manifest import Launch
from mace_cache.operators import Runtime
from tests.helpers import opencl_error, run_child
from tests.operators.conftest import PlainBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KERNELS = """
kernel void fill(global int *x, int n) {
    for (int i = get_global_id(0); i < n; i += get_global_size(0)) x[i] = i;
}
kernel __attribute__((reqd_work_group_size(64, 1, 1))) void one(global int *x) { x[0] = 1; }
"""


def class_of_relu(runtime: Runtime) -> tuple[str, str]:
    """What the local size of `relu` is kept under."""
    seen: list[tuple[str, str]] = []
    choose = local_sizes.LocalSizes.choose

    def look(sizes: Any, name: str, kernel: cl.Kernel, integers: Sequence[int]) -> int:
        seen.append((name, shape_class(integers)))
        return choose(sizes, name, kernel, integers)

    with patch.object(local_sizes.LocalSizes, "choose", look):
        relu(runtime)
    return seen[0]


def relu(runtime: Runtime) -> None:
    """Launch a kernel, and see that it computes."""
    x = np.linspace(-1, 1, 200, dtype=np.float32).reshape(25, 8)
    result = runtime.to_host(operators.activate(runtime, runtime.to_device(x), "relu"))
    np.testing.assert_array_equal(result, np.maximum(x, 0))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The local sizes of all launches from now on."""
    sizes: list[int] = []
    enqueue = cl.enqueue_nd_range_kernel

    def record(queue: Any, kernel: Any, size: tuple[int], local: tuple[int]) -> cl.Event:
        sizes.append(local[0])
        return enqueue(queue, kernel, size, local)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", record)
    return sizes


@pytest.fixture
def small_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches are real, their times are not: those of the smallest local size are the shortest."""

    def time(queue: cl.CommandQueue, launch: Callable[[int], cl.Event], size: int, _: int) -> float:
        launch(size)
        queue.finish()
        return float(size)

    monkeypatch.setattr(local_sizes, "_TRIED", (32, 64))
    monkeypatch.setattr(_trials, "_time", time)


_LATER_RUN = """
import sys
import pyopencl as cl
from mace_cache import ProgramCache
from mace_cache.operators import Runtime
from tests.helpers import open_context
from tests.operators.test_local_sizes import relu
sizes, enqueue = [], cl.enqueue_nd_range_kernel
def record(queue, kernel, size, local):
    sizes.append(local[0])
    return enqueue(queue, kernel, size, local)
cl.enqueue_nd_range_kernel = record
with ProgramCache() as cache:
    relu(Runtime(cl.CommandQueue(open_context()), cache))
print(sizes)
"""


@pytest.mark.usefixtures("small_is_best")
def test_what_one_run_tunes_later_ones_use(queue: cl.CommandQueue, launched: list[int]) -> None:
    """Tried once a class of shapes, kept, and used by another process without a trial."""
    with ProgramCache() as cache:
        runtime = Runtime(queue, cache, tune=True)
        relu(runtime)
        assert {*launched[:-1]} == {32, 64}
        assert launched[-1] == 32
        del launched[:]
        relu(runtime)
        relu(Runtime(queue, cache, tune=True))
        relu(Runtime(queue, cache))
        assert launched == [32, 32, 32]
        operators.activate(runtime, runtime.to_device(np.ones((25, 8))), "tanh")
        assert len(launched) > 4  # another activation is another class
    assert run_child(_LATER_RUN).split() == ["[32]"]


@pytest.mark.usefixtures("small_is_best")
def test_without_a_cache_the_best_is_used_and_not_kept(
    queue: cl.CommandQueue, launched: list[int]
) -> None:
    """Anything that builds programs will do."""
    builder = PlainBuilder()
    runtime = Runtime(queue, builder, tune=True)
    relu(runtime)
    relu(runtime)
    assert launched[-2:] == [32, 32]
    del launched[:]
    relu(Runtime(queue, builder))
    assert launched == [LOCAL_SIZE]


def test_absurd_sizes_are_not_launched(queue: cl.CommandQueue, launched: list[int]) -> None:
    """Whatever a record says: none that isn't a candidate is used."""
    with ProgramCache() as cache:
        runtime = Runtime(queue, cache)
        launch = class_of_relu(runtime)
        (program,) = runtime._built.values()
        for size in (0, -64, 48, 2**40, 8192):
            with patch.object(ProgramCache, "tuned_sizes", return_value={launch: size}):
                relu(Runtime(queue, cache))
        assert {*launched} == {LOCAL_SIZE}
        cache.keep_tuned_sizes(program, {launch: 32})
        relu(Runtime(queue, cache))
        assert launched[-1] == 32


def test_candidates_keep_to_the_limits(context: cl.Context, device: cl.Device) -> None:
    """Powers of two that the device takes; none for a kernel that requires one size."""
    program = cl.Program(context, _KERNELS).build()
    sizes = candidates(cl.Kernel(program, "fill"), device)
    assert LOCAL_SIZE in sizes
    assert max(sizes) <= min(1024, device.max_work_group_size)
    assert candidates(cl.Kernel(program, "one"), device) == ()
    kept = {("fill", "1"): 32, ("fill", "2"): 64, ("fill", "3"): 48, ("one", "1"): 32}
    launch = Launch("fill", (100,), (50,), ())
    assert [
        (one.global_size, one.local_size) for one in tuned_launches(program, launch, kept, device)
    ] == [((100,), (50,)), ((128,), (32,)), ((128,), (64,))]
    required = Launch("one", (64,), (64,), ())
    assert list(tuned_launches(program, required, kept, device)) == [required]


class FakeKernel:
    """Answers what a driver would of a kernel."""

    def __init__(self, most: int, multiple: int) -> None:
        about = cl.kernel_work_group_info
        self._known: dict[int, Any] = {
            about.COMPILE_WORK_GROUP_SIZE: (0, 0, 0),
            about.WORK_GROUP_SIZE: most,
            about.PREFERRED_WORK_GROUP_SIZE_MULTIPLE: multiple,
        }

    def get_work_group_info(self, about: int, _device: object) -> Any:
        """Answer."""
        return self._known[about]


@pytest.mark.parametrize(
    ("most", "multiple", "sizes"),
    [
        (256, 32, (32, 64, 128, 256)),
        (1024, 64, (64, 128, 256, 512, 1024)),
        (100, 1, (16, 32, 64)),
        (1, 1, (LOCAL_SIZE,)),
        (256, 24, (LOCAL_SIZE,)),
    ],
)
def test_candidates_of_other_devices(most: int, multiple: int, sizes: tuple[int, ...]) -> None:
    """Multiples of what the kernel prefers; the size that is launched otherwise is one in any."""
    device: Any = SimpleNamespace(max_work_item_sizes=[512, 512, 64])
    kernel: Any = FakeKernel(most, multiple)
    assert candidates(kernel, device) == tuple(size for size in sizes if size <= 512)


@pytest.mark.parametrize("local_size", [16, 64, 1024])
@pytest.mark.parametrize("work_items", [1, 63, 64, 65, MOST_WORK_ITEMS, 10**6])
def test_grids_cover_the_work_and_are_not_too_wide(work_items: int, local_size: int) -> None:
    """Whole work-groups, no more than needed."""
    (total,), (local,) = grid(work_items, local_size)
    assert local == local_size
    assert total % local == 0
    assert min(work_items, MOST_WORK_ITEMS) <= total <= MOST_WORK_ITEMS
    assert total - local < work_items


def test_classes_of_shapes() -> None:
    """Small integers count as they are; larger ones are rounded away from zero."""
    assert shape_class([3000, 48, 16, 15, 3, 1, 0, -1, -17]) == "4096 64 16 15 3 1 0 -1 -32"
    assert shape_class([np.int32(2**30)]) == str(2**30)
    assert shape_class([4097, 2]) != shape_class([4096, 2])


class FakeQueue:
    """A queue that profiles, with a launch that takes so many nanoseconds a local size."""

    properties = cl.command_queue_properties.PROFILING_ENABLE

    def __init__(self, **nanoseconds: int) -> None:
        self._nanoseconds = {int(name[1:]): value for name, value in nanoseconds.items()}
        self.launched: list[int] = []

    def finish(self) -> None:
        """Do nothing."""

    def launch(self, size: int) -> Any:
        """Give the event; of a size that has no time it is refused."""
        if size not in self._nanoseconds:
            raise opencl_error("INVALID_WORK_GROUP_SIZE", "clEnqueueNDRangeKernel")
        self.launched.append(size)
        return SimpleNamespace(profile=SimpleNamespace(start=0, end=self._nanoseconds[size]))


@pytest.mark.parametrize(
    ("nanoseconds", "best"),
    [
        ({"_32": 900, "_64": 1000, "_128": 800}, 128),
        ({"_32": 960, "_64": 1000, "_128": 1100}, 64),
        ({"_64": 1000}, 64),
    ],
)
def test_the_best_size_is_chosen(nanoseconds: dict[str, int], best: int) -> None:
    """By its times, if it is worth it; what the driver refuses is left out."""
    queue: Any = FakeQueue(**nanoseconds)
    sizes: Sequence[int] = (32, 64, 128)
    trials = try_sizes(queue, queue.launch, sizes, 64)
    assert trials.local_size == best
    assert trials.before == pytest.approx(1e-6)
    assert trials.seconds == pytest.approx(nanoseconds[f"_{best}"] * 1e-9)


@pytest.mark.parametrize(("nanoseconds", "launches"), [(1000, 1000), (10**6, 2), (10**7, 1)])
def test_short_launches_are_repeated_until_they_can_be_measured(
    nanoseconds: int, launches: int
) -> None:
    """So many at once as take 2 ms, and not without bound."""
    queue: Any = FakeQueue(_64=nanoseconds)
    counts: list[int] = []
    time = _trials._time

    def count(*arguments: Any) -> float:
        counts.append(arguments[-1])
        return time(*arguments)

    with patch.object(_trials, "_time", count):
        try_sizes(queue, queue.launch, (64,), 64)
    assert {*counts[-_trials._ROUNDS :]} == {launches}


def choose_by(launch_seconds: dict[int, float], seed: int, noise: float) -> int:
    """Choose among sizes by times that are wrong by a random factor."""
    rng = np.random.default_rng(seed)

    def time(_queue: object, _launch: object, size: int, _count: int) -> float:
        return float(launch_seconds[size] * rng.lognormal(sigma=noise))

    queue: Any = FakeQueue(**{f"_{size}": 1 for size in launch_seconds})
    with patch.object(_trials, "_time", time):
        return try_sizes(queue, queue.launch, [*launch_seconds], 64).local_size


def test_differences_within_noise_change_nothing() -> None:
    """Where all sizes are as good, 64 stays; it seldom yields to chance."""
    same = dict.fromkeys((16, 32, 64, 128, 256, 512, 1024), 1.0)
    chosen = [choose_by(same, seed, noise=0.3) for seed in range(50)]
    assert chosen.count(64) >= 45


def test_two_runs_choose_the_same() -> None:
    """Of sizes that are about as good the one nearest to 64, mostly."""
    better = {16: 1.5, 32: 1.0, 64: 1.0, 128: 0.8, 256: 0.79, 512: 0.8, 1024: 0.81}
    chosen = [choose_by(better, seed, noise=0.02) for seed in range(50)]
    assert chosen.count(128) >= 45


def test_times_of_a_queue_that_tells_none() -> None:
    """Some drivers profile, and every launch takes no time: then the clock tells."""
    queue: Any = FakeQueue(_64=0)
    assert try_sizes(queue, queue.launch, (64,), 64).seconds > 0


def test_the_drivers_error_is_the_callers() -> None:
    """A launch that can't be at all fails as without tuning."""
    queue: Any = FakeQueue(_32=1)
    with pytest.raises(cl.Error, match="WORK_GROUP_SIZE"):
        try_sizes(queue, queue.launch, (32, 64), 64)


def test_real_times(context: cl.Context, device: cl.Device) -> None:
    """With a queue that profiles and with one that doesn't, some size is found."""
    kernel = cl.Kernel(cl.Program(context, _KERNELS).build(), "fill")
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4096)
    kernel.set_args(buffer, np.int32(1024))
    profiles = cl.command_queue_properties.PROFILING_ENABLE
    for queue in (cl.CommandQueue(context), cl.CommandQueue(context, device, profiles)):

        def launch(size: int, queue: cl.CommandQueue = queue) -> cl.Event:
            return cl.enqueue_nd_range_kernel(queue, kernel, (64,), (size,))

        trials = try_sizes(queue, launch, (32, 64), 64)
        assert trials.local_size in (32, 64)
        assert 0 < trials.seconds <= trials.before
