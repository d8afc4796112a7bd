"""The measured training speed: of real processes that train."""

import pytest

from splitray.draft.speed import measure_speed
from splitray.executor.machine import cpus
from splitray.training.settings import ModelShape, TrainingSettings


@pytest.mark.slow
def test_a_larger_model_takes_longer_a_token_and_every_worker_measures() -> None:
    small, large = ModelShape(hidden=16, layers=1), ModelShape(hidden=128, layers=4)
    training = TrainingSettings(sequence_length=32, global_batch_size=4)
    speed = measure_speed((small, large), training, 300)
    assert speed.workers >= 1 and speed.busy >= 1
    if speed.accelerator == "cpu":
        assert speed.workers == cpus()
        assert speed.per_flop > 0
    assert speed.fixed >= 0 and 1e-8 < speed.seconds(1e5) < 1e-1
