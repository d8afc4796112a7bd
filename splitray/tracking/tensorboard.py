"""The tracker `tensorboard`: event files that `tensorboard --logdir FOLDER` shows."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from splitray.tracking.registry import register_tracker
from splitray.tracking.tracker import TrackedRun, Tracker


@register_tracker
class TensorBoard(Tracker):
    """Curves as `loss/SERIES`, and so on, over tokens; results as scalars at step 0 and as text; figures as images.

    tensorboardX writes them, which Ray Tune brings along. Only who looks at them needs tensorboard itself.
    """

    name = "tensorboard"
    packages: ClassVar[Mapping[str, str]] = {"tensorboardX": "tensorboardX"}
    copied = True  # no two starts write an event file of one name

    def __init__(self, settings: Any, run: TrackedRun) -> None:
        from tensorboardX import SummaryWriter

        super().__init__(settings, run)
        # Its own names hold a second and a host: of two starts within a second, the later would replace the earlier.
        self._writer = SummaryWriter(str(run.folder), filename_suffix=f".{uuid.uuid4().hex[:8]}")
        self._writer.add_text("config", f"```json\n{json.dumps(run.config, indent=1)}\n```")

    def segment(self, series: str, facts: Mapping[str, float | str]) -> None:
        self._writer.add_text(f"segment/{series}", json.dumps(dict(facts)))

    def metrics(self, series: str, values: Mapping[str, float], tokens: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{name}/{series}", value, tokens)

    def results(self, values: Mapping[str, float | str]) -> None:
        for name, value in values.items():
            if isinstance(value, str):
                self._writer.add_text(f"results/{name}", value)
            else:
                self._writer.add_scalar(f"results/{name}", value, 0)
        self._writer.flush()

    def file(self, path: Path, name: str) -> None:
        if path.suffix == ".png":
            from matplotlib.image import imread

            self._writer.add_image(name.removesuffix(".png"), imread(path)[..., :3], dataformats="HWC")
        else:
            self._writer.add_text("files", name)  # an event file holds no page

    def close(self) -> None:
        self._writer.close()
