"""The sentence below each figure of a study's page."""

from splitray.report import study_words, text
from splitray.results.study import FILTERED, GENERAL
from splitray.results.study_summary import StudySummary
from splitray.units import human


def curves(summary: StudySummary) -> str:
    seeds = {p.seeds for c in summary.analysis.curves for p in c.points}
    of = " to ".join(dict.fromkeys(map(str, (min(seeds), max(seeds)))))
    spread = f", the mean over {of} seeds. The band is the 95 % interval." if max(seeds) > 1 else " of one seed."
    return (
        f"Each mark is a finished model{spread} The dotted line is the model before it was continued. A curve that "
        "lies further left needs less compute."
    )


def gap(summary: StudySummary) -> str:
    return (
        "How many times the compute general text needs to end at the same loss. "
        f"{study_words.widens(summary.analysis)} Hollow triangles are bounds: the truth lies where they point."
    )


def forgetting(summary: StudySummary) -> str:
    rows = [f for f in summary.analysis.forgetting if f.arm == FILTERED]
    if not rows:
        return "Above 0 the model has become worse on general text."
    worst = max(rows, key=lambda f: f.difference.value)
    if worst.difference.value <= 0:
        return (
            f"Above 0 a model has become worse on general text. None has with filtered text: {worst.model} gained "
            f"least, {text.signed(worst.difference.value)} nats per token."
        )
    return (
        f"Above 0 a model has become worse on general text. Filtered text cost {worst.model} most, "
        f"{text.signed(worst.difference.value)} nats per token."
    )


def exams(summary: StudySummary) -> str:
    rows = [r for r in summary.analysis.exams if r.arm == FILTERED and r.to_general is not None]
    told = sum(r.to_general is not None and r.to_general.high is not None and r.to_general.high < 0 for r in rows)
    return (
        f"Left of 0, filtered text makes the right answers likelier than general text does. That is told apart in "
        f"{told} of {len(rows)} cases. Intervals are over questions and seeds."
    )


def forecasts(summary: StudySummary) -> str:
    made = summary.forecasts[-1]
    start = (
        f"The dashed lines were sealed before the model of {human(made.forecast.params)} parameters was trained; the "
        f"bands are {text.percent(made.forecast.level)} intervals."
    )
    if made.score is None:
        return f"{start} It is not measured yet."
    inside = sum(e.inside for e in made.score.points)
    arms = {e.predicted.arm for e in made.score.points} - {GENERAL}
    off = made.score.differences
    gap = f", differences to general text {off:.3f} nats" if off is not None else ""
    return (
        f"{start} Marks are what was measured: {inside} of {len(made.score.points)} lie inside. Losses are "
        f"{made.score.relative:.2%} off on average{gap if arms else ''}."
    )
