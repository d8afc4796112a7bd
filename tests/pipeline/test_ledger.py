"""The ledger: one record a start, there after a kill; and what results needed beside what starts spent."""

import json
from pathlib import Path
from typing import Any

import pytest

from splitray.config import Config
from splitray.pipeline.costs import costs, needed
from splitray.pipeline.ledger import Ledger, starts
from splitray.pipeline.programme import CorpusFacts, Programme
from splitray.results.ledger import StageSpending, StartRecord
from splitray.results.stages import RESULTS, StageRecord, Work
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from splitray.training.tree import grow
from tests.support import results
from tests.support.configs import PLAIN

CORPUS = CorpusFacts("c", 300, 0, ("a", "b"), {"a": 90_000, "b": 30_000})
PROGRAMME = Programme(Config(**PLAIN), CORPUS, "fp32")


def counters(**spent: int) -> dict[str, Any]:
    by_params = {int(params.removeprefix("n")): tokens for params, tokens in spent.items()}
    return {"spent": by_params, "training_seconds": 2.0, "failures": 1}


def opened(run: Path, start: str = "20260101T000000000000") -> Ledger:
    return Ledger(Folder(run), start, lambda params, tokens: None if params == 7 else 6.0 * params * tokens)


def test_a_kill_leaves_what_was_known_a_moment_before(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger._every = 0.0
    ledger.begin("corpus")
    ledger.end_stage()
    ledger.begin("ladder")
    ledger.see(counters(n10=1000, n20=500))
    del ledger  # SIGKILL: nothing is closed
    (record,) = starts(Folder(tmp_path))
    assert record.ended is None and [s.stage for s in record.stages] == ["corpus", "ladder"]
    stage = record.stages[-1]
    assert (stage.tokens, stage.flops, stage.failures) == (1500, 6.0 * (10 * 1000 + 20 * 500), 1)


def test_starts_add_up_and_touch_only_their_own(tmp_path: Path) -> None:
    first = b""
    for start, how in (("20260100", "failed"), ("20260101", "done")):
        ledger = opened(tmp_path, start)
        ledger.begin("ladder")
        ledger.see(counters(n10=100))
        ledger.end_stage()
        ledger.end(how)
        first = first or (tmp_path / "ledger/20260100.json").read_bytes()
    assert (tmp_path / "ledger/20260100.json").read_bytes() == first
    assert [(r.start, r.ended) for r in starts(Folder(tmp_path))] == [("20260100", "failed"), ("20260101", "done")]


def test_a_start_that_does_nothing_leaves_no_record(tmp_path: Path) -> None:
    opened(tmp_path).end("done")
    assert starts(Folder(tmp_path)) == [] and not (tmp_path / "ledger").exists()


def test_a_coordinator_that_died_took_nothing_with_it(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.begin("ladder")
    for tokens in (100, 800, 50, 70):  # the second of them begins at nothing
        ledger.see(counters(n10=tokens))
    ledger.end_stage()
    assert starts(Folder(tmp_path))[0].stages[0].tokens == 800 + 70


def test_flops_are_none_where_a_model_is_not_known(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.begin("ladder")
    ledger.see(counters(n7=100, n10=100))
    ledger.end_stage()
    assert starts(Folder(tmp_path))[0].stages[0] == StageSpending(
        "ladder", starts(Folder(tmp_path))[0].stages[0].seconds, 200, None, 2.0, 1
    )


def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, logged: list[str]) -> None:
    for start in ("1", "2"):
        ledger = opened(tmp_path, start)
        ledger.begin("ladder")
    text = (tmp_path / "ledger/1.json").read_text()
    (tmp_path / "ledger/1.json").write_text(text.replace('"ladder"', '"search"'))
    assert [r.start for r in starts(Folder(tmp_path))] == ["2"] and "ledger/1.json" in logged[0]


def record(start: str, ended: str | None, began: float = 10.0, **tokens: int) -> StartRecord:
    stages = tuple(StageSpending(stage, 1.0, n, 6.0 * n) for stage, n in tokens.items())
    return StartRecord(start, began, began + 1, ended, "0.1.0", stages)


def test_needed_is_the_tree_from_nothing() -> None:
    split = PROGRAMME.final().split(0.5)
    parts = needed(PROGRAMME, None, split)
    targets = [request.target for _, request in PROGRAMME.ladder()]
    assert parts["ladder"].tokens == sum(s.tokens for s in grow(targets, lambda line: []))
    # base and specialists are the budget, less what the ladder holds: its model is the target's here
    alone = grow([r.target for r in PROGRAMME.specialists(split)], lambda line: [])
    shared = parts["ladder"].tokens + parts["base"].tokens + parts["specialists"].tokens
    whole = grow([*targets, *(r.target for r in PROGRAMME.specialists(split))], lambda line: [])
    assert shared == sum(s.tokens for s in whole) < parts["ladder"].tokens + sum(s.tokens for s in alone)
    size = PROGRAMME.size(PROGRAMME.config.model)
    per_token = 6 * size.params + 6 * size.layers * size.hidden * 64
    assert parts["ladder"].flops == pytest.approx(parts["ladder"].tokens * per_token)


def test_spent_is_the_sum_over_starts(tmp_path: Path) -> None:
    parts = needed(PROGRAMME, None, None)
    ledger = [record("one", "failed", ladder=700), record("two", "done", began=20.0, ladder=300)]
    cost = costs(parts, ledger, Store(tmp_path), {}, "two")["ladder"]
    assert (cost.needed, cost.spent, cost.spent_flops) == (parts["ladder"].tokens, 1000, 6000.0)


def test_what_a_killed_start_left_in_the_store_was_spent(tmp_path: Path) -> None:
    """It trained more than it could write: its segments name it."""
    store, parts = Store(tmp_path), needed(PROGRAMME, None, None)
    first, second, *_ = parts["ladder"].segments
    store.attempt(first.key).publish({"trained_by": {"killed": first.tokens}})
    store.attempt(second.key).publish({"trained_by": {"killed": 256, "now": second.tokens - 256}})
    ledger = [record("killed", None, ladder=first.tokens), record("now", None, began=20.0, ladder=5000)]
    cost = costs(parts, ledger, store, {}, "now")["ladder"]
    assert cost.spent == first.tokens + 256 + 5000
    ledger = [record("killed", None, ladder=first.tokens + 999), ledger[1]]
    assert costs(parts, ledger, store, {}, "now")["ladder"].spent == first.tokens + 999 + 5000, "lost, but spent"
    done = [record("killed", "done", ladder=first.tokens), ledger[1]]
    assert costs(parts, done, store, {}, "now")["ladder"].spent == first.tokens + 5000, "nothing is looked up"


def test_what_nobody_counted_is_not_known(tmp_path: Path) -> None:
    """A stage that a splitray without a ledger has finished; the later ones are counted."""
    parts = needed(PROGRAMME, None, PROGRAMME.final().split(0.5))
    old = StageRecord("ladder", 5.0, 1.0, Work(trained=99), results.RESULTS["ladder"])
    ledger = [record("new", "done", began=100.0, base=64)]
    found = costs(parts, ledger, Store(tmp_path), {"ladder": old}, "new")
    assert (found["ladder"].spent, found["base"].spent) == (None, 64)
    assert costs(parts, [], Store(tmp_path), {"ladder": old}, "new")["ladder"].spent is None


def test_its_format_is_stable(tmp_path: Path) -> None:
    """The operations that follow add fields; these stay."""
    ledger = opened(tmp_path)
    ledger.begin("ladder")
    plain = json.loads((tmp_path / "ledger/20260101T000000000000.json").read_text())
    assert plain["schema"] == "splitray-ledger-1"
    assert {"start", "began", "written", "ended", "splitray", "stages"} <= set(plain)
    assert {"stage", "seconds", "tokens", "flops", "training_seconds", "failures"} <= set(plain["stages"][0])
    assert set(RESULTS) >= {stage["stage"] for stage in plain["stages"]}
