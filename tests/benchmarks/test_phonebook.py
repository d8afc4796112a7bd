"""The phonebook's facts, its corpus and its accuracy."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import phonebook as book
from splitray.corpus import Corpus
from splitray.storage.store import Store
from splitray.training.data import Windows
from splitray.training.model import build
from splitray.training.recipe import recipe
from splitray.training.settings import ModelShape
from tests.support import tiny


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A model that has learned nothing, so that its guesses are as good as any."""
    named = {"content_hash": "", "vocab": book.VOCAB, "end_token": book.END}
    settings = tiny.training(sequence_length=32)
    return build(recipe(ModelShape(hidden=16, layers=1), settings, named, {}, 0)).eval()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 1.0])
def test_clusters_share_as_many_facts_as_they_should(overlap: float) -> None:
    first, second = (set(map(tuple, rows)) for rows in book.facts(overlap).values())
    assert len(first) == len(second) == book.FACTS
    assert len(first & second) == overlap * book.FACTS
    names = {fact[: book.NAME] for fact in first | second}
    assert len(names) == len(first | second)  # a name has one number
    assert all(fact[book.NAME] == book.COLON and fact[-1] == book.END for fact in first | second)


def test_every_window_is_whole_facts_and_every_pass_has_each_once(tmp_path: Path) -> None:
    store, clusters = Store(tmp_path), book.facts(0.5)
    key = book.publish(store, clusters)
    assert book.publish(store, clusters) == key
    corpus = Corpus.open(store, key)
    for name, rows in clusters.items():
        windows = Windows(name, corpus.tokens(name, "train"), book.SEQUENCE, 0)
        assert len(windows) * 14 == book.PASSES * book.FACTS
        drawn = np.concatenate([windows.draw(i, False)[:-1] for i in range(len(windows))]).reshape(-1, book.LENGTH)
        counts = dict.fromkeys(map(tuple, rows.tolist()), 0)
        for fact in map(tuple, drawn.tolist()):
            counts[fact] += 1
        assert set(counts.values()) == {book.PASSES}
    assert book.publish(store, book.facts(0.25)) != key


def test_recall_is_what_greedy_decoding_writes(model: torch.nn.Module) -> None:
    rows = book.facts(0.0, count=40)["first"]
    # numbers that this model would write make some facts true, so that both outcomes appear
    known = rows.copy()
    for fact in known[::3]:
        text = torch.from_numpy(fact[None, : book.NAME + 1])
        for _ in range(book.NUMBER):
            text = torch.cat([text, model(input_ids=text).logits[:, -1:].argmax(-1)], dim=1)
        fact[:-1] = text[0].numpy()
    right = 0
    for fact in known:
        text = torch.from_numpy(fact[None, : book.NAME + 1])
        for _ in range(book.NUMBER):
            text = torch.cat([text, model(input_ids=text).logits[:, -1:].argmax(-1)], dim=1)
        right += bool((text[0].numpy() == fact[:-1]).all())
    assert right >= 14
    assert book.recall(model, known) == right / len(known)


def test_every_strategy_draws_the_same_steps() -> None:
    batch = book.TRAINING.batch_tokens
    for point in book.Plan().points():
        split = book.Split.at(
            point.split_step / point.steps, point.steps * batch, dict.fromkeys(book.CLUSTERS, 0.5), batch
        )
        assert split.budget == point.steps * batch and split.pretrain_tokens == point.split_step * batch


def test_summary_needs_both_clusters() -> None:
    base = {"overlap": 0.0, "steps": 10, "split_step": 4, "cluster": "first", "seed": 0, "accuracy": 1.0}
    rows = [base, base | {"cluster": "second", "accuracy": 0.5}, base | {"seed": 1}]
    (point,) = book.summary(rows)
    assert (point["accuracy"], point["seeds"], point["standard_error"]) == (0.75, 1, None)


def test_the_ends_are_paired_by_seed() -> None:
    known = {(0, 0): 0.6, (0, 4): 0.1, (0, 10): 0.2, (1, 0): 0.8, (1, 4): 0.1, (1, 10): 0.3}  # seed and split step
    rows = [
        {"overlap": 0.0, "steps": 10, "split_step": step, "cluster": cluster, "seed": seed, "accuracy": value + side}
        for (seed, step), value in known.items()
        for cluster, side in zip(book.CLUSTERS, (0.05, -0.05), strict=True)
    ]
    rows += [rows[0] | {"seed": 2}]  # half a point
    told = book.ends(rows, book.summary(rows))
    (line,) = told["ends"]
    assert (told["limited_steps"], told["sufficient_least"]) == (10, None)
    assert line["gap"]["seeds"] == 2 and line["gap"]["value"] == pytest.approx(0.45)
    assert line["at_once"] == pytest.approx(0.7) and line["worst"] == {"split_step": 4, "accuracy": pytest.approx(0.1)}
