"""`splitray prove` on a small corpus: the forecast comes first, the store is shared, and the score is of both."""

import json
from pathlib import Path

import pytest

from splitray.config import Config
from splitray.errors import CorruptError
from splitray.pipeline.job import Job
from splitray.pipeline.prove import FORECAST, prove, read_forecast, read_proof, sealed_forecast
from splitray.pipeline.run_folder import RunFolder
from splitray.pipeline.runner import go
from splitray.proof.scoring import Proof
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import config, write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def job(root: Path, fractions: list[float]) -> Job:
    made = Config(**config(root / "corpus") | {"proof": {"fractions": fractions}})
    return Job(RunFolder(Folder(root / "run"), made), Store(root / "store"))


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, Proof]:
    root = tmp_path_factory.mktemp("prove")
    write_corpus(root / "corpus")
    of = job(root, [0.0, 0.5])
    go(of, "plan")
    standing = set(of.store.keys("seg-"))
    forecast = sealed_forecast(of)
    assert set(of.store.keys("seg-")) == standing, "a forecast trains nothing"
    assert not any(row.known for row in forecast.rows)
    return root, prove(of)


def test_what_was_forecast_is_what_was_measured(proven: tuple[Path, Proof]) -> None:
    root, proof = proven
    assert proof.forecast == read_forecast(Folder(root / "run")) and proof == read_proof(Folder(root / "run"))
    assert {row.strategy for row in proof.comparison} == {
        "planned split",
        "unsplit",
        "split at zero",
        "split at one half",
    }
    assert len({row.tokens for row in proof.comparison}) == 1, "equal tokens means equal"
    by_domain = {(row.pretrain_tokens, d): loss for row in proof.comparison for d, loss in row.by_domain.items()}
    for scored in proof.losses:
        row = scored.predicted
        assert scored.loss == pytest.approx(by_domain[row.pretrain_tokens, row.domain], rel=1e-9)
        assert scored.error == pytest.approx(row.value / scored.loss - 1)
    assert proof.errors is not None and proof.errors.losses == len(proof.losses) == len(proof.forecast.rows)
    assert proof.bowl.regret_measured >= 0 and (root / "run/proof/bowl.png").stat().st_size > 5000


def test_a_finer_proof_trains_what_is_missing_and_keeps_the_forecast(proven: tuple[Path, Proof]) -> None:
    root, before = proven
    again = prove(job(root, [0.0, 0.25, 0.5]))
    assert again.seal == before.seal and len(again.comparison) == len(before.comparison) + 1
    assert {s.predicted for s in again.losses} == {s.predicted for s in before.losses}, (
        "what was not forecast is not scored"
    )


def test_a_forecast_made_afterwards_says_so(proven: tuple[Path, Proof]) -> None:
    root, _ = proven
    (root / "run" / FORECAST).unlink()
    late = prove(job(root, [0.0, 0.5]))
    assert all(row.known for row in late.forecast.rows) and late.errors is None


def test_a_forecast_that_was_changed_is_refused(proven: tuple[Path, Proof]) -> None:
    """Last in this file."""
    root, _ = proven
    path = root / "run" / FORECAST
    record = json.loads(path.read_text())
    record["rows"][0]["value"] += 0.01
    path.write_text(json.dumps(record))
    with pytest.raises(CorruptError, match=r"forecast\.json"):
        prove(job(root, [0.0, 0.5]))
