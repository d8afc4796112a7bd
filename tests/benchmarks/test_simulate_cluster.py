"""The plan of 64 GPUs: what the dry run foretells, beside the real coordinator and pool over simulated workers."""

import pytest

from benchmarks.simulate_cluster import CONFIG, on, simulate
from benchmarks.simulated import World
from splitray.config import load
from splitray.pipeline.dry_run import foresee
from splitray.pipeline.standing import Standing

# nothing but what the timetable knows of: nodes that are up, workers of one speed, a store that is wide enough
PLAIN = World(64, provision=0.0, spread=0.0, store=1e15)


@pytest.fixture(scope="module")
def rows() -> dict[str, object]:
    found, _ = simulate(on(load(CONFIG), 64), PLAIN)
    return {row.stage: row for row in found}


def test_the_dry_run_of_64_gpus_is_what_the_simulation_takes(rows, tmp_path) -> None:
    told = foresee(load(CONFIG), str(tmp_path), Standing())
    ladder = told.parts[0]
    assert ladder.name.startswith("ladder")
    assert ladder.seconds / 3600 == pytest.approx(rows["ladder"].hours, rel=0.05)
    assert ladder.worker_hours == pytest.approx(rows["ladder"].held, rel=0.05)
    (production,) = (part for part in told.parts if part.name.endswith("s = 0.25"))
    both = rows["base"].hours + rows["specialists"].hours
    assert production.seconds / 3600 == pytest.approx(both, rel=0.05)


def test_the_ladder_uses_what_it_holds(rows) -> None:
    """14.5 % of held GPU-hours were used when every trunk was one chain on one GPU and idle ones were kept."""
    row = rows["ladder"]
    assert row.utilisation > 0.7 and row.node_utilisation > 0.7
    assert row.used / 64 < row.hours < 1.25 * row.used / 64, "near the evenly spread work"
    assert row.tokens_redone == 0 and row.nodes_taken == 0
