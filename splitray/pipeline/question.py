"""What the run asks the law for: its model, its budget, its domains, and how much text there is. No Ray."""

from dataclasses import replace

from splitray.law import Law
from splitray.law.planning.question import Limits, Question
from splitray.pipeline.programme import Programme


def asked(programme: Programme, law: Law) -> Question:
    """What the law is asked: with weights by domain where it knows every domain, else by its mean."""
    tokens, settings = programme.corpus.train_tokens, programme.config.plan
    assert tokens is not None, "the corpus is built before the plan"
    params, own = programme.size(programme.config.model).params, programme.own_share
    available = {d: n / own[d] for d, n in tokens.items()}
    limits = Limits(settings.min_pretrain_tokens, available, settings.epochs, programme.text)
    question = Question.weighing(law, params, programme.budget, programme.weights, limits)
    return replace(question, traits=_traits(programme))


def _traits(programme: Programme) -> dict[str, float]:
    """What the law warns of where the target has it otherwise than the ladder."""
    model = programme.config.model
    if model.path is not None:
        return {}
    return {"width_to_depth": model.width / model.depth}
