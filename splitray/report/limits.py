"""What a reader must know before quoting a number from the page."""

from collections.abc import Sequence

from splitray.report import predicted, text
from splitray.report.text import name, percent, tokens
from splitray.results.summary import Summary
from splitray.units import counted, some_of

_FEW = 20  # groups: a cluster bootstrap over fewer is too narrow (Cameron, Gelbach & Miller 2008)
_SHOWN_COST = 0.0005  # nats: less is 0.000 on the page
_NO_GROUPS = (
    "This evaluation did not record groups. Its intervals treat documents of one book or call as independent, "
    "and are too narrow where they are not."
)


def warnings(summary: Summary) -> list[str]:
    """What page and log warn of, the gravest first.

    A law that measurements contradict is to be left alone, whatever else there is to say of it. Few groups of documents
    make intervals too narrow, and move no plan.
    """
    return [*predicted.warnings(summary), *text.warnings(summary), *few_groups(summary)]


def limits(summary: Summary) -> list[str]:
    """What a reader must know before quoting a number from the page."""
    said, evaluation = [], summary.evaluation
    rows = evaluation.comparison if evaluation else ()
    extra = [("ladder", summary.ladder_cost), ("search", summary.search_cost)]
    costs = [f"{w} {tokens(c.tokens)} tokens ({percent(c.share_of_budget)} of it)" for w, c in extra if c]
    if costs:
        said.append(
            f"Finding the split cost tokens beyond the budget of {tokens(summary.budget)}: {', '.join(costs)}, "
            "counted alike whatever the model's size."
        )
    if evaluation and evaluation.note:
        said.append(evaluation.note)
    repeated = [f"{row.strategy} {row.epochs:.1f}" for row in rows if (row.epochs or 0) > 1]
    if repeated:
        passes = ", ".join(repeated)
        plan = text.chosen_plan(summary)
        cost = plan.repetition_cost.value if plan is not None and plan.repetition_cost is not None else 0.0
        lost = f" By the law that costs the planned models {cost:.3f} nats." if cost >= _SHOWN_COST else ""
        said.append(f"Some training text is read more than once; most passes over any domain: {passes}.{lost}")
    if rows:
        alone = summary.ladder is not None and summary.ladder.seeds <= 1
        known = ", and the ladder has one seed, so that noise is not known here" if alone else ""
        said.append(f"Every compared model is trained once: differences include the noise between seeds{known}.")
    if summary.domains:
        said.append(validation_text(summary))
    if groups := summary.corpus.row_split_groups:
        large = [f"{g.group} ({percent(g.share_of_file)} of its file's rows)" for g in groups]
        said.append(
            f"Too large to stay on one side, so split into training and validation by row: {some_of(large, 5)}. In the "
            "intervals each of these rows counts as a group."
        )
    if evaluation:
        said += few_groups(summary) if evaluation.resampled else [_NO_GROUPS]
    if failures := sum(stage.failures for stage in summary.stages):
        said.append(f"Attempts at training that failed and were repeated: {failures} (see the stages).")
    return said


def validation_text(summary: Summary) -> str:
    """How many tokens of a domain losses are measured on, beside those that were held out."""
    held = [d.validation.tokens for d in summary.domains]
    said = f"Validation text: {_range(held)} tokens a domain are held out"
    most = summary.config.get("evaluate", {}).get("validation_tokens")
    if most is None:  # a configuration of the first release may lack it
        return f"{said}."
    return f"{said}. Losses are measured on {_range([min(h, most) for h in held])} of them."


def few_groups(summary: Summary) -> list[str]:
    """What to know where the groups of validation documents are few in a domain; empty elsewhere."""
    counts = summary.evaluation.resampled if summary.evaluation else None
    if counts is None:
        return []
    least = min(counts.by_domain, key=counts.by_domain.__getitem__)
    if counts.by_domain[least] >= _FEW:
        return []
    return [
        f"{name(least)} has {counted(counts.by_domain[least], 'group')} of validation documents. Intervals over fewer "
        f"than {_FEW} are too narrow."
    ]


def _range(counts: Sequence[int]) -> str:
    low, high = tokens(min(counts)), tokens(max(counts))
    return low if low == high else f"{low} to {high}"
