"""Numbers in a table of runs that are probably of another unit than the law needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from splitray.law.arrays import Array
from splitray.law.law import LawWarning

# A model that knows nothing has the loss ln(vocabulary): 12.5 nats for the largest vocabularies in use, 262144 tokens.
_MOST_NATS = 13.0
# The smallest models and runs of any ladder have thousands: below that a table counts in millions or billions.
_LEAST = 1000.0


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
    for name, values in (("params", numbers["params"]), ("pretrain_tokens + specialize_tokens", tokens)):
        most = float(values.max())
        if most < _LEAST:
            yield LawWarning(
                "count_unit",
                f"{name} looks like millions or billions",
                f"the largest is {most:g}, and the law counts single parameters and tokens",
                "write them out, or with a suffix: 125M, 20B",
            )
