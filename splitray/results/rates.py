"""The best learning rates that a sweep foretells, as a run keeps them."""

from dataclasses import dataclass

import numpy as np

BEYOND = 1.0  # doublings that a best rate may lie beyond the multiples that were swept


@dataclass(frozen=True)
class Rates:
    """The best rate over the configured one, as a power law in size and tokens, for either strategy.

    unsplit, split: doublings of the configured rate at `params` and `tokens`. by_size, by_tokens: what a doubling of
    either adds. least, most: multiples that were swept. deviation: of a best rate there, in doublings.
    """

    unsplit: float
    split: float
    by_size: float
    by_tokens: float
    params: float
    tokens: float
    least: float
    most: float
    deviation: float

    def multiple(self, params: float, tokens: float, fraction: float) -> float:
        """The best rate over the configured one, at most a doubling beyond what was swept.

        Args:
            tokens: the budget D_T. fraction: of the split; 1 is unsplit.
        """
        level = self.unsplit if fraction == 1 else self.split
        best = level + self.by_size * np.log2(params / self.params) + self.by_tokens * np.log2(tokens / self.tokens)
        return float(2 ** np.clip(best, np.log2(self.least) - BEYOND, np.log2(self.most) + BEYOND))
