"""`evaluation.json` of a model with experts: its loss beside that of what it was made from.

The record carries the schema `splitray-merged-1`. Losses are weighted means over domains, in nats per token, on the
run's validation documents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splitray.law.planning.estimate import Estimate
from splitray.results.codec import from_json, to_json
from splitray.storage.checksum import Schema

MERGED = Schema("merged", 1, unnamed=None)


@dataclass(frozen=True)
class LossRow:
    """One model, or one way to use several.

    Args:
        tokens: that all models of it together were trained on, shared stretches once. flops: of that training.
        difference: the merged model's loss less this one's, with its 95 % interval over groups of documents;
            None where the losses by document are not at hand.
    """

    model: str
    loss: float
    bits_per_byte: float
    difference: Estimate | None = None
    tokens: int | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Tuning:
    """How the routers of a merged model were trained. Nothing else of it learned.

    Args:
        key: of the segment. root: the hash of the merged model that it began from.
        tokens: of the mixture, which no other row has seen. flops: of that training.
        weights: that learned. learning_rate: the peak.
    """

    key: str
    root: str
    tokens: int
    flops: float
    weights: int
    learning_rate: float


@dataclass(frozen=True)
class MergedEvaluation:
    """How a model with experts was made, and how it does.

    Args:
        active: experts that a token passes. shared: where attention, norms, embeddings and head are from.
        router_tokens: training tokens of each domain that the routers were fitted on.
        params: all weights. active_params: those that a token meets.
        rows: the merged model first. by_domain: its loss on each domain.
        validation_tokens: of each domain, at most.
        tuning: None where the routers are those of the closed form.
    """

    architecture: str
    experts: tuple[str, ...]
    active: int
    shared: str
    router_tokens: int
    params: int
    active_params: int
    rows: tuple[LossRow, ...]
    by_domain: Mapping[str, float]
    validation_tokens: int
    tuning: Tuning | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return to_json(self)

    @classmethod
    def parse(cls, record: object, where: str) -> "MergedEvaluation":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is no such record.
        """
        return from_json(cls, record, where)
