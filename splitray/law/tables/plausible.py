"""Numbers in a table of runs that are probably of another unit than the law needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from splitray.law.arrays import Array, Ints
from splitray.law.law import LawWarning

# A model that knows nothing has the loss ln(vocabulary): 12.5 nats for the largest vocabularies in use, 262144 tokens.
_MOST_NATS = 13.0
# The smallest models and runs of any ladder have thousands: below that a table counts in millions or billions.
_LEAST = 1000.0
# Characters of a loss up to which two runs may have the same one by chance: 3.142.
_ROUNDED = 5
# A model of this size, trained on so many tokens, is far below so many nats: GPT-2 of 124M parameters has 3.5 after 1B.
_LEARNED = (1e7, 1e9, 6.0)
_FEWEST = 1e-3  # tokens a parameter: even a ladder's fastest runs have more
_UNLIKE = 1e5  # between the tokens of the mixture and of the domains
_SPREAD = 1e5  # between the rows of one table: more is two units


def implausible(numbers: Mapping[str, Array]) -> Iterator[LawWarning]:
    """Warnings on columns [rows] by name: losses that look like perplexities, counts that look like millions."""
    median = float(np.median(numbers["loss"]))
    if median > _MOST_NATS:
        yield LawWarning(
            "loss_unit",
            "the losses look like perplexities",
            f"their median is {median:.4g}, and a model that knows nothing has ln(vocabulary), at most "
            f"{_MOST_NATS:g} nats",
            "give nats per token, which is ln(perplexity)",
        )
    tokens = numbers["pretrain_tokens"] + numbers["specialize_tokens"]
    size, seen, nats = _LEARNED
    learned = numbers["loss"][(numbers["params"] >= size) & (tokens >= seen)]
    if median <= _MOST_NATS and len(learned) and float(np.median(learned)) > nats:
        yield LawWarning(
            "loss_unit",
            "the losses look like perplexities",
            f"the median of runs above {size:.0e} parameters and {seen:.0e} tokens is {np.median(learned):.4g}, and "
            f"such models are far below {nats:g} nats",
            "give nats per token, which is ln(perplexity)",
        )
    if float(np.median(tokens / numbers["params"])) < _FEWEST and float(tokens.min()) >= _LEAST:
        yield LawWarning(
            "count_unit",
            "tokens and params look like different units",
            f"the median run has {np.median(tokens / numbers['params']):.2g} tokens a parameter, and the law counts "
            "single parameters and tokens",
            "write them out, or with a suffix: 125M, 20B",
        )
    shared, own = (float(numbers[name].max()) for name in ("pretrain_tokens", "specialize_tokens"))
    if min(shared, own) > 0 and max(shared, own) > _UNLIKE * min(shared, own):
        yield LawWarning(
            "count_unit",
            "pretrain_tokens and specialize_tokens look like different units",
            f"they reach {shared:g} and {own:g}, and the law counts single tokens",
            "write them out, or with a suffix: 125M, 20B",
        )
    for name, values in (("params", numbers["params"]), ("pretrain_tokens + specialize_tokens", tokens)):
        least, most = float(values.min()), float(values.max())
        if most < _LEAST or (least < _LEAST and most > _SPREAD * least):
            yield LawWarning(
                "count_unit",
                f"{name} looks like millions or billions",
                f"the rows go from {least:g} to {most:g}, and the law counts single parameters and tokens",
                "write them out, or with a suffix: 125M, 20B",
            )


def repeated(cell: Ints, loss: Array) -> Iterator[LawWarning]:
    """A warning where rows are the same run: equal point, domain and loss, to the last of its digits.

    Args:
        cell: [rows], names of (size, tokens, domain). loss: [rows].
    """
    order = np.lexsort((loss, cell))
    same = (np.diff(cell[order]) == 0) & (np.diff(loss[order]) == 0)
    exact = np.array([len(f"{value!r}") > _ROUNDED for value in loss[order][1:].tolist()], dtype=bool)
    if count := int((same & exact).sum()):
        yield LawWarning(
            "rows_repeated",
            "rows are given twice",
            f"{count} of {len(loss)} rows repeat the size, tokens, domain and loss of another, and count as runs of "
            "their own without any noise between them",
            "keep one of each",
        )
