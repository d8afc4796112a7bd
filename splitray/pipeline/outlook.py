"""How much training is ahead of a run: what its configuration knows of later stages."""

from splitray.config import Config
from splitray.pipeline.programme import Programme
from splitray.pipeline.run_folder import STAGES
from splitray.runtime.progress import effort


def effort_after(config: Config, stage: str, until: str = STAGES[-1]) -> float | None:
    """The effort of the stages after one, see `runtime.progress.effort`: an upper bound; None before the ladder.

    Models share trunks, and a search may end early, so less may be trained. The ladder is counted by its own stage.
    """
    if stage not in STAGES or STAGES.index(stage) < STAGES.index("ladder"):
        return None
    later = STAGES[STAGES.index(stage) + 1 : STAGES.index(until) + 1]
    return sum(_efforts(config).get(name, 0.0) for name in later)


def _efforts(config: Config) -> dict[str, float]:
    programme, search = Programme.unbuilt(config), config.search
    trials = 0 if search.at == "off" else search.max_rounds * search.trials_per_round
    whole = effort(programme.size(config.model).params, config.budget)
    return {
        "search": trials * effort(programme.size(programme.search_shape).params, search.budget or config.budget),
        "specialists": whole,  # with the base, whatever the split
        "evaluate": len(config.evaluate.baselines) * whole,
    }
