"""Timetables, beside optima that are known by hand and bounds that hold for every list schedule."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitray.errors import UserError
from splitray.executor.accelerators import ACCELERATORS, find
from splitray.executor.durations import Durations
from splitray.executor.request import Request
from splitray.executor.schedule import Scheduler, foretell
from splitray.executor.timetable import Starts, Task, timetable, ways
from splitray.training.model import size
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape, TrainingSettings
from splitray.training.tree import Leaf, Target, grow

NONE = Starts(0.0, 0.0, 60.0)


def task(key: str, seconds: float, after: str | None = None, devices: float = 1.0, **more: object) -> Task:
    return Task(((key, seconds),), (after,) if after else (), devices, **more)  # type: ignore[arg-type]


def test_the_longest_way_goes_first() -> None:
    """Two workers, a chain of 3 x 4 s and six loose seconds of 2 s each: 12 s, where the chain is begun at once."""
    chain = [task("a", 4), task("b", 4, "a"), task("c", 4, "b")]
    loose = [task(f"x{i}", 2) for i in range(6)]
    found = timetable([*loose, *chain], 2, NONE)
    assert found.makespan == 12 and found.utilisation == 1 and found.peak == 2
    assert ways(chain) == {"a": 12, "b": 8, "c": 4}


def test_children_begin_when_their_part_of_a_group_s_call_is_through() -> None:
    """A group trains three stretches in one call and starts once; a leaf hangs on each."""
    trunk = Task((("a", 10), ("b", 10), ("c", 10)), devices=2)
    leaves = [task(f"leaf {key}", 5, key) for key in "abc"]
    found = timetable([trunk, *leaves], 3, Starts(1, 3, 60))
    begins = {slot.task.parts[0][0]: (slot.begin, slot.end) for slot in found.slots}
    assert begins["leaf a"] == (13, 19) and begins["leaf b"] == (23, 28), "the second one finds the worker warm"
    assert found.makespan == 33 + 5
    # the group for 33 s, and a worker from 13 to the end
    assert found.held == 2 * 33 + 25 and found.used == 2 * 30 + 15


def test_small_models_share_a_device() -> None:
    found = timetable([task(str(i), 10, devices=0.5) for i in range(4)], 1, NONE)
    assert found.makespan == 20 and found.peak == 1 and found.held == found.used == 20


def test_idle_workers_are_let_go_after_a_while() -> None:
    """Two workers, one of which has nothing to do from second 10 on, but at second 200."""
    tasks = [task("a", 10), task("b", 200), task("c", 5, "b"), task("d", 5, "b")]
    found = timetable(tasks, 2, Starts(2, 2, 60))
    assert found.held == (12 + 60) + (202 + 5) + (2 + 5)
    assert found.makespan == 209


def test_scoring_goes_first_and_a_group_s_tasks_share_their_lane() -> None:
    tasks = [task("a", 1), task("s", 1, first=True), task("b", 1)]
    assert timetable(tasks, 1, NONE).slots[0].task.parts[0][0] == "s"
    lane = [task(str(i), 10, devices=2, lane="base") for i in range(3)]
    assert timetable(lane, 8, NONE).makespan == 30, "there is one base"


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 40))
def test_within_the_bounds_of_every_list_schedule(seed: int, capacity: int, count: int) -> None:
    """Single workers without starts: at least the work and the longest way, at most Graham's (2 - 1/m) of the larger.

    No worker has two tasks at once, and none begins before its parent is through.
    """
    draw = random.Random(seed)
    tasks = [
        task(str(i), draw.uniform(0.1, 10), str(draw.randrange(i)) if i and draw.random() < 0.7 else None)
        for i in range(count)
    ]
    found, way = timetable(tasks, capacity, NONE), max(ways(tasks).values())
    work = sum(t.seconds for t in tasks)
    least = max(work / capacity, way)
    assert least - 1e-6 <= found.makespan <= work / capacity + way + 1e-6
    ends = {slot.task.parts[0][0]: slot.end for slot in found.slots}
    assert len(found.slots) == count
    for slot in found.slots:
        assert all(ends[key] <= slot.begin + 1e-6 for key in slot.task.after)
        at = slot.begin + 1e-6
        assert sum(s.begin <= at < s.end for s in found.slots) <= capacity
    assert work - 1e-6 <= found.held <= found.makespan * capacity + 1e-6


SETTINGS = TrainingSettings(sequence_length=2048, global_batch_size=512, micro_batch_size=8, precision="bf16")
SHAPES = [ModelShape(hidden=320, layers=8, heads=5), ModelShape(hidden=1152, layers=18, heads=18)]


def scheduler(capacity: float, widen: bool, device: str = "H100") -> Scheduler:
    sizes = {s.params: s for s in (size(shape, 50304, SETTINGS) for shape in SHAPES)}
    return Scheduler(Durations(ACCELERATORS[device], SETTINGS, sizes, 50304, True), capacity, 1_000_000, widen, 60.0)


def ladder() -> list[tuple[list, list[Request]]]:
    groups = []
    for shape in SHAPES:
        made = recipe(shape, SETTINGS, {"content_hash": "c", "vocab": 50304, "end_token": 0}, {"a": 0.5, "b": 0.5}, 0)
        leaves = [Leaf(n * 2**30) for n in (3, 6, 12)]
        leaves += [Leaf(n * 2**30, 2**30, domain) for n in (3, 6, 12) for domain in "ab"]
        asked = [Request(Target.leaf(made, leaf, SETTINGS.schedule), (leaf.domain or "a",)) for leaf in leaves]
        groups.append((grow([r.target for r in asked], lambda line: []), asked))
    return groups


def test_no_trunk_dominates_a_ladder() -> None:
    """On 32 GPUs single workers take the large trunk's time; groups come near the evenly spread work."""
    alone, spread = foretell(ladder(), scheduler(32, False)), foretell(ladder(), scheduler(32, True))
    even = alone.used / 32
    assert alone.makespan > 5 * even, "the trunk of the large shape is the whole ladder's time"
    assert spread.makespan < 0.35 * alone.makespan and spread.makespan < 2 * even
    widths = scheduler(32, True).choose_widths(ladder())
    small, large = (size(shape, 50304, SETTINGS).params for shape in SHAPES)
    assert widths.mixture[large] >= 4 and widths.mixture[large] >= widths.mixture.get(small, 1)
    assert all(512 % workers == 0 for workers in [*widths.mixture.values(), *widths.domain.values()])


def test_small_models_leave_a_gpu_s_time_to_others_and_large_ones_do_not() -> None:
    """A width of 320 is bound by the host; four sequences of 1.3B parameters fill a GPU and its memory."""
    made = scheduler(8, True)
    small, large = (size(shape, 50304, SETTINGS).params for shape in SHAPES)
    assert made.share(small) <= 0.5 and made.share(large) == 1.0
    assert scheduler(8, False).share(small) == 1.0


def test_one_gpu_needs_no_groups() -> None:
    widths = scheduler(1, True).choose_widths(ladder())
    assert not widths.mixture and not widths.domain


def test_accelerators_are_found_by_the_names_that_drivers_give() -> None:
    assert find("NVIDIA H100 80GB HBM3").name == "H100" and find("NVIDIA A100-SXM4-80GB").name == "A100"
    assert find("L40S").peak == 362e12 and all(a.source for a in ACCELERATORS.values())
    with pytest.raises(UserError, match="the table has A100, H100, H200, L40S, CPU"):
        find("TPU-v5")
