"""Document losses against a naive account: one token at a time, the window's own prefix before it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from splitray.corpus import Corpus
from splitray.evaluate.loss import Validation, document_losses, validation_key
from splitray.storage.store import Store
from splitray.training.model import build
from tests.support import tiny

RECIPE = tiny.make_recipe()
DOCUMENTS = [[5, 9, 7, 0], [3, 4, 0], [8, 8, 2, 6, 1, 11, 40, 2, 7, 7, 30, 22, 9, 9, 1, 5, 6, 0], [12, 0]] * 3


def validation() -> Validation:
    tokens = np.concatenate([np.array(d) for d in DOCUMENTS])
    return Validation(
        "a", tokens, np.repeat(np.arange(len(DOCUMENTS)), [len(d) for d in DOCUMENTS]), len(DOCUMENTS), 99
    )


def naive(model: torch.nn.Module, across: bool) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 16 inputs; each target alone, from what stands before it in its window (and document)."""
    stream = [(t, d) for d, document in enumerate(DOCUMENTS) for t in document]
    nats, count = np.zeros(len(DOCUMENTS)), np.zeros(len(DOCUMENTS))
    for place in range(1, len(stream)):
        target, document = stream[place]
        begin = (place - 1) // 16 * 16
        context = stream[begin:place]
        if not across:  # what is predicted is the next token; its context is the document of the last input
            context = [c for c in context if c[1] == context[-1][1]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[t for t, _ in context]])).logits[0, -1]
        nats[document] -= float(logits.double().log_softmax(-1)[target])
        count[document] += 1
    return nats, count


@pytest.mark.parametrize("across", [True, False])
def test_document_losses_equal_a_naive_count(across: bool) -> None:
    recipe = replace(RECIPE, attention_across_documents=across)
    model = build(recipe).train()
    ours, tokens = document_losses(model, recipe, validation())
    expected, count = naive(model.eval(), across)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert tokens.tolist() == count.tolist() and tokens.sum() == sum(map(len, DOCUMENTS)) - 1


def test_the_mode_of_the_model_is_kept() -> None:
    model = build(RECIPE).train()
    document_losses(model, RECIPE, validation())
    assert model.training


class Shards:
    """A corpus by duck type: three documents in two shards."""

    validation_hash = "v"

    def documents(self, domain: str, split: str) -> pa.Table:
        assert (domain, split) == ("a", "validation")
        return pa.table({"tokens": [4, 3, 5], "bytes": [10, 20, 30]})

    def tokens(self, domain: str, split: str) -> list[np.ndarray]:
        return [np.arange(7, dtype=np.uint16), np.arange(7, 12, dtype=np.uint16)]


@pytest.mark.parametrize(("limit", "documents"), [(3, 1), (4, 1), (7, 2), (11, 2), (12, 3), (10**6, 3)])
def test_validation_text_is_whole_documents_up_to_a_limit(limit: int, documents: int) -> None:
    text = Validation.of(Shards(), "a", limit)
    counts, sizes = [4, 3, 5][:documents], [10, 20, 30][:documents]
    assert (text.documents, text.text_bytes) == (documents, sum(sizes))
    assert text.tokens.tolist() == list(range(sum(counts)))
    assert text.document.tolist() == [d for d, n in enumerate(counts) for _ in range(n)]


def test_a_corpus_on_disk_gives_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    words = {"a": ["one two three " * 5, "four five six " * 9], "b": ["seven eight " * 7]}
    corpus = Corpus.open(store, tiny.write_corpus(store, {d: {"train": t, "validation": t} for d, t in words.items()}))
    text = Validation.of(corpus, "a", 10**6)
    assert text.documents == 2 and text.text_bytes == sum(len(t.encode()) for t in words["a"])
    assert text.tokens.tolist() == np.concatenate(corpus.tokens("a", "validation")).tolist()
    ends = np.flatnonzero(text.tokens == corpus.end_token)
    assert np.flatnonzero(np.diff(text.document)).tolist() == ends[:-1].tolist()
    assert validation_key(corpus, 10) != validation_key(corpus, 11)
