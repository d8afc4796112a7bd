"""The sentences of a study's page."""

from collections.abc import Mapping

from splitray.law.planning.estimate import Estimate
from splitray.report import text
from splitray.results.study import FILTERED, GENERAL, LOSS_DOMAIN, MIX, QUALITY
from splitray.results.study_analysis import Advice, EfficiencyRatio, Option, StudyAnalysis
from splitray.results.study_summary import StudySummary
from splitray.units import human

ARMS: Mapping[str, str] = {
    GENERAL: "general text",
    FILTERED: "filtered text",
    QUALITY: "text by quality alone",
    MIX: "filtered text with replay",
}
_FIRST_LEVEL = "general's best"


def arm(name: str) -> str:
    return ARMS.get(name, name)


def sure(advice: Advice) -> bool:
    """Whether another arm is told apart from the advised one: the 80 % interval of the difference excludes 0."""
    gap = advice.other_arm
    return gap is None or gap.low is None or gap.low > 0


def headline(summary: StudySummary) -> tuple[str, str]:
    """The page's first sentence, and what supports it."""
    advice = summary.analysis.advice
    return _advised(summary, advice) if advice is not None else _measured(summary)


def _advised(summary: StudySummary, advice: Advice) -> tuple[str, str]:
    first = advice.first
    place = f"{human(first.tokens)} tokens at {human(first.params)} parameters"
    if not sure(advice):
        title = f"Open: for {summary.topic}, {arm(first.arm)} is ahead by less than the study can tell"
    elif first.arm == FILTERED:
        title = f"Filter for {summary.topic}: {place}"
    elif first.arm == MIX:
        title = f"Filter for {summary.topic} and replay: {place}"
    else:
        title = f"Do not filter for {summary.topic}: {place}"
    return title, _support(first, advice)


def _support(first: Option, advice: Advice) -> str:
    parts = [
        f"With {human(advice.flops)} FLOPs, continue {first.model} on {human(first.tokens)} tokens of "
        f"{arm(first.arm)}.",
        f"The expected loss is {text.interval(first.loss, text.loss)} nats per token on the domain.",
    ]
    if advice.other_arm is not None:
        parts.append(f"The best of the other arms is {text.interval(advice.other_arm, text.signed)} beside it.")
        if advice.other_arm.low is None:
            parts.append("That is of one seed, so it has no interval.")
    if first.epochs > 1:
        parts.append(f"The topic's text is then read {first.epochs:.2g} times.")
    return " ".join(parts)


def _measured(summary: StudySummary) -> tuple[str, str]:
    rows = main_ratios(summary.analysis)
    if not rows:
        return (
            f"Does {summary.topic} pay? The study has no answer yet",
            "No model was measured on both filtered and general text.",
        )
    last = rows[-1]
    return (
        f"{summary.topic.capitalize()}: general text needs {ratio(last)} the compute "
        f"at {human(last.params)} parameters",
        "To reach the loss that general text ends at, beside what filtered text needs.",
    )


def main_ratios(analysis: StudyAnalysis) -> list[EfficiencyRatio]:
    """SGER of the filtered arm by the domain's loss, at general's best, the smallest size first."""
    rows = [r for r in analysis.ratios if (r.measure, r.arm, r.named) == (LOSS_DOMAIN, FILTERED, _FIRST_LEVEL)]
    return sorted(rows, key=lambda r: r.params)


def ratio(row: EfficiencyRatio) -> str:
    """`3.1×`, `at least 8×`, or a dash where nothing is known."""
    low, high = row.ratio.low, row.ratio.high
    if row.ratio.exact:
        return text.times(low)
    if low is not None and high is not None:
        return f"{text.times(low)} to {text.times(high)}"
    if low is not None:
        return f"at least {text.times(low)}"
    return f"at most {text.times(high)}" if high is not None else text.UNKNOWN


def ratio_bounds(row: EfficiencyRatio) -> str:
    """The 95 % interval; an end that is open says so."""
    if row.low is None and row.high is None:
        return ""
    if row.low is None:
        return f"up to {text.times(row.high)}"
    return f"{text.times(row.low)} to {text.times(row.high) if row.high is not None else 'no upper bound'}"


def compute(interval: object) -> str:
    """Compute to a level: a number, or the bound that the snapshots give."""
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    if low is not None and low == high:
        return human(low)
    if low is not None:
        return f"> {human(low)}"
    return f"< {human(high)}" if high is not None else text.UNKNOWN


def slope(estimate: Estimate | None) -> str:
    """`0.30 (0.12 to 0.47)`."""
    if estimate is None:
        return text.UNKNOWN
    interval = "no interval" if estimate.low is None else f"{estimate.low:.2f} to {estimate.high:.2f}"
    return f"{estimate.value:.2f} ({interval})".replace("-", "−")


def widens(analysis: StudyAnalysis) -> str:
    """Whether the gap grows with the size, in a sentence."""
    found = next(
        (s for s in analysis.slopes if (s.measure, s.arm, s.named) == (LOSS_DOMAIN, FILTERED, _FIRST_LEVEL)), None
    )
    if found is None:
        return "There are no own bases to see a slope of the gap with."
    if found.slope is None:
        return f"The gap's slope against the size is not known. {found.reason[:1].upper()}{found.reason[1:]}."
    low, high = found.slope.low, found.slope.high
    power = f"The ratio goes as N to the power of {slope(found.slope)} over {found.sizes} sizes"
    bounds = f", {found.censored} of them bounds" if found.censored else ""
    if low is not None and low > 0:
        says = "So the gap widens with the size."
    elif high is not None and high < 0:
        says = "So the gap narrows with the size."
    else:
        says = "So the study does not tell whether the gap widens or narrows."
    return f"{power}{bounds}. {says}"


def decider(advice: Advice) -> str:
    """The run that would decide, in a sentence; why there is none where there is none."""
    run = advice.decider
    if advice.first.best is None:
        return "With one seed nothing says how sure this is. A second seed of the two best options would."
    if run is None:
        return "No single run at this compute is expected to change the choice by more than 0.0001 nats."
    return (
        f"The run that would tell most: {run.model} on {human(run.tokens)} tokens of {arm(run.arm)} "
        f"({human(run.flops)} FLOPs). The choice is expected to be {run.saved:.4f} nats better after it."
    )
