"""A tracker of ten lines, as a user would add it: the best loss of every curve, in a file."""

import json
from collections.abc import Mapping

from splitray.tracking import TrackedRun, Tracker, TrackerSettings, register_tracker


@register_tracker
class Best(Tracker):
    name = "best"

    def __init__(self, settings: TrackerSettings, run: TrackedRun) -> None:
        super().__init__(settings, run)
        self.losses = dict[str, float]()

    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        self.losses[series] = min(values["loss"], self.losses.get(series, values["loss"]))

    def close(self) -> None:
        (self.run.folder / "best.json").write_text(json.dumps(self.losses))
