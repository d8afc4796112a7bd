"""How fast models of a run train, by size, from the markers of its segments. No Ray."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from splitray.law.planning.hours import Speed
from splitray.pipeline.programme import Programme
from splitray.pipeline.tree import Part
from splitray.results.ledger import StartRecord
from splitray.storage.store import Store
from splitray.training.tree import MIXTURE

_AT_ONCE = 16  # markers that are read at once: an object store answers each by itself
_MODELS = ("base", "specialists")  # stages whose time beside training is that of starts


@dataclass(frozen=True)
class Timed:
    """What was trained of one kind, and the device-seconds that it took."""

    tokens: int = 0
    seconds: float = 0.0

    def plus(self, tokens: int, seconds: float) -> "Timed":
        return Timed(self.tokens + tokens, self.seconds + seconds)

    @property
    def rate(self) -> float | None:
        """Tokens a second of one device."""
        return self.tokens / self.seconds if self.tokens and self.seconds else None


@dataclass(frozen=True)
class Measured:
    """What the segments of a run took, by N and whether they are of the mixture; and device-seconds by stage."""

    by_kind: Mapping[tuple[int, bool], Timed]
    by_stage: Mapping[str, float]

    @classmethod
    def of(cls, parts: Mapping[str, Part], store: Store, devices: float) -> "Measured":
        """From the markers of the segments that stand, whichever start or run has trained them.

        Args:
            parts: see `splitray.pipeline.costs.needed`.
            devices: of one worker.
        """
        segments = {segment.key: (segment, stage) for stage, part in parts.items() for segment in part.segments}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(store.find, segments))
        by_kind, by_stage = defaultdict[tuple[int, bool], Timed](Timed), defaultdict[str, float](float)
        for (segment, stage), published in zip(segments.values(), found, strict=True):
            if published is not None:
                meta = published.meta
                spent = float(meta.get("seconds", 0.0)) * int(meta.get("world", 1)) * devices
                kind = segment.recipe.params, segment.source == MIXTURE
                by_kind[kind] = by_kind[kind].plus(int(meta.get("tokens_trained", 0)), spent)
                by_stage[stage] += spent
        return cls(by_kind, by_stage)

    def rate(self, params: int, shared: bool) -> float | None:
        """Tokens a second of one device on this side of the split; None where none was trained there."""
        return self.by_kind.get((params, shared), Timed()).rate


def speeds(programme: Programme, measured: Measured, start_hours: float) -> tuple[Speed, ...]:
    """The speed of every size of the run, the target's reckoned from the others' where it was not trained yet.

    A token takes a fixed time and a time for each of its FLOPs, both fitted to the sizes that were timed.
    """
    flops, found = programme.flops_per_token, list[Speed]()
    known: dict[int, float] = {}
    for params in flops:
        before, after = (measured.rate(params, shared) for shared in (True, False))
        if (rate := before or after) is not None:
            known[params] = rate
            found.append(Speed(float(params), rate, after, start_hours))
    if not known:
        return ()
    missing = [params for params in flops if params not in known]
    if missing:
        fixed, slope = _law_of_time([flops[p] for p in known], [1 / rate for rate in known.values()])
        found += [Speed(float(p), 1 / (fixed + slope * flops[p]), None, start_hours, measured=False) for p in missing]
    return tuple(sorted(found, key=lambda speed: speed.params))


def _law_of_time(flops: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Seconds of a token: what is fixed, and for each FLOP; by least squares of relative errors, neither below 0."""
    if len(flops) == 1:
        return 0.0, seconds[0] / flops[0]
    scale = max(flops)  # or the columns differ by a factor of 1e9
    rows = np.array([[1.0, work / scale] for work in flops]) / np.array(seconds)[:, None]
    (fixed, slope), _ = nnls(rows, np.ones(len(flops)))
    return float(fixed), float(slope) / scale


def start_hours(ledger: Sequence[StartRecord], measured: Measured, domains: int) -> float:
    """Device-hours that a model of the target takes beside its training, as stages base and specialists had it.

    It is what their workers held, less what training took. It is known where both were done in one go, without a lost
    worker; else 0.

    Args:
        domains: K; the specialists, beside one base.
    """
    stages = [stage for start in ledger for stage in start.stages if stage.stage in _MODELS]
    if len(stages) != len(_MODELS) or any(stage.failures for stage in stages):
        return 0.0
    held = sum(time.held for stage in stages for time in stage.devices)
    trained = sum(measured.by_stage.get(stage, 0.0) for stage in _MODELS)
    return max(0.0, held - trained) / 3600 / (domains + 1)
