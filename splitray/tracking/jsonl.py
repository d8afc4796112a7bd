"""The tracker `jsonl`: one line of JSON for each look, in `metrics.jsonl`. Needs nothing."""

import json
import time
from collections.abc import Mapping
from typing import Any

from splitray.tracking.registry import register_tracker
from splitray.tracking.tracker import TrackedRun, Tracker


@register_tracker
class JsonLines(Tracker):
    """Appends to `metrics.jsonl` and `results.jsonl` of its folder."""

    name = "jsonl"

    def __init__(self, settings: Any, run: TrackedRun) -> None:
        super().__init__(settings, run)
        self._metrics = (run.folder / "metrics.jsonl").open("a", buffering=1)
        self._results = (run.folder / "results.jsonl").open("a", buffering=1)
        self._keys = dict[str, str]()  # of the segments, by series

    def segment(self, series: str, facts: Mapping[str, float | str]) -> None:
        self._keys[series] = str(facts["key"])

    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        at, key = round(time.time(), 3), self._keys.get(series)
        line = {"at": at, "series": series, "segment": key, "tokens": tokens, **values}
        self._metrics.write(json.dumps(line) + "\n")

    def results(self, values: Mapping[str, float | str]) -> None:
        self._results.write(json.dumps(values) + "\n")

    def close(self) -> None:
        self._metrics.close()
        self._results.close()
