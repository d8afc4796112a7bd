"""Choice tasks: how likely a model finds the right answer, in nats per byte of it, and whether it finds it likeliest.

A question is routed by its own text; the specialist it goes to is compared with the unsplit model on the same
questions. At these sizes accuracy may stay at chance, the likelihood need not.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splitray.corpus.router import Router
from splitray.corpus.tokenizer import Encoder
from splitray.errors import UserError
from splitray.law.planning.estimate import Estimate

SETS = ("arc_easy", "sciq", "piqa", "openbookqa", "copa", "pubmed_qa", "oab_pt")
_BATCH = 64


def read(path: Path, most: int) -> list[dict[str, Any]]:
    """The first `most` questions of a set: `question`, `choices`, `answer` (index into choices)."""
    items = [json.loads(line) for line in path.read_text().splitlines()[:most]]
    for number, item in enumerate(items, 1):
        if not 0 <= item["answer"] < len(item["choices"]):
            raise UserError(f"{path.name}, line {number}: answer {item['answer']} of {len(item['choices'])} choices")
    return items


def nats_per_byte(model: Any, length: int, encoder: Encoder, items: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """Negative log-likelihood of each choice given its question, nats per UTF-8 byte: [choices] for each item.

    The end is what is kept where both do not fit into `length` tokens; of a choice that is cut itself, its bytes count
    by the share of its tokens that is left.
    """
    import torch

    pairs = [(i, choice) for i, item in enumerate(items) for choice in item["choices"]]
    questions = [tokens[:-1] for tokens in encoder.encode([item["question"] + "\n" for item in items])]
    answers = [tokens[:-1] for tokens in encoder.encode([choice for _, choice in pairs])]
    rows = np.full((len(pairs), length + 1), encoder.end, dtype=np.int64)
    counted = np.zeros((len(pairs), length), dtype=bool)
    for row, ((i, _), answer) in enumerate(zip(pairs, answers, strict=True)):
        text = np.concatenate([[encoder.end], questions[i], answer])[-(length + 1) :]
        rows[row, : len(text)] = text
        counted[row, max(0, len(text) - 1 - len(answer)) : len(text) - 1] = True
    nats = np.empty(len(pairs))
    with torch.inference_mode():
        for start in range(0, len(pairs), _BATCH):
            part = torch.from_numpy(rows[start : start + _BATCH])
            logits = model(input_ids=part[:, :-1], use_cache=False).logits.float()
            each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none").numpy()
            nats[start : start + _BATCH] = (each * counted[start : start + _BATCH]).sum(axis=1)
    whole = np.array([max(1, len(answer)) for answer in answers])
    sizes = np.array([max(1, len(choice.encode())) for _, choice in pairs]) * counted.sum(axis=1) / whole
    ends = np.cumsum([len(item["choices"]) for item in items])[:-1]
    return np.split(nats / sizes, ends)


def compare(
    items: Sequence[Mapping[str, Any]],
    specialists: Mapping[str, Any],
    unsplit: Any,
    router: Router,
    encoder: Encoder,
    length: int,
) -> dict[str, Any]:
    """Routed specialists against the unsplit model on one set, paired by question, with 95 % intervals over them.

    specialists: a model for each domain, by name, in the order of `router.domains`.
    """
    names = list(specialists)
    routes = router.route([item["question"] for item in items])
    routed: list[np.ndarray] = [np.empty(0)] * len(items)
    for place, name in enumerate(names):
        mine = np.flatnonzero(routes == place).tolist()
        if mine:
            found = nats_per_byte(specialists[name], length, encoder, [items[i] for i in mine])
            for i, scores in zip(mine, found, strict=True):
                routed[i] = scores
    plain = nats_per_byte(unsplit, length, encoder, items)
    right = np.array([[r[i["answer"]], p[i["answer"]]] for r, p, i in zip(routed, plain, items, strict=True)])
    hits = np.array(
        [[r.argmin() == i["answer"], p.argmin() == i["answer"]] for r, p, i in zip(routed, plain, items, strict=True)]
    )
    picks = np.random.default_rng(0).integers(len(items), size=(2000, len(items)))
    gap = right[:, 0] - right[:, 1]
    return {
        "questions": len(items),
        "routed": float(right[:, 0].mean()),
        "unsplit": float(right[:, 1].mean()),
        "difference": Estimate.resampled(float(gap.mean()), gap[picks].mean(axis=1)).plain(),
        "accuracy": {"routed": float(hits[:, 0].mean()), "unsplit": float(hits[:, 1].mean())},
        "chance": float(np.mean([1 / len(i["choices"]) for i in items])),
        "routes": {name: int((routes == place).sum()) for place, name in enumerate(names)},
    }
