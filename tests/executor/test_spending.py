"""What a stage has spent: every token trained counts once, lost ones too."""

from splitray.executor.spending import Spending
from splitray.training.tree import Leaf, Segment
from tests.support import tiny

SEGMENTS: list[Segment] = tiny.segments(tiny.make_recipe(), Leaf(16 * 64))
FIRST, SECOND = SEGMENTS
PARAMS = FIRST.recipe.params


def spending() -> Spending:
    made = Spending("this start")
    made.begin(SEGMENTS)
    return made


def test_what_is_lost_is_spent_and_what_is_resumed_is_not_spent_again() -> None:
    made = spending()
    for trained in (64, 256):
        made.note(FIRST.key, "one", trained)
    assert made.tokens == {PARAMS: 256}
    made.note(FIRST.key, "two", 128)  # another process, from a checkpoint or from the parent
    assert made.tokens == {PARAMS: 256 + 128}
    made.note(SECOND.key, "three", 64)
    made.end(FIRST.key, {"start": "this start", "tokens_trained": 512})
    assert made.tokens == {PARAMS: 256 + 512 + 64}, "the marker knows what the last note had not said yet"
    made.end(SECOND.key)
    made.note(SECOND.key, "three", 256)
    assert made.tokens == {PARAMS: 256 + 512 + 64}, "notes that come late count no more"


def test_what_another_start_published_is_not_ours() -> None:
    made = spending()
    made.end(FIRST.key, {"start": "another start", "tokens_trained": 768})
    assert made.tokens == {PARAMS: 0}
    made.note(SECOND.key, "one", 64)  # both trained it, and the other was first
    made.end(SECOND.key, {"start": "another start", "tokens_trained": 256})
    assert made.tokens == {PARAMS: 64}


def test_a_segment_trained_anew_is_spent_twice() -> None:
    made = spending()
    marker = {"start": "this start", "tokens_trained": 768}
    made.end(FIRST.key, marker)
    made.begin([FIRST])  # it was found damaged
    made.end(FIRST.key, marker)
    made.end(FIRST.key, marker)  # of a stage that is over: passed over
    assert made.tokens == {PARAMS: 2 * 768}
