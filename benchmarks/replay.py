"""What specialists forget, and what they gain, by the share of the mixture that they go on reading.

    python -m benchmarks.replay [--config configs/given.yaml] [--shares 0 0.1 0.3]

The run is carried out first, or found finished. Then the specialists of its split are trained once for each share, from
the same base with the same tokens, so that only the share differs. Result: results/replay/NAME.json.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from splitray.config import load
from splitray.evaluate.compare import Scores, difference, forgetting, mean
from splitray.law.planning.estimate import Estimate
from splitray.pipeline.comparison import scores_of
from splitray.pipeline.job import Job
from splitray.pipeline.places import places
from splitray.pipeline.programme import Programme
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.start import interruptible, start
from splitray.results.codec import to_json
from splitray.results.evaluation import EvaluationResult, Forgetting
from splitray.storage.folder import Folder

OUT = Path(__file__).parent / "results" / "replay"


@dataclass(frozen=True)
class Replayed:
    """Specialists of one share; losses in nats per token, means over domains by their weights.

    own: mean loss of each specialist on its own domain. gain: the same less that of the first share, with its interval.
    forgotten: mean over specialists of the change on the mixture since the base. by_domain: that of each.
    """

    share: float
    own: float
    gain: Estimate
    forgotten: float
    elsewhere: float
    by_domain: tuple[Forgetting, ...]


def measure(job: Job, shares: Sequence[float]) -> list[Replayed]:
    """Train and score the specialists of every share from the run's base."""
    programme, domains = job.programme, tuple(job.programme.weights)
    reference = programme.reference(job.split)
    if reference is None:
        raise SystemExit(f"{job.config.name} splits at zero tokens: it has no base that could be forgotten")
    asked = {share: with_share(programme, share).specialists(job.split) for share in shares}
    job.executor.begin_stage()
    job.executor.leaves([reference, *(request for family in asked.values() for request in family)])
    base = {d: scores_of(job, reference.target.key, d) for d in domains}
    rows = {
        share: {d: {e: scores_of(job, r.target.key, e) for e in domains} for d, r in zip(domains, family, strict=True)}
        for share, family in asked.items()
    }
    first = _own(rows[shares[0]])
    return [_replayed(share, row, base, first, programme.weights) for share, row in rows.items()]


def with_share(programme: Programme, share: float) -> Programme:
    """The programme with another share of replay."""
    training = programme.config.training.model_copy(update={"replay_share": share})
    config = programme.config.model_copy(update={"training": training})
    return Programme(config, programme.corpus, programme.precision, programme.rates)


def _own(rows: dict[str, dict[str, Scores]]) -> dict[str, Scores]:
    return {domain: row[domain] for domain, row in rows.items()}


def _replayed(
    share: float,
    rows: dict[str, dict[str, Scores]],
    base: dict[str, Scores],
    first: dict[str, Scores],
    weights: dict[str, float],
) -> Replayed:
    own, forgot = _own(rows), forgetting(rows, base, weights)
    return Replayed(
        share,
        mean({d: own[d].loss for d in weights}, weights),
        difference(own, first, weights),
        float(np.mean([f.difference.value for f in forgot])),
        float(np.mean([f.elsewhere.value for f in forgot if f.elsewhere is not None])),
        forgot,
    )


def record(job: Job, found: Sequence[Replayed]) -> dict[str, Any]:
    """The benchmark's result, as JSON has it."""
    evaluation = job.run.result(EvaluationResult)
    return {
        "machine": describe("torch", "ray", "deepspeed"),
        "run": job.config.name,
        "weights": job.programme.weights,
        "params": job.programme.size(job.config.model).params,
        "pretrain_tokens": job.split.pretrain_tokens,
        "specialize_tokens": dict(job.split.specialize_tokens),
        "equal_tokens": [
            {**asdict(row), "difference": row.difference.plain() if row.difference else None}
            for row in evaluation.comparison
        ],
        "shares": [to_json(row) for row in found],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/given.yaml"))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.3], help="the first is compared with")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = load(given.config)
    at = places(config)

    def then(job: Job) -> None:
        found = measure(job, given.shares)
        OUT.mkdir(parents=True, exist_ok=True)
        result = record(job, found)
        (OUT / f"{config.name}.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        for row in found:
            print(
                f"replay {row.share:g}: own domain {row.own:.4f}, {row.gain.value:+.4f} beside {given.shares[0]:g}; "
                f"forgotten {row.forgotten:+.4f} on the mixture, {row.elsewhere:+.4f} elsewhere"
            )

    start(RunFolder(Folder(at.run), config), at.store, "report", interruptible, then)


if __name__ == "__main__":
    main()
