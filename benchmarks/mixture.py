"""What the models of a finished run are worth together: `python -m benchmarks.mixture RUN STORE`.

Every validation document is scored under every model, once. From those losses come the known domain, the exact mixture
with and without switches, the gate without a way back, the nearest centroid, c-BTM's ensembles and the likelihood of a
short prefix. The gate with a way back is scored by the mixture itself. Losses are means over domains in nats per token.
It writes `benchmarks/results/mixture/NAME.json` and `NAME.png`; commit both.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.special import logsumexp

from benchmarks.machine import describe
from splitray.corpus import Corpus
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
    load_mixture,
)
from splitray.export.huggingface import export
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.storage.store import Store

_LONG = 1000  # tokens of a long document
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
        models_long: the same over documents of `_LONG` tokens and more. excess_mean, excess_largest: of a document's
            loss over the exact mixture's with a uniform prior, nats per token.
    """

    name: str
    loss: float
    by_domain: dict[str, float]
    models: float
    models_long: float | None
    excess_mean: float
    excess_largest: float


class Table:
    """Rows, one for each way to choose, over the same documents."""

    def __init__(self, mixture: Mixture, texts: dict[str, list[str]], nats: Losses) -> None:
        self.mixture, self.texts, self.nats = mixture, texts, nats
        self.rows: list[Row] = []

    def add(self, name: str, choose: Callable[[str], Iterator[Document]]) -> None:
        """Args: choose: gives the documents of a domain."""
        found = {domain: list(choose(domain)) for domain in self.nats}
        lengths = {d: np.array([len(n) for n in each]) for d, each in self.nats.items()}
        exact = {d: [exact_nats(n.sum(axis=0), self._uniform) for n in each] for d, each in self.nats.items()}
        by_domain = {d: float(sum(f.nats for f in found[d]) / lengths[d].sum()) for d in found}
        models = np.concatenate([[f.read for f in found[d]] / lengths[d] for d in found])
        excess = np.concatenate([([f.nats for f in found[d]] - np.array(exact[d])) / lengths[d] for d in found])
        long = models[np.concatenate(list(lengths.values())) >= _LONG]
        self.rows.append(
            Row(
                name,
                float(np.mean(list(by_domain.values()))),
                by_domain,
                float(models.mean()),
                float(long.mean()) if len(long) else None,
                float(excess.mean()),
                float(excess.max()),
            )
        )
        row = self.rows[-1]
        print(
            f"{name:58} {row.loss:.4f}  {row.models:.2f}  {row.models_long or 0:.2f}  "
            f"{row.excess_mean:+.4f}  {row.excess_largest:+.4f}",
            flush=True,
        )

    @property
    def _uniform(self) -> np.ndarray:
        return np.zeros(len(self.mixture.names))

    def single(self, name: str, place: Callable[[str, int, np.ndarray], int]) -> None:
        """One model a document, by its place."""
        self.add(
            name,
            lambda d: (Document(n[:, place(d, i, n)].sum(), len(n)) for i, n in enumerate(self.nats[d])),
        )

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
        mixture = Mixture(models, self.mixture.encoder, self.mixture.max_length, prior, gate, update)

        def choose(domain: str) -> Iterator[Document]:
            for scored in mixture.score(self.texts[domain]):
                yield Document(float(scored.nats.sum()), float(scored.running.sum()))

        self.add(name, choose)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("store")
    parser.add_argument("--documents", type=int, default=25, help="of each domain, from the front of its shards")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mixture"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    store, run = Store(options.store), Folder(options.run)
    summary = Summary.parse(run.read_checksummed("summary.json"))
    corpus = Corpus.open(store, summary.corpus.key)
    mixture = load_mixture(options.run)
    texts = {d: corpus.documents(d, "validation")["text"].to_pylist()[: options.documents] for d in corpus.domains}
    nats = losses(mixture, texts)
    table = Table(mixture, texts, nats)
    fill(table, relatives(mixture, store, run, corpus))
    lengths = [len(n) for each in nats.values() for n in each]
    result = {
        "machine": describe("torch", "transformers"),
        "run": summary.name,
        "params": summary.params,
        "models": list(mixture.names),
        "documents": {d: len(t) for d, t in texts.items()},
        "tokens_of_a_document": {f"{q}%": float(np.percentile(lengths, q)) for q in (0, 25, 50, 75, 100)},
        "rows": [asdict(row) for row in table.rows],
        **promise(nats),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{summary.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(table.rows, options.out / f"{summary.name}.png")


def losses(mixture: Mixture, texts: dict[str, list[str]]) -> Losses:
    """Every document's loss by token under every model."""
    found = {
        domain: [[scored.nats for scored in model.score(each)] for model in alone(mixture).values()]
        for domain, each in texts.items()
    }
    return {d: [np.stack(models, axis=1) for models in zip(*by_model, strict=True)] for d, by_model in found.items()}


def relatives(mixture: Mixture, store: Store, run: Folder, corpus: Corpus) -> tuple[str, list[Mixture]]:
    """Small models by which a prefix chooses: the ladder's smallest of every domain, or else the specialists."""
    from transformers import AutoModelForCausalLM

    domains = [name for name in mixture.names if name != "base"]
    rows = pq.read_table(run.fetch("runs.parquet", None)).to_pylist()
    rows = [row for row in rows if row["specialize_tokens"] > 0 and store.find(row["run"]) is not None]
    rows.sort(key=lambda row: (row["params"], -row["specialize_tokens"], -row["pretrain_tokens"]))
    chosen = {row["domain"]: row for row in reversed(rows)}
    if set(chosen) != set(domains):
        return "the specialists", list(alone(mixture).values())[: len(domains)]
    small = []
    with tempfile.TemporaryDirectory(prefix="splitray-relatives-") as folder:
        for domain in domains:
            place = Folder(f"{folder}/{domain}")
            export(store, chosen[domain]["run"], corpus.tokenizer_path(), place, {})
            model = AutoModelForCausalLM.from_pretrained(place.address, trust_remote_code=False)
            small.append(Mixture({domain: model}, mixture.encoder, mixture.max_length))
    return f"the ladder's models of {chosen[domains[0]]['params']:,} parameters", small


def fill(table: Table, small: tuple[str, list[Mixture]]) -> None:
    """All ways to choose."""
    mixture = table.mixture
    count, domains = len(mixture.names), [name for name in mixture.names if name != "base"]
    uniform, router = UniformPrior(count), mixture.prior
    table.single("known domain", lambda d, i, n: mixture.names.index(d))
    if "base" in mixture.names:
        table.single("base", lambda d, i, n: mixture.names.index("base"))
    table.single("best single model of each document", lambda d, i, n: int(n.sum(axis=0).argmin()))
    if isinstance(router, RouterPrior):
        table.weighed("nearest centroid", TopPrior(router, 1, len(domains)), OPEN, STAY)
        for top in (2, len(domains)):
            for times in (1, 4):
                softer = replace(router, temperature=router.temperature * times)
                name = f"c-BTM, top {top}, {times} x the fitted temperature"
                table.weighed(name, TopPrior(softer, top, len(domains)), OPEN, STAY)
    name, models = small
    table.weighed(f"first {_PREFIX} tokens under {name}", PrefixPrior(models, count, _PREFIX), OPEN, STAY)
    for name, prior in (("uniform", uniform), ("router", router)):
        table.weighed(f"exact mixture, prior {name}", prior, OPEN)
    for gate in (Gate(), Gate(recheck=0), Gate(recheck=0.1)):
        table.scored(f"gate, recheck {gate.recheck:g}, prior router", router, gate)
    table.scored("gate, recheck 0.2, prior uniform", uniform, Gate())
    for switch in (1e-3, 1e-4, 1e-2):
        table.weighed(f"all models, switch {switch:g}, prior router", router, OPEN, Follow(switch))


def promise(nats: Losses) -> dict[str, int]:
    """How often a document costs the exact mixture more than its bound allows: never."""
    documents = [n.sum(axis=0) for each in nats.values() for n in each]
    uniform = np.zeros(documents[0].shape)
    broken = sum(exact_nats(n, uniform) > bound(n, uniform) + 1e-9 for n in documents)
    return {"documents_checked": len(documents), "bound_violations": int(broken)}


def draw(rows: list[Row], path: Path) -> None:
    """Loss against models that read each token."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6))
    for number, row in enumerate(rows, 1):
        axes.plot(row.models, row.loss, "o", label=f"{number}: {row.name}")
        axes.annotate(str(number), (row.models, row.loss), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("models that read each token, mean over documents")
    axes.set_ylabel("loss, nats per token, mean over domains")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1, fontsize=7)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
