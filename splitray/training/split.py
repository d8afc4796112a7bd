"""A split in whole batches: equal means equal, to the token."""

from collections.abc import Mapping
from dataclasses import dataclass

from splitray.training.tree import Leaf


@dataclass(frozen=True)
class Split:
    """D and every D'_k, in tokens; their sum is the budget."""

    pretrain_tokens: int
    specialize_tokens: Mapping[str, int]

    @property
    def budget(self) -> int:
        return self.pretrain_tokens + sum(self.specialize_tokens.values())

    @property
    def fraction(self) -> float:
        return self.pretrain_tokens / self.budget

    def leaf(self, domain: str) -> Leaf:
        """The finished model that serves a domain: its specialist, or the unsplit model where D'_k is 0."""
        tokens = self.specialize_tokens[domain]
        return Leaf(self.pretrain_tokens, tokens, domain if tokens else None)

    @classmethod
    def at(cls, fraction: float, budget: int, weights: Mapping[str, float], batch_tokens: int) -> "Split":
        """The split nearest to a fraction: D'_k = w_k (D_T - D) to the nearest batch, and D what is left.

        Equal weights get equal D'_k to the token, so that the mixture's part of their decay is one segment.
        """
        batches = budget // batch_tokens
        after = batches - round(fraction * batches)
        counts = {name: round(weight * after) for name, weight in weights.items()}
        if sum(counts.values()) > batches:
            counts = {name: int(weight * after) for name, weight in weights.items()}
        tokens = {name: counts[name] * batch_tokens for name in sorted(counts)}
        return cls(batches * batch_tokens - sum(tokens.values()), tokens)


def whole_budget(budget: int, domains: int, batch_tokens: int) -> int:
    """The budget to the nearest number of tokens that gives every domain the same whole batches."""
    return max(1, round(budget / (domains * batch_tokens))) * domains * batch_tokens
