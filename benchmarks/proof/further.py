"""Beside the bowls: other corpora, other sizes, the specialists' own learning rate, D'_k domain by domain."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import forecast
from benchmarks.proof.analysis import Surface, bowl_of, noisy_multiplier, paired
from benchmarks.proof.bench import Bench
from benchmarks.proof.measured import by_domain, decided_cells, decisive, ladder_bowl, mean_loss, on_fresh_seeds
from benchmarks.proof.programme import Cell, Variant
from splitray import law as laws
from splitray.law.planning.estimate import Estimate
from splitray.training.settings import ModelShape
from splitray.training.split import whole_budget
from splitray.training.tree import Leaf


def surface(bench: Bench) -> Surface | None:
    """Losses over split fraction and the specialists' learning rate; None until all stand."""
    programme, domains = bench.programme, bench.corpus.domains
    known, rates = programme.ladder_domains(domains), sorted({1.0, *programme.specialize_rates})
    losses = [
        [mean_loss(bench, programme.point(domains, fraction, rate), known) for rate in rates]
        for fraction in programme.fractions
    ]
    if any(loss is None for row in losses for loss in row):
        return None
    return Surface(np.array(programme.fractions), np.log2(rates), np.array(losses, dtype=float))


def clustered(bench: Bench, folder: Path, before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The planned fraction against unsplit, over all domains, at every clustering seed that is trained.

    before: results of an earlier start; their corpora are built anew where they are gone.
    """
    strategies = decisive(bench, folder)
    if strategies is None:
        return []
    result = []
    for name, other in _corpora(bench, "seed-0", bench.programme.clusterings, before).items():
        domains = other.corpus.domains
        tables = [by_domain(other, decided_cells(other, strategies[s], 0)) for s in ("planned", "unsplit")]
        if all(len(table) == len(domains) for table in tables):
            losses = [np.array([[table[d] for d in domains]]) for table in tables]
            told = {"corpus": name, "planned": float(losses[0].mean()), "unsplit": float(losses[1].mean())}
            result.append(told | {"planned less unsplit": paired(losses[0], losses[1])})
    return result


def _corpora(
    bench: Bench, own: str, variants: Sequence[Variant], before: Sequence[Mapping[str, Any]]
) -> dict[str, Bench]:
    """A bench for the own corpus and for every variant that was built here, or is in the results."""
    known = {told["corpus"] for told in before}
    others = {variant.name: bench.on(variant) for variant in variants}
    return {own: bench} | {name: b for name, b in others.items() if b.has_corpus or name in known}


def nearness(bench: Bench, noise: float, before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bowl and multiplier of one size and budget on corpora whose domains lie far and near.

    Every corpus has a tokenizer of its own: losses are in bits a byte, and so is `divergence`, the mean
    Jensen-Shannon divergence of a domain's tokens from the mixture's. noise: relative deviation of a mean loss.
    before: as in `clustered`.
    """
    programme, result = bench.programme, []
    for name, other in _corpora(bench, "all sources", programme.nearness, before).items():
        domains, shape = other.corpus.domains, programme.config.ladder.shapes[programme.surface]
        budget, known = (
            whole_budget(programme.budgets[0], len(domains), programme.batch),
            programme.ladder_domains(domains),
        )
        bowl = ladder_bowl(other, shape, budget, noise, "bits_per_byte")
        longer = list(programme.longer(shape, domains, programme.multiples))
        unsplit = [mean_loss(other, [cell], known, "bits_per_byte") for cell in longer]
        if bowl is None or any(loss is None for loss in unsplit):
            continue
        tokens = [cell.leaf.tokens for cell in longer]
        losses = [loss for loss in unsplit if loss is not None]
        result.append(
            {
                "corpus": name,
                "divergence": _divergence(other),
                "split_fraction": bowl.fractions.tolist(),
                "loss": bowl.losses.tolist(),
                "noise": bowl.noise,
                "best": bowl.optimum().plain(),
                "gain": Estimate.resampled(bowl.gain, bowl.gains()).plain(),
                "multiplier": noisy_multiplier(tokens, losses, budget, bowl.best[1], noise * bowl.best[1]),
                "most_epochs": max(r["epochs"] for r in other.rows(longer)),
            }
        )
    return result


def by_nearness(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """How likely, under the noise, gains fall and splits come later from the farthest domains to the nearest: step by
    step (`all`), and between these two (`ends`).
    """
    order = sorted(found, key=lambda f: -f["divergence"])
    bowls = [bowl_of(f) for f in order]
    gains = np.array([bowl.gains(seed=seed) for seed, bowl in enumerate(bowls)])
    optima = np.array([bowl.optima(seed=seed) for seed, bowl in enumerate(bowls)])
    return {
        name: {"all": float((np.diff(x, axis=0) > 0).all(axis=0).mean()), "ends": float((x[-1] > x[0]).mean())}
        for name, x in (("gain_falls", -gains), ("split_later", optima))
    }


def _divergence(bench: Bench) -> float:
    """Of the token frequencies of each domain from their mean, by validation tokens, in bits a byte of text."""
    corpus, cost = bench.corpus, Counter[str]()
    for domain in bench.corpus.domains:
        cost.update(bench.corpus.counts(domain, "validation"))
    held = [np.concatenate(corpus.tokens(d, "validation")) for d in corpus.domains]
    counts = [np.bincount(tokens, minlength=corpus.vocab_size) for tokens in held]
    shares = np.array([c / c.sum() for c in counts])
    middle = shares.mean(axis=0)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0) - np.log2(np.maximum(middle, 1e-300))
    return float((shares * logs).sum(axis=1).mean()) * cost["tokens"] / cost["bytes"]


def other_sizes(bench: Bench, folder: Path) -> list[tuple[ModelShape, int, float]]:
    """Sizes with the tokens that cost as many FLOPs as the hidden one's at `same_flops`, and the law's split there.

    Sizes that would take more tokens than unsplit training is given anywhere are left out.
    """
    programme, domains = bench.programme, tuple(bench.corpus.domains)
    path = folder / "law.json"
    if not path.exists():
        return []
    law, found = laws.Law.load(path), []
    most = max(*programme.multiples, *programme.further, 0) * programme.budgets[0]

    def flops(shape: ModelShape) -> float:
        return bench.cost([Cell(shape, Leaf(programme.same_flops), domains)])["flops"]

    for shape in programme.shapes:
        share = flops(programme.hidden) / flops(shape)
        tokens = whole_budget(round(programme.same_flops * share), len(domains), programme.batch)
        if tokens <= most:
            params = bench.recipe(Cell(shape, Leaf(tokens), domains)).params
            plan = laws.plan(law, params=params, budget=tokens, domains=len(domains))
            found.append((shape, tokens, plan.split_fraction.value))
    return found


def other_cells(bench: Bench, size: tuple[ModelShape, int, float]) -> tuple[list[Cell], list[Cell]]:
    """One of `other_sizes`: unsplit, and split over the ladder's domains."""
    shape, tokens, fraction = size
    unsplit, split = (
        list(bench.programme.line(shape, tokens, [s], bench.corpus.domains, False)) for s in (1.0, fraction)
    )
    return unsplit, split


def best_size(bench: Bench, folder: Path) -> list[dict[str, Any]]:
    """Unsplit and split training of every size for the same FLOPs; means over the ladder's domains."""
    known, found = bench.programme.ladder_domains(bench.corpus.domains), []
    for size in other_sizes(bench, folder):
        unsplit, split = other_cells(bench, size)
        losses = [mean_loss(bench, cells, known) for cells in (unsplit, split)]
        if None not in losses:
            row = bench.rows(unsplit)[0]
            told = {"params": row["params"], "tokens": size[1], "flops": row["flops"], "split_fraction": size[2]}
            found.append(told | dict(zip(("unsplit", "split"), losses, strict=True)))
    return found


def allocate(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """D'_k of the ladder's domains by the law, for the tokens that equal ones take at the planned split.

    Batch by batch to the domain whose predicted loss falls most; every domain gets one batch at least. Written to
    allocation.json before it is trained, and read from there afterwards.
    """
    path, strategies = folder / "allocation.json", decisive(bench, folder)
    if path.exists():
        return dict(json.loads(path.read_text()))
    if strategies is None:
        return None
    programme, domains = bench.programme, bench.corpus.domains
    known, cells = programme.ladder_domains(domains), decided_cells(bench, strategies["planned"], 0)
    before, equal = cells[0].leaf.pretrain_tokens, cells[0].leaf.specialize_tokens
    if not equal:
        return None  # the plan is not to split
    law = forecast.fit(forecast.ladder_rows(bench), 0)
    params, total = bench.recipe(cells[0]).params, len(known) * equal // programme.batch
    tokens = np.arange(1, total + 1) * programme.batch
    falls = {d: -np.diff(law.predict(params, before, tokens, d)) for d in known}
    given = dict.fromkeys(known, 1)
    for _ in range(total - len(known)):
        given[max(known, key=lambda d: falls[d][given[d] - 1])] += 1
    told = {
        "pretrain_tokens": before,
        "equal": equal,
        "specialize_tokens": {d: n * programme.batch for d, n in given.items()},
        "predicted_gain": float(
            np.mean(
                [
                    law.predict(params, before, equal, d) - law.predict(params, before, tokens[given[d] - 1], d)
                    for d in known
                ]
            )
        ),
    }
    path.write_text(json.dumps(told, indent=1) + "\n")
    return told


def allocated_cells(bench: Bench, told: Mapping[str, Any], seed: int, by_law: bool) -> list[Cell]:
    shape, before = bench.programme.hidden, told["pretrain_tokens"]
    tokens = {d: n if by_law else told["equal"] for d, n in told["specialize_tokens"].items()}
    return [Cell(shape, Leaf(before, n, d), (d,), seed) for d, n in tokens.items()]


def allocated(bench: Bench, folder: Path) -> dict[str, Any] | None:
    """D'_k by the law against equal ones, on fresh paired seeds; None until the first stands.

    Tokens are moved between domains, so that their differences are no sample of anything: the interval is over seeds.
    """
    path = folder / "allocation.json"
    if not path.exists():
        return None
    told = dict(json.loads(path.read_text()))
    known = list(told["specialize_tokens"])
    pair = on_fresh_seeds(
        bench, lambda seed: [allocated_cells(bench, told, seed, by_law) for by_law in (True, False)], known
    )
    if pair is None:
        return None
    means = [losses.mean(axis=1, keepdims=True) for losses in pair]
    gap = paired(*means) if len(means[0]) > 1 else {"value": float(np.mean(means[0] - means[1])), "seeds": 1}
    since = forecast.committed(path)
    cells = [
        c for s in bench.programme.fresh for by_law in (True, False) for c in allocated_cells(bench, told, s, by_law)
    ]
    foretold = since is not None and min(r["began"] for r in bench.rows(cells)) > since
    each = dict(zip(known, (pair[0] - pair[1]).mean(axis=0).tolist(), strict=True))
    return told | {"by law less equal": gap, "by_domain": each, "foretold": foretold}
