"""The tracker `mlflow`: a run in a local database, or on the server that MLFLOW_TRACKING_URI names."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from splitray.runtime.quiet import environment
from splitray.settings import operational
from splitray.tracking.registry import register_tracker
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings

_TAG = "splitray.run"
_LONGEST = 6000  # characters of a parameter that MLflow takes


class MlflowSettings(TrackerSettings):
    """The entry of the tracker `mlflow`."""

    tracking_uri: str | None = operational(
        None, "MLflow's database or server. Default: MLFLOW_TRACKING_URI, else a SQLite file in the folder."
    )
    experiment: str = operational("splitray", "Name of the experiment.", min_length=1)


@register_tracker
class Mlflow(Tracker):
    """Curves as metrics `loss/SERIES`, and so on, over tokens; the page and the summary as artifacts."""

    name = "mlflow"
    settings_class = MlflowSettings
    packages: ClassVar[Mapping[str, str]] = {
        "mlflow": "mlflow-skinny",
        "sqlalchemy": "sqlalchemy",
        "alembic": "alembic",
    }

    def __init__(self, settings: Any, run: TrackedRun) -> None:
        with environment(MLFLOW_DISABLE_TELEMETRY="true"):  # read when it is imported
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

        super().__init__(settings, run)
        for name in ("mlflow", "alembic"):  # which write to standard error how they make their tables
            logging.getLogger(name).setLevel(logging.ERROR)
        uri, folder = settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), run.folder.resolve()
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder / 'mlflow.db'}")
        experiment = self._client.get_experiment_by_name(settings.experiment)
        if experiment is None:
            place = None if uri else (folder / "artifacts").as_uri()
            try:
                number = self._client.create_experiment(settings.experiment, artifact_location=place)
            except MlflowException:  # another run made it meanwhile
                experiment = self._client.get_experiment_by_name(settings.experiment)
                if experiment is None:
                    raise
        if experiment is not None:
            number = experiment.experiment_id
        before = self._client.search_runs([number], f"tags.\"{_TAG}\" = '{run.key}'", max_results=1)
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(number, run_name=run.name, tags={_TAG: run.key}).info.run_id
            for name, value in flat(run.config):
                self._client.log_param(self._id, name, value[:_LONGEST])

    def segment(self, series: str, facts: Mapping[str, float | str]) -> None:
        self._client.set_tag(self._id, f"segment/{_plain(series)}", str(facts["key"]))

    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, f"{name}/{_plain(series)}", value, step=tokens)

    def results(self, values: Mapping[str, float | str]) -> None:
        for name, value in values.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, _plain(name), value)
            else:
                self._client.log_metric(self._id, _plain(name), value)

    def file(self, path: Path, name: str) -> None:
        self._client.log_artifact(self._id, str(path), str(Path(name).parent) if "/" in name else None)

    def close(self) -> None:
        self._client.set_terminated(self._id)


def _plain(name: str) -> str:
    """A name that MLflow takes: letters, digits, and _ - . : / and spaces."""
    return "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Fields of a nested configuration by their dotted names, lists as JSON."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
