"""The fit: published constants, scipy as the oracle, planted constants, determinism, and rubbish."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from scipy.optimize import minimize

from splitray.errors import UserError
from splitray.law import Law, fit
from splitray.law.forms import REGISTRY
from tests.law.test_forms import BY_HAND
from tests.support import SHARED

REAL = SHARED / "runs"


def real(name):
    if not (REAL / name).exists():
        pytest.skip(f"{name} is not at ../shared/data/runs")
    return pyarrow.csv.read_csv(REAL / name)


def published(name):
    return json.loads((REAL / "PUBLISHED.json").read_text())[name]


def ladder(law, noise=0.0, seed=0, **columns):
    """A table of 5 sizes x 4 D x 4 D' with losses of `law`."""
    axes = np.meshgrid(np.geomspace(2e7, 5e8, 5), np.geomspace(1e9, 5e10, 4), [0.0, 5e7, 1e9, 1e10], indexing="ij")
    N, D, S = (axis.ravel() for axis in axes)
    loss = law.predict(N, D, S) * np.exp(noise * np.random.default_rng(seed).standard_normal(N.size))
    given = {"params": N, "pretrain_tokens": D, "specialize_tokens": S, "domain": ["d"] * N.size, "loss": loss}
    return pa.table(given | columns)


def test_chinchilla_replication():
    """240 points, Huber 1e-3 (Besiroglu et al. 2024)."""
    table = real("chinchilla.csv")
    table = table.filter(pc.invert(pc.cast(table["outlier"], pa.bool_())))
    law = fit(table, form="chinchilla", bootstrap=400)
    target = published("chinchilla.csv")[0]
    errors = target["standard_errors"]
    assert law.objective <= 0.0010182741
    for name in ("E", "alpha", "beta"):
        assert abs(law.constants[name] - target[name]) < 0.1 * errors[name]
    for name, tolerance in (("E", 1e-4), ("alpha", 1e-4), ("beta", 1e-4), ("A", 0.01), ("B", 0.01)):
        assert law.constants[name] == pytest.approx(target["at_best"][name], abs=tolerance)
    draws = law.components[0].draws[:, 0]
    for column, name in ((0, "E"), (2, "alpha"), (4, "beta")):
        values = np.exp(draws[:, 0]) if name == "E" else draws[:, column]
        assert np.std(values) == pytest.approx(errors[name], rel=0.25)


def test_chinchilla_squared_error():
    """217 points, squared raw loss (the ml-scalefit documentation)."""
    table = real("chinchilla.csv")
    keep = pc.and_(pc.invert(pc.cast(table["outlier"], pa.bool_())), pc.less(table["flops"], 1e21))
    law = fit(table.filter(keep), form="chinchilla", objective="squared")
    target, found = published("chinchilla.csv")[1], law.constants
    assert round(law.objective, 6) == target["rss"]
    assert round(found["A"] / 1e6 ** found["alpha"], 4) == target["A"]
    assert round(found["B"] / 1e9 ** found["beta"], 4) == target["B"]
    for name in ("E", "alpha", "beta"):
        assert round(found[name], 4) == target[name]


def test_loss_to_loss():
    table = real("loss_to_loss.csv")
    target = published("loss_to_loss.csv")[0]
    for domain in ("starcoder", "fineweb-edu-100b", "smollm-corpus"):
        law = fit(table.filter(pc.equal(table["domain"], domain)), form="chinchilla")
        for name in ("E", "alpha", "beta"):
            assert law.constants[name] == pytest.approx(target[domain][name], abs=5e-4)


def test_no_worse_than_scipy():
    """L-BFGS from the planted constants themselves finds nothing better."""
    true = Law.known("release", BY_HAND["release"][0])
    table = ladder(true, noise=0.01)
    law = fit(table, form="release", objective="huber_log:0.01")
    form = REGISTRY["release"]
    N, D, S, y = (table[c].to_numpy() for c in ("params", "pretrain_tokens", "specialize_tokens", "loss"))

    def huber(vector):
        r = np.abs(np.log(form.value(vector[None], N, D, S)[0] / y))
        return np.where(r < 0.01, 0.5 * r * r, 0.01 * (r - 0.005)).sum()

    found = minimize(huber, form.pack(BY_HAND["release"][0]), method="L-BFGS-B")
    # The weak priors may cost a little of the fit itself: at most one row's worth of Huber at one noise.
    assert law.objective <= found.fun + 0.5 * 0.01**2


@pytest.mark.parametrize("form", list(REGISTRY))
def test_noise_free_tables_give_the_law_back(form):
    true = Law.known(form, BY_HAND[form][0])
    law = fit(ladder(true), form=form, bootstrap=0)
    target = (2.7e9, 5e11, np.array([0.0, 1e10, 1e11]))
    assert law.predict(*target) == pytest.approx(true.predict(*target), rel=2e-3)
    if form in ("chinchilla", "sized_data", "mixture_gap"):
        assert law.predict(*target) == pytest.approx(true.predict(*target), rel=2e-4)


def test_deterministic_and_indifferent_to_row_order():
    table = ladder(Law.known("mixture_gap", BY_HAND["mixture_gap"][0]), noise=0.003)
    first, again = (fit(table, form="mixture_gap", seed=3, bootstrap=20) for _ in range(2))
    assert first.constants == again.constants
    assert (first.components[0].draws == again.components[0].draws).all()
    turned = fit(table.take(np.arange(len(table))[::-1].copy()), form="mixture_gap", seed=3)
    assert turned.predict(2e9, 1e11, 1e9) == pytest.approx(first.predict(2e9, 1e11, 1e9), rel=1e-6)


def test_units_do_not_matter():
    """A table in other units of tokens and parameters is the same table: predictions follow."""
    table = ladder(Law.known("shared_specific", BY_HAND["shared_specific"][0]), noise=0.003)
    small = table
    for name in ("params", "pretrain_tokens", "specialize_tokens"):
        small = small.set_column(small.column_names.index(name), name, pc.divide(table[name], 1e6))
    one, other = fit(table, form="shared_specific"), fit(small, form="shared_specific")
    assert float(other.predict(2e3, 1e5, 1e3)) == pytest.approx(float(one.predict(2e9, 1e11, 1e9)), rel=1e-4)


def test_weight_zero_is_absence():
    table = ladder(Law.known("chinchilla", BY_HAND["chinchilla"][0]), noise=0.003)
    weight = (np.arange(len(table)) % 5 > 0).astype(float)
    weighted = fit(table.append_column("weight", pa.array(weight)), form="chinchilla")
    dropped = fit(table.filter(pa.array(weight > 0)), form="chinchilla")
    assert weighted.objective == pytest.approx(dropped.objective, rel=1e-6)
    assert weighted.constants == pytest.approx(dropped.constants, rel=1e-3)


def test_domains_have_laws_of_their_own_or_share_exponents():
    low, high = BY_HAND["chinchilla"][0], BY_HAND["chinchilla"][0] | {"E": 2.2, "B": 800.0}
    true = Law.known("chinchilla", {"a": low, "b": high})
    parts = [
        ladder(Law.known("chinchilla", c)).set_column(3, "domain", pa.array([d] * 80))
        for d, c in true.constants.items()
    ]
    table = pa.concat_tables(parts[::-1])
    for share in (False, True, None):
        law = fit(table, form="chinchilla", share=share)
        assert law.domains == ("a", "b")
        for domain in "ab":
            assert law.constants[domain] == pytest.approx(true.constants[domain], rel=2e-3)
            assert law.predict(1e9, 1e11, 0, domain) == pytest.approx(true.predict(1e9, 1e11, 0, domain), rel=1e-5)
        assert law.predict(1e9, 1e11) == pytest.approx(true.predict(1e9, 1e11), rel=1e-5)
    joint = fit(table, form="chinchilla", share=True).constants
    assert joint["a"]["alpha"] == joint["b"]["alpha"] and joint["a"]["E"] != joint["b"]["E"]


def test_laws_save_and_load_to_the_bit(tmp_path):
    law = fit(ladder(Law.known("release", BY_HAND["release"][0]), noise=0.003), seed=1, bootstrap=10)
    law.save(tmp_path / "law.json")
    again = Law.load(tmp_path / "law.json")
    assert again == law
    assert (again.predict_draws(1e9, 1e11, 1e9) == law.predict_draws(1e9, 1e11, 1e9)).all()
    assert again.warnings == law.warnings and again.heldout == law.heldout
    text = (tmp_path / "law.json").read_text()
    for broken in (
        text[: len(text) // 2],
        "{}",
        "[1]",
        text.replace('"domains"', '"dom"'),
        text.replace("release", "rel"),
    ):
        (tmp_path / "broken.json").write_text(broken)
        with pytest.raises(UserError, match=r"broken\.json|not known"):
            Law.load(tmp_path / "broken.json")
    with pytest.raises(UserError, match=r"absent\.json"):
        Law.load(tmp_path / "absent.json")


def row(count, **changes):
    given = {
        "params": np.geomspace(1e7, 1e9, count),
        "pretrain_tokens": np.geomspace(1e9, 1e11, count)[::-1].copy(),
        "specialize_tokens": np.zeros(count),
        "domain": ["d"] * count,
        "loss": np.linspace(4, 3, count),
    }
    return pa.table(given | changes)


def test_too_few_rows_is_a_clear_error():
    for form in ("auto", "chinchilla"):
        with pytest.raises(UserError, match=r"has 1 distinct .* points; form 'chinchilla' has 5 constants"):
            fit(row(1), form=form)
    with pytest.raises(UserError, match="'release' has 11 constants"):
        fit(row(8), form="release")


def test_unknown_settings_are_clear_errors():
    with pytest.raises(UserError, match="is not known: choose"):
        fit(row(9), form="linear")
    for objective in ("mse", "huber_log:-1", "huber_log:x", "squared:2"):
        with pytest.raises(UserError, match="objective"):
            fit(row(9), objective=objective)
    with pytest.raises(UserError, match="bootstrap=-1"):
        fit(row(9), bootstrap=-1)


def test_constant_loss_predicts_that_loss_and_says_so():
    law = fit(row(12, loss=np.full(12, 3.0)), bootstrap=20)
    value, low, high = law.predict(1e9, 1e12, 0, interval=0.8)
    assert value == pytest.approx(3.0, rel=1e-4)
    assert low == pytest.approx(3.0, rel=1e-4) and high == pytest.approx(3.0, rel=1e-4)
    assert "constant_loss" in [warning.code for warning in law.warnings]


def test_loss_that_rises_with_tokens_never_predicts_a_rise():
    rising = row(16, loss=np.linspace(2.5, 4, 16), pretrain_tokens=np.geomspace(1e9, 1e11, 16))
    try:
        law = fit(rising)
    except UserError as error:
        assert "raise its loss" in str(error)
        return
    curve = law.predict(1e8, np.geomspace(1e9, 1e12, 9))
    assert np.isfinite(curve).all() and (np.diff(curve) <= 0).all()
    assert law.warnings


def test_a_million_rows():
    true = Law.known("chinchilla", BY_HAND["chinchilla"][0])
    random = np.random.default_rng(0)
    N, D = (np.exp(random.uniform(np.log(low), np.log(high), 10**6)) for low, high in ((1e7, 1e9), (1e9, 1e11)))
    noisy = true.predict(N, D) * np.exp(0.01 * random.standard_normal(10**6))
    columns = {"params": N, "pretrain_tokens": D, "specialize_tokens": np.zeros(10**6), "loss": noisy}
    law = fit(pa.table(columns | {"domain": pa.array(["d"] * 10**6)}), form="chinchilla")
    for name in ("E", "alpha", "beta"):
        assert law.constants[name] == pytest.approx(true.constants[name], rel=0.02)


def test_points_that_cannot_be_predicted_are_named():
    law = Law.known("chinchilla", BY_HAND["chinchilla"][0])
    with pytest.raises(UserError, match=r"params = 0\.0: must be finite and above 0"):
        law.predict(0, 1e9)
    with pytest.raises(UserError, match="pretrain_tokens = nan"):
        law.predict(1e9, [1e9, np.nan])
    with pytest.raises(UserError, match="do not broadcast"):
        law.predict([1e9, 2e9], [1e9, 2e9, 3e9])
    with pytest.raises(UserError, match="'x' is not in the law"):
        law.predict(1e9, 1e9, domain="x")
    with pytest.raises(UserError, match="no bootstrap draws"):
        law.predict(1e9, 1e9, interval=0.8)
