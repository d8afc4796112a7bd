"""Ways to choose a model, over documents whose losses a plain loop gives too."""

import numpy as np
import pytest

from benchmarks.mixture_table import KNOWN, NEAREST, Table, fill, losses, promise
from splitray.evaluate.mixture import Gate, Mixture, alone, load_mixture
from tests.support.ensemble import LENGTH, plain_nats, write_run
from tests.support.planted import documents


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    run = load_mixture(write_run(tmp_path_factory.mktemp("run")))
    mixture = Mixture(dict(zip(run.names, run.models, strict=True)), run.encoder, LENGTH, run.prior)
    rows = documents(domains=2, each=5, words=40)
    texts = {
        name: [r["text"] * (1 + n % 3) for n, r in enumerate(rows) if r["domain"] == place]
        for place, name in enumerate(mixture.names[:2])
    }
    made = Table(mixture, texts, losses(mixture, texts))
    fill(made, list(alone(mixture).values())[:2], "the specialists", [Gate()])
    made.scored_by("unsplit", alone(mixture)["base"])
    return made


def test_losses_are_those_of_a_plain_loop(table: Table) -> None:
    mixture = table.mixture
    for domain, texts in table.texts.items():
        for text, nats in zip(texts, table.nats[domain], strict=True):
            tokens = mixture.encoder.encode([text])[0]
            for place, model in enumerate(mixture.models):
                expected = plain_nats(model, tokens, mixture.encoder.end).sum()
                assert nats[:, place].sum() == pytest.approx(expected, rel=1e-5)


def test_every_way_to_choose_has_a_row_within_what_is_possible(table: Table) -> None:
    rows = {row.name: row for row in table.rows}
    best = rows["best single model of each document"]
    assert all(row.loss >= best.loss for row in (rows[KNOWN], rows["base"], rows[NEAREST]))
    assert rows[KNOWN].models == rows[NEAREST].models == rows["unsplit"].models == 1
    assert rows["exact mixture, prior uniform"].models == 3
    assert rows["exact mixture, prior uniform"].excess_largest == pytest.approx(0, abs=1e-12)
    assert rows["unsplit"].loss == pytest.approx(rows["base"].loss)
    assert promise(table.nats) == {"documents_checked": 10, "bound_violations": 0}
    assert sum(table.counts().values()) == 10 and set(table.counts()) == set(rows[KNOWN].models_by_length)


def test_a_difference_is_paired_over_groups(table: Table) -> None:
    each = {d: [str(n) for n in range(len(t))] for d, t in table.texts.items()}
    alike = table.less("unsplit", "base", each)
    assert alike.value == pytest.approx(0, abs=1e-6) and alike.high - alike.low < 1e-6
    gap = table.less(KNOWN, "base", each)
    rows = {row.name: row for row in table.rows}
    assert gap.value == pytest.approx(rows[KNOWN].loss - rows["base"].loss)
    one = table.less(KNOWN, "base", {d: ["one"] * len(t) for d, t in table.texts.items()})
    assert one.high - one.low == pytest.approx(0, abs=1e-9) and gap.high > gap.low
    assert np.isfinite(gap.low)
