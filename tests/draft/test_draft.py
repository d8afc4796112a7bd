"""A drafted configuration: it loads, it raises none of the warnings that its own numbers could raise, and it fits."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from splitray.config import load
from splitray.corpus.survey import Survey
from splitray.draft import numbers
from splitray.draft.cost import foretell
from splitray.draft.draft import Draft, draft
from splitray.draft.speed import Speed
from splitray.errors import UserError
from splitray.pipeline.programme import Programme
from splitray.pipeline.runner import budget_in_whole_batches
from splitray.pipeline.tree import Tree
from tests.support.planted_text import documents

SPEED = Speed(2e-5, 6e-11, 1.0, 2, "cpu")  # what two cores had with nothing beside them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects, 1 MB, in JSON lines, whose text is in a column of another name."""
    folder = tmp_path_factory.mktemp("data") / "three subjects"
    folder.mkdir()
    for subject in ("law", "food", "sea"):
        rows = [{"origin": subject, "body": text} for text in documents(subject, 600)]
        (folder / f"{subject}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def drafted(folder: Path) -> Draft:
    return draft(folder, minutes=30, speed=SPEED)


def test_the_yaml_loads_as_the_configuration_and_explains_itself(drafted: Draft, tmp_path: Path, folder: Path) -> None:
    text = drafted.yaml()
    (tmp_path / "config.yaml").write_text(text)
    assert load(tmp_path / "config.yaml") == drafted.config
    assert yaml.safe_load(text)["corpus"]["sources"] == [str(folder)]
    for line in (
        r"relative to the folder in which you start",
        r"Another budget makes another plan",
        r"Time on this machine",
    ):
        assert re.search(line.replace(" ", r"\s(# |  # )?"), text), line
    assert "# group_column: NAME" in text and "# domain_column: NAME" in text and "Other columns: origin." in text
    assert max(map(len, text.splitlines())) <= 120


def test_it_finds_the_subjects_and_counts_the_text(drafted: Draft) -> None:
    config = drafted.config
    assert config.corpus.domains == 3 and config.corpus.text_column == "body" and config.name == "three-subjects"
    assert drafted.grouping.smallest == pytest.approx(1 / 3, abs=0.02)
    assert drafted.survey.whole and drafted.survey.documents == 1800
    tokens = drafted.survey.text_bytes / drafted.bytes_per_token
    assert drafted.tokens == pytest.approx(tokens * (1 - config.corpus.validation_share), rel=0.01)


def test_no_domain_is_read_twice_and_the_budget_is_not_rounded(drafted: Draft) -> None:
    config = drafted.config
    smallest = drafted.tokens * drafted.grouping.smallest
    assert config.budget / config.corpus.domains < smallest
    assert budget_in_whole_batches(config) is None


def test_the_ladder_supports_a_law(drafted: Draft) -> None:
    config, ladder = drafted.config, drafted.config.ladder
    shapes = [*ladder.shapes, config.model]
    assert len(ladder.shapes) >= 5 and len({(s.hidden or 0) / (s.layers or 1) for s in shapes}) == 1
    assert ladder.seeds >= 2
    pretrain, specialize = ladder.pretrain_tokens, ladder.specialize_tokens
    assert (
        min(specialize) <= 0.05 * max(pretrain)
        and max(specialize) / min(specialize) >= 20
        and len(specialize) >= 4
        and len(pretrain) >= 4
    )
    assert max(pretrain) < config.budget <= 3 * max(pretrain)
    assert config.training.warmup_tokens <= 0.1 * min(pretrain)
    sizes = [Programme.unbuilt(config).size(shape).params for shape in shapes]
    assert sizes == sorted(sizes) and sizes[-1] < 30 * sizes[-2]
    Programme.unbuilt(config).check_ladder()


def test_more_minutes_give_more_until_the_text_ends(folder: Path, drafted: Draft) -> None:
    slow = replace(SPEED, fixed=20 * SPEED.fixed, per_flop=20 * SPEED.per_flop)
    short, longer = (draft(folder, minutes=minutes, speed=slow) for minutes in (30, 45))
    assert short.config.budget < longer.config.budget <= drafted.most
    for each, minutes in ((short, 30), (longer, 45)):
        assert each.foretold.seconds <= 60 * minutes
    with pytest.raises(
        UserError, match=r"minutes = 2: the smallest run, of \d+.*K tokens, takes about .*give --minutes \d+ or more"
    ) as refused:
        draft(folder, minutes=2, speed=slow)
    (enough,) = re.findall(r"--minutes (\d+)", str(refused.value))
    assert draft(folder, minutes=int(enough), speed=slow).config.budget <= longer.config.budget


def test_a_busy_machine_gets_the_smallest_run_and_a_word(folder: Path, logged: list[str]) -> None:
    """Load passes: the time is asked of the machine with nothing beside it."""
    alone = draft(folder, minutes=5, speed=SPEED)
    busy = draft(folder, minutes=5, speed=replace(SPEED, busy=50.0))
    assert busy.config.budget <= alone.config.budget and busy.foretold.seconds > 300
    assert any("other programs make it 50.0 times as long now; without them" in line for line in logged)


def test_the_number_of_domains_can_be_given(folder: Path) -> None:
    config = draft(folder, domains=2, speed=SPEED).config
    assert config.corpus.domains == 2 and config.ladder.domains == 2


def test_too_little_text_says_how_much_is_needed(tmp_path: Path) -> None:
    for number, text in enumerate(documents("law", 40)):
        (tmp_path / f"{number}.txt").write_text(text)
    with pytest.raises(
        UserError, match=r"holds 0.0\d+ MB of text in 40 documents, too little .*: give about 0\.\d+ MB"
    ):
        draft(tmp_path, speed=SPEED)


@pytest.mark.parametrize("budget", [70_000, 300_000, 2_000_000, 30_000_000, 2_000_000_000])
def test_every_budget_has_a_valid_configuration(budget: int) -> None:
    place = numbers.Place("x", {"sources": ["/x"], "domains": 4}, 4, 4096, 16_384)
    config = numbers.config_of(place, budget)
    assert 0.9 * budget < config.budget <= budget
    assert budget_in_whole_batches(config) is None
    Programme.unbuilt(config).check_ladder()
    assert 500 <= config.budget / config.training.batch_tokens <= 5000 or config.training.batch_tokens == 512


def test_the_time_is_that_of_the_dry_runs_tree() -> None:
    """With a speed of so many seconds a token whatever the model, training takes the tree's tokens times it."""
    place = numbers.Place("x", {"sources": ["/x"], "domains": 4}, 4, 1024, 256)
    config = numbers.config_of(place, 1_000_000)
    nothing = Survey(Counter(), 0, 0, 0, 0, None, [], 0.0, 0.0, Counter(), True)
    one = foretell(config, nothing, Speed(1e-3, 0.0, 1.0, 1, "cpu"))
    tree = Tree(Programme.unbuilt(config), None)
    split = Programme.unbuilt(config).final().split(0.5)
    parts = [tree.ladder(), tree.search(None, None), tree.base(split), tree.specialists(split), tree.evaluation(split)]
    assert one.tokens == sum(part.tokens for part in parts)
    assert one.training == pytest.approx(one.tokens * 1e-3, rel=0.05)  # and the losses
    two = foretell(config, nothing, Speed(1e-3, 0.0, 1.0, 2, "cpu"))
    assert one.training / 2 <= two.training < one.training  # a trunk is one worker's
    busy = foretell(config, nothing, Speed(1e-3, 0.0, 2.0, 1, "cpu"))
    assert busy.seconds == pytest.approx(2 * one.seconds)


def test_grouping_takes_two_domains_where_all_are_uneven() -> None:
    from splitray.corpus.settings import CorpusSettings
    from splitray.draft.grouping import group

    settings = CorpusSettings(sources=["x"], domains=1)
    texts = [*documents("law", 300), *documents("sea", 4)]
    random.Random(0).shuffle(texts)
    found = group(texts, settings, 0, None, 2)
    assert found is not None and found.domains == 2
    assert group(["the same words"] * 50, settings, 0, None, 8) is None
    assert np.isfinite(found.smallest)
