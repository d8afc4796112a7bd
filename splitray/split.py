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
        """The split nearest to a fraction: D'_k = w_k (D_T - D), in whole batches by largest remainder."""
        batches = budget // batch_tokens
        after = batches - round(fraction * batches)
        shares = {name: weight * after for name, weight in weights.items()}
        counts = {name: int(share) for name, share in shares.items()}
        left = after - sum(counts.values())
        for name in sorted(shares, key=lambda n: (counts[n] - shares[n], n))[:left]:
            counts[name] += 1
        return cls((batches - after) * batch_tokens, {name: counts[name] * batch_tokens for name in sorted(counts)})
