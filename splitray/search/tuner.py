"""The search as a Ray Tune experiment: a searcher that proposes in rounds from the law, trials that ask the owner.

Each round is a pure function of the completed earlier rounds, so that a killed search, started again, makes the same
proposals and finds their leaves in the store: its finished trials replay without training.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from splitray.errors import SplitrayError, StageError
from splitray.executor.request import SplitFamily
from splitray.executor.watch import coordinator_of
from splitray.law import Law
from splitray.law.planning.question import Limits, Question
from splitray.results.codec import from_json, to_json
from splitray.results.stages import Trial, TrialModel
from splitray.runtime.quiet import environment, levels
from splitray.search.rounds import Proposal, propose
from splitray.search.settings import SearchSettings

_RETRIES = 3  # of a trial whose process died


def question(law: Law, family: SplitFamily) -> Question:
    """What a law is asked for a family's budget line."""
    return Question.weighing(law, family.params, family.budget, family.weights, Limits(text=family.text))


@dataclass
class Round:
    """A round's proposal and its finished trials by split fraction."""

    proposal: Proposal
    trials: dict[float, Trial] = field(default_factory=dict)


class LawSearcher(Searcher):
    """Proposes the next round once the last one is complete.

    Args:
        refit: given all finished trials, the law fitted again with them.
    """

    def __init__(
        self, law: Law, family: SplitFamily, settings: SearchSettings, refit: Callable[[Sequence[Trial]], Law]
    ) -> None:
        super().__init__(metric="loss", mode="min")
        self.law, self.rounds, self.stopped = law, list[Round](), ""
        self._family, self._settings, self._refit = family, settings, refit
        self._waiting: list[float] = []
        self._live: dict[str, float] = {}
        self._next()

    @property
    def trials(self) -> list[Trial]:
        return [t for r in self.rounds for t in r.trials.values()]

    def _next(self) -> None:
        """Start the next round, or say why there is none."""
        tried = {t.split_fraction: t.loss for t in self.trials}
        proposal = propose(self.law, question(self.law, self._family), tried, self._settings.trials_per_round)
        self.rounds.append(Round(proposal))
        if len(self.rounds) > self._settings.max_rounds:
            self.stopped = f"the limit of {self._settings.max_rounds} rounds"
        elif tried and proposal.expected_gain < self._settings.tolerance:
            self.stopped = f"expected gain {proposal.expected_gain:.4f} nats below {self._settings.tolerance}"
        elif not proposal.fractions:
            self.stopped = "every fraction that the law proposes was tried"
        self._waiting = [] if self.stopped else list(proposal.fractions)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._waiting:
            self._live[trial_id] = self._waiting.pop(0)
            return {"split_fraction": self._live[trial_id]}
        return Searcher.FINISHED if self.stopped else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        fraction = self._live.pop(trial_id)
        if error or result is None or "loss" not in result:
            self.stopped, self._waiting = f"the trial at split fraction {fraction:.3f} failed", []
            return
        self.rounds[-1].trials[fraction] = from_json(Trial, result, f"the trial at split fraction {fraction:.3f}")
        if not self._live and not self._waiting and not self.stopped:
            # in the order of the proposal, not of arrival: the refit sees the same table every time
            proposal = self.rounds[-1].proposal
            self.rounds[-1].trials = {f: self.rounds[-1].trials[f] for f in proposal.fractions}
            self.law = self._refit(self.trials)
            self._next()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher so as to restore it; there is nothing to keep, see `save`."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: a new search replays its rounds from the tree."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


def trial(config: dict[str, Any], family: SplitFamily, namespace: str) -> None:
    """One trial: ask the owner for the leaves of a split, and report their weighted loss."""
    split = family.split(config["split_fraction"])
    owner = coordinator_of(namespace)
    results = ray.get(owner.leaves.remote(family.requests(split)))
    models = tuple(
        TrialModel(d, split.specialize_tokens[d], r["losses"][d]["loss"], r["key"])
        for d, r in zip(family.weights, results, strict=True)
    )
    loss, after = sum(family.weights[m.domain] * m.loss for m in models), sum(split.specialize_tokens.values())
    found = to_json(Trial(split.fraction, split.pretrain_tokens, after / len(models), loss, models))
    tune.report({name: value for name, value in found.items() if value is not None})


def search(
    searcher: LawSearcher,
    family: SplitFamily,
    namespace: str,
    settings: SearchSettings,
    folder: Path,
    wait: Callable[[Any], Any],
) -> None:
    """Run the experiment to its end; what was found is in the searcher.

    Args:
        namespace: where the trials find the coordinator.
        folder: a local folder for Tune's own records.
        wait: runs a function while it prints progress.
    """
    trainable = tune.with_resources(tune.with_parameters(trial, family=family, namespace=namespace), {"CPU": 0.01})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=settings.max_rounds * settings.trials_per_round,
            max_concurrent_trials=settings.concurrent,
            trial_name_creator=lambda t: f"trial[{t.config['split_fraction']:.3f}]",
            trial_dirname_creator=lambda t: t.trial_id,
        ),
        # a trial only asks the owner and waits: when its process is killed, asking again costs nothing
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
        ),
    )
    # Tune's new output prints a frame and paths whatever the verbosity, and its loggers warn of what they cannot write
    with (
        environment(RAY_AIR_NEW_OUTPUT="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1"),
        levels({"ray.tune": logging.ERROR}),
    ):
        results = wait(tuner.fit)
    errors = [e for e in results.errors if e is not None]
    if errors:
        raise next((e for e in errors if isinstance(e, SplitrayError)), StageError(f"search: {errors[0]}"))
