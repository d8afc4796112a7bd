"""What the specialists of a finished run are worth together: `python -m benchmarks.mixture RUN STORE`.

Every validation document is scored under every model, once. From those losses come the known domain, the exact mixture,
the mixture with its gate for several thresholds, and the nearest centroid. Losses are means over domains in nats per
token. Commit `benchmarks/results/mixture/*.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe
from splitray.corpus import Corpus
from splitray.evaluate.mixture import Gate, Mixture, UniformPrior, alone, bound, exact_nats, gated_nats, load_mixture
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.storage.store import Store

_GATES = [Gate(), Gate(1e-4, 0.999), Gate(1e-6, 0.99999), Gate(1e-8, 1 - 1e-8)]
_LONG = 1000  # tokens of a long document
Losses = dict[str, list[np.ndarray]]  # by domain, of each document [tokens, models]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("store")
    parser.add_argument("--documents", type=int, default=25, help="of each domain, from the front of its shards")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mixture"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    summary = Summary.parse(Folder(options.run).read_checksummed("summary.json"))
    corpus = Corpus.open(Store(options.store), summary.corpus.key)
    mixture = load_mixture(options.run)
    texts = {d: corpus.documents(d, "validation")["text"].to_pylist()[: options.documents] for d in corpus.domains}
    nats = losses(mixture, texts)
    rows = table(mixture, nats, texts)
    for row in rows:
        print("  ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    options.out.mkdir(parents=True, exist_ok=True)
    described = {"machine": describe(), "run": summary.name, "documents": {d: len(t) for d, t in texts.items()}}
    told = described | {"models": list(mixture.names), "rows": rows, **promise(nats)}
    (options.out / f"{summary.name}.json").write_text(json.dumps(told, indent=1) + "\n")


def losses(mixture: Mixture, texts: dict[str, list[str]]) -> Losses:
    """Every document's loss by token under every model."""
    found = {
        domain: [[scored.nats for scored in model.score(each)] for model in alone(mixture).values()]
        for domain, each in texts.items()
    }
    return {d: [np.stack(models, axis=1) for models in zip(*by_model, strict=True)] for d, by_model in found.items()}


def table(mixture: Mixture, nats: Losses, texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    """A row for each way to choose a model."""
    count = len(mixture.names)
    uniform = UniformPrior(count).log_weights([""])[0]
    priors = {d: mixture.prior.log_weights(each) for d, each in texts.items()}
    homes = {d: mixture.names.index(d) for d in nats}
    rows = [_row("known domain", {d: [n[:, homes[d]].sum() for n in each] for d, each in nats.items()}, nats)]
    if "base" in mixture.names:
        rows.append(_row("base", {d: [n[:, -1].sum() for n in each] for d, each in nats.items()}, nats))
    nearest = {
        d: [n[:, int(p[: len(homes)].argmax())].sum() for n, p in zip(each, priors[d], strict=True)]
        for d, each in nats.items()
    }
    rows.append(_row("nearest centroid of the first characters", nearest, nats))
    best = {d: [n.sum(axis=0).min() for n in each] for d, each in nats.items()}
    rows.append(_row("best single model of each document", best, nats))
    for name, of in (("uniform", lambda d, i: uniform), ("router", lambda d, i: priors[d][i])):
        exact = {d: [exact_nats(n.sum(axis=0), of(d, i)) for i, n in enumerate(each)] for d, each in nats.items()}
        rows.append(_row(f"exact mixture, prior {name}", exact, nats) | {"models": float(count)})
        for gate in _GATES:
            gated = {d: [gated_nats(n, of(d, i), gate) for i, n in enumerate(each)] for d, each in nats.items()}
            row = _row(
                f"mixture, prior {name}, gate {gate.threshold:g} {gate.commit:g}",
                {d: [g.nats.sum() for g in each] for d, each in gated.items()},
                nats,
            )
            running = [g.running for each in gated.values() for g in each]
            long = [r.mean() for r in running if len(r) >= _LONG]
            excess = np.concatenate([np.array([g.nats.sum() for g in gated[d]]) - exact[d] for d in nats])
            excess /= np.array([len(n) for each in nats.values() for n in each])
            row |= {"models": float(np.mean([r.mean() for r in running]))}
            row |= {"models_long": float(np.mean(long)) if long else None}
            rows.append(row | {"excess_mean": float(excess.mean()), "excess_largest": float(excess.max())})
    return rows


def promise(nats: Losses) -> dict[str, int]:
    """How often a document costs the exact mixture more than its bound allows: never."""
    documents = [n.sum(axis=0) for each in nats.values() for n in each]
    uniform = np.zeros(documents[0].shape)
    broken = sum(exact_nats(n, uniform) > bound(n, uniform) + 1e-9 for n in documents)
    return {"documents_checked": len(documents), "bound_violations": int(broken)}


def _row(name: str, totals: dict[str, list[Any]], nats: Losses) -> dict[str, Any]:
    by_domain = {d: float(sum(totals[d]) / sum(len(n) for n in nats[d])) for d in nats}
    return {"name": name, "loss": float(np.mean(list(by_domain.values()))), "by_domain": by_domain}


if __name__ == "__main__":
    main()
