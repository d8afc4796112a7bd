"""The coordinator and its hosts on a real Ray cluster: actors that die, requests that meet, groups that need room."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from splitray.errors import StageError
from splitray.executor.client import start_coordinator
from splitray.executor.orphans import release_orphans
from splitray.executor.request import Request
from splitray.executor.watch import COORDINATOR
from splitray.executor.worker import RunContext
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.recipe import Recipe
from splitray.training.state import load
from splitray.training.tree import Leaf, Segment, Target
from tests.support import tiny

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SETTINGS = tiny.training(checkpoint_seconds=0.2)


def texts(domain: str, count: int, seed: int) -> list[str]:
    draw, letters = np.random.default_rng(seed), {"a": "abcdefgh", "b": "stuvwxyz"}[domain]
    words = ["".join(draw.choice(list(letters), size=draw.integers(2, 6))) for _ in range(30)]
    return [" ".join(draw.choice(words, size=40)) for _ in range(count)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store that holds a corpus of two domains, and the corpus's key."""
    root = tmp_path_factory.mktemp("corpus")
    split = {d: {"train": texts(d, 60, 1), "validation": texts(d, 6, 2)} for d in ("a", "b")}
    return root, tiny.write_corpus(Store(root), split)


class Run:
    """An coordinator over a store of its own; `recipe`'s values come from the corpus that the store holds."""

    def __init__(self, root: Path, corpus: tuple[Path, str], capacity: float, settings: Any = SETTINGS) -> None:
        import shutil

        from splitray.corpus import Corpus

        if not root.exists():
            shutil.copytree(corpus[0], root)
        self.store = Store(root)
        held = Corpus.open(self.store, corpus[1])
        named = {"content_hash": held.content_hash, "vocab": held.vocab_size, "end_token": held.end_token}
        self.recipe: Recipe = tiny.make_recipe(settings, **named)
        self.context = RunContext(self.store, corpus[1], settings, f"test-{uuid.uuid4().hex[:8]}")
        self.coordinator = start_coordinator(self.context, capacity, 500)

    def request(self, leaf: Leaf, *domains: str, **where: int) -> Request:
        return Request(Target.leaf(self.recipe, leaf, tiny.SCHEDULE), domains, **where)

    def leaves(self, *requests: Request) -> list[dict[str, Any]]:
        return list(ray.get(self.coordinator.leaves.remote(requests), timeout=900))

    def progress(self) -> dict[str, Any]:
        return dict(ray.get(self.coordinator.progress.remote()))

    def alone(self, leaf: Leaf, root: Path) -> Any:
        """The state of a leaf trained here, without Ray, coordinator or interruption."""
        from splitray.corpus import Corpus
        from splitray.training.data import Order

        held = Corpus.open(self.store, self.context.corpus)
        order = Order({d: held.tokens(d, "train") for d in held.domains}, tiny.WEIGHTS, 16, 0)
        torch.set_num_threads(1)
        for segment in tiny.segments(self.recipe, leaf, trunks=False):
            made = train(segment, order, Store(root), SETTINGS)
        return load(made, moments=False)

    def pid(self, name: str) -> int:
        """The process of a live host."""
        actor = ray.get_actor(name, namespace=self.context.namespace)
        return int(ray._private.state.actors(actor._actor_id.hex())["Pid"])

    def close(self) -> None:
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] == self.context.namespace:
                with contextlib.suppress(ValueError):  # it ended by itself meanwhile
                    ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


@pytest.fixture
def start(tmp_path: Path, corpus: tuple[Path, str]) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def one(capacity: float = 2, settings: Any = SETTINGS) -> Run:
        made.append(Run(tmp_path / f"store{len(made)}", corpus, capacity, settings))
        return made[-1]

    yield one
    for run in made:
        run.close()


def batches(before: int, after: int = 0, domain: str | None = None) -> Leaf:
    return Leaf(before * 64, after * 64, domain)


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def test_equal_requests_in_flight_train_once_and_join_at_the_trunk(start: Callable[..., Run]) -> None:
    run = start(1)
    one = [run.request(batches(6, 2, d), d) for d in ("a", "b")]
    twice = [run.coordinator.leaves.remote(one), run.coordinator.leaves.remote(one)]
    first, second = ray.get(twice, timeout=900)
    assert first == second
    spent = run.progress()
    # the decay takes the last 2 of 8 batches, so it falls on the domains alone: 6 + 2 + 2 batches
    assert spent["trained"] == spent["tokens"] == 10 * 64 and spent["failures"] == 0
    assert len(run.store.keys("seg-")) == spent["finished"] == 3
    (loss,) = (r["losses"]["a"]["loss"] for r in first if "a" in r["losses"])
    assert 0 < loss < np.log(run.recipe.vocab) + 0.5
    # asked again, and scored on another domain: nothing is trained
    assert run.leaves(run.request(batches(6, 2, "a"), "b"))[0]["key"] == first[0]["key"]
    again = run.progress()
    assert (again["segments"], again["tokens"]) == (spent["segments"], spent["tokens"])
    states = [s for s in ray.get(run.coordinator.usage.remote(), timeout=60) if s.worker]
    assert {(s.worker, s.device, s.devices) for s in states} == {("ladder[0]", "CPU", 1.0)}
    assert {s.state for s in states} >= {"train", "score", "idle"}
    assert [s.at for s in states] == sorted(s.at for s in states)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_host_that_is_killed_leads_to_the_same_bits(start: Callable[..., Run], tmp_path: Path, how: int) -> None:
    run, leaf = start(1), batches(400)
    waiting = run.coordinator.leaves.remote([run.request(leaf, "a")])
    until(lambda: run.store.keys("part-"))
    os.kill(run.pid("ladder[0]"), how)
    (result,) = ray.get(waiting, timeout=900)
    spent = run.progress()
    assert spent["failures"] == (1 if how == signal.SIGKILL else 0), "a host that was told to stop is no failure"
    found = run.store.find(result["key"])
    assert found is not None and not run.store.keys("part-")
    pieces = [run.store.find(k) for k in run.store.keys("seg-")]
    assert any(p is not None and p.meta["tokens_trained"] < p.meta["end"] - p.meta["start"] for p in pieces), (
        "the host was killed between two segments, which shows nothing"
    )
    expected, ours = run.alone(leaf, tmp_path / "alone"), load(found, moments=False)
    assert all(torch.equal(ours.weights[n], w) for n, w in expected.weights.items())


def test_an_owner_that_is_killed_is_replaced_and_the_call_goes_on(start: Callable[..., Run], tmp_path: Path) -> None:
    run, leaf = start(1), batches(200)
    waiting = run.coordinator.leaves.remote([run.request(leaf, "a")])
    until(lambda: run.store.keys("part-"))
    before = run.pid(COORDINATOR)
    os.kill(before, signal.SIGKILL)
    (result,) = ray.get(waiting, timeout=900)
    assert run.pid(COORDINATOR) != before
    found = run.store.find(result["key"])
    assert found is not None
    expected, ours = run.alone(leaf, tmp_path / "alone"), load(found, moments=False)
    assert all(torch.equal(ours.weights[n], w) for n, w in expected.weights.items())


def test_damage_is_found_withdrawn_and_trained_again(start: Callable[..., Run]) -> None:
    """A trunk whose weights rotted between two runs: a new leaf starts from it, and everyone gets their model."""
    run = start(2)
    (first,) = run.leaves(run.request(batches(4, 4, "a"), "a"))
    (trunk,) = [k for k in run.store.keys("seg-") if k.endswith("-000000000000256")]
    held = run.store.find(trunk)
    assert held is not None
    path = held.folder.local_path("weights.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    run.close()
    again = Run(Path(run.store.root.path), ("", run.context.corpus), 2)  # type: ignore[arg-type]
    results = again.leaves(*(again.request(batches(4, n, "b"), "b") for n in (4, 3)))
    healed = run.store.find(trunk)
    assert len(results) == 2 and healed is not None and healed.nonce != held.nonce
    load(healed)
    assert first["key"] in run.store.keys("seg-")
    again.close()


def test_what_exceeds_the_capacity_is_refused_with_the_arithmetic(start: Callable[..., Run]) -> None:
    run = start(2)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        run.leaves(run.request(batches(4), mixture_workers=3))
    assert isinstance(caught.value.cause, StageError)
    assert "base needs 3 x 1 = 3 CPUs, the cluster has 2" in str(caught.value.cause)


def test_a_group_of_two_trains_while_ladder_hosts_are_idle(start: Callable[..., Run]) -> None:
    """Both ladder hosts hold the whole cluster, then a TorchTrainer group needs it: 2 x 0.95 CPU."""
    run = start(2)
    run.leaves(run.request(batches(2, 1, "a"), "a"), run.request(batches(0, 3, "b"), "b"))
    (result,) = run.leaves(run.request(batches(10), mixture_workers=2))
    found = run.store.find(result["key"])
    assert found is not None
    assert (found.meta["world"], found.meta["zero_stage"], found.meta["resharded"]) == (2, 1, [])
    assert found.meta["worker"] == "base.0"
    chain = Segment(run.recipe, Target.leaf(run.recipe, batches(10), tiny.SCHEDULE).phases)
    assert found.key == chain.key and run.progress()["failures"] == 0
    assert run.store.root.folders() == ["attempts", "done", "ray_train"] and not (run.store.root / "ray_train").names()


def test_what_a_dead_actor_reserved_is_given_back() -> None:
    """Ray keeps a placement group of a dead actor for as long as the job lives; ours, and the living, stay."""

    class Holder:
        def reserve(self) -> str:
            group = ray.util.placement_group([{"CPU": 0.01}])
            ray.get(group.ready())
            return str(group.id.hex())

    def standing() -> set[str]:
        return {k for k, v in ray.util.placement_group_table().items() if v["state"] == "CREATED"}

    dead, living = (ray.remote(Holder).options(num_cpus=0).remote() for _ in range(2))
    lost, kept = ray.get([dead.reserve.remote(), living.reserve.remote()])
    mine = ray.util.placement_group([{"CPU": 0.01}])
    ray.get(mine.ready())
    ray.kill(dead)
    until(lambda: release_orphans() >= 0 and lost not in standing())
    assert {kept, mine.id.hex()} <= standing()
    ray.util.remove_placement_group(mine)
    ray.kill(living)
    until(lambda: release_orphans() >= 0 and kept not in standing())
