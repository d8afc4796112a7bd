"""How many tasks of a pass run at once: what the cluster takes when they run, not what it had at the start."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from splitray.corpus.ray_tasks import Engine, own_context
from splitray.corpus.settings import CorpusSettings

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def context() -> Iterator[None]:
    with own_context():
        yield


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


def test_a_pass_of_cpus_asks_for_no_gpu_node(ray_cluster: None, tmp_path: Path) -> None:
    """By Ray's own rule for what a busy cluster may grow by; a pass on GPUs may ask for both."""
    from ray.data import DataContext
    from ray.data._internal.cluster_autoscaler.util import cap_resource_request_to_limits

    nodes = [{"CPU": 32, "GPU": 0, "memory": 2**37}, {"CPU": 96, "GPU": 8, "memory": 2**40}]
    passes, (work, actor) = Engine(CorpusSettings(sources=["x"], domains=2)), meeting(tmp_path, 0)

    def grown() -> list[dict[str, int]]:
        return cap_resource_request_to_limits([], nodes, DataContext.get_current().execution_options.resource_limits)

    passes.over_actors("meet", actor, (), [{"name": 0}], 1.0, 0.25)
    assert grown() == nodes
    assert [row["name"] for row in passes.over("meet", work, [{"name": 0}])] == [0]
    assert grown() == nodes[:1]
