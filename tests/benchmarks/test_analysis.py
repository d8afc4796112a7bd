"""The proof's arithmetic against laws whose answers are known, and its gate against a real git history."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.law_planted import truth
from benchmarks.proof import forecast, scoring
from benchmarks.proof.analysis import Surface, multiplier, noisy_multiplier, paired, trials_until
from benchmarks.proof.measured import steps
from benchmarks.proof.programme import Cell, full, plain, quick
from benchmarks.proof.search import law_guided
from benchmarks.proof.table import SCHEMA, Table
from splitray.errors import UserError
from splitray.law.planning.question import Question
from splitray.proof.bowl import Bowl, mean_regret
from splitray.proof.statistics import over_domains, proportion, replicate_noise
from splitray.search.correction import place
from splitray.search.rounds import propose

FRACTIONS = np.array(full().fractions)
FINE = np.linspace(0.0, 1.0, 1001)
PARAMS, DOMAINS = 1.3e9, 16


def line(form: str, budget: float, fractions: np.ndarray) -> np.ndarray:
    return np.asarray(truth(form).predict(PARAMS, fractions * budget, (1 - fractions) * budget / DOMAINS))


@pytest.mark.parametrize("form", ["mixture_gap", "effective_tokens", "shared_specific", "multiplicative"])
@pytest.mark.parametrize("budget", [120e9, 240e9, 960e9])
def test_a_bowl_through_exact_points_has_the_true_bottom(form: str, budget: float) -> None:
    exact = line(form, budget, FINE)
    bowl = Bowl(FRACTIONS, line(form, budget, FRACTIONS), 0.0)
    found = round(bowl.best[0] * 1000)
    assert exact[found] - exact.min() < 0.001  # what stopping at the curve's bottom would really lose
    assert abs(bowl.best[1] - exact.min()) < 0.005
    for fraction in (0.3, 0.6, 0.8):
        true = exact[round(fraction * 1000)] - exact.min()
        assert bowl.regret(fraction).value == pytest.approx(true, abs=0.005)


def test_the_bounds_of_a_regret_hold_the_truth_as_often_as_they_say() -> None:
    exact, noise, held = line("mixture_gap", 240e9, FINE), 0.004, 0
    true = exact[350] - exact.min()
    for seed in range(200):
        noisy = line("mixture_gap", 240e9, FRACTIONS) + noise * np.random.default_rng(seed).standard_normal(
            len(FRACTIONS)
        )
        found = Bowl(FRACTIONS, noisy, noise).regret(0.35, draws=400, seed=seed)
        held += found.low <= true <= found.high
    assert held / 200 >= 0.88


def test_the_bound_on_a_mean_regret_is_tighter_than_those_of_its_bowls() -> None:
    exact, noise = line("mixture_gap", 240e9, FINE), 0.004
    best, stops = FINE[exact.argmin()], []
    for seed in range(12):
        noisy = line("mixture_gap", 240e9, FRACTIONS) + noise * np.random.default_rng(seed).standard_normal(
            len(FRACTIONS)
        )
        stops.append((Bowl(FRACTIONS, noisy, noise), float(best)))
    together = mean_regret(stops)
    alone = [bowl.regret(s) for bowl, s in stops]
    assert together.value == pytest.approx(np.mean([r.value for r in alone]))
    assert together.high < 0.7 * max(r.high for r in alone)


def test_a_gain_that_noise_alone_shows_is_told_as_chance() -> None:
    """Where unsplit is best, as many gains lie above the mark as it says; where a split pays, nearly all do."""
    noise, flat = 0.01, 3 + 0.5 * (1 - place(FRACTIONS)) ** 2
    deep = line("mixture_gap", 240e9, FRACTIONS)
    assert deep[-1] - deep.min() > 5 * noise
    shown = {"flat": 0, "deep": 0}
    for seed in range(150):
        random = noise * np.random.default_rng(seed).standard_normal(len(FRACTIONS))
        for name, exact in (("flat", flat), ("deep", deep)):
            bowl = Bowl(FRACTIONS, exact + random, noise)
            shown[name] += bowl.gain > bowl.gain_by_chance()
    assert shown["flat"] <= 0.08 * 150 and shown["deep"] > 0.9 * 150, shown


def test_steps_are_as_sure_as_noise_leaves_them() -> None:
    def told(budget: float, bottom: float, noise: float) -> dict[str, object]:
        losses = (3 + 0.5 * (place(FRACTIONS) - place(np.array(bottom))) ** 2).tolist()
        return {"params": 1, "budget": budget, "split_fraction": FRACTIONS.tolist(), "loss": losses, "noise": noise}

    (clear,) = steps([told(budget, bottom, 0.002) for budget, bottom in ((1e6, 0.8), (2e6, 0.6), (4e6, 0.4))])
    assert min(clear["falls"]) > 0.95 and min(clear["grows"]) > 0.95
    assert clear["best"] == pytest.approx([0.8, 0.6, 0.4], abs=0.002)
    (drowned,) = steps([told(budget, bottom, 0.1) for budget, bottom in ((1e6, 0.6), (2e6, 0.58))])
    assert 0.2 < drowned["falls"][0] < 0.8


def test_misfit_measures_the_noise() -> None:
    exact, rng = line("shared_specific", 240e9, FRACTIONS), np.random.default_rng(0)
    squares = [
        Bowl(FRACTIONS, exact + 0.01 * rng.standard_normal(len(FRACTIONS)), 0.01).misfit ** 2 for _ in range(400)
    ]
    assert np.sqrt(np.mean(squares)) == pytest.approx(0.01, rel=0.15)


def test_multiplier_of_a_power_law() -> None:
    def loss(tokens: np.ndarray) -> np.ndarray:
        return 2.0 + 5.0 * tokens**-0.3

    spent = 1e6 * np.array([1.0, 2.0, 4.0, 8.0])
    goal = float(loss(np.array(3.3e6)))
    assert multiplier(spent, loss(spent), 1e6, goal)["value"] == pytest.approx(3.3, rel=0.01)
    assert multiplier(spent, loss(spent), 1e6, 2.0) == {"value": None, "at_least": 8.0}
    assert multiplier(spent, loss(spent), 1e6, 9.0) == {"value": None, "at_most": 1.0}
    assert multiplier(spent, loss(spent), 1e6, float(loss(spent)[0]))["value"] == pytest.approx(1.0)


def test_the_interval_of_a_multiplier_is_that_of_its_noise() -> None:
    spent = 1e6 * np.array([1.0, 2.0, 4.0, 8.0])
    loss, goal = 2.0 + 5.0 * spent**-0.3, 2.0 + 5.0 * (3.3e6) ** -0.3
    found = noisy_multiplier(spent, loss, 1e6, goal, 0.002)
    # the slope in log tokens turns noise of the goal and of the runs beside it into noise of the logarithm
    slope = 0.3 * 5.0 * (3.3e6) ** -0.3
    for end, sign in (("low", -1), ("high", 1)):
        assert np.log(found[end] / 3.3) * sign == pytest.approx(1.96 * 0.002 * np.sqrt(1.6) / slope, rel=0.35)
    assert noisy_multiplier(spent, loss, 1e6, 2.0, 0.002)["low"] is None  # every draw beyond the runs


@pytest.mark.parametrize(("seeds", "domains", "shared"), [(3, 1, 1.0), (3, 8, 1.0), (3, 8, 0.0), (1, 8, 0.0)])
def test_paired_intervals_hold_the_truth(seeds: int, domains: int, shared: float) -> None:
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        gap = shared * rng.standard_normal((seeds, 1)) + rng.standard_normal((1, domains)) * (domains > 1)
        found = paired(gap + 0.1 * rng.standard_normal((seeds, domains)), np.zeros((seeds, domains)), draws=400)
        held += found["low"] <= 0 <= found["high"]
    assert held / 200 >= 0.92


def test_over_these_domains_only_seeds_are_resampled() -> None:
    """Domains that differ widely do not widen it; Student's interval over seeds is the oracle."""
    rng = np.random.default_rng(5)
    gap = np.linspace(-1, 1, 8) + 0.1 * rng.standard_normal((3, 1)) + 0.01 * rng.standard_normal((3, 8))
    found = paired(gap, np.zeros((3, 8)))
    oracle = ttest_1samp(gap.mean(axis=1), 0).confidence_interval()
    assert found["these_domains"] == {"low": pytest.approx(oracle.low), "high": pytest.approx(oracle.high)}
    assert found["high"] - found["low"] > 1.5 * (oracle.high - oracle.low)
    assert "these_domains" not in paired(gap[:, :1], np.zeros((3, 1)))


def test_noise_common_to_the_domains_stays_in_their_mean() -> None:
    rng, rows = np.random.default_rng(3), []
    for params in range(20):
        for cell in range(30):
            for seed in range(3):
                common = 0.003 * rng.standard_normal()
                base = {"params": params, "pretrain_tokens": cell, "specialize_tokens": 0, "seed": seed}
                losses = np.exp(1 + common + 0.001 * rng.standard_normal(3))
                rows += [base | {"domain": name, "loss": x} for name, x in zip("abc", losses, strict=True)]
    rows += [rows[0] | {"pretrain_tokens": 99}]  # of one domain only: no mean
    means = over_domains(rows)
    assert len(means) == 20 * 30 * 3
    assert replicate_noise(means).rest == pytest.approx(np.hypot(0.003, 0.001 / np.sqrt(3)), rel=0.05)


def test_paired_differences_forget_what_seeds_and_domains_share() -> None:
    rng = np.random.default_rng(1)
    common = 3 + 0.5 * rng.standard_normal((1, 8)) + 0.1 * rng.standard_normal((3, 1))
    ours = common - 0.05 + 0.002 * rng.standard_normal((3, 8))
    found = paired(ours, common + 0.002 * rng.standard_normal((3, 8)))
    assert found["value"] == pytest.approx(-0.05, abs=0.003)
    assert found["low"] < found["value"] < found["high"]
    assert found["high"] - found["low"] < 0.02  # the levels differ by 0.5
    assert (found["seeds"], found["domains"], len(found["by_domain"])) == (3, 8, 8)


def test_noise_of_replicates_is_told_apart() -> None:
    rng, rows = np.random.default_rng(2), []
    for params in range(40):
        shared = 0.01 * rng.standard_normal(3)
        for cell in range(30):
            for seed in range(3):
                value = np.exp(1 + 0.1 * cell + shared[seed] + 0.003 * rng.standard_normal())
                rows.append({"params": params, "pretrain_tokens": cell, "specialize_tokens": 0, "domain": "a"})
                rows[-1] |= {"seed": seed, "loss": value}
    rows.append(rows[0] | {"pretrain_tokens": 99})  # one seed only: not a replicate
    found = replicate_noise(rows)
    assert found.seed == pytest.approx(0.01, rel=0.15)
    assert found.rest == pytest.approx(0.003, rel=0.05)
    assert found.cells == 40 * 30
    assert replicate_noise(rows[:1]).cells == 0


def test_shares_and_trials() -> None:
    found = proportion(20, 24)
    # Wilson's interval by its definition: the shares p0 at which 20 of 24 lies 1.96 deviations off
    for end in (found.low, found.high):
        assert abs(20 / 24 - end) == pytest.approx(1.959963984540054 * np.sqrt(end * (1 - end) / 24), rel=1e-9)
    assert trials_until([3.2, 3.1, 3.004, 3.0], 3.0, 0.005) == 3
    assert trials_until([3.2], 3.0, 0.005) is None


def test_every_budget_is_spent_to_the_token() -> None:
    domains = [f"d{i}" for i in range(8)]
    for programme in (full(), quick()):
        names = domains[: programme.config.corpus.domains]
        for shape, budget, _ in programme.bowls():
            for fraction in programme.fractions:
                cells = list(programme.line(shape, budget, [fraction], names, True))
                base = cells[0].leaf.pretrain_tokens
                assert base + sum(c.leaf.specialize_tokens for c in cells) == budget
                assert base == fraction * budget
                scored = [d for c in cells for d in c.domains]
                assert sorted(scored) == sorted(names)


def test_the_grid_spans_what_the_law_needs() -> None:
    programme, domains = full(), [f"d{i}" for i in range(8)]
    cells = list(programme.grid(domains))
    assert len(cells) == len(set(cells)) == sum(map(len, programme.stages(domains)))
    base = {c.leaf.pretrain_tokens for c in cells} - {0}
    special = {c.leaf.specialize_tokens for c in cells} - {0}
    assert max(base) / min(base) >= 30 and max(special) / min(special) >= 30
    assert min(special) <= 0.02 * sorted(base)[-2]
    assert programme.config.training.warmup_tokens <= 0.021 * min(base)
    assert {c.shape for c in cells} == set(programme.config.ladder.shapes)
    assert programme.hidden not in {c.shape for c in cells}


def test_a_table_keeps_its_rows(tmp_path: Path) -> None:
    row = {"params": 10, "pretrain_tokens": 64, "specialize_tokens": 0, "domain": "a", "loss": 1 / 3, "seed": 0}
    row |= {"run": "seg-1", "trunk": "t", "branch": "b", "flops": 1.5, "shape": "h8-l1", "learning_rate": 0.1}
    row |= {"tokens": 64, "epochs": 0.5, "bits_per_byte": 0.7, "began": 1.5, "seconds": 2.0, "segment_tokens": 64}
    row |= {"corpus": "0" * 12}
    row = dict.fromkeys(SCHEMA.names) | row  # what is not known comes back as None
    table = Table.open(tmp_path / "metrics.csv")
    table.add([row, row | {"domain": "b"}])
    again = Table.open(tmp_path / "metrics.csv")
    assert again.rows == table.rows
    assert again.holds("seg-1", ["a", "b"]) and not again.holds("seg-1", ["a", "c"])
    again.add([row | {"loss": 2.0}])
    assert len(again.rows) == 2 and Table.open(tmp_path / "metrics.csv").rows["seg-1", "a"]["loss"] == 2.0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh git repository in the place of this one, with one forecast committed at 1000 s after 1970."""
    monkeypatch.setattr(forecast, "ROOT", tmp_path)
    (tmp_path / "f.json").write_text("{}")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "f.json")
    _commit(tmp_path, 1000)
    return tmp_path


def _git(folder: Path, *arguments: str, **environment: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, env=environment or None)


def _commit(folder: Path, seconds: int) -> None:
    when = f"@{seconds} +0000"
    _git(folder, "commit", "-qam", "x", GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when, PATH="/usr/bin:/bin")


def test_a_forecast_counts_from_its_only_commit(repository: Path) -> None:
    path = repository / "f.json"
    assert forecast.committed(path) == 1000.0
    (repository / "g.json").write_text("{}")
    assert forecast.committed(repository / "g.json") is None  # never committed
    path.write_text('{"better": 1}')
    assert forecast.committed(path) is None  # changed since
    _commit(repository, 2000)
    assert forecast.committed(path) is None  # changed, and committed again
    path.unlink()
    _commit(repository, 3000)
    assert forecast.committed(path) is None
    path.write_text("{}")
    _git(repository, "add", "f.json")
    _commit(repository, 4000)
    assert forecast.committed(path) == 4000.0  # a forecast anew


def test_where_git_tells_no_history_it_says_so(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{repository}", str(elsewhere / "x")], check=True)
    forecast.whole_history.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "ROOT", elsewhere / "x")
        with pytest.raises(UserError, match="git fetch --unshallow"):
            forecast.committed(elsewhere / "x/f.json")
        (elsewhere / "empty").mkdir()
        patch.setattr(forecast, "ROOT", elsewhere / "empty")
        with pytest.raises(UserError, match="not a git repository"):
            forecast.committed(elsewhere / "empty/f.json")


class _Held:
    """As much of a bench as scoring asks for: the rows of a cell."""

    def __init__(self, rows: list[dict[str, object]]) -> None:
        self._rows = rows

    def rows(self, cells: list[Cell]) -> list[dict[str, object]]:
        def of(row: dict[str, object], cell: Cell) -> bool:
            leaf = (cell.leaf.pretrain_tokens, cell.leaf.specialize_tokens)
            asked = (cell.shape.label, *leaf, cell.domains[0], cell.seed, cell.specialist_lr_multiplier)
            names = ("shape", "pretrain_tokens", "specialize_tokens", "domain", "seed", "rate")
            return asked == tuple(row[n] for n in names)

        return [row for cell in cells for row in self._rows if of(row, cell)]


def test_only_runs_that_began_after_the_commit_are_scored(repository: Path) -> None:
    programme = full()
    shape = programme.hidden
    base = {"shape": shape.label, "seed": 0, "domain": "a", "loss": 2.0, "specialize_tokens": 0, "rate": 1.0}
    rows = [base | {"pretrain_tokens": tokens, "began": began} for tokens, began in ((10, 999.0), (20, 1001.0))]
    rows += [
        base | {"pretrain_tokens": 20, "began": 1001.0, "loss": 9.0} | other for other in ({"seed": 1}, {"rate": 2.0})
    ]
    told = {"value": 2.1, "low": 1.9, "high": 2.2, "chinchilla": 2.5, "domain": "a", "specialize_tokens": 0}
    record = {
        "params": 7,
        "shape": plain(shape),
        "budget": 20,
        "made": "2026-01-01T00:00:00+00:00",
        "level": 0.8,
        "run_noise": 0.01,
        "law": {"mixture": {"release": 0.4, "mixture_gap": 0.6}, "rows": 9, "noise": 0.01},
        "largest_fitted": {"params": 5},
        "rows": [told | {"pretrain_tokens": tokens} for tokens in (10, 20, 30)],
    }
    folder = repository / "forecasts"
    folder.mkdir()
    (folder / "x.json").write_text(json.dumps(record))
    refused = scoring.score(_Held(rows), folder)  # type: ignore[arg-type]
    assert [("error" in s, "not committed" in s["refused"]) for s in refused] == [(False, True), (False, True)]
    _git(repository, "add", "forecasts/x.json")
    _commit(repository, 1000)
    early, late = scoring.score(_Held(rows), folder)  # type: ignore[arg-type]
    assert "before the forecast" in early["refused"] and "error" not in early
    assert late["error"] == pytest.approx(0.05) and late["held"] is True
    found = scoring.summary([early, late])
    assert (found["scored"], found["refused"], found["beyond"]["a new size"]["of"]) == (1, 1, 1)
    assert found["mean_relative_error_chinchilla"] == pytest.approx(0.25)
    assert list(found["by_form"]) == ["mixture_gap"]


def test_differences_are_those_of_means_over_domains() -> None:
    rows = []
    for special, errors in ((0, (0.02, -0.02)), (5, (0.05, -0.03)), (9, (0.01,))):  # the last lacks a domain
        base = {
            "params": 7,
            "budget": 20,
            "new_size": False,
            "form": "release",
            "pretrain_tokens": 20 - 2 * special,
            "specialize_tokens": special,
            "chinchilla_error": 0.1,
        }
        for domain, error in zip("ab", errors):
            rows.append(base | {"domain": domain, "loss": 2.0, "value": 2.0 + error, "error": error / 2, "held": True})
    found = scoring.summary(rows, noise=0.01)["difference_error"]
    assert found["of"] == 1 and found["bias"] == pytest.approx(0.01)
    assert found["by_fraction"] == {"0.5": pytest.approx(0.01)} and list(found["by_line"]) == ["7, 20"]
    draws = np.random.default_rng(0).standard_normal((2, 100_000)) * 0.02
    assert found["by_noise_alone"] == pytest.approx(np.abs(draws[0] - draws[1]).mean(), rel=0.01)


def test_a_surface_finds_the_bottom_of_a_planted_one() -> None:
    fractions, rates = np.array([0, 0.125, 0.25, 0.5, 0.75, 0.90625, 1]), np.array([-2.0, -1.0, 0.0, 1.0])
    s, x = np.meshgrid(fractions, rates, indexing="ij")
    planted = Surface(fractions, rates, 3 + 0.4 * (place(s) - 0.45) ** 2 + 0.02 * (x + 0.7) ** 2 * (1 - s))
    fraction, rate, loss = planted.best
    assert place(fraction) == pytest.approx(0.45, abs=0.03) and rate == pytest.approx(-0.7, abs=0.1)
    assert loss == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize("bottom", [-1.6, -0.4, 0.3, 0.9])
def test_the_law_guided_search_finds_a_rate_in_four_trials(bottom: float) -> None:
    law, question = truth("mixture_gap"), Question(PARAMS, 240e9, DOMAINS)
    fraction = propose(law, question, {}, 1).fractions[0]
    losses = law_guided(law, question, lambda s, x: abs(s - fraction) + 0.01 * (x - bottom) ** 2, (-2.0, 1.0))
    assert min(losses[:4]) == pytest.approx(0, abs=1e-9)
