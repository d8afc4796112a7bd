"""The split, the duplicates and the samples, against brute force."""

import random
from collections import Counter

import numpy as np
import pytest

from splitray.corpus.clean import clean_documents, hash64, hash128
from splitray.corpus.duplicates import WINDOW, ValidationIndex, shingles
from splitray.corpus.holdout import DROPPED, ROW, TRAIN, VALIDATION, chosen, decide, split_units
from splitray.corpus.records import Raw
from splitray.corpus.settings import CorpusSettings


def rows_of(documents: list[tuple[str, str, str, str]]) -> np.ndarray:
    """Narrow rows of (id, group, container, text)."""
    return np.array(
        [(hash64(i), hash64(i), hash64(g), hash128(t), hash64(c), len(t), len(t)) for i, g, c, t in documents], ROW
    )


def settings(**fields: object) -> CorpusSettings:
    return CorpusSettings(sources=["x"], domains=2, **fields)


def many(count: int, group_size: int) -> list[tuple[str, str, str, str]]:
    return [(f"d{n}", f"g{n // group_size}", "file", f"text {n}") for n in range(count)]


def test_groups_stay_whole_and_the_share_is_met() -> None:
    documents = many(20_000, 10)
    decision = decide(rows_of(documents), settings(validation_share=0.1), seed=1)
    sides: dict[str, set[int]] = {}
    for (_, group, _, _), side in zip(documents, decision.side, strict=True):
        sides.setdefault(group, set()).add(int(side))
    assert all(len(s) == 1 for s in sides.values())
    assert abs((decision.side == VALIDATION).mean() - 0.1) < 0.02
    assert not decision.oversized


def test_a_group_keeps_its_side_when_documents_come_and_go_and_with_another_seed_moves() -> None:
    documents = many(4000, 10)
    whole = decide(rows_of(documents), settings(), seed=1).side
    shuffled = random.Random(0).sample(range(4000), 3000)
    part = decide(rows_of([documents[i] for i in shuffled]), settings(), seed=1).side
    assert (part == whole[shuffled]).all()
    other = decide(rows_of(documents), settings(), seed=2).side
    assert (other == VALIDATION).any() and not (other == whole).all()


def test_large_groups_are_split_by_row_and_listed() -> None:
    documents = [(f"d{n}", "large" if n < 400 else f"g{n // 10}", "file", f"t{n}") for n in range(4000)]
    documents += [(f"e{n}", "alone", "other", f"u{n}") for n in range(200)]
    decision = decide(rows_of(documents), settings(validation_share=0.2), seed=3)
    listed = {documents[index][1]: (rows, round(share, 3)) for index, rows, share in decision.oversized}
    assert listed == {"large": (400, 0.1), "alone": (200, 1.0)}
    for low, high in ((0, 400), (4000, 4200)):
        held = (decision.side[low:high] == VALIDATION).mean()
        assert 0.1 < held < 0.3
    whole = Counter((documents[n][1], int(decision.side[n])) for n in range(400, 4000))
    assert all(count == 10 for count in whole.values())


def test_exact_duplicates_leave_one_wherever_they_stand() -> None:
    documents = [(f"d{n}", f"g{n}", f"f{n % 3}", f"text {n % 700}") for n in range(2000)]
    decision = decide(rows_of(documents), settings(), seed=1)
    kept = [documents[n] for n in np.flatnonzero(decision.side != DROPPED)]
    assert len(kept) == len({text for *_, text in kept}) == 700
    assert decision.dropped["exact duplicate"] == 1300
    order = random.Random(1).sample(range(2000), 2000)
    again = decide(rows_of([documents[i] for i in order]), settings(), seed=1)
    assert {documents[order[n]] for n in np.flatnonzero(again.side != DROPPED)} == set(kept)


def test_the_sample_does_not_depend_on_order() -> None:
    documents = many(3000, 3)
    decision = decide(rows_of(documents), settings(max_documents=500), seed=1)
    kept = {documents[n][0] for n in np.flatnonzero(decision.side != DROPPED)}
    backwards = documents[::-1]
    again = decide(rows_of(backwards), settings(max_documents=500), seed=1)
    assert len(kept) == 500 == 3000 - decision.dropped["beyond max_documents"]
    assert kept == {backwards[n][0] for n in np.flatnonzero(again.side != DROPPED)}
    rows = rows_of(documents)
    everywhere = np.ones(len(rows), bool)
    two = (chosen(rows, everywhere, 300, 1, purpose) for purpose in ("cluster", "tokenizer"))
    assert 10 < len(np.intersect1d(*two)) < 60, "samples for two purposes are unrelated: 30 of 300 meet by chance"


def naive_shingles(text: str) -> set[str]:
    letters = "".join(c for c in text.lower() if c.isalnum() or not c.isascii())
    return {letters[i : i + WINDOW] for i in range(len(letters) - WINDOW + 1)}


def test_shingles_estimate_containment() -> None:
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(3000)]
    text = " ".join(draw.choice(words) for _ in range(4000))
    half = text[: len(text) // 2] + " " + " ".join(draw.choice(words) for _ in range(2000))
    one, two = shingles(text), shingles(half)
    share = len(np.intersect1d(one, two)) / len(one)
    true = len(naive_shingles(text) & naive_shingles(half)) / len(naive_shingles(text))
    assert share == pytest.approx(true, abs=0.05)
    assert len(one) == pytest.approx(len(naive_shingles(text)) / 8, rel=0.1)


def test_shingles_see_through_case_blanks_and_punctuation() -> None:
    text = "The tenant shall, upon notice, pay the landlord; no later than the first day of the month." * 4
    assert (shingles(text) == shingles(text.upper().replace(",", " \n\t--"))).all()
    assert len(shingles("too short")) == 0


def test_near_duplicates_by_containment_both_ways() -> None:
    draw = random.Random(9)
    words = ["".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(5000)]

    def fresh(count: int) -> list[str]:
        return [draw.choice(words) for _ in range(count)]

    held = [fresh(150) for _ in range(300)]
    edited = [*held[0]]
    for at in range(0, 150, 50):
        edited[at] = "edited"
    rewritten = [word if n % 4 else "other" + word for n, word in enumerate(held[1])]
    train = {
        "itself": held[0],
        "edited in 3 of 150 words": edited,
        "inside a longer one": fresh(600) + held[2] + fresh(600),
        "a piece": held[3][40:110],
        "every fourth word changed": rewritten,
        "half of it": held[4][:75] + fresh(75),
        "unrelated": fresh(150),
        "nothing": ["a"],
    }
    index = ValidationIndex.build([shingles(" ".join(words)) for words in held])
    found = index.near_duplicates([shingles(" ".join(words)) for words in train.values()], 0.8)
    assert [name for name, hit in zip(train, found, strict=True) if hit] == [*train][:4]


def test_boilerplate_does_not_make_neighbours() -> None:
    draw = random.Random(2)
    words = ["".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(5000)]
    header = " ".join(draw.choice(words) for _ in range(100))
    held = [header + " " + " ".join(draw.choice(words) for _ in range(200)) for _ in range(100)]
    sets = [shingles(text) for text in held]
    index = ValidationIndex.build(sets)
    for at, key in enumerate(index.keys[::50]):
        listed = index.documents[index.starts[50 * at] : index.starts[50 * at + 1]].tolist()
        owners = [number for number, keys in enumerate(sets) if key in keys]
        assert listed == (owners if len(owners) <= 32 else [])
    train = [header + " " + " ".join(draw.choice(words) for _ in range(200)), held[7], header]
    found = index.near_duplicates([shingles(text) for text in train], 0.8)
    assert found.tolist() == [False, True, True], "a licence alone stands in validation; with other text it may stay"


def test_no_validation_and_empty_sets() -> None:
    index = ValidationIndex.build([])
    assert not index.near_duplicates([shingles("x" * 100), shingles("")], 0.5).any()
    assert decide(rows_of([]), settings(), 1).side.shape == (0,)
    assert (decide(rows_of(many(1, 1)), settings(), 1).side == TRAIN).sum() <= 1


def test_a_shared_sentence_between_boilerplate_is_no_duplicate() -> None:
    """The form fills nine tenths; one sentence of its own, which another document has too, does not make a copy."""
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(5000)]

    def fresh(count: int) -> str:
        return " ".join(draw.choice(words) for _ in range(count))

    form, sentence = fresh(180), fresh(20)
    held = [form + " " + fresh(20) for _ in range(99)] + [form + " " + sentence]
    index = ValidationIndex.build([shingles(text) for text in held])
    train = [fresh(200) + " " + sentence, held[99]]
    assert index.near_duplicates([shingles(text) for text in train], 0.8).tolist() == [False, True]


def test_no_unrelated_text_is_lost_however_full_the_index_is() -> None:
    """A terabyte's index, shrunk: 1.2 validation shingles for each value that a hash of 14 bits can have."""
    draw = random.Random(4)
    words = ["".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(20_000)]

    def fresh(count: int) -> list[np.ndarray]:
        """Texts of 5 to 20 shingles, unrelated to all others."""
        texts = (" ".join(draw.choices(words, k=draw.randint(10, 26))) for _ in range(count))
        return [s for s in map(shingles, texts) if 5 <= len(s) <= 20]

    held, train = fresh(2400), fresh(1000)
    assert sum(map(len, held)) > 1.2 * 2**14 and len(train) > 800

    def lost(bits: int) -> float:
        narrow = [[np.unique(s >> np.uint64(61 - bits)) for s in sets] for sets in (held, train)]
        return float(ValidationIndex.build(narrow[0]).near_duplicates(narrow[1], 0.8).mean())

    assert lost(14) > 0.15, "hashes as short as that lose texts: the index is full enough to show it"
    assert lost(61) == 0 and not ValidationIndex.build(held).near_duplicates(train, 0.8).any()


def test_shingles_of_different_text_never_meet() -> None:
    """Of 1.4 million different windows some 200 met in 32 bits (by the birthday bound); in 61 none does."""
    letters = np.random.default_rng(8).choice(
        np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8), 11_000_000
    )
    found = shingles(letters.tobytes().decode())
    assert len(found) > 1_300_000
    assert len(np.unique(found >> np.uint64(29))) < len(found) - 100, "32 bits do meet"
    # random text repeats no window of 24 letters, so as many windows are sampled as hashes are found
    again = shingles(letters[: len(letters) // 2].tobytes().decode())
    rest = shingles(letters[len(letters) // 2 - WINDOW + 1 :].tobytes().decode())
    assert len(again) + len(rest) == len(found) == len(np.union1d(again, rest))


def test_units_of_the_split_are_groups_and_rows_of_large_groups() -> None:
    """Pieces of one row stay together: the build has cut them itself."""
    raw = [Raw("a:0", "book", "one two " * 40, "a"), Raw("a:1", "book", "three", "a"), Raw("b:7", "call", "four", "b")]
    cut = list(clean_documents(raw, 1, 200, Counter()))
    assert [d.id for d in cut] == ["a:0#0", "a:0#1", "a:1", "b:7"]
    ids, groups = [d.id for d in cut], [d.group for d in cut]
    assert split_units(ids, groups, ()) == ["book", "book", "book", "call"]
    assert split_units(ids, groups, {"book"}) == ["book:a:0", "book:a:0", "book:a:1", "call"]
