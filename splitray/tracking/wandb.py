"""The tracker `wandb`: Weights & Biases, offline unless the settings or WANDB_MODE say otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from splitray.runtime.quiet import environment
from splitray.settings import operational
from splitray.tracking.registry import register_tracker
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings


class WandbSettings(TrackerSettings):
    """The entry of the tracker `wandb`."""

    project: str = operational("splitray", "Name of the project.", min_length=1)
    entity: str | None = operational(None, "User or team; default: as wandb knows it.")
    mode: Literal["offline", "online"] | None = operational(
        None, "offline keeps everything in the folder, for `wandb sync`. Default: WANDB_MODE, else offline."
    )


@register_tracker
class Wandb(Tracker):
    """Curves as `loss/SERIES`, and so on, each over `tokens/SERIES`; results in the summary; the page as a file."""

    name = "wandb"
    settings_class = WandbSettings
    packages: ClassVar[Mapping[str, str]] = {"wandb": "wandb"}
    copied = True  # every start has an offline folder of its own

    def __init__(self, settings: Any, run: TrackedRun) -> None:
        super().__init__(settings, run)
        with environment(WANDB_ERROR_REPORTING="false"):  # it reports its own faults to its makers otherwise
            self._run = self._begun(settings, run)
        self._known = set[str]()

    @staticmethod
    def _begun(settings: Any, run: TrackedRun) -> Any:
        import wandb

        mode: Any = settings.mode or os.environ.get("WANDB_MODE") or "offline"  # wandb refuses what it does not know
        quiet = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True)
        return wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=run.name,
            id=run.key,
            resume="allow" if mode == "online" else None,  # offline starts are joined by their id when they are synced
            dir=str(run.folder),
            mode=mode,
            config=dict(run.config),
            settings=quiet,
        )

    def segment(self, series: str, facts: Mapping[str, float | str]) -> None:
        self._run.summary.update({f"segment/{series}": str(facts["key"])})

    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        if series not in self._known:
            self._known.add(series)
            for name in values:
                self._run.define_metric(f"{name}/{series}", step_metric=f"tokens/{series}")
        self._run.log({f"tokens/{series}": tokens} | {f"{name}/{series}": value for name, value in values.items()})

    def results(self, values: Mapping[str, float | str]) -> None:
        self._run.summary.update(dict(values))

    def file(self, path: Path, name: str) -> None:
        copy = Path(self._run.dir) / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        self._run.save(str(copy), base_path=self._run.dir, policy="now")

    def close(self) -> None:
        self._run.finish()
