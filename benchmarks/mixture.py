"""What the models of a finished run are worth together: `python -m benchmarks.mixture RUN STORE`.

It writes `benchmarks/results/mixture/NAME.json` and `NAME.png`; commit both. The ways to choose are those of
`mixture_table`.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.machine import describe
from benchmarks.mixture_table import GATE, KNOWN, LENGTHS, Table, draw, fill, losses, promise
from splitray.corpus import Corpus
from splitray.evaluate.mixture import Gate, Mixture, alone, load_mixture
from splitray.export.huggingface import export
from splitray.results.folders import BASE
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from splitray.storage.store import Store


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
    groups = {d: corpus.groups(d, "validation")[: options.documents] for d in corpus.domains}
    nats = losses(mixture, texts)
    table = Table(mixture, texts, nats)
    named, small = relatives(mixture, store, run, corpus)
    fill(table, small, named, (Gate(), Gate(recheck=0), Gate(recheck=0.2)))
    result = {
        "machine": describe("torch", "transformers"),
        "run": summary.name,
        "params": summary.params,
        "models": list(mixture.names),
        "documents": {d: len(t) for d, t in texts.items()},
        "tokens_of_a_document": {f"{q}%": float(np.percentile(table.lengths, q)) for q in (0, 25, 50, 75, 100)},
        "classes_of_length": list(LENGTHS),
        "rows": [asdict(row) for row in table.rows],
        "mixture less known domain": table.less(GATE, KNOWN, groups).plain(),
        **promise(nats),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{summary.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(table.rows, options.out / f"{summary.name}.png")


def relatives(mixture: Mixture, store: Store, run: Folder, corpus: Corpus) -> tuple[str, list[Mixture]]:
    """Small models by which a prefix chooses: the ladder's smallest of every domain, or else the specialists."""
    from transformers import AutoModelForCausalLM

    domains = [name for name in mixture.names if name != BASE]
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


if __name__ == "__main__":
    main()
