"""The grammar of artifact names: each kind reads what it writes and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitray.errors import CorruptError
from splitray.storage.keys import CheckpointKey, CorpusKey, LossKey, SegmentKey

KINDS = (SegmentKey, CheckpointKey, LossKey, CorpusKey)
LINE = "seg-0123456789abcdef0123"
NAMES = {
    "seg-0123456789abcdef0123-000000000012288": SegmentKey(LINE, 12288),
    "seg-0123456789abcdef0123-1000000000000000": SegmentKey(LINE, 10**15),
    "part-seg-0123456789abcdef0123-000000000012288-000000000000064": CheckpointKey(SegmentKey(LINE, 12288), 64),
    "loss-seg-0123456789abcdef0123-000000000012288-9f86d081884c-0_salt_captain": LossKey(
        SegmentKey(LINE, 12288), "9f86d081884c", "0_salt_captain"
    ),
    "loss-seg-0123456789abcdef0123-000000000012288-9f86d081884c-a-b-c": LossKey(
        SegmentKey(LINE, 12288), "9f86d081884c", "a-b-c"
    ),
    "corpus-4ab62f00ff15f90a6a7b": CorpusKey("4ab62f00ff15f90a6a7b"),
}
OTHERS = [
    *(
        "",
        "seg-",
        "seg-abc",
        "seg-abc-12",
        "seg-abc-00000000001228x",
        "seg-abc-0000000000012288",
        "seg--000000000012288",
    ),
    *(
        "SEG-abc-000000000012288",
        "seg-abc-000000000012288\n",
        "seg-abc-000000000012288-",
        "segment",
        "corpus-",
        "loss-x",
    ),
    *("part-seg-abc-000000000012288", "part-000000000000064", "loss-seg-abc-000000000012288-9f86", "done"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_first_release(name: str) -> None:
    key = NAMES[name]
    assert key.format() == str(key) == name and name.startswith(type(key).prefix())
    assert [kind.match(name) for kind in KINDS] == [key if isinstance(key, kind) else None for kind in KINDS]


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_none(name: str) -> None:
    for kind in KINDS:
        assert kind.match(name) is None
        with pytest.raises(CorruptError, match="is not the name of a"):
            kind.parse(name)


hashes, tokens = st.text("0123456789abcdef", min_size=1, max_size=20), st.integers(0, 10**17)
segments = st.builds(SegmentKey, hashes.map(SegmentKey.line_of), tokens)
domains = st.text(min_size=1, max_size=20)


@given(
    st.one_of(
        segments,
        st.builds(CheckpointKey, segments, tokens),
        st.builds(LossKey, segments, hashes, domains),
        st.builds(CorpusKey, hashes),
    )
)
def test_every_key_comes_back_from_its_name(key: SegmentKey | CheckpointKey | LossKey | CorpusKey) -> None:
    assert type(key).parse(key.format()) == key
    assert [kind for kind in KINDS if kind.match(key.format())] == [type(key)]


def test_names_sort_by_tokens_and_lines_do_not_mix() -> None:
    ends = [1, 64, 999, 10**6, 10**14]
    names = [SegmentKey(LINE, end).format() for end in ends]
    assert sorted(names) == names
    others = [SegmentKey(f"{LINE}0", 7).format(), SegmentKey(LINE[:-1], 8).format(), f"{LINE}-copy", "corpus-x"]
    assert SegmentKey.ends(LINE, [*names, *others]) == set(ends)
    checkpoints = [CheckpointKey(SegmentKey(LINE, 999), end).format() for end in ends]
    assert all(name.startswith(CheckpointKey.prefix(SegmentKey(LINE, 999))) for name in checkpoints)
