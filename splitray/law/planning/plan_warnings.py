"""What there is to say against a plan: each warning with its reason and the run that would cure it."""

from collections.abc import Mapping

import numpy as np

from splitray.law import forms
from splitray.law.law import Law, LawWarning
from splitray.law.planning.line import COARSE, Line
from splitray.law.planning.plan import SMALL_LOSS, Plan
from splitray.law.solve import minimise
from splitray.units import human, some_of

FAR = 30.0  # a law fitted on runs a thirtieth of the target is a guess
_SPLIT = "the split models"
# Split fractions nearer to an end than this, inside the line, are a matter of the form far beyond the runs.
_EDGE = 0.05
_BEYOND = 3.0  # times a run
# By how much a trait of the plan may lie outside that of the runs. At 24 of width over depth instead of 13 to 20 losses
# were 3.8 % off; a rate twice too high or too low costs 0.005 nats and more in most sweeps of the proof.
_TRAITS = {"width_to_depth": 1.1, "learning_rate": 2.0}
_NAMED = 3  # domains in one warning


def plan_warnings(law: Law, line: Line, plan: Plan, traits: Mapping[str, float]) -> list[LawWarning]:
    """Warnings about `plan`, made from `law` on `line` for models of these traits, besides the law's own."""
    checks = (
        _unsupported,
        _other_schedule,
        _far,
        _at_an_end,
        _turns_up,
        _disagree,
        _limited,
        _one_domain,
        _no_interval,
    )
    found = [warning for check in checks if (warning := check(law, line, plan))]
    return found + [warning for name in _TRAITS if (warning := _other_trait(law, name, traits.get(name)))]


def _other_trait(law: Law, name: str, value: float | None) -> LawWarning | None:
    if value is None or name not in law.traits:
        return None
    (low, high), room = law.traits[name], _TRAITS[name]
    if low / room <= value <= high * room:
        return None
    what = {"width_to_depth": "ratio of width to depth", "learning_rate": "learning rate"}[name]
    return LawWarning(
        f"other_{name}",
        f"the model's {what} lies outside the runs'",
        f"it is {value:.3g}, and {low:.3g} to {high:.3g} in the runs: the law counts parameters and tokens, and cannot "
        "know what that changes",
        f"plan for a model of the runs' {what}, or add runs of one size with another",
    )


def _at_an_end(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    fraction, reach = plan.split_fraction.value, law.reach
    if _EDGE < fraction < 1 - _EDGE or fraction == 1 or not reach.frontier.size:
        return None
    target = (plan.params, plan.pretrain_tokens.value, plan.specialize_tokens.value)
    times = float(np.exp(reach.distance(*(np.array(x) for x in target))))
    if times < _BEYOND:
        return None
    return LawWarning(
        "split_at_an_end",
        "the split lies near an end of its line, far beyond the runs",
        f"split_fraction is {fraction:.2g}, {times:.0f} times beyond the nearest run in params and tokens together: "
        "the shape of a formula decides it there, not your runs",
        f"add runs of {human(plan.params / _BEYOND, 1)} params or more, at a few split fractions of one budget",
    )


def _unsupported(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    if not forms.find(law.form).splits:
        why = f"it treats tokens of the mixture and of a domain alike, so no split can pay (form {law.form})"
    elif law.largest is not None and law.largest["specialize_tokens"] == 0:
        why = "no run has specialize_tokens above 0"
    else:
        return None
    return LawWarning(
        "no_specialization",
        "the law says nothing about splitting",
        why,
        "add runs that continue from one base on each domain, with specialize_tokens from 0.02 D to D",
    )


def _other_schedule(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    if not line.surface.fitted or plan.schedule in law.schedules:
        return None
    return LawWarning(
        "other_schedule",
        "no run has the plan's learning-rate schedule",
        f"the plan has {plan.schedule}, the runs have {'; '.join(map(str, law.schedules))}",
        "plan for the schedule of the runs, or add runs that have the plan's",
    )


def _far(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    """Both arms count: a gain is the difference of two losses, and no better than the worse of them."""
    split = {
        "params": plan.params,
        "pretrain_tokens": plan.pretrain_tokens.value,
        "specialize_tokens": plan.specialize_tokens.value,
    }
    return far_arms(law, split, {"pretrain_tokens": plan.budget} if plan.splits else {})


def far_arms(law: Law, split: Mapping[str, float], unsplit: Mapping[str, float]) -> LawWarning | None:
    """A warning where one of two arms lies far outside the runs; each by `params`, `pretrain_tokens` and so on."""
    return _beyond(law, {_SPLIT: split, "the unsplit model": unsplit}, "far_target", "the plan lies")


def far_strategies(law: Law, plan: Plan, fractions: Mapping[str, float]) -> LawWarning | None:
    """A warning where other strategies that are measured beside the plan lie far outside the runs.

    Only their D' can lie further than the plan's two arms: none has more of D than the unsplit model.

    Args:
        fractions: the split fraction of each, by its name.
    """
    tokens = {name: (1 - fraction) * plan.budget / plan.domains for name, fraction in fractions.items()}
    further = {name: {"specialize_tokens": n} for name, n in tokens.items() if n > plan.specialize_tokens.value}
    return _beyond(law, further, "far_strategies", "strategies beside the plan lie")


def _beyond(law: Law, arms: Mapping[str, Mapping[str, float]], code: str, what: str) -> LawWarning | None:
    """A warning of the places by arm that lie more than `FAR` times outside the law's runs; with the factor of each."""
    seen = law.largest or {}
    reached, needed = [], dict[str, float]()
    for arm, place in arms.items():
        for name, value in place.items():
            if 0 < FAR * seen.get(name, 0.0) < value:
                ratio = f"{value / seen[name]:.0f}x the largest run's"
                reached.append(f"{name} {human(value)} of {arm} is {ratio}")
                needed[name] = max(needed.get(name, 0.0), value / FAR)
    if not reached:
        return None
    runs = ", ".join(f"{name} {human(value, 2)} or more" for name, value in needed.items())
    return LawWarning(code, f"{what} more than {FAR:g}x outside the runs", "; ".join(reached), f"add runs with {runs}")


def _turns_up(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    if not line.surface.fitted:
        return None
    x, loss = minimise(line.loss, COARSE, np.nan_to_num(line.loss(COARSE[None, :]), nan=np.inf), steps=20)
    if plan.predicted_loss.value - loss[0] <= SMALL_LOSS:
        return None
    fraction = float(np.broadcast_to(line.divide(x[:, None])[0] / line.budget, (len(x), 1))[0, 0])
    return LawWarning(
        "law_turns_up",
        "a part of the budget line was left out",
        f"at split_fraction {fraction:.2g} the law promises {loss[0]:.4g} nats, but there it says that more training "
        "hurts",
        f"add runs with pretrain_tokens below {human(plan.pretrain_tokens.value / 10, 1)} and as many D'",
    )


def _disagree(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    worst = max(plan.by_form, key=lambda form: form.regret, default=None)
    if worst is None or worst.regret <= SMALL_LOSS:
        return None
    splits = ", ".join(f"{form.form} {form.split_fraction:.2g}" for form in plan.by_form)
    return LawWarning(
        "forms_disagree",
        "laws that fit the runs alike would split elsewhere",
        f"each alone would split at {splits}; if {worst.form} is right this plan loses {worst.regret:.2g} nats",
        "add runs near the plan's ratio of specialize_tokens to pretrain_tokens at the largest size affordable",
    )


def _limited(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    least = float(np.max(line.least))
    if least == 0 or plan.split_fraction.value > least * (1 + 1e-6) or plan.split_fraction.value == 1:
        return None
    return LawWarning(
        "limit_reached",
        "a limit decides the split, not the law",
        f"the least shared pretraining, or the tokens that a domain has, keep split_fraction at {least:.3g}",
        "allow more passes (epochs), add text of these domains, or ask for less shared pretraining",
    )


def _one_domain(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    if plan.domains > 1:
        return None
    return LawWarning(
        "one_domain",
        "with one domain nothing is split",
        "the plan is continued pretraining of one model on that domain",
        "give the number of domains that the corpus is clustered into",
    )


def _no_interval(law: Law, line: Line, plan: Plan) -> LawWarning | None:
    if plan.draws:
        return None
    return LawWarning(
        "no_interval",
        "the plan has no intervals",
        "the law has no bootstrap draws",
        "fit it with bootstrap=200 or more",
    )


def weights_left_out(law: Law, weights: Mapping[str, float]) -> LawWarning | None:
    """A warning where domains weigh differently and the law lacks some of them, so that it plans with equal weights."""
    if len(set(weights.values())) == 1 or set(weights) <= set(law.domains):
        return None
    return LawWarning(
        "weights_left_out",
        "the plan leaves the domains' weights out",
        f"the ladder covers {len(law.domains)} of {len(weights)} domains, so the mean of these, at the mean D', stands "
        "for every domain, while training and comparisons weigh them as configured",
        f"set ladder.domains to {len(weights)}, or weights to uniform",
    )


def repeated_text(law: Law, plan: Plan, passes: Mapping[str, float]) -> LawWarning | None:
    """A warning where text that is read again costs something to speak of, or is read oftener than is known to be safe.

    Args:
        passes: over every domain's training text, in the mixture and after the split.
    """
    often = sorted((d for d in passes if passes[d] > 1), key=lambda d: -passes[d])
    cost = 0.0 if plan.repetition_cost is None else plan.repetition_cost.value
    if not often or (cost < SMALL_LOSS and passes[often[0]] <= law.repetition.trusted):
        return None
    named = some_of(often, _NAMED, lambda d: f"{d} {passes[d]:.3g} times", "domains")
    how = law.repetition
    known = f"as the runs show up to {how.most:.3g} passes" if how.fitted else "as published, no run here shows it"
    harm = f"; beyond {how.trusted:.3g} passes it may be more" if passes[often[0]] > how.trusted else ""
    return LawWarning(
        "repeated_text",
        "training text is read more than once",
        f"the plan reads {named}; by the law that costs {cost:.3f} nats over as much new text (R* {how.constant:.3g}, "
        f"{known}){harm}",
        "add text of these domains, or lower the budget",
    )
