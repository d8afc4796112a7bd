"""How many tasks of a pass run at once: what the cluster takes when they run, not what it had at the start."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from splitray.corpus.ray_tasks import Engine, data_context
from splitray.corpus.settings import CorpusSettings

pytestmark = pytest.mark.ray


def meeting(folder: Path, seconds: float) -> tuple[Callable[..., dict[str, Any]], type]:
    """A task that waits for another task of its pass to be running too, and an actor that does; sent by value."""

    def meet(item: dict[str, Any]) -> dict[str, Any]:
        mine, end = folder / f"{item['name']}", time.monotonic() + seconds
        mine.touch()
        while time.monotonic() < end and len(list(folder.iterdir())) < 2:
            time.sleep(0.05)
        met = len(list(folder.iterdir())) >= 2
        if not met:
            mine.unlink()
        return {"name": item["name"], "met": met}

    class Meeting:
        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            return meet(item)

    return meet, Meeting


def engine(monkeypatch: pytest.MonkeyPatch, workers: int | None) -> Engine:
    """Made while the cluster has no CPU yet, as an autoscaling one whose head takes no task."""
    with monkeypatch.context() as empty:
        empty.setattr(ray, "cluster_resources", lambda: {"memory": 2.0**33, "node:__internal_head__": 1.0})
        return Engine(CorpusSettings(sources=["x"], domains=2, workers=workers))


@pytest.mark.parametrize(("workers", "together"), [(None, True), (2, True), (1, False)])
def test_a_pass_grows_with_the_cluster_up_to_its_workers(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None, together: bool
) -> None:
    work, _ = meeting(tmp_path, 60 if together else 2)
    rows = engine(monkeypatch, workers).over("meet", work, [{"name": n} for n in range(2)])
    assert [row["met"] for row in rows] == [together] * 2


def test_a_pool_of_actors_grows_too(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, (_, actor) = [{"name": n} for n in range(4)], meeting(tmp_path, 60)
    rows = engine(monkeypatch, None).over_actors("meet", actor, (), items, 1.0, 0.0)
    assert sum(row["met"] for row in rows) >= 2


def test_a_pass_of_cpus_asks_for_no_gpu_node(ray_cluster: None) -> None:
    """By Ray's own rule for what a busy cluster may grow by; a pass on GPUs may ask for both."""
    from ray.data._internal.cluster_autoscaler.util import cap_resource_request_to_limits

    nodes = [{"CPU": 32, "GPU": 0, "memory": 2**37}, {"CPU": 96, "GPU": 8, "memory": 2**40}]
    grown = {
        gpus: cap_resource_request_to_limits([], nodes, data_context(gpus).execution_options.resource_limits)
        for gpus in (False, True)
    }
    assert grown == {False: nodes[:1], True: nodes}


def test_a_pass_leaves_the_process_as_it_was(ray_cluster: None, tmp_path: Path) -> None:
    """The context and the loggers that a user's own Ray Data work in the same process goes by."""
    from ray.data import DataContext

    def state() -> list[object]:
        context, names = DataContext.get_current(), ("progress", "execution.streaming_executor")
        levels = [logging.getLogger(f"ray.data._internal.{name}").level for name in names]
        return [id(context), context.enable_progress_bars, repr(context.execution_options), *levels]

    before, (work, actor) = state(), meeting(tmp_path, 0)
    passes = Engine(CorpusSettings(sources=["x"], domains=2))
    rows = passes.over("meet", work, [{"name": n} for n in range(2)])
    next(rows)
    rows.close()
    assert state() == before
    assert len(list(passes.over_actors("meet", actor, (), [{"name": 0}], 1.0, 0.0))) == 1
    assert state() == before
