"""Whether a fitted law falls in D and D' over the planning range."""

from __future__ import annotations

import numpy as np

from splitray.law.fitting.regression import Fitted
from splitray.law.runs import Runs

_STEEPEST = 2e-3  # nats per e-fold of tokens that a form may rise by, or the noise where that is larger
_REACH = 3.0  # planning range: this many times the largest N, D and D'


def rising(fitted: Fitted, runs: Runs) -> str | None:
    """Why a fit is refused: where in the planning range more tokens of either kind raise the loss; None if nowhere.

    The range: N from the largest to 3 times it, D and D' to 3 times the largest, D' / D within what was seen. A rise
    per e-fold below the noise is not told from none.
    """
    D, S = runs.pretrain_tokens, runs.specialize_tokens
    sizes = np.geomspace(runs.params.max(), _REACH * runs.params.max(), 4)
    least, most = D[D > 0].min(initial=np.inf), D.max()
    if not np.isfinite(least):
        return None
    pretrain = np.geomspace(least, _REACH * most, 10)
    special = np.zeros(1)
    if S.any():
        special = np.append(special, np.geomspace(S[S > 0].min(), _REACH * S.max(), 10))
    grid = [axis.ravel() for axis in np.meshgrid(sizes, pretrain, special, indexing="ij")]
    both = (D > 0) & (S > 0)
    ratio = float((S[both] / D[both]).max(initial=0.0))
    N, D, S = (axis[grid[2] <= ratio * grid[1]] for axis in grid)
    with np.errstate(all="ignore"):
        by_D, by_S = fitted.form.gradient(fitted.constants, N, D, S)
    allowed = max(_STEEPEST, fitted.noise * float(runs.loss.min()))
    for name, slope in (("pretrain_tokens", by_D * D), ("specialize_tokens", by_S * S)):
        worst = np.unravel_index(np.nanargmax(slope), slope.shape)
        if slope[worst] > allowed:
            at = worst[1]
            return (
                f"more {name} raise its loss by {slope[worst]:.2g} nats per e-fold"
                f" at params {N[at]:.3g}, pretrain_tokens {D[at]:.3g}, specialize_tokens {S[at]:.3g}"
            )
    return None
