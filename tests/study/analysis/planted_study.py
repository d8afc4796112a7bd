"""Studies whose truth is known: a token of an arm is worth so many general ones, a power of N."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from splitray.results.study import LOSS_DOMAIN, LOSS_GENERAL, StudyRun
from splitray.study.analysis.tables import StudyTable

SIZES = {"h32": 100_000, "h48": 250_000, "h64": 600_000, "h96": 1_300_000, "h128": 3_000_000}
TOKENS = (250_000, 500_000, 1_000_000, 2_000_000)
_REFERENCE = 600_000


@dataclass(frozen=True)
class World:
    """L = 2 + 20 N^-0.2 + 120 (d0 + worth D')^-0.3, worth = rho (N / 600K)^q of an arm's tokens; general: 1.

    So SGER at every level is rho (N / 600K)^q, exactly.
    """

    rho: Mapping[str, float] = field(default_factory=lambda: {"filtered": 5.0, "quality": 1.2})
    q: Mapping[str, float] = field(default_factory=lambda: {"filtered": 0.3, "quality": 0.0})
    stock: float = 400_000.0
    forgets: float = 0.02  # nats of general loss per e-fold of filtered tokens

    def worth(self, params: float, arm: str) -> float:
        return self.rho.get(arm, 1.0) * (params / _REFERENCE) ** self.q.get(arm, 0.0)

    def loss(self, params: float, tokens: float, arm: str) -> float:
        return float(2 + 20 * params**-0.2 + 120 * (self.stock + self.worth(params, arm) * tokens) ** -0.3)

    def general_loss(self, params: float, tokens: float, arm: str) -> float:
        change = -0.01 if arm == "general" else self.forgets
        return float(3 + 20 * params**-0.2 + change * np.log1p(tokens / 250_000))

    def study(
        self,
        sizes: Mapping[str, int] = SIZES,
        seeds: int = 3,
        noise: float = 0.0,
        tokens: Sequence[int] = TOKENS,
        draw: int = 0,
        unique: float | None = None,
    ) -> StudyTable:
        """A table of it. noise: standard deviation of log loss that each line shares, and as much of each snapshot."""
        random = np.random.default_rng(draw)
        rows = []
        for model, params in sizes.items():
            for seed in range(seeds):
                shared = random.normal() * noise
                for arm in ("general", *self.rho):
                    for count in (0, *tokens):
                        epochs = max(1.0, count / unique) if unique and arm != "general" else count / 1e9
                        # the model as it was is the same for every arm
                        off = shared + (0.0 if count == 0 else noise * random.normal() / 2)
                        for measure, of in ((LOSS_DOMAIN, self.loss), (LOSS_GENERAL, self.general_loss)):
                            value = of(params, count, arm) * np.exp(off)
                            flops = 6.0 * params * count
                            rows.append(
                                StudyRun(
                                    model, "own", params, arm, seed, count, flops, 1e-3, epochs, measure, value, False
                                )
                            )
        return StudyTable(rows).check()
