"""Strategies at equal tokens, from losses by document that the store holds."""

from collections.abc import Mapping

from splitray.evaluate.compare import Scores, difference, mean
from splitray.evaluate.loss import validation_groups, validation_key
from splitray.evaluate.measure import loss_key
from splitray.pipeline.job import Job
from splitray.results.evaluation import UNSPLIT, Compared
from splitray.training.split import Split


def scores_of(job: Job, key: str, domain: str) -> Scores:
    """Losses by document of a model that the coordinator has scored, by its segment."""
    name = loss_key(key, validation_key(job.corpus, job.config.evaluate.validation_tokens), domain)
    held = job.store.find(name)
    assert held is not None, name
    with job.store.invalidating(held):
        return Scores.of(held, validation_groups(job.corpus, domain))


def compared(job: Job, name: str, split: Split, scores: Mapping[str, Mapping[str, Scores]]) -> Compared:
    """One strategy beside the unsplit model of the same tokens.

    Args:
        scores: of every strategy, by its name and by domain.
    """
    mine, unsplit, weights = scores[name], scores.get(UNSPLIT), job.programme.weights
    own = job.programme.own_share
    by_domain = {d: mine[d].loss for d in weights}
    return Compared(
        strategy=name,
        split_fraction=split.fraction,
        pretrain_tokens=split.pretrain_tokens,
        specialize_tokens=sum(split.specialize_tokens.values()) / len(weights),
        tokens=split.budget,
        loss=mean(by_domain, weights),
        bits_per_byte=mean({d: mine[d].bits_per_byte for d in weights}, weights),
        by_domain=by_domain,
        difference=difference(mine, unsplit, weights) if unsplit else None,
        epochs=max(
            (weights[d] * split.pretrain_tokens + own[d] * split.specialize_tokens[d])
            / job.corpus.counts(d, "train")["tokens"]
            for d in weights
        ),
    )
