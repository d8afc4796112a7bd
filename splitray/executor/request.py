"""What the coordinator is asked for: a state to train, and all models of one split. No Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splitray.law.repetition import Text
from splitray.training.recipe import Recipe
from splitray.training.settings import Schedule
from splitray.training.split import Split
from splitray.training.tree import Target


@dataclass(frozen=True)
class Request:
    """A state to train, the domains to score it on, and where its segments are trained.

    Its mixture segments run in a worker group of `mixture_workers` workers, its domain segments on the domain's named
    actor with `domain_workers` workers. 0 leaves either to the ladder's pool of single processes, where a model that
    is sharded over several workers may not fit.
    """

    target: Target
    domains: tuple[str, ...] = ()
    mixture_workers: int = 0
    domain_workers: int = 0


def in_group(workers: int) -> int:
    """`Request.domain_workers` where a domain needs no actor of its own: the pool is as good as one worker."""
    return workers if workers > 1 else 0


@dataclass(frozen=True)
class SplitFamily:
    """Every split of one budget for one model: the same recipe, weights and workers, whatever the fraction.

    Args:
        params: N of the model.
        budget: D_T in tokens, in whole batches of every domain.
        weights: share of every domain, summing to 1.
        mixture_workers: see `Request`; of every model of the family, as are `domain_workers`.
        text: how far each domain's text goes, for predictions; None where that is not known.
    """

    recipe: Recipe
    params: int
    budget: int
    weights: Mapping[str, float]
    schedule: Schedule
    mixture_workers: int = 0
    domain_workers: int = 0
    text: Text | None = None

    def split(self, fraction: float) -> Split:
        """The split of the budget nearest to a fraction, in whole batches."""
        return Split.at(fraction, self.budget, self.weights, self.recipe.batch_tokens)

    def requests(self, split: Split, domains: Sequence[str] | None = None) -> list[Request]:
        """One finished model a domain, in the order of the weights, scored on `domains` (None: on its own)."""
        return [
            Request(
                Target.leaf(self.recipe, split.leaf(domain), self.schedule),
                (domain,) if domains is None else tuple(domains),
                self.mixture_workers,
                self.domain_workers if split.specialize_tokens[domain] else 0,
            )
            for domain in self.weights
        ]
