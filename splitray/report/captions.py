"""A sentence for each figure that says what to see in this run."""

from splitray.report import predicted, text
from splitray.results.evaluation import PLANNED, UNSPLIT
from splitray.results.summary import Summary


def comparison(summary: Summary) -> str:
    split, whole = text.strategy(summary, PLANNED), text.strategy(summary, UNSPLIT)
    if split is None or whole is None:
        return ""
    domains = whole.by_domain
    won = sum(split.by_domain[d] < whole.by_domain[d] for d in domains)
    planned = (
        f"The planned split is better on {won} of {len(domains)} domains."
        if split.split_fraction < 1
        else "The plan is not to split, so the two are the same."
    )
    return (
        f"Every strategy spends the same {text.tokens(split.tokens)} tokens; left of the line is better than "
        f"unsplit. {planned} Lines through the points of the mean are 95 % intervals over {text.resampled(summary)}."
    )


def measured(summary: Summary, beyond: float | None) -> str:
    search, plan, known = summary.search, text.chosen_plan(summary), text.law_domains(summary)
    if not plan:
        return ""
    over = "" if len(known) == len(summary.domains) else f", as means over the {len(known)} domains the law knows"
    said = f"Models that were really trained, over the law's curve at the same size and budget{over}."
    said += _cut(beyond)
    if search is None or not search.trials:
        return said
    missed = max(abs(text.on_law_domains(t, summary) - t.predicted) for t in search.trials if t.predicted is not None)
    said += (
        f" The law that was fitted before the search missed its {len(search.trials)} trials by at most "
        f"{text.loss(missed)} nats per token."
    )
    if search.params == plan.params and search.budget == plan.budget:
        return said
    at = f"{text.tokens(search.params)} parameters and {text.tokens(search.budget)} tokens"
    return f"{said} The search ran at {at}."


def loss_against_fraction(summary: Summary, beyond: float | None) -> str:
    plan = text.chosen_plan(summary)
    if not plan:
        return ""
    best = plan.split_fraction
    star = "the star is the planned split" if best.value < 1 else "the star in the square is the plan: not to split"
    bar = best.low is not None and best.high is not None and best.low < best.high
    return (
        f"The loss at the plan's budget with its {text.plan_label(plan)}, and at half and twice that budget (labels at "
        f"the right); {star}{', the bar through it the interval of the best fraction' if bar else ''}.{_cut(beyond)}"
    )


def _cut(beyond: float | None) -> str:
    """What is not to be seen where the law's curve leaves a figure: up to where it goes."""
    return "" if beyond is None else f" Above the figure the law goes on, up to {text.loss(beyond)} nats per token."


def predictions(summary: Summary) -> str:
    return (
        "Measured less predicted, so that the line at zero is the law. Bars are its intervals. A filled point lies "
        f"inside its interval, a hollow one outside. {predicted.hits(summary)}"
    )


def predicted_against_observed(summary: Summary, held_out: bool) -> str:
    every = "Every run of the ladder, as the law predicts it."
    if not held_out:
        return f"{every} There are too few sizes to hide the largest from a fit."
    return (
        f"{every} Triangles are the runs of the largest size as predicted by the same form fitted on all smaller "
        "sizes: how well the law extrapolates."
    )


def optimum_against_budget(summary: Summary) -> str:
    return "The best split fraction, and the best number of tokens before the split, as the law extrapolates them."


def threshold_against_params(summary: Summary) -> str:
    plan = text.chosen_plan(summary)
    if not plan:
        return ""
    threshold = text.interval(plan.split_threshold, text.tokens)
    return f"The smallest budget at which splitting pays, by model size; at this run's size {threshold} tokens."


def multiplier_against_budget(summary: Summary) -> str:
    plan = text.chosen_plan(summary)
    if not plan:
        return ""
    value, note = text.multiplier(plan)
    return (
        "How many times the tokens an unsplit model of the same size needs to reach the split's loss; at this run's "
        f"budget {value}{f' ({note})' if note else ''}."
    )


def domain_map(summary: Summary) -> str:
    return (
        "A sample of training documents in the plane in which the domains' centroids lie furthest apart. Domains that "
        "overlap here may still be apart in the other dimensions."
    )


def domain_sizes(summary: Summary) -> str:
    sizes = {d.name: d.train.tokens for d in summary.domains}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    ratio = sizes[most] / max(1, sizes[least])
    said = (
        f"In parentheses what is held out. {text.name(most)} has {text.times(ratio)} the tokens of {text.name(least)}"
    )
    weights = summary.config.get("weights", "uniform")
    if weights == "tokens":
        return f"{said}, and as much more weight."
    if weights != "uniform":
        return f"{said}. Their weights are those that the configuration gives."
    return f"{said}. Sizes do not set the weights of the domains unless the configuration says so."


def loss_matrix(summary: Summary) -> str:
    return (
        "Loss in nats per token, rows are models, columns the domain of the text; a frame marks a specialist on its "
        f"own domain. {_own(summary)}"
    )


def difference_matrix(summary: Summary) -> str:
    return (
        "Loss less that of the unsplit leaf at the base's D, in nats per token: negative (blue) is what continuing on "
        "one domain gained, positive (orange) what it forgot of the others."
    )


def ladder_saving(summary: Summary) -> str:
    made = summary.ladder
    if not made:
        return ""
    return (
        f"{made.leaves} models in {made.segments} segments: shared beginnings are trained once, which takes "
        f"{text.percent(1 / made.saving)} of the tokens that training each alone would."
    )


def stages(summary: Summary) -> str:
    rows = [s for s in summary.stages if s.seconds]
    if not rows:
        return ""
    whole = sum(s.seconds for s in rows)
    longest = max(rows, key=lambda s: s.seconds)
    return (
        f"{text.duration(whole)} in all, {text.percent(longest.seconds / whole)} of it in {longest.stage}. "
        "Solid bars train (rates are training tokens over the stage's wall time, start-up included; evaluate trains "
        "the baselines), hatched ones do not."
    )


def _own(summary: Summary) -> str:
    if summary.evaluation is None:
        return ""
    matrix = summary.evaluation.matrix
    best = 0
    for column, domain in enumerate(matrix.domains):
        losses = {model: row[column] for model, row in zip(matrix.models, matrix.loss)}
        best += all(losses[domain] < loss for model, loss in losses.items() if model != domain)
    return f"On {best} of {len(matrix.domains)} domains the specialist is better than every other model."
