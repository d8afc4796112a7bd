"""Ways to choose who writes, over one set of documents: what each loses, and how many models it runs.

Every document is scored under every model, once. From those losses come the known domain, the exact mixture with and
without switches, the gate without a way back, the nearest centroid, c-BTM's ensembles and the likelihood of a short
prefix. The gate with a way back is scored by the mixture itself. Losses are means over domains in nats per token.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from splitray.evaluate.compare import Scores, difference
from splitray.evaluate.mixture import (
    BAYES,
    OPEN,
    STAY,
    Follow,
    Gate,
    Mixture,
    PrefixPrior,
    Prior,
    RouterPrior,
    TopPrior,
    UniformPrior,
    Update,
    alone,
    bound,
    exact_nats,
    gated_nats,
)
from splitray.law.planning.estimate import Estimate
from splitray.results.folders import BASE

KNOWN, NEAREST, BEST = "known domain", "nearest centroid", "best model by question"
_GATE = f"gate, recheck {Gate().recheck:g}"
GATE = f"{_GATE}, prior router"
LENGTHS = (0, 100, 300, 1000)  # tokens from which on a document belongs to a class of lengths
_PREFIX = 32  # tokens by which small models choose
Losses = dict[str, list[np.ndarray]]  # by domain, of each document [tokens, models]


@dataclass(frozen=True)
class Document:
    """A document under some way to choose: its loss in nats, and how often a model read one of its tokens, in all."""

    nats: float
    read: float


@dataclass(frozen=True)
class Row:
    """A way to choose who writes.

    Args:
        loss: mean over domains, nats per token. models: read each token, mean over documents.
        models_by_length: the same over the documents of each class of `LENGTHS`, by the class's first length.
        excess_mean, excess_largest: of a document's loss over the exact mixture's with a uniform prior, nats per token.
    """

    name: str
    loss: float
    by_domain: dict[str, float]
    models: float
    models_by_length: dict[str, float]
    excess_mean: float
    excess_largest: float


class Table:
    """Rows, one for each way to choose, over the same documents.

    Args:
        texts: documents by domain. nats: their losses under the mixture's models.
    """

    def __init__(self, mixture: Mixture, texts: dict[str, list[str]], nats: Losses) -> None:
        self.mixture, self.texts, self.nats = mixture, texts, nats
        self.rows: list[Row] = []
        self.documents: dict[str, dict[str, list[Document]]] = {}  # by row, then by domain
        self._tokens = {d: np.array([len(n) for n in each]) for d, each in nats.items()}
        self._classes = np.searchsorted(LENGTHS, self.lengths, side="right") - 1
        uniform = np.zeros(len(mixture.names))
        self._exact = {d: np.array([exact_nats(n.sum(axis=0), uniform) for n in each]) for d, each in nats.items()}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every document, [documents]."""
        return np.concatenate(list(self._tokens.values()))

    def counts(self) -> dict[str, int]:
        """Documents of each class of `LENGTHS`, by the class's first length."""
        places, counts = np.unique(self._classes, return_counts=True)
        return {str(LENGTHS[place]): int(count) for place, count in zip(places, counts, strict=True)}

    def add(self, name: str, choose: Callable[[str], Iterator[Document]]) -> None:
        """Args: choose: gives the documents of a domain."""
        found = {domain: list(choose(domain)) for domain in self.nats}
        by_domain = {d: float(sum(f.nats for f in found[d]) / self._tokens[d].sum()) for d in found}
        models = np.concatenate([[f.read for f in found[d]] / self._tokens[d] for d in found])
        excess = np.concatenate([([f.nats for f in found[d]] - self._exact[d]) / self._tokens[d] for d in found])
        classes = self._classes
        by_length = {str(LENGTHS[place]): float(models[classes == place].mean()) for place in np.unique(classes)}
        row = Row(
            name,
            float(np.mean(list(by_domain.values()))),
            by_domain,
            float(models.mean()),
            by_length,
            float(excess.mean()),
            float(excess.max()),
        )
        self.rows.append(row)
        self.documents[name] = found
        print(
            f"{name:58} {row.loss:.4f}  {row.models:.2f}  {list(by_length.values())[-1]:.2f}  "
            f"{row.excess_mean:+.4f}  {row.excess_largest:+.4f}",
            flush=True,
        )

    def single(self, name: str, place: Callable[[str, int, np.ndarray], int]) -> None:
        """One model a document, by its place."""
        self.add(name, lambda d: (Document(n[:, place(d, i, n)].sum(), len(n)) for i, n in enumerate(self.nats[d])))

    def weighed(self, name: str, prior: Prior, gate: Gate, update: Update = BAYES) -> None:
        """A mixture from the losses that are known. What small models read to choose is not counted."""

        def choose(domain: str) -> Iterator[Document]:
            starts = prior.log_weights(self.texts[domain])
            for nats, start in zip(self.nats[domain], starts, strict=True):
                if gate == OPEN and update in (BAYES, STAY):  # in one step, for speed
                    fixed = -logsumexp(start - nats, axis=1).sum() if update == STAY else exact_nats(nats.sum(0), start)
                    yield Document(float(fixed), float(np.isfinite(start).sum() * len(nats)))
                else:
                    gated = gated_nats(nats, start, gate, update)
                    yield Document(float(gated.nats.sum()), float(gated.running.sum()))

        self.add(name, choose)

    def scored(self, name: str, prior: Prior, gate: Gate, update: Update = BAYES) -> None:
        """A mixture that really reads."""
        models = dict(zip(self.mixture.names, self.mixture.models, strict=True))
        self.scored_by(name, Mixture(models, self.mixture.encoder, self.mixture.max_length, prior, gate, update))

    def scored_by(self, name: str, mixture: Mixture) -> None:
        """Another mixture, or one model as a mixture of one."""

        def choose(domain: str) -> Iterator[Document]:
            for scored in mixture.score(self.texts[domain]):
                yield Document(float(scored.nats.sum()), float(scored.running.sum()))

        self.add(name, choose)

    def less(self, name: str, other: str, groups: Mapping[str, Sequence[str]]) -> Estimate:
        """The loss of a row less another's, with its 95 % interval over groups of documents.

        Args:
            groups: of each document, by domain.
        """
        one, two = (
            {
                d: Scores(np.array([f.nats for f in each]), self._tokens[d], 1, np.array(groups[d]))
                for d, each in self.documents[row].items()
            }
            for row in (name, other)
        )
        return difference(one, two, dict.fromkeys(self.nats, 1 / len(self.nats)))


def losses(mixture: Mixture, texts: dict[str, list[str]]) -> Losses:
    """Every document's loss by token under every model."""
    found = {
        domain: [[scored.nats for scored in model.score(each)] for model in alone(mixture).values()]
        for domain, each in texts.items()
    }
    return {d: [np.stack(models, axis=1) for models in zip(*by_model, strict=True)] for d, by_model in found.items()}


def fill(table: Table, relatives: Sequence[Mixture], named: str, gates: Sequence[Gate]) -> None:
    """All ways to choose.

    Args:
        relatives: small models by which a prefix chooses, one for each specialist. named: what they are.
        gates: whose mixtures really read.
    """
    mixture = table.mixture
    count, domains = len(mixture.names), [name for name in mixture.names if name != BASE]
    uniform, router = UniformPrior(count), mixture.prior
    table.single(KNOWN, lambda d, i, n: mixture.names.index(d))
    if BASE in mixture.names:
        table.single(BASE, lambda d, i, n: mixture.names.index(BASE))
    table.single("best single model of each document", lambda d, i, n: int(n.sum(axis=0).argmin()))
    if isinstance(router, RouterPrior):
        table.weighed(NEAREST, TopPrior(router, 1, len(domains)), OPEN, STAY)
        for top in (2, len(domains)):
            for times in (1, 4):
                softer = replace(router, temperature=router.temperature * times)
                name = f"c-BTM, top {top}, {times} x the fitted temperature"
                table.weighed(name, TopPrior(softer, top, len(domains)), OPEN, STAY)
    table.weighed(f"first {_PREFIX} tokens under {named}", PrefixPrior(relatives, count, _PREFIX), OPEN, STAY)
    for name, prior in (("uniform", uniform), ("router", router)):
        table.weighed(f"exact mixture, prior {name}", prior, OPEN)
    for gate in gates:
        table.scored(f"gate, recheck {gate.recheck:g}, prior router", router, gate)
    table.scored(f"{_GATE}, prior uniform", uniform, Gate())
    for switch in (1e-3, 1e-2):
        table.weighed(f"all models, switch {switch:g}, prior router", router, OPEN, Follow(switch))


def promise(nats: Losses) -> dict[str, int]:
    """How often a document costs the exact mixture more than its bound allows: never."""
    documents = [n.sum(axis=0) for each in nats.values() for n in each]
    uniform = np.zeros(documents[0].shape)
    broken = sum(exact_nats(n, uniform) > bound(n, uniform) + 1e-9 for n in documents)
    return {"documents_checked": len(documents), "bound_violations": int(broken)}


def draw(rows: Sequence[Row], path: Path) -> None:
    """A line for each way to choose: its loss against the known domain's, and how many models read each token."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    known = next(row.loss for row in rows if row.name == KNOWN)
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(rows) + 1.3), layout="constrained")
    places = range(len(rows), 0, -1)
    above = [row.loss - known for row in rows]
    axes.axvline(0, color="0.6", linewidth=1)
    axes.hlines(places, 0, above, color="0.8", linewidth=2)
    axes.plot(above, places, "o", color="C0")
    axes.set_xscale("symlog", linthresh=0.02)
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.set_xlabel("loss above the known domain's, nats per token (linear within 0.02)")
    models = axes.secondary_yaxis("right")
    models.set_yticks(list(places), [f"{row.models:.2f}" for row in rows])
    models.set_ylabel("models that read each token, mean over documents")
    models.tick_params(length=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
