"""What the documents beside a model are written from, and how they write it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splitray.law.planning.estimate import Estimate
from splitray.results.exported import ExportRecord
from splitray.results.ledger import StageSpending
from splitray.results.merged import MergedEvaluation, Tuning
from splitray.results.summary import Summary
from splitray.storage.redact import without_query

BLANK = "**[TO FILL IN]**"  # what only the people who publish a model know
_HUB = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class RunFacts:
    """A run, as the documents of all its models tell it.

    Args:
        spent: by stage, by all starts together; empty where starts were not counted.
        predicted, measured: loss of the planned split by the law, and as trained, over the law's domains.
    """

    summary: Summary
    spent: tuple[StageSpending, ...]
    predicted: Estimate | None
    measured: float | None

    @property
    def sources(self) -> list[str]:
        """The corpus's sources, fit to be published: local paths and logins are cut off."""
        return [public(source) for source in self.summary.config["corpus"]["sources"]]

    @property
    def datasets(self) -> list[str]:
        """Those sources that are data sets of the Hugging Face hub, by their names there."""
        found = (_HUB.match(str(source)) for source in self.summary.config["corpus"]["sources"])
        return [match[1] for match in found if match]

    @property
    def worker_hours(self) -> float | None:
        """Measured hours of all training processes together, for segments that were finished."""
        return sum(stage.training_seconds for stage in self.spent) / 3600 if self.spent else None


@dataclass(frozen=True)
class ModelFacts:
    """One exported folder.

    Args:
        place: its name in the run folder, "" for the run as a whole.
        card: its `splitray.json`. record: its `checksums.json`.
        params, flops: N, and those of training it from scratch; None where they are not known.
        merged: how it does, for a model with experts.
    """

    place: str
    card: Mapping[str, Any]
    record: ExportRecord
    params: int | None = None
    flops: float | None = None
    merged: MergedEvaluation | None = None


def tuned_text(tuning: Tuning) -> str:
    """What tuned routers have cost, in words: the comparison is not at equal tokens any more."""
    return (
        f"The routers alone were trained for {tuning.tokens:,} tokens of the mixture: {tuning.weights:,} weights, "
        f"{tuning.flops:.3g} FLOPs. The tuned model had these tokens more than the others."
    )


def public(source: object) -> str:
    """A source as it may be published. Paths of a machine tell more than its data: their last part is left."""
    text = without_query(str(source))
    if text == "environment":
        return "the text files of the Python environment that the run was started in"
    if "://" in text and not text.startswith("file://"):
        return f"`{text}`"
    return f"`{text.rstrip('/').rsplit('/', 1)[-1]}` (a local path, of which the last part is named)"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """Text of a corpus may hold what Markdown and HTML would take as theirs."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def between(estimate: Estimate | None, form: str = ".4f") -> str:
    """`3.120 (3.100 to 3.140)`, or a dash."""
    if estimate is None:
        return "–"
    value = f"{estimate.value:{form}}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({estimate.low:{form}} to {estimate.high:{form}})"
