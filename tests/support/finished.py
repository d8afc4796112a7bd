"""A finished run of tiny models, made by the main job's own stages in this process: no cluster, a few seconds."""

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splitray.config import Config
from splitray.corpus import Corpus
from splitray.evaluate.measure import measure
from splitray.executor.request import Request
from splitray.executor.worker import RunContext, order_of
from splitray.ladder.grid import TABLE
from splitray.law import Law
from splitray.pipeline.job import Job
from splitray.pipeline.passport import write_passports
from splitray.pipeline.run_folder import STAGES, RunFolder
from splitray.pipeline.stages import WORK
from splitray.pipeline.stages.planning import planned
from splitray.pipeline.summary import summarise
from splitray.pipeline.verify import models_of
from splitray.results.stages import (
    CorpusResult,
    Counts,
    DomainCounts,
    LadderResult,
    LawResult,
    PlanResult,
    ReportResult,
    Work,
)
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.tree import by_recipe, grow
from tests.support import tiny
from tests.support.configs import PLAIN, WORDS
from tests.support.results import RELEASE

SECONDS = {"training_seconds": 7.2, "failures": 0}
SHARED = ["the", "of", "and", "a"]
NAMES = {"sea": "0_sea", "kitchen": "1_kitchen", "court": "2_court"}


class LocalExecutor:
    """Trains and scores in this process, by the same loop and the same tree as the workers on Ray."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trained = 0

    def begin_stage(self) -> None:
        self.trained = 0

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        job, store = self.job, self.job.store
        context = RunContext(store, job.corpus.key, job.programme.training, "none")
        for targets in by_recipe([r.target for r in requests], lambda target: target.recipe):
            for segment in grow(targets, lambda line: _ends(store, line)):
                train(segment, order_of(context, segment), store, job.programme.training)
                self.trained += segment.tokens
        job.ledger.see({"spent": {job.programme.size(job.config.model).params: self.trained}} | SECONDS)
        limit = job.config.evaluate.validation_tokens
        return [
            {"key": r.target.key, "losses": measure(store, job.corpus, r.target.key, r.domains, limit)}
            for r in requests
        ]

    def work(self) -> Work:
        return Work(**{f.name: self.trained if f.name in ("tokens", "trained") else 1 for f in fields(Work)})


def _ends(store: Store, line: str) -> set[int]:
    from splitray.storage.keys import SegmentKey

    return SegmentKey.ends(line, store.keys())


def config(**changes: Any) -> Config:
    """Sections among the changes are laid over the plain ones, field by field."""
    values: dict[str, Any] = PLAIN | {
        "name": "tiny",
        "budget": 24576,
        "plan": {"min_pretrain_tokens": 12288},
        "corpus": {"sources": ["/home/somebody/private/texts.jsonl"], "domains": 3},
        "model": {"hidden": 16, "layers": 2, "heads": 2},
        "training": {**PLAIN["training"], "sequence_length": 32, "global_batch_size": 8, "precision": "fp32"},
        "search": {"at": "off"},
        "evaluate": {"validation_tokens": 2048, "baselines": [1.0]},
    }
    for name, change in changes.items():
        values[name] = values[name] | change if isinstance(values.get(name), dict) else change
    return Config(**values)


def begun(folder: Path, **changes: Any) -> Job:
    """A run in `folder/run` and `folder/store` whose corpus stands; models are trained in this process.

    Args:
        changes: of the configuration, as of `config`.
    """
    store = Store(folder / "store")
    settings = config(**changes)
    run = RunFolder(Folder(folder / "run"), settings)
    key = _write_corpus(store)
    job = Job(run, store)
    job.__dict__["executor"] = LocalExecutor(job)
    corpus = Corpus.open(store, key)
    counts = tuple(
        DomainCounts(d, *(Counts(**corpus.counts(d, side)) for side in ("train", "validation"))) for d in corpus.domains
    )
    run.carry_out("corpus", lambda: CorpusResult(key, counts), lambda: None)
    return job


def write_finished(folder: Path, **changes: Any) -> Path:
    """`folder/run` and `folder/store` of a run that has ended with stage report's summary; the run folder.

    Args:
        changes: of the configuration, as of `config`.
    """
    job = begun(folder, **changes)
    run, executor = job.run, cast(LocalExecutor, job.executor)
    run.carry_out("ladder", lambda: _ladder(job), lambda: None)
    run.carry_out("law", lambda: _law(job), lambda: None)
    run.carry_out("plan", lambda: _plan(job), lambda: None)
    for stage in ("search", "base", "specialists", "evaluate"):
        executor.begin_stage()
        job.ledger.begin(stage)
        run.carry_out(stage, lambda stage=stage: WORK[stage](job), executor.work)  # type: ignore[misc]
        job.ledger.end_stage()
    machine = {"cpus": 2.0, "gpus": 0.0, "nodes": 1, "cpu_model": "a CPU"}
    with patch("splitray.pipeline.summary.machine", lambda: machine):  # it asks Ray
        run.carry_out("report", lambda: _report(job), lambda: None)
    job.ledger.end("done")
    write_passports(run.folder, models_of({stage: record for stage in STAGES if (record := run.done(stage))}))
    return folder / "run"


def _report(job: Job) -> ReportResult:
    """Without the page: its figures take seconds."""
    summarise(job)
    job.run.note("summary.json")
    return ReportResult("summary.json")


def _write_corpus(store: Store) -> str:
    draw = random.Random(0)

    def text(words: list[str]) -> str:
        return " ".join(draw.choice(words if draw.random() < 0.8 else SHARED) for _ in range(60))

    texts = {
        NAMES[kind]: {
            "train": [text(words.split()) for _ in range(60)],
            "validation": [text(words.split()) for _ in range(9)],
        }
        for kind, words in WORDS.items()
    }
    return tiny.write_corpus(store, texts, extras=lambda folder: _extras(folder, texts))


def _extras(folder: Path, texts: Mapping[str, Mapping[str, list[str]]]) -> None:
    """The router and the statistics, which a corpus of the main job has too."""
    from splitray.corpus.embedders.tfidf import TfidfEmbedder, TfidfSettings
    from splitray.corpus.router import Placement, Router

    train = {domain: sides["train"] for domain, sides in texts.items()}
    embedder = TfidfEmbedder.fit([t for ts in train.values() for t in ts], TfidfSettings(dimensions=8), 0)
    centroids = np.stack([embedder.embed(ts).mean(axis=0) for ts in train.values()])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    Router(embedder, Placement(centroids.astype(np.float32), np.zeros(len(train)), True, list(train))).save(
        folder / "router"
    )
    domains = {
        domain: {"terms": texts.split()[:5]} for domain, texts in zip(NAMES.values(), WORDS.values(), strict=True)
    }
    statistics = {"domains": domains, "dropped": {"too short": 3}, "groups_split_by_row": [], "seconds": {"read": 1.0}}
    (folder / "statistics.json").write_text(json.dumps(statistics))


def _ladder(job: Job) -> LadderResult:
    """No ladder is trained: its table has what the given law says of a few small models."""
    law, rows = _given(), []
    for number, (domain, pretrained) in enumerate(itertools.product(job.corpus.domains, (2048, 8192))):
        loss = float(law.predict([3e3], [pretrained], [512], domain=domain)[0])
        place = {"params": 3000, "pretrain_tokens": pretrained, "specialize_tokens": 512, "domain": domain}
        names = {"seed": 0, "run": f"run-{number}", "trunk": f"trunk-{pretrained}", "branch": f"branch-{number}"}
        rows.append(place | names | {"loss": loss, "flops": 1e9})
    table = pa.Table.from_pylist(rows, TABLE)
    job.run.keep("runs.parquet", lambda path: pq.write_table(table, path))
    return LadderResult(0, 0, 0, 0, 1.0, 1)


def _given() -> Law:
    constants = RELEASE | {"lam": 1.0, "delta": 1.0}  # it splits as early as it may
    return Law.known("release", dict.fromkeys(NAMES.values(), constants))


def _law(job: Job) -> LawResult:
    law = _given()
    job.run.keep("law.json", law.save)
    return LawResult(law.form)


def _plan(job: Job) -> PlanResult:
    plan = planned(job.programme, job.law)
    job.run.keep("plan.json", plan.save)
    return PlanResult(plan)
