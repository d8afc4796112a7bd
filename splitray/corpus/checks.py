"""What the driver checks and counts once it knows where every document goes."""

from typing import Any

import numpy as np

from splitray.corpus.documents import Documents, Placed
from splitray.corpus.holdout import SPLITS, TRAIN, VALIDATION, Decision
from splitray.corpus.passes import group_names
from splitray.corpus.settings import TokenizerSettings
from splitray.corpus.tokenizer import CharacterLoss
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


def check_tokenizer(names: list[str], losses: dict[int, CharacterLoss], settings: TokenizerSettings) -> None:
    """Refuse a tokenizer that cannot write the text of one domain, however well it writes the others."""
    for k, loss in sorted(losses.items()):
        loss.check(settings, f"domain {names[k]}, on a sample")


def count_domains(
    found: dict[str, Any], documents: Documents, side: np.ndarray, placed: Placed, losses: dict[int, CharacterLoss]
) -> dict[str, dict[str, Any]]:
    """Terms and, by split, documents, tokens and bytes of each domain; tokens a byte; what the tokenizer lost."""
    counted: dict[str, dict[str, Any]] = {}
    size = documents.rows["bytes"]
    for k, name in enumerate(found["names"]):
        counted[name] = {"terms": found["terms"][k]}
        for which, split in ((TRAIN, SPLITS[TRAIN]), (VALIDATION, SPLITS[VALIDATION])):
            here = (placed.domain == k) & (side == which)
            counts = {"documents": here.sum(), "tokens": placed.tokens[here].sum(), "bytes": size[here].sum()}
            counted[name][split] = {what: int(count) for what, count in counts.items()}
        tokens, length = (sum(counted[name][split][what] for split in SPLITS) for what in ("tokens", "bytes"))
        counted[name]["tokens_per_byte"] = tokens / max(length, 1)
        loss = losses.get(k, CharacterLoss())
        counted[name]["characters"] = {"sampled": loss.characters, "lost": loss.lost.total(), "share_lost": loss.share}
    return counted


def oversized_groups(decision: Decision, scratch: Folder, documents: Documents) -> list[dict[str, Any]]:
    """The groups that were split by row, with their names, rows and shares of their files."""
    found = sorted(decision.oversized)
    rows = np.array([index for index, _, _ in found], dtype=np.int64)
    names = group_names(scratch, documents.picks(rows))
    return [
        {"group": name, "rows": rows, "share_of_file": round(share, 4)}
        for name, (_, rows, share) in zip(names, found, strict=True)
    ]
