"""What the driver checks and counts once it knows where every document goes."""

from typing import Any

import numpy as np

from splitray.corpus.holdout import SPLITS, TRAIN, VALIDATION, Decision
from splitray.corpus.passes import Spans, group_names, picks_of
from splitray.errors import UserError
from splitray.storage.folder import Folder


def check_documents(side: np.ndarray, domains: int, lost: str) -> None:
    train, validation = (int((side == which).sum()) for which in (TRAIN, VALIDATION))
    if train < domains or validation < domains:
        raise UserError(
            f"corpus.domains is {domains}, but the sources leave {train} training and {validation} validation "
            f"documents ({lost}); give more text, lower corpus.domains or raise corpus.validation_share"
        )


def check_domains(names: list[str], side: np.ndarray, placed: np.ndarray) -> None:
    for which, split in ((TRAIN, "training"), (VALIDATION, "validation")):
        counts = np.bincount(placed[(side == which) & (placed >= 0)], minlength=len(names))
        if not counts.all():
            raise UserError(
                f"corpus.domains is {len(names)}, but domain {names[counts.argmin()]} got no {split} document (by "
                f"domain: {', '.join(map(str, counts))}); lower it, raise corpus.validation_share or give more text"
            )


def count_domains(
    domains: dict[str, Any], size: np.ndarray, side: np.ndarray, placed: np.ndarray, tokens: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Terms and, by split, documents, tokens and bytes of each domain. All arrays have shape (documents,)."""
    counted: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(domains["names"]):
        counted[name] = {"terms": domains["terms"][k]}
        for which, split in ((TRAIN, SPLITS[TRAIN]), (VALIDATION, SPLITS[VALIDATION])):
            here = (placed == k) & (side == which)
            counts = {"documents": here.sum(), "tokens": tokens[here].sum(), "bytes": size[here].sum()}
            counted[name][split] = {what: int(count) for what, count in counts.items()}
    return counted


def oversized_groups(decision: Decision, scratch: Folder, spans: Spans) -> list[dict[str, Any]]:
    """The groups that were split by row, with their names, rows and shares of their files."""
    found = sorted(decision.oversized)
    names = group_names(scratch, picks_of(spans, np.array([index for index, _, _ in found], dtype=np.int64)))
    return [
        {"group": name, "rows": rows, "share_of_file": round(share, 4)}
        for name, (_, rows, share) in zip(names, found, strict=True)
    ]
