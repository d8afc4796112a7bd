"""Who trains the target's domain stretches, stage by stage: groups, where one worker cannot hold the model."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splitray.config import Config
from splitray.executor.coordinator import Request
from splitray.pipeline.job import Job
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.stages import WORK
from splitray.search import tuner
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import PLAIN

DOMAINS = ("a", "b")


class Asked(Exception):
    pass


class Asking(Job):
    """A job that gets no further than its first requests; no corpus, no cluster."""

    law: Any = None  # type: ignore[assignment]
    table: Any = None  # type: ignore[assignment]


def job(root: Path, workers: int, **changes: Any) -> tuple[Asking, list[Request]]:
    resources = {"base_workers": 4, "specialist_workers": workers}
    training = PLAIN["training"] | {"global_batch_size": 4, "precision": "fp32"}
    config = Config(
        **PLAIN | {"model": {"hidden": 24, "layers": 1}, "resources": resources, "training": training} | changes
    )
    run = RunFolder(Folder(root / "run"), config)
    with run.stage("search", dict) as result:
        result["final_plan"] = {"split_fraction": {"value": 0.25}}
    made, asked = Asking(run, Store(root / "store")), list[Request]()

    def leaves(requests: Sequence[Request]) -> None:
        asked.extend(requests)
        raise Asked

    identity = {"content_hash": "c", "vocab": 300, "end_token": 0}
    made.__dict__["corpus"] = SimpleNamespace(domains=DOMAINS, identity=lambda: identity, vocab_size=300)
    made.__dict__["context"] = SimpleNamespace(training=config.training, namespace="n")
    made.__dict__["executor"] = SimpleNamespace(leaves=leaves, watch=None)
    return made, asked


def workers_of(requests: Sequence[Request]) -> set[tuple[bool, int, int]]:
    """(whether a domain's data are drawn, workers of the mixture, workers of the domain)."""
    return {(r.target.phases[-1].source in DOMAINS, r.mixture_workers, r.domain_workers) for r in requests}


@pytest.mark.parametrize(("workers", "expected"), [(2, 2), (1, 0)])
def test_baselines_train_in_groups_like_the_specialists(tmp_path: Path, workers: int, expected: int) -> None:
    made, asked = job(tmp_path, workers)
    with pytest.raises(Asked):
        WORK["evaluate"](made)
    assert workers_of(asked) == {(True, 4, expected), (False, 4, 0)}
    assert len(asked) == 2 * 4 + 1, "planned, three baselines, and the unsplit leaf at D"


@pytest.mark.parametrize(
    ("at", "expected"), [("target", {(True, 4, 2), (False, 4, 0)}), ("ladder", {(True, 0, 0), (False, 0, 0)})]
)
def test_trials_at_the_target_train_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, expected: set[tuple[bool, int, int]]
) -> None:
    problems: list[tuner.Problem] = []

    def searcher(law: Any, problem: tuner.Problem, *rest: Any) -> None:
        problems.append(problem)
        raise Asked

    monkeypatch.setattr(tuner, "LawSearcher", searcher)
    made, _ = job(tmp_path, 2, search={"at": at})
    with pytest.raises(Asked):
        WORK["search"](made)
    (problem,) = problems
    requests = [r for fraction in (0.0, 0.5, 1.0) for r in problem.requests(problem.split(fraction))]
    assert workers_of(requests) == expected
