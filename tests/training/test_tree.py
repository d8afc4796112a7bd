"""The tree of segments against a plain account of what a set of leaves must cost."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitray.training.recipe import Recipe
from splitray.training.settings import Schedule
from splitray.training.split import Split
from splitray.training.tree import MIXTURE, Leaf, Phase, Segment, Target, grow
from tests.support import tiny

RECIPE = tiny.make_recipe()
BATCH = RECIPE.batch_tokens
DOMAINS = ("a", "b")


def leaves(zero: bool = True) -> st.SearchStrategy[Leaf]:
    """Leaves of up to 40 batches before and after the split."""
    before = st.integers(0 if zero else 1, 40)
    made = st.tuples(before, st.integers(0, 40), st.sampled_from(DOMAINS)).filter(lambda t: t[0] + t[1] > 0)
    return made.map(lambda t: Leaf(t[0] * BATCH, t[1] * BATCH, t[2] if t[1] else None))


def target(leaf: Leaf, share: float = tiny.DECAY) -> Target:
    return Target.leaf(RECIPE, leaf, Schedule(share))


class Shelf:
    """What a store would hold after training."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def ends(self, line: str) -> set[int]:
        return {int(k.rsplit("-", 1)[1]) for k in self.keys if k.rsplit("-", 1)[0] == line}

    def train(self, segments: list[Segment]) -> int:
        """Train in order, every parent standing when its child begins; the tokens it took."""
        for segment in segments:
            assert segment.key not in self.keys, "trained twice"
            assert segment.tokens > 0 and segment.tokens % BATCH == 0
            assert (segment.parent is None) == (segment.start == 0)
            if segment.parent is not None:
                assert segment.parent in self.keys and int(segment.parent.rsplit("-", 1)[1]) == segment.start
            begin = segment.phases[-2].end if len(segment.phases) > 1 else 0
            assert begin <= segment.start < segment.end, "a segment lies inside the last phase of its lineage"
            self.keys.add(segment.key)
        return sum(s.tokens for s in segments)


def draws(leaf: Leaf, share: float = tiny.DECAY) -> list[tuple[str, tuple[int, int] | None]]:
    """For each batch of a leaf, its source and the decay it falls under: the definition, batch by batch."""
    total = leaf.tokens // BATCH
    decayed = max(1, round(share * total))
    decay = ((total - decayed) * BATCH, total * BATCH)
    sources = [MIXTURE] * (leaf.pretrain_tokens // BATCH) + [str(leaf.domain)] * (leaf.specialize_tokens // BATCH)
    return [(source, decay if i >= total - decayed else None) for i, source in enumerate(sources)]


@given(leaves(), st.sampled_from([0.05, 0.15, 0.25, 0.6, 0.95]))
def test_phases_say_what_each_batch_draws(leaf: Leaf, share: float) -> None:
    phases, told, begin = leaf.phases(Schedule(share), BATCH), [], 0
    for phase in phases:
        told += [(phase.source, phase.decay)] * ((phase.end - begin) // BATCH)
        begin = phase.end
    assert told == draws(leaf, share)
    assert all((p.source, p.decay) != (q.source, q.decay) for p, q in pairwise(phases)), "equal phases stand apart"


@given(st.lists(leaves(), min_size=1, max_size=8))
@settings(max_examples=60)
def test_shared_prefixes_are_trained_once_and_never_more_than_from_scratch(batch: list[Leaf]) -> None:
    """The oracle: the distinct non-empty prefixes of all leaves' batch-by-batch draws."""
    shelf = Shelf()
    cost = shelf.train(grow([target(leaf) for leaf in batch], shelf.ends))
    prefixes = {tuple(draws(leaf)[: i + 1]) for leaf in batch for i in range(leaf.tokens // BATCH)}
    assert cost == len(prefixes) * BATCH
    assert cost <= sum(leaf.tokens for leaf in set(batch))
    assert {target(leaf).key for leaf in batch} <= shelf.keys
    assert grow([target(leaf) for leaf in batch], shelf.ends) == []


@given(st.lists(leaves(), min_size=2, max_size=6))
@settings(max_examples=60)
def test_one_by_one_names_and_finds_the_same_states(batch: list[Leaf]) -> None:
    """Where earlier snapshots were cut never enters a key, and no leaf costs more than from scratch."""
    together, apart = Shelf(), Shelf()
    whole = together.train(grow([target(leaf) for leaf in batch], together.ends))
    pieces = 0
    for leaf in batch:
        spent = apart.train(grow([target(leaf)], apart.ends))
        assert spent <= leaf.tokens
        assert target(leaf).key in apart.keys and target(leaf).key in together.keys
        pieces += spent
    assert pieces >= whole, "asked one by one, a leaf cannot see which of its states the next will want"


def test_a_new_cut_starts_from_the_nearest_earlier_snapshot() -> None:
    shelf = Shelf()
    trunks = [Target(RECIPE, (Phase(MIXTURE, n * BATCH),), final=False) for n in (4, 8, 16)]
    shelf.train(grow(trunks, shelf.ends))
    (segment,) = grow([Target(RECIPE, (Phase(MIXTURE, 11 * BATCH),), final=False)], shelf.ends)
    assert (segment.start, segment.end, segment.parent) == (8 * BATCH, 11 * BATCH, trunks[1].key)
    (segment,) = grow([Target(RECIPE, (Phase(MIXTURE, 3 * BATCH),), final=False)], shelf.ends)
    assert (segment.start, segment.parent) == (0, None)
    # deeper: a leaf that parts at 10 batches grows from 8, its domain's line from its own new state
    grown = grow([target(Leaf(10 * BATCH, 6 * BATCH, "a"))], shelf.ends)
    assert [(s.start // BATCH, s.end // BATCH, s.source) for s in grown] == [
        (8, 10, MIXTURE),
        (10, 12, "a"),
        (12, 16, "a"),
    ]


def test_equal_adjacent_phases_are_one() -> None:
    cut = (Phase(MIXTURE, 4 * BATCH), Phase(MIXTURE, 6 * BATCH), Phase("a", 8 * BATCH), Phase("a", 9 * BATCH))
    merged = (Phase(MIXTURE, 6 * BATCH), Phase("a", 9 * BATCH))
    assert Target(RECIPE, cut).key == Target(RECIPE, merged).key
    assert Target(RECIPE, cut).phases == merged
    assert Target(RECIPE, merged[:1]).key != Target(RECIPE, (Phase(MIXTURE, 6 * BATCH, (0, 6 * BATCH)),)).key


def test_the_ends_of_the_split() -> None:
    unsplit, scratch = Leaf(20 * BATCH), Leaf(0, 20 * BATCH, "a")
    assert [(p.source, p.end // BATCH, p.decay) for p in target(unsplit).phases] == [
        (MIXTURE, 15, None),
        (MIXTURE, 20, (15 * BATCH, 20 * BATCH)),
    ]
    assert [p.source for p in target(scratch).phases] == ["a", "a"]
    assert Target.trunk(RECIPE, scratch, tiny.SCHEDULE) is None
    assert grow([target(scratch)], lambda line: [])[0].parent is None


@given(st.integers(2, 60), st.sampled_from([(1, 1), (3, 1), (7, 2)]), st.floats(0, 1))
@settings(max_examples=80)
def test_a_production_run_costs_exactly_its_budget(batches: int, skew: tuple[int, int], fraction: float) -> None:
    """D + the sum of D'_k, whether the decay begins before the split or after it: K domains share its mixture part."""
    weights = {d: s / sum(skew) for d, s in zip(DOMAINS, skew, strict=True)}
    split = Split.at(fraction, batches * BATCH, weights, BATCH)
    assert split.budget == batches * BATCH
    targets = [target(split.leaf(d)) for d in DOMAINS]
    shelf = Shelf()
    cost = shelf.train(grow(targets, shelf.ends))
    # the decays of unequal leaves differ, so those whose decay begins before the split draw that part apart
    lead = {
        t.phases
        for t in (Target.trunk(RECIPE, split.leaf(d), tiny.SCHEDULE) for d in DOMAINS if split.leaf(d).domain)
        if t
    }
    lead |= {target(split.leaf(d)).phases for d in DOMAINS if split.leaf(d).domain is None}
    assert cost == split.budget or (len(lead) > 1 and cost > split.budget)
    if skew == (1, 1):
        assert cost == split.budget


def test_a_decay_before_the_split_is_shared() -> None:
    """D = 18, D' = 2 each: the decay takes the last 5 batches of 20, three of them of the mixture, trained once."""
    wanted = [target(Leaf(18 * BATCH, 2 * BATCH, d)) for d in DOMAINS]
    grown = grow(wanted, lambda line: [])
    assert [(s.start // BATCH, s.end // BATCH, s.source) for s in grown if s.source == MIXTURE] == [
        (0, 15, MIXTURE),
        (15, 18, MIXTURE),
    ]
    assert sum(s.tokens for s in grown) == (18 + 2 + 2) * BATCH
    assert {s.parent for s in grown if s.source != MIXTURE} == {s.key for s in grown if s.end == 18 * BATCH}


def schedule(leaf: Leaf, rate: float = 1.0) -> list[float]:
    """Learning rates of a leaf's steps, walked along its phases."""
    phases, rates, begin = Target.leaf(RECIPE, leaf, Schedule(tiny.DECAY, rate)).phases, [], 0
    for depth, phase in enumerate(phases, 1):
        segment = Segment(RECIPE, phases[:depth])
        rates += [segment.learning_rate(t) for t in range(begin, phase.end, BATCH)]
        begin = phase.end
    return rates


@given(leaves())
def test_the_learning_rate_warms_up_stays_and_decays_over_both(leaf: Leaf) -> None:
    """Written anew from DESIGN.md: a linear warm-up of 128 tokens, a plateau, a linear decay to 5 % at the end."""
    total, peak = leaf.tokens, 1e-2
    start = total - max(1, round(tiny.DECAY * total / BATCH)) * BATCH
    expected = []
    for seen in range(BATCH, total + BATCH, BATCH):
        decayed = 1 - 0.95 * max(0, seen - start) / (total - start)
        expected.append(peak * min(1, seen / 128) * decayed)
    assert schedule(leaf) == pytest.approx(expected, rel=1e-12)
    assert schedule(leaf)[-1] == pytest.approx(peak * 0.05 * min(1, total / 128))


@given(leaves(), st.sampled_from([0.5, 2.0]))
def test_a_rate_of_the_specialists_changes_their_stretch_alone(leaf: Leaf, rate: float) -> None:
    before, plain = leaf.pretrain_tokens // BATCH, schedule(leaf)
    assert schedule(leaf, rate) == pytest.approx(plain[:before] + [rate * r for r in plain[before:]], rel=1e-12)
    fast = Schedule(tiny.DECAY, rate)
    assert (Target.leaf(RECIPE, leaf, fast).key != target(leaf).key) == bool(leaf.specialize_tokens)
    if leaf.domain is not None:
        assert Target.trunk(RECIPE, leaf, fast) == Target.trunk(RECIPE, leaf, tiny.SCHEDULE), "the trunk is shared"


@given(leaves(), st.sampled_from([0.1, 0.29, 0.5]))
def test_replay_changes_the_specialists_stretch_alone(leaf: Leaf, share: float) -> None:
    again = Schedule(tiny.DECAY, replay_share=share)
    assert (Target.leaf(RECIPE, leaf, again).key != target(leaf).key) == bool(leaf.specialize_tokens)
    if leaf.domain is not None:
        assert Target.leaf(RECIPE, leaf, again).key != Target.leaf(RECIPE, leaf, Schedule(tiny.DECAY, share)).key
        assert Target.trunk(RECIPE, leaf, again) == Target.trunk(RECIPE, leaf, tiny.SCHEDULE), "the trunk is shared"


@given(leaves(), st.sampled_from(["0", "0.1", "0.29", "0.3", "0.5", "0.9"]), st.integers(1, 7))
def test_replay_draws_its_share_of_the_mixture_where_that_went_on(leaf: Leaf, written: str, ranks: int) -> None:
    """By exact fractions: of the first n sequences floor(n r) are the mixture's, each index once, in order."""
    schedule, share = Schedule(tiny.DECAY, replay_share=float(written)), Fraction(written)
    segment = Segment(RECIPE, Target.leaf(RECIPE, leaf, schedule).phases)
    if leaf.domain is None:
        assert segment.draws(3, 5) == [(MIXTURE, 3, 5)]
        return
    count = leaf.specialize_tokens // RECIPE.sequence_length
    drawn = [
        (source, start + place)
        for begin in range(0, count, ranks)
        for source, start, length in segment.draws(begin, min(ranks, count - begin))
        for place in range(length)
    ]
    for n in range(count + 1):
        assert sum(source == MIXTURE for source, _ in drawn[:n]) == n * share // 1
    mixture = leaf.pretrain_tokens // RECIPE.sequence_length
    replayed = [index for source, index in drawn if source == MIXTURE]
    assert replayed == list(range(mixture, mixture + len(replayed)))
    assert [index for source, index in drawn if source == leaf.domain] == list(range(count - len(replayed)))


@given(leaves())
def test_cursors_count_what_was_drawn_of_each_source(leaf: Leaf) -> None:
    """A domain's stretch starts its own order at 0; the mixture goes on from where the trunk stopped."""
    phases, begin = target(leaf).phases, 0
    sequences = RECIPE.global_batch_size
    for depth, phase in enumerate(phases, 1):
        segment = Segment(RECIPE, phases[:depth])
        for tokens in range(begin, phase.end, BATCH):
            before = tokens if phase.source == MIXTURE else tokens - leaf.pretrain_tokens
            assert segment.cursor(tokens) == before // BATCH * sequences
        begin = phase.end


def test_keys_name_the_recipe_and_nothing_operational() -> None:
    phases = target(Leaf(8 * BATCH)).phases

    def key(recipe: Recipe) -> str:
        return Segment(recipe, phases).key

    base = key(RECIPE)
    for change in ({"learning_rate": 2e-2}, {"beta2": 0.9}, {"weight_decay": 0.0}, {"precision": "bf16"}):
        assert key(tiny.make_recipe(tiny.training(**change))) != base, change
    for change in ({"sequence_length": 32, "global_batch_size": 2}, {"attention_across_documents": False}):
        assert key(tiny.make_recipe(tiny.training(**change))) != base, change
    assert key(tiny.make_recipe(seed=1)) != base
    assert key(tiny.make_recipe(content_hash="other")) != base
    assert key(tiny.make_recipe(vocab=65)) != base
    for change in (
        {"zero_stage": 3},
        {"micro_batch_size": 1},
        {"threads": 2},
        {"compile": True},
        {"checkpoint_seconds": 1},
    ):
        assert key(tiny.make_recipe(tiny.training(**change))) == base, change
    # the decay's share shapes the phases, and these are in the key already
    assert key(tiny.make_recipe(tiny.training(decay_fraction=0.5))) == base
