"""The law's predictions beside what was measured, over the same domains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from splitray.law import Law
from splitray.law.arrays import Array
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.prediction import predicted_losses
from splitray.law.repetition import Text
from splitray.proof.forecast import LEVEL, run_noise
from splitray.results.evaluation import UNSPLIT, Compared, Prediction
from splitray.results.stages import Trial


@dataclass(frozen=True)
class Predictor:
    """A law asked for the models of one size.

    Args:
        params: N.
        weights: of all domains; means are over those that the law knows.
        noise: standard deviation of one run's log loss.
        text: how far each domain's text goes until it is read again; None where it is never.
    """

    law: Law
    params: int
    weights: Mapping[str, float]
    noise: float
    text: Text | None = None

    @classmethod
    def of(
        cls, law: Law, runs: pa.Table, params: int, weights: Mapping[str, float], text: Text | None = None
    ) -> "Predictor":
        """Args: runs: the table that the law was fitted on."""
        return cls(law, params, weights, run_noise(law, runs.to_pylist()), text)

    def trials(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """The search's trials, each with its prediction."""
        return tuple(self._trial(trial, seed) for seed, trial in enumerate(trials))

    def strategies(self, rows: Sequence[Compared]) -> tuple[Prediction, ...]:
        """Of every strategy's loss, then of every difference to the unsplit model, where that was trained."""
        drawn = {
            row.strategy: self._draws(row.pretrain_tokens, self._shares(row.specialize_tokens), seed)
            for seed, row in enumerate(rows)
        }
        measured = {row.strategy: self._mean(row.by_domain) for row in rows}
        found = [
            Prediction(name, None, Estimate.of(draws, LEVEL), measured[name], LEVEL) for name, draws in drawn.items()
        ]
        if UNSPLIT in drawn:
            found += [
                Prediction(
                    name,
                    UNSPLIT,
                    Estimate.of(draws - drawn[UNSPLIT], LEVEL),
                    measured[name] - measured[UNSPLIT],
                    LEVEL,
                )
                for name, draws in drawn.items()
                if name != UNSPLIT
            ]
        return tuple(found)

    def _trial(self, trial: Trial, seed: int) -> Trial:
        draws = self._draws(trial.pretrain_tokens, {m.domain: m.specialize_tokens for m in trial.models}, seed)
        measured = self._mean({m.domain: m.loss for m in trial.models})
        name = f"trial at {trial.split_fraction:.2f}"
        prediction = Prediction(name, None, Estimate.of(draws, LEVEL), measured, LEVEL)
        return replace(trial, predicted=prediction.predicted.value, prediction=prediction)

    def _draws(self, pretrain_tokens: float, specialize_tokens: Mapping[str, float], seed: int) -> Array:
        return predicted_losses(
            self.law, self.params, pretrain_tokens, specialize_tokens, self.weights, self.noise, seed, self.text
        )

    def _shares(self, mean: float) -> dict[str, float]:
        """D'_k of every domain from their mean."""
        return {domain: weight * len(self.weights) * mean for domain, weight in self.weights.items()}

    def _mean(self, losses: Mapping[str, float]) -> float:
        """The measured mean over the domains that the law knows."""
        known = {d: w for d, w in self.weights.items() if d in self.law.domains}
        return sum(w * losses[d] for d, w in known.items()) / sum(known.values())
