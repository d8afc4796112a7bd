"""Estimates of the time left, against work whose end is known."""

import logging
import time

import pytest

from splitray.runtime import progress
from splitray.runtime.progress import PROGRESS, Pace, Progress, Task, effort, progress_of


def paced(*stretches: tuple[float, float]) -> tuple[Pace, float]:
    """A pace that saw stretches of (seconds, counts a second), looked at once a second; and the count reached."""
    pace, now, count = Pace(), 100.0, 0.0
    for seconds, rate in stretches:
        for _ in range(int(seconds)):
            pace.see(count, now)
            now, count = now + 1, count + rate
    pace.see(count, now)
    return pace, count


def test_steady_work_ends_when_it_is_said_to() -> None:
    pace, count = paced((60, 7.0))
    assert pace.rate == pytest.approx(7.0)
    assert pace.left(1000.0 - count) == pytest.approx((1000 - 420) / 7)


def test_the_start_of_workers_is_no_part_of_the_rate() -> None:
    assert paced((300, 0.0), (30, 5.0))[0].rate == pytest.approx(5.0, rel=0.05)
    assert paced((300, 0.0))[0].left(1.0) is None, "nothing was done, so nobody knows"


def test_a_pause_counts_and_what_is_recent_weighs_more() -> None:
    assert paced((60, 6.0), (60, 0.0))[0].rate < 3.0
    assert 2.0 < paced((600, 10.0), (600, 2.0))[0].rate < 6.0
    assert paced((600, 10.0), (2400, 2.0))[0].rate == pytest.approx(2.0, rel=0.25)


def test_a_pause_does_not_make_hours_of_minutes() -> None:
    """Ten minutes of work, five of waiting, five of work left: between five minutes and three times that."""
    pace, _ = paced((600, 4.0), (300, 0.0))
    left = pace.left(300 * 4.0)
    assert left is not None and 300 <= left <= 900


def test_done_is_done_even_before_a_rate_is_known() -> None:
    assert Pace().left(0.0) == 0.0


def test_counting_anew_forgets_the_old_rate() -> None:
    pace, _ = paced((60, 100.0))
    pace.see(0.0, 200.0)
    assert pace.left(10.0) is None
    for second in range(1, 31):
        pace.see(2.0 * second, 200.0 + second)
    assert pace.rate == pytest.approx(2.0, rel=0.05)


def test_effort_is_flops_for_large_models_and_tokens_for_tiny_ones() -> None:
    assert effort(2e9, 10) / effort(1e9, 10) == pytest.approx(2.0, rel=1e-2)
    assert effort(2e4, 10) / effort(1e4, 10) == pytest.approx(1.0, rel=2e-2)


def test_only_long_work_is_reported_and_then_once_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    logger = logging.getLogger("splitray.a_test")
    with caplog.at_level(PROGRESS, "splitray"):
        task = Task(logger, "write shards", 400, "tasks")
        for done in range(1, 101):  # ten steps a second
            now += 0.1
            task.update(done)
            assert bool(caplog.records) == (now - 50.0 >= 3.0 - 1e-9)
    seen = [p for record in caplog.records if (p := progress_of(record)) is not None]
    assert len(seen) == 8
    assert isinstance(seen[-1], Progress) and seen[-1].text == "100 of 400 tasks"
    assert seen[-1].share == pytest.approx(0.25) and seen[-1].left == pytest.approx(30.0)


def test_nobody_who_asks_for_info_is_bothered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "splitray"):
        progress.report(logging.getLogger("splitray.a_test"), Progress("work", "1 of 2"))
    assert not caplog.records
