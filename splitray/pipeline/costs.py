"""What the results of a run needed, and what all its starts have spent on them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splitray.pipeline.programme import Programme
from splitray.pipeline.tree import Part, Tree
from splitray.results.ledger import StartRecord
from splitray.results.stages import Searched, StageRecord
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.split import Split


@dataclass(frozen=True)
class StageCost:
    """Tokens and FLOPs of training for one stage.

    Args:
        needed: what its results need beyond those of the stages before it, shared stretches once, from an empty store.
        spent: by all starts of the run, whatever became of it. Less than needed where the store held a part; None
            where a start was made by a splitray that did not count.
    """

    needed: int
    needed_flops: float
    spent: int | None
    spent_flops: float | None


def needed(programme: Programme, searched: Searched | None, split: Split | None) -> dict[str, Part]:
    """By stage, what an undisturbed run from an empty store trains, as far as its choices are known."""
    tree = Tree(programme, None)
    parts = {"ladder": tree.ladder()}
    if searched is not None:
        rounds = [tree.search(None, [trial.split for trial in each.trials]) for each in searched.rounds]
        parts["search"] = Part.together("search", rounds)
    if split is not None:
        parts |= {"base": tree.base(split), "specialists": tree.specialists(split)}
        parts["evaluate"] = tree.evaluation(split)
    return parts


def costs(
    parts: Mapping[str, Part],
    ledger: Sequence[StartRecord],
    store: Store,
    records: Mapping[str, StageRecord],
    now: str,
) -> dict[str, StageCost]:
    """What every stage of `parts` needed and what was spent on it.

    Args:
        parts: see `needed`.
        ledger: the records of all starts.
        records: of the finished stages.
        now: the start that works now, whose record is up to date.
    """
    cut_short = {start.start for start in ledger if start.ended != "done" and start.start != now}
    survived = _survived(parts, store, cut_short)
    counted_since = min((start.began for start in ledger), default=None)
    result = {}
    for stage, part in parts.items():
        record = records.get(stage)
        if counted_since is None or (record is not None and record.began < counted_since - 1):
            result[stage] = StageCost(part.tokens, part.flops, None, None)
            continue
        tokens, flops = 0, 0.0
        for start in ledger:
            mine = [s for s in start.stages if s.stage == stage]
            trained = sum(s.tokens for s in mine)
            known = sum(s.flops or 0.0 for s in mine)
            left = survived.get((start.start, stage))
            if left is not None and left[0] > trained:  # it was killed before it could write what it had trained
                trained, known = left
            tokens, flops = tokens + trained, flops + known
        result[stage] = StageCost(part.tokens, part.flops, tokens, flops)
    return result


def _survived(parts: Mapping[str, Part], store: Store, cut_short: set[str]) -> dict[tuple[str, str], tuple[int, float]]:
    """By start that was cut short and stage, its tokens and FLOPs that are part of the results, by the store's markers.

    Such a start may have trained more than its record says, but not less than what is left of it.
    """
    found: dict[tuple[str, str], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    if not cut_short:
        return found
    stages: dict[str, str] = {}
    lines: dict[str, tuple[str, float]] = {}
    for stage, part in parts.items():
        for segment in part.segments:
            stages[segment.key] = stage
            lines.setdefault(SegmentKey.parse(segment.key).line, (stage, part.flops_of(segment, 1)))
    for name in store.keys(SegmentKey.prefix()):
        key = SegmentKey.match(name)
        if key is None or key.line not in lines or (published := store.find(name)) is None:
            continue
        stage, flops = lines[key.line]
        for start, tokens in published.meta.get("trained_by", {}).items():
            if start in cut_short:
                place = start, stages.get(name, stage)
                total, known = found[place]
                found[place] = total + tokens, known + tokens * flops
    return found
