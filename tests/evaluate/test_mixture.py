"""The mixture against sums over all models, computed apart from it and without a cache."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from splitray.corpus.tokenizer import Encoder
from splitray.errors import UserError
from splitray.evaluate.mixture import (
    OPEN,
    STAY,
    Follow,
    Gate,
    Mixture,
    PrefixPrior,
    Sampling,
    TopPrior,
    UniformPrior,
    bound,
    exact_nats,
    gated_nats,
)
from tests.support.ensemble import LENGTH, ensemble, plain_nats, tokenizer
from tests.support.planted import documents

TEXTS = [row["text"] for row in documents(domains=2, each=4, words=30)] + ["short", "", "two words"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma2", "mamba"])
def test_text_is_scored_as_a_sum_over_ensemble(name: str, encoder: Encoder) -> None:
    members = ensemble(name, encoder.vocabulary)
    prior = np.log([0.5, 0.3, 0.2])
    mixture = Mixture(members, encoder, LENGTH, gate=OPEN)
    mixture.prior = type("Fixed", (), {"log_weights": lambda self, texts: np.tile(prior, (len(texts), 1))})()
    for text, scored in zip(TEXTS, mixture.score(TEXTS), strict=True):
        tokens = encoder.encode([text])[0].astype(np.int64)
        nats = np.stack([plain_nats(m, tokens, encoder.end) for m in members.values()], axis=1)
        assert np.array_equal(scored.tokens, tokens)
        before = prior - np.vstack([np.zeros(3), nats.cumsum(axis=0)[:-1]])
        weights = np.exp(before - logsumexp(before, axis=1, keepdims=True))
        np.testing.assert_allclose(scored.weights, weights, atol=2e-4)
        np.testing.assert_allclose(scored.nats, -np.log((weights * np.exp(-nats)).sum(axis=1)), atol=2e-3)
        assert scored.nats.sum() == pytest.approx(exact_nats(nats.sum(axis=0), prior), abs=2e-3)
        assert scored.nats.sum() <= bound(nats.sum(axis=0), prior) + 2e-3
        assert (scored.running == 3).all()


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma2", "mamba"])
def test_what_is_written_is_the_likeliest_of_the_sum(name: str, encoder: Encoder) -> None:
    """Prompts of several lengths in one batch, against each alone without a cache."""
    members = ensemble(name, encoder.vocabulary)
    mixture = Mixture(members, encoder, LENGTH, gate=OPEN)
    prompts = ["", TEXTS[0][:20], TEXTS[1][:40], "a"]
    written = mixture.generate(prompts, Sampling(max_tokens=12, temperature=0, alternatives=2))
    for prompt, result in zip(prompts, written, strict=True):
        text = [encoder.end, *encoder.encode([prompt])[0][:-1].tolist()]
        log_weights = np.full(3, -np.log(3))
        for place in range(1, len(text)):
            log_weights += [_next(m, text[:place])[text[place]] for m in members.values()]
        for step in result.steps:
            ahead = np.stack([_next(m, text) for m in members.values()])
            mixed = logsumexp(log_weights[:, None] + ahead, axis=0) - logsumexp(log_weights)
            np.testing.assert_allclose(step.weights, np.exp(log_weights - logsumexp(log_weights)), atol=1e-3)
            assert step.log_probability == pytest.approx(mixed[step.token], abs=2e-3)
            assert mixed[step.token] > mixed.max() - 2e-3, "the likeliest, ties aside"
            assert step.alternatives[0][0] == step.token and len(step.alternatives) == 2
            log_weights = log_weights + ahead[:, step.token]
            text.append(step.token)
        assert result.finished == ("stop" if text[-1] == encoder.end else "length")
        assert len(result.steps) == 12 or result.finished == "stop" or len(text) >= LENGTH


def _next(model: Any, text: list[int]) -> np.ndarray:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].double()
    return np.asarray(logits.log_softmax(0).numpy())


def test_light_models_stop(encoder: Encoder) -> None:
    members = ensemble("llama", encoder.vocabulary)
    gate = Gate(threshold=0.01, commit=0.99, recheck=0)
    gated = Mixture(members, encoder, LENGTH, gate=gate).score(TEXTS)
    for other, text in zip(gated, TEXTS, strict=True):
        tokens = encoder.encode([text])[0].astype(np.int64)
        nats = np.stack([plain_nats(m, tokens, encoder.end) for m in members.values()], axis=1)
        by_hand = gated_nats(nats, np.full(3, -np.log(3)), gate)
        np.testing.assert_allclose(other.nats, by_hand.nats, atol=2e-3)
        last = int(by_hand.log_weights.argmax())
        assert other.nats.sum() <= nats[:, last].sum() + np.log(3) + 2e-3, "the bound holds for who runs to the end"
    assert min(scored.running.min() for scored in gated) == 1
    assert all((np.diff(scored.running) <= 0).all() for scored in gated), "who has stopped does not come back"


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_a_model_that_has_stopped_comes_back_where_the_text_becomes_its_own(name: str, encoder: Encoder) -> None:
    """Text that one model wrote, then another: what each token costs, by whole forward passes without a cache."""
    members = ensemble(name, encoder.vocabulary)
    first, second = (_written(model, encoder, 75) for model in list(members.values())[:2])
    long, short = np.concatenate([first[:45], second]), first[:40]
    rows = [np.append(encoder.end, row) for row in (long, short)]
    final = Mixture(members, encoder, LENGTH, gate=Gate(recheck=0)).score_tokens(rows, ["", ""])[0]
    scored, other = Mixture(members, encoder, LENGTH, gate=Gate(recheck=0.2)).score_tokens(rows, ["", ""])
    nats = np.stack([plain_nats(m, long, encoder.end) for m in members.values()], axis=1)
    np.testing.assert_allclose(scored.nats, -np.log((scored.weights * np.exp(-nats)).sum(axis=1)), atol=2e-3)
    if name == "mamba":  # its drawn texts are one token over and over: all models like them
        return
    assert scored.weights[44].argmax() == 0
    assert scored.weights[-1].argmax() != 0, "another came back"
    assert final.weights[-1].argmax() == 0 and scored.nats.sum() < final.nats.sum() - 5
    assert scored.running.mean() < 3 and scored.running.min() == 1, "and it cost less than all models"
    assert other.running.max() <= 3, "nobody is asked in a short text"


def _written(model: Any, encoder: Encoder, count: int) -> np.ndarray:
    """Tokens that a model draws, int64 [count]; it begins anew after every window."""
    text, draws = [encoder.end], torch.Generator().manual_seed(0)
    for place in range(count):
        begin = place - place % LENGTH
        chances = torch.from_numpy(np.exp(5 * _next(model, text[begin:])))
        text.append(int(torch.multinomial(chances, 1, generator=draws)))
    return np.array(text[1:])


def test_a_prompt_that_changes_is_read_by_who_comes_back(encoder: Encoder) -> None:
    """Prompts of two lengths in one batch: what is written is what each alone gives."""
    members = ensemble("llama", encoder.vocabulary)
    for model in members.values():
        model.config.max_position_embeddings = 512
    first, second = (_written(model, encoder, 80) for model in list(members.values())[:2])
    orders = (np.append(first[:45], second), np.append(second[:45], first), first[:50])
    prompts = [encoder.decode([np.append(tokens, encoder.end)])[0] for tokens in orders]
    mixture = Mixture(members, encoder, 512, gate=Gate(0.3, 0.6))
    sampling = Sampling(max_tokens=6, temperature=0)
    together = mixture.generate(prompts, sampling)
    for prompt, written in zip(prompts, together, strict=True):
        alone = mixture.generate([prompt], sampling)[0]
        assert [s.token for s in written.steps] == [s.token for s in alone.steps]
        for one, other in zip(written.steps, alone.steps, strict=True):
            np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
    last = [int(mixture.score([prompt])[0].weights[-1].argmax()) for prompt in prompts]
    assert [int(written.steps[0].weights.argmax()) for written in together] == last


def test_rows_draw_for_themselves(encoder: Encoder) -> None:
    """A row's draws depend on its place and the seed alone; another seed writes something else."""
    mixture = Mixture(ensemble("llama", encoder.vocabulary), encoder, LENGTH)
    sampling = Sampling(max_tokens=16, temperature=1.2, top_p=0.9, seed=3)
    prompts = [TEXTS[0][:20], TEXTS[1][:30]]
    together, again = mixture.generate(prompts, sampling), mixture.generate(prompts, sampling)
    alone = mixture.generate(prompts[:1], sampling)
    assert [g.text for g in together] == [g.text for g in again]
    assert together[0].text == alone[0].text
    assert together[0].text != mixture.generate(prompts, Sampling(max_tokens=16, seed=4))[0].text


def test_a_prompt_that_leaves_no_room_is_refused(encoder: Encoder) -> None:
    mixture = Mixture(ensemble("llama", encoder.vocabulary, 2), encoder, LENGTH)
    with pytest.raises(UserError, match=r"prompt 1 has \d+ tokens.*47 at most"):
        mixture.generate(["a", " ".join(TEXTS)])
    assert mixture.score([]) == [] and mixture.generate([]) == []


nats_of = st.lists(st.lists(st.floats(0, 30), min_size=3, max_size=3), min_size=1, max_size=30).map(np.array)


@given(nats_of, st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(np.log))
def test_no_document_costs_more_than_its_best_model_and_the_prior(nats: np.ndarray, prior: np.ndarray) -> None:
    total = nats.sum(axis=0)
    exact, least = exact_nats(total, prior), bound(total, prior)
    share = np.exp(prior) / np.exp(prior).sum()
    assert exact <= least + 1e-9
    assert least == pytest.approx(min(total - np.log(share)), abs=1e-9)
    assert gated_nats(nats, prior, OPEN).nats.sum() == pytest.approx(exact, abs=1e-6)
    gated = gated_nats(nats, prior, Gate(0.01, 0.6))
    for model in np.flatnonzero(np.isfinite(gated.log_weights)):
        assert gated.nats.sum() <= total[model] - np.log(share[model]) + 1e-9, "it ran to the end"


@given(nats_of, st.floats(1e-4, 0.5))
def test_a_switch_costs_what_the_theorem_allows(nats: np.ndarray, switch: float) -> None:
    """Against the sum over all paths of models, for short texts; and against each model that never changes."""
    nats, count = nats[:5], 3
    found = gated_nats(nats, np.full(count, -np.log(count)), OPEN, Follow(switch)).nats.sum()
    stay, go = np.log(1 - switch + switch / count), np.log(switch / count)
    paths = []
    for path in itertools.product(range(count), repeat=len(nats)):
        moves = sum(stay if one == other else go for one, other in itertools.pairwise(path))
        paths.append(moves - np.log(count) - sum(nats[t, m] for t, m in enumerate(path)))
    assert found == pytest.approx(-logsumexp(paths), abs=1e-6)
    assert found <= (nats.sum(axis=0) + np.log(count) - (len(nats) - 1) * stay).min() + 1e-9


def test_ways_to_choose_a_model(encoder: Encoder) -> None:
    members = ensemble("llama", encoder.vocabulary)
    weights = np.log([[0.2, 0.3, 0.5], [0.45, 0.35, 0.2]])
    prior = type("Fixed", (), {"log_weights": lambda self, texts: weights[: len(texts)]})()
    nearest = TopPrior(prior, 1, specialists=2)
    np.testing.assert_array_equal(np.exp(nearest.log_weights(["a", "b"])), [[0, 1, 0], [1, 0, 0]])
    pair = TopPrior(prior, 2, specialists=2)
    np.testing.assert_allclose(np.exp(pair.log_weights(["a", "b"])), [[0.4, 0.6, 0], [0.5625, 0.4375, 0]])
    fixed = Mixture(members, encoder, LENGTH, pair, OPEN, STAY).score(TEXTS[:1])[0]
    tokens = encoder.encode(TEXTS[:1])[0].astype(np.int64)
    nats = np.stack([plain_nats(m, tokens, encoder.end) for m in members.values()], axis=1)
    np.testing.assert_allclose(fixed.nats, -np.log(np.exp(-nats[:, :2]) @ [0.4, 0.6]), atol=2e-3)
    assert (fixed.running == 2).all()
    small = [Mixture({name: model}, encoder, LENGTH) for name, model in members.items()]
    likeliest = PrefixPrior(small, models=4, tokens=8)
    sums = [
        [plain_nats(m, encoder.encode([t])[0][:8].astype(np.int64), encoder.end).sum() for m in members.values()]
        for t in TEXTS
    ]
    assert (likeliest.log_weights(TEXTS).argmax(axis=1) == np.argmin(sums, axis=1)).all()
    assert np.isneginf(likeliest.log_weights(TEXTS)[:, 3]).all()


def test_a_gate_closes_as_it_says() -> None:
    weights = np.log([[0.5, 0.4995, 0.0005], [0.995, 0.003, 0.002], [0.4, 0.3, 0.3]])
    kept = np.exp(Gate(1e-3, 0.99).close(weights))
    np.testing.assert_allclose(kept, [[0.5 / 0.9995, 0.4995 / 0.9995, 0], [1, 0, 0], [0.4, 0.3, 0.3]], atol=1e-12)
    for wrong in ((0.6, 0.99, 0.2), (1e-3, 0.99, -1.0)):
        with pytest.raises(ValueError, match="gate"):
            Gate(*wrong)
    with pytest.raises(ValueError, match="switch"):
        Follow(1.0)
    assert UniformPrior(4).log_weights(["a", "b"]).shape == (2, 4)
