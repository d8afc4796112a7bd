"""The plan: how many of D_T tokens belong before the split, what that gains, and how sure the law is of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from splitray.errors import UserError
from splitray.law import forms
from splitray.law.arrays import Array
from splitray.law.gravity import ordered
from splitray.law.law import Law
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.line import Line
from splitray.law.planning.plan import DomainPlan, FormPlan, Plan
from splitray.law.planning.plan_warnings import plan_warnings
from splitray.law.planning.question import Limits, Question
from splitray.law.planning.threshold import compute_multiplier, split_threshold

# Optimal D'_k cost a hundred times what uniform ones do: 200 draws of 16 domains take 8 s, and place the ends of an
# 80 % interval within a tenth of its width.
_ALLOCATED_DRAWS = 200
# D_split is a search over budgets and splits, twenty times a plan: of 1000 draws it would take 2.5 s, of 140 0.4 s.
_THRESHOLD_DRAWS = 140


def plan(
    law: Law,
    *,
    params: float,
    budget: float,
    domains: int | list[str] | tuple[str, ...],
    weights: Sequence[float] | None = None,
    allocation: Literal["uniform", "per_domain"] = "uniform",
    limits: Limits | None = None,
    level: float = 0.8,
) -> Plan:
    """The division of `budget` tokens that minimises the (weighted) mean loss of K specialists of `params` parameters.

    The split is searched globally over s in [0, 1], for the fitted law and for every bootstrap draw on its own.

    Args:
        law: fitted, or given by its constants.
        params: N of each model, as the law counts it.
        budget: D_T, total tokens of the base and all specialists.
        domains: K (the law's mean stands for each of them; K may exceed the number of fitted domains), or a list of
            the law's domains.
        weights: of named domains, in the mixture, in the mean and in sum D'_k; they add up to 1 (default 1/K each).
        allocation: "uniform" gives every domain its weight's part of sum D'_k; "per_domain" the optimal part.
        limits: least shared pretraining, and what each domain has.
        level: mass of the intervals, between 0 and 1.

    Returns:
        The plan: the split, its losses in nats per token and what unsplit training would need, each with its interval.

    Raises:
        UserError: numbers are not finite and positive, domains are unknown, or weights do not add up.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level!r} must lie between 0 and 1")
    return answer(law, Question(params, budget, domains, weights, allocation, limits or Limits()), level)


def answer(law: Law, question: Question, level: float = 0.8) -> Plan:
    """`plan` for a `Question`."""
    apart = question.allocation == "per_domain"
    surface = question.surface(law, _ALLOCATED_DRAWS if apart else None)
    line = question.line(surface)
    x, loss = line.best()
    known = np.isfinite(loss)  # a draw may leave the range of doubles where the fit does not
    if not known[0]:
        raise UserError(f"the law has no finite loss at params={question.params:g}, budget={question.budget:g}")
    budget = question.budget
    shared, special = (tokens[:, 0] for tokens in line.divide(x[:, None]))
    unsplit = surface.unsplit(question.params, np.array([[budget]]))[:, 0]
    per_domain, epochs = _per_domain(question, line, x, level)
    threshold = split_threshold(question.surface(law, _THRESHOLD_DRAWS), question.params, apart)

    def estimate(rows: Array, least: float = -np.inf, most: float = np.inf, unbounded: bool = False) -> Estimate:
        return Estimate.of(rows[known], level, (least, most), unbounded)

    result = Plan(
        form=law.form,
        constants=_constants(law, level),
        heldout_error=_heldout(law),
        params=float(question.params),
        budget=float(budget),
        domains=surface.count,
        allocation=question.allocation,
        split_fraction=estimate(shared / budget, float(line.least), 1.0),
        pretrain_tokens=estimate(shared, float(line.least * budget), budget),
        specialize_tokens=estimate(special / surface.count, 0.0, float((1 - line.least) * budget / surface.count)),
        predicted_loss=estimate(loss),
        unsplit_loss=estimate(unsplit),
        gain=estimate(unsplit - loss, 0.0),
        split_threshold=Estimate.of(threshold, level, (-np.inf, np.inf), unbounded=True),
        compute_multiplier=estimate(
            compute_multiplier(surface, question.params, budget, loss), 1.0, np.inf, unbounded=True
        ),
        level=level,
        draws=int(known.sum()) - 1,
        flops=6.0 * question.params * budget,
        epochs=epochs,
        per_domain=per_domain,
        by_form=_by_form(law, question, float(x[0])),
        schedule=surface.schedule,
        repetition_cost=estimate(_cost(line, x, loss), 0.0) if surface.text is not None else None,
        text=question.text(surface),
    )
    return replace(result, warnings=ordered((*law.warnings, *plan_warnings(law, line, result, question.traits))))


def _per_domain(question: Question, line: Line, x: Array, level: float) -> tuple[tuple[DomainPlan, ...], float | None]:
    surface = line.surface
    tokens = line.shares(x[:, None])[:, 0]
    shared = line.divide(x[:, None])[0]
    split = surface.by_term(question.params, shared, tokens[:, None])[:, 0]
    nothing = np.zeros((1, 1, len(surface.terms)))
    unsplit = surface.by_term(question.params, np.array([[question.budget]]), nothing)[:, 0]
    passes = tokens[0] / question.available(surface)
    known = np.isfinite(question.available(surface))
    parts = tuple(
        DomainPlan(
            domain=name,
            weight=float(surface.weights[k]),
            specialize_tokens=Estimate.of(tokens[:, k], level, (0.0, np.inf)),
            predicted_loss=Estimate.of(split[:, k], level),
            unsplit_loss=Estimate.of(unsplit[:, k], level),
            epochs=float(passes[k]) if known[k] else None,
        )
        for k, name in enumerate(surface.names)
    )
    return parts, float(passes[known].max()) if known.any() else None


def _cost(line: Line, x: Array, loss: Array) -> Array:
    """What repeated text costs [rows] at the positions x [rows] of these losses [rows]."""
    new = replace(line, surface=line.surface.of_new_text())
    special = line.shares(x[:, None])
    cost: Array = loss - new.surface.loss(line.params, line.divide(x[:, None])[0], special)[:, 0]
    return cost


def _by_form(law: Law, question: Question, x: float) -> tuple[FormPlan, ...]:
    if len(law.components) < 2:
        return ()
    plans = []
    for component in law.components:
        alone = replace(law, components=(replace(component, share=1.0),))
        line = question.line(question.surface(alone, draws=0))
        own, loss = line.best()
        fraction = float((line.divide(own[:, None])[0] / question.budget)[0, 0])
        regret = float(line.loss(np.array([[x]]))[0, 0] - loss[0])
        plans.append(FormPlan(component.form, component.share, fraction, float(loss[0]), max(regret, 0.0)))
    return tuple(plans)


def _constants(law: Law, level: float) -> dict[str, Any]:
    """The best form's constants by name, each with its interval; with several domains by domain."""
    form, best = forms.find(law.form), law.best
    rows = np.concatenate([best.vectors[None], best.draws])
    by_domain = {
        domain: {
            constant.name: Estimate.of(rows[:, d, c] if constant.exponent else np.exp(rows[:, d, c]), level)
            for c, constant in enumerate(form.constants)
        }
        for d, domain in enumerate(law.domains)
    }
    return by_domain if len(by_domain) > 1 else next(iter(by_domain.values()))


def _heldout(law: Law) -> Estimate | None:
    if law.heldout is None:
        return None
    errors = [row["loss"] for row in law.heldout.rows if row["form"] == law.form and np.isfinite(row["loss"])]
    if not errors:
        return None
    return Estimate(float(np.sqrt(np.mean(np.square(errors)))), float(min(errors)), float(max(errors)))
