"""Who trains the target's domain stretches, stage by stage: groups, where one worker cannot hold the model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splitray.config import Config
from splitray.executor.request import Request, SplitFamily
from splitray.law.planning.estimate import Estimate
from splitray.pipeline.job import Job
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.stages import WORK
from splitray.results.stages import SearchResult
from splitray.search import tuner
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import PLAIN
from tests.support.results import PLAN

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
    plan = replace(PLAN, split_fraction=Estimate(0.25))
    run.carry_out("search", lambda: SearchResult(None, plan), lambda: None)
    made, asked = Asking(run, Store(root / "store")), list[Request]()

    def leaves(requests: Sequence[Request]) -> None:
        asked.extend(requests)
        raise Asked

    made.__dict__["programme"] = Programme(config, CorpusFacts("c", 300, 0, DOMAINS, dict.fromkeys(DOMAINS, 9)), "fp32")
    made.__dict__["context"] = SimpleNamespace(namespace="n")
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
    families: list[SplitFamily] = []

    def searcher(law: Any, family: SplitFamily, *rest: Any) -> None:
        families.append(family)
        raise Asked

    monkeypatch.setattr(tuner, "LawSearcher", searcher)
    made, _ = job(tmp_path, 2, search={"at": at})
    with pytest.raises(Asked):
        WORK["search"](made)
    (family,) = families
    requests = [r for fraction in (0.0, 0.5, 1.0) for r in family.requests(family.split(fraction))]
    assert workers_of(requests) == expected
