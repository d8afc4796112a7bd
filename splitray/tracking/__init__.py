"""Trackers: where the numbers of a run go beside its folder, such as TensorBoard, MLflow and Weights & Biases. No Ray.

Importing this package makes the trackers of the package known. Their libraries are imported when a run begins.
"""

from splitray.tracking import jsonl, mlflow, tensorboard, wandb  # noqa: F401 - they register themselves
from splitray.tracking.registry import find_tracker, register_tracker, tracker_settings
from splitray.tracking.tracker import TrackedRun, Tracker, TrackerSettings

__all__ = ["TrackedRun", "Tracker", "TrackerSettings", "find_tracker", "register_tracker", "tracker_settings"]
