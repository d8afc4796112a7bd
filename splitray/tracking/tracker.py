"""What a tracker is: one class that takes a run's numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from splitray.settings import Place, Settings, operational


class TrackerSettings(Settings):
    """One entry of `trackers`. A tracker with further settings derives its own class from this one."""

    name: str = Field(min_length=1, description="Which tracker: jsonl, tensorboard, mlflow, wandb, or one of your own.")
    folder: Place | None = operational(
        None,
        "Folder of what it writes, for tensorboard and wandb also on S3 or GCS; default `trackers/NAME` in the run "
        "folder.",
    )


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is told of.

    Attributes:
        name: of the configuration.
        key: the same for every start on one run folder, so that a tracker can go on with the run that it knows.
        folder: local and existing; for what the tracker writes. It may be a temporary one, see `Tracker.copied`.
        config: the resolved configuration as plain JSON types. Secrets of addresses are left out.
    """

    name: str
    key: str
    folder: Path
    config: Mapping[str, Any]


class Tracker(ABC):
    """Base of all trackers. A new one is one class under `@register_tracker`; only `metrics` has to be written.

    A tracker runs in a thread of its own, so all of its methods are called from that thread. It may raise whatever it
    likes: the run goes on without it, after one warning.

    name: the value of `trackers.N.name` that means it.
    settings_class: the class of its entry in `trackers`.
    packages: what it imports, by the name that pip knows it by: `{"sklearn": "scikit-learn"}`.
    copied: whether its files may be copied to an object store while it writes, and at its end. Then every start must
        write files of names of its own: what earlier starts have written is not brought back.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type[TrackerSettings]] = TrackerSettings
    packages: ClassVar[Mapping[str, str]] = {}
    copied: ClassVar[bool] = False

    settings: Any  # an object of `settings_class`

    def __init__(self, settings: Any, run: TrackedRun) -> None:
        self.settings = settings
        self.run = run

    @abstractmethod
    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        """One look at a segment while it is trained, about once a second and at its end.

        Args:
            series: names the model's size, its data source and its stretch of the tree, as `232K-mixture-1f0c9a2b`.
            values: `loss` in nats per token, `learning_rate`, and `tokens_per_second` of its workers.
            tokens: that the model has seen by then, from its very beginning.
        """

    def segment(self, series: str, facts: Mapping[str, float | str]) -> None:  # noqa: B027 - not every tracker needs it
        """A segment is trained: its first look comes next.

        Args:
            facts: `key`, the name of its lineage in the store; `source`, the text that it draws; `params`, N.
        """

    def results(self, values: Mapping[str, float | str]) -> None:  # noqa: B027 - not every tracker needs it
        """What a finished stage came to: numbers and words by name, such as `plan/split_fraction`."""

    def file(self, path: Path, name: str) -> None:  # noqa: B027 - as above
        """A file for people: the report's page, its figures as PNG, the summary.

        Args:
            path: on this machine's disk, while the call lasts.
            name: its place in the run folder, with slashes.
        """

    def close(self) -> None:  # noqa: B027 - as above
        """The end of this start: write out what waits."""
