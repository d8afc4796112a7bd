"""A study small enough for a test: three vocabularies, one of them the topic, and an exam about it."""

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from splitray.evaluate.exams import Exam
from splitray.evaluate.exams.answers import answer
from splitray.evaluate.measure import measure
from splitray.executor.request import Request
from splitray.executor.worker import RunContext, order_of
from splitray.pipeline.study.job import StudyFolder, StudyJob
from splitray.pipeline.study.settings import StudyConfig
from splitray.pipeline.study.stages import WORK
from splitray.storage.folder import Folder
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.loop import train
from splitray.training.tree import by_recipe, grow
from tests.support.configs import WORDS, write_corpus
from tests.support.inline import InlineEngine

TOPIC = "court"


def write_exam(path: Path, questions: int = 8) -> None:
    """Which words go on: those of the topic, or those of another vocabulary. Too short to be found in the corpus."""
    draw = random.Random(1)
    rows = []
    for _ in range(questions):
        topic, other = (WORDS[kind].split() for kind in (TOPIC, "sea"))
        texts = [" ".join(draw.sample(words, 3)) for words in (topic, topic, other)]
        right = draw.randrange(2)
        choices = [texts[1], texts[2]] if right == 0 else [texts[2], texts[1]]
        rows.append({"question": texts[0], "choices": choices, "answer": right})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def write_given(folder: Path) -> None:
    """A GPT-2 of some thousand weights, as people bring it, with a tokenizer of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    from splitray.corpus.settings import TokenizerSettings
    from splitray.corpus.tokenizer import train_bpe
    from tests.support import causal

    torch.manual_seed(0)
    config = causal.config("gpt2")
    config.vocab_size = 280
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_bpe(list(WORDS.values()), TokenizerSettings(vocabulary=280)).save_pretrained(folder)


def study(folder: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of a study of `write_corpus`, which is written to the folder with an exam beside it."""
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus")
        write_exam(folder / "bar.jsonl")
    return {
        "name": "court",
        "corpus": {
            "sources": [str(folder / "corpus")],
            "group_column": "source",
            "validation_share": 0.15,
            "near_duplicate": None,
            "tfidf": {"dimensions": 16},
            "tokenizer": {"vocabulary": 300},
        },
        "topic": {
            "name": "courts",
            "examples": {"column": "kind", "values": [TOPIC], "documents": 400},
            "filter": {"options": {"options": {"dimensions": 16}}},
        },
        "own": {
            "shapes": [{"hidden": hidden, "layers": 1} for hidden in (8, 12, 16, 24)],
            "pretrain_tokens": 4096,
        },
        "arms": ["general", "filtered", "quality", "mix"],
        "tokens": [1024, 4096],
        "seeds": 1,
        "training": {
            "sequence_length": 32,
            "global_batch_size": 8,
            "warmup_tokens": 256,
            "precision": "fp32",
            "checkpoint_seconds": 0.5,
        },
        "measure": {"validation_tokens": 2048, "exams": [str(folder / "bar.jsonl")]},
        "store": str(folder / "store"),
        "run_dir": str(folder / "run"),
        **changes,
    }


class LocalStudyExecutor:
    """Trains, scores and examines in this process, by the same loop and tree as the workers on Ray.

    Args:
        stop_after: segments after which it stops as if it were killed; None: never.
    """

    def __init__(self, job: StudyJob, stop_after: int | None = None) -> None:
        self.job, self.stop_after, self.trained = job, stop_after, list[str]()

    def leaves(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        job, store = self.job, self.job.store
        corpora = dict(job.corpora)
        context = RunContext(store, next(iter(corpora.values())), job.training, "none", corpora=corpora)
        for group in by_recipe([request.target for request in requests], lambda target: target.recipe):
            for segment in grow(group, lambda line: SegmentKey.ends(line, store.keys())):
                if len(self.trained) == self.stop_after:
                    raise KeyboardInterrupt
                train(segment, order_of(context, segment), store, job.training)
                self.trained.append(segment.key)
        limit, by_hash = job.validation_tokens, {c.content_hash: c for c in job.opened.values()}
        return [
            {"losses": measure(store, by_hash[r.target.recipe.corpus], r.target.key, r.domains, limit)}
            for r in requests
        ]

    def answers(self, keys: Sequence[str], exams: Sequence[Exam]) -> None:
        by_hash = {c.content_hash: c for c in self.job.opened.values()}
        for key in keys:
            held = self.job.store.find(key)
            assert held is not None, key
            for exam in exams:
                answer(self.job.store, by_hash[held.recorded("recipe")["corpus"]], key, exam)


def carry_out(
    values: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None
) -> LocalStudyExecutor:
    """Do every stage that a study lacks, in this process; what its executor has trained."""
    monkeypatch.setattr("splitray.corpus.ray_tasks.Engine", InlineEngine)
    monkeypatch.setattr("splitray.corpus.ray_tasks.own_context", nullcontext)
    monkeypatch.setattr("splitray.corpus.build.Engine", InlineEngine)
    monkeypatch.setattr("splitray.corpus.build.own_context", nullcontext)
    monkeypatch.setattr("splitray.corpus.build.check_seen", lambda store, workers: None)
    monkeypatch.setattr("splitray.pipeline.study.stages.filtering.waiting_said", lambda what: nullcontext())
    config = StudyConfig(**values)
    run = StudyFolder(Folder(str(config.run_dir)), config)
    job = StudyJob(run, Store(str(config.store)))
    executor = LocalStudyExecutor(job, stop_after)
    job.__dict__["executor"] = executor
    for stage in run.stages():
        if run.done(stage) is None:
            run.carry_out(stage, lambda stage=stage: WORK[stage](job), lambda: None)  # type: ignore[misc]
    return executor
