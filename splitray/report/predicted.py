"""The law held against what was measured: the rows of its table, and what they come to."""

from collections.abc import Sequence
from dataclasses import dataclass

from splitray.law.planning.prediction import contradicted
from splitray.report import text
from splitray.results.evaluation import Prediction
from splitray.results.summary import Summary
from splitray.units import counted

_FAR = 0.5  # nats per token: far more than splitting gains or loses near the optimum
TITLE, TRIALS = "Predicted, measured, inside?", "trials of the search"


@dataclass(frozen=True)
class Group:
    """Predictions of one kind: losses of strategies, differences of them to unsplit, or trials of the search."""

    name: str
    rows: tuple[Prediction, ...]

    @property
    def judged(self) -> list[bool]:
        """Of every row that has an interval, whether it holds the measured loss."""
        return [row.inside for row in self.rows if row.inside is not None]

    @property
    def contradicted(self) -> bool:
        """Whether too many of them lie outside."""
        return contradicted(self.judged.count(False), len(self.judged), self.rows[0].level)


def groups(summary: Summary) -> list[Group]:
    """All predictions that were measured, by kind; none where the run has none."""
    trials = summary.search.trials if summary.search else ()
    kinds = (
        ("losses", [p for p in summary.predictions if p.against is None]),
        ("differences to unsplit", [p for p in summary.predictions if p.against is not None]),
        (TRIALS, [t.prediction for t in trials if t.prediction is not None]),
    )
    return [Group(name, tuple(rows)) for name, rows in kinds if rows]


def label(row: Prediction) -> str:
    return row.strategy if row.against is None else f"{row.strategy} less {row.against}"


def show(row: Prediction) -> text.Show:
    """How the numbers of a row are written: losses plain, differences with their sign."""
    return text.loss if row.against is None else text.signed


def verdict(row: Prediction) -> str:
    return text.UNKNOWN if row.inside is None else "yes" if row.inside else "no"


def hits(summary: Summary) -> str:
    """The hit rate in a sentence, and whether it contradicts the law; empty without intervals."""
    judged = [group for group in groups(summary) if group.judged]
    if not judged:
        return ""
    parts = [f"{group.judged.count(True)} of {len(group.judged)} {group.name}" for group in judged]
    sentence = f"{_far_off(judged)}Inside their {text.percent(judged[0].rows[0].level)} intervals: {_listed(parts)}."
    if wrong := [group.name for group in judged if group.contradicted]:
        return (
            f"{sentence} For {_listed(wrong)} that is fewer than a binomial test at 5 % allows: do not rely on the law."
        )
    return f"{sentence} That is no fewer than chance allows (binomial test at 5 %)."


def _far_off(judged: Sequence[Group]) -> str:
    """Of every loss that the law misses by far, by how much; first, because a hit rate hides a single one."""
    said = ""
    for row in (row for group in judged for row in group.rows if row.against is None):
        gap = row.predicted.value - row.measured
        if abs(gap) > _FAR:
            said += f"For {label(row)} the law is {text.loss(abs(gap))} nats too {'high' if gap > 0 else 'low'}: "
            said += "do not use it near there. "
    return said


def warnings(summary: Summary) -> list[str]:
    """What the measured strategies say against the law. The search's trials are in the plan's own warnings."""
    wrong = [group for group in groups(summary) if group.contradicted and group.name != TRIALS]
    return [
        f"What was measured contradicts the law: {group.judged.count(False)} of {len(group.judged)} {group.name} lie "
        "outside their intervals, more than a binomial test at 5 % allows; trust what was measured more "
        "than what is predicted"
        for group in wrong
    ]


def basis(summary: Summary) -> str:
    """What the predictions are made of: which law, which domains, and what it had seen."""
    known, count = len(text.law_domains(summary)), len(summary.domains)
    over = f"the {known} of {count} domains that the law knows" if known < count else f"all {count} domains"
    said = f"Both columns are means over {over}, in nats per token. Intervals are those of a single run."
    search = summary.search
    if search and search.trials:
        if any(trial.prediction for trial in search.trials):
            said += " Strategies are predicted by the law that planned, trials by the law of before the search."
        if (search.params, search.budget) == (summary.params, summary.budget):
            seen = counted(len(search.trials), "trial")
            said += f" The law that planned had seen {seen} at this size and budget."
    return said


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
