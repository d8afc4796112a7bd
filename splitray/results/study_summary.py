"""Every number on the page of a study."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splitray.results.codec import from_json, to_json
from splitray.results.study_analysis import ArmRegret, ForecastScore, StudyAnalysis, StudyForecast
from splitray.results.study_stages import FilterResult
from splitray.storage.checksum import Schema

SCHEMA = Schema("studysummary", 1, unnamed=None)


@dataclass(frozen=True)
class ScoredForecast:
    """A forecast of a size, and what it was worth; `score` is None before the size was measured."""

    forecast: StudyForecast
    score: ForecastScore | None = None


@dataclass(frozen=True)
class StudySummary:
    """One study.

    Args:
        name: of the study. topic: the domain, in the words of its user.
        created: UTC, ISO 8601. splitray: the version.
        filter: None where the arms were given and not filtered.
        regrets: of hold-outs.
        config: the configuration.
    """

    name: str
    topic: str
    created: str
    splitray: str
    analysis: StudyAnalysis
    filter: FilterResult | None = None
    forecasts: tuple[ScoredForecast, ...] = ()
    regrets: tuple[ArmRegret, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON types, with the schema and a checksum."""
        return SCHEMA.close(to_json(self))

    @classmethod
    def parse(cls, record: object, where: str = "study.json") -> "StudySummary":
        """The inverse of `plain`.

        Raises:
            CorruptError: it is damaged, or no summary of a study.
        """
        return from_json(cls, SCHEMA.open(record, where), where)
