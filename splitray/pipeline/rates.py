"""Training speeds that a store's segments have shown, by model. No Ray."""

from collections.abc import Iterable
from statistics import median

from splitray.pipeline.programme import Programme
from splitray.storage.keys import SegmentKey
from splitray.storage.store import Store
from splitray.training.tree import Target, by_recipe, line

_LOOKS = 3  # segments of a model that are read: each costs a request where the store is remote
_SHORT = 10.0  # seconds of training below which a segment tells of its start


def measured_rates(programme: Programme, store: Store, gpu: bool) -> dict[int, float]:
    """Tokens a second of one worker, by N: the median of a few finished segments of this kind of device.

    Segments that do not say what they ran on count as trained on CPUs, as those of earlier versions were.
    """
    targets = [request.target for _, request in programme.ladder()]
    names = [key for key in map(SegmentKey.match, store.keys(SegmentKey.prefix())) if key is not None]
    found: dict[int, float] = {}
    for group in by_recipe(targets, lambda t: t.recipe):
        recipe, lines = group[0].recipe, _lines(group)
        mine = sorted((key for key in names if key.line in lines), key=lambda key: -key.tokens)
        rates = [rate for key in mine[:_LOOKS] if (rate := _rate(store, key.format(), gpu)) is not None]
        if rates:
            found.setdefault(recipe.params, median(rates))
    return found


def _lines(targets: Iterable[Target]) -> set[str]:
    return {line(t.recipe, t.phases[:depth]) for t in targets for depth in range(1, len(t.phases) + 1)}


def _rate(store: Store, key: str, gpu: bool) -> float | None:
    published = store.find(key)
    if published is None:
        return None
    meta = published.meta
    seconds, tokens, world = (float(meta.get(name, 0)) for name in ("seconds", "tokens_trained", "world"))
    if seconds < _SHORT or not tokens or not world or bool(meta.get("gpu")) != gpu:
        return None
    return tokens / seconds / world
