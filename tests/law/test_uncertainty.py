"""Uncertainty: variances of a planted tree, spreads against linear theory, every warning on a table that earns it."""

import re

import numpy as np
import pyarrow as pa
import pytest

from splitray.law import Law, fit
from splitray.law.fitting.fit_warnings import fit_warnings, identified
from splitray.law.fitting.objective import Objective
from splitray.law.fitting.regression import fit_form
from splitray.law.fitting.uncertainty import TreeNoise, _most_of_trunks, bootstrap, tree_noise
from splitray.law.forms import find
from splitray.law.runs import read_runs
from tests.law.test_fit import ladder
from tests.law.test_forms import BY_HAND

TRUE = Law.known("mixture_gap", BY_HAND["mixture_gap"][0])


def tree(law, noise: TreeNoise, seed: int, sizes=6, seeds=3):
    """Trunks of `sizes` sizes x `seeds` seeds; on each a leaf at 4 D and branches with 3 D' on 2 of them."""
    random = np.random.default_rng(seed)
    rows = []
    for size in np.geomspace(2e7, 5e8, sizes):
        for replica in range(seeds):
            trunk = f"{size:g}/{replica}"
            leaves = [(D, 0.0, "leaf") for D in (1e9, 4e9, 14e9, 5e10)]
            leaves += [(D, S, "branch") for D in (4e9, 5e10) for S in (0.03 * D, 2e9, 1e10)]
            rows += [(size, D, S, trunk, f"{kind}{D:g}") for D, S, kind in leaves]
    N, D, S, trunk, branch = zip(*rows)
    error = noise.row * random.standard_normal(len(rows))
    for codes, deviation in ((trunk, noise.trunk), ([t + b for t, b in zip(trunk, branch)], noise.branch)):
        names, code = np.unique(codes, return_inverse=True)
        error += deviation * random.standard_normal(len(names))[code]
    loss = law.predict(N, D, S) * np.exp(error)
    columns = {"params": N, "pretrain_tokens": D, "specialize_tokens": S, "trunk": trunk, "branch": branch}
    return pa.table(columns | {"domain": ["d"] * len(rows), "loss": loss})


def fitted(table, form="mixture_gap", delta=None):
    runs = read_runs(table)
    return fit_form(find(form), runs, Objective(delta=delta), seed=0), runs


def test_planted_variances_are_found():
    planted = TreeNoise(trunk=0.0030, branch=0.0020, row=0.0010)
    found = [tree_noise(*fitted(tree(TRUE, planted, seed)), seed=0) for seed in range(4)]
    for name in ("trunk", "branch", "row"):
        mean = np.sqrt(np.mean([getattr(noise, name) ** 2 for noise in found]))
        assert mean == pytest.approx(getattr(planted, name), rel=0.3)


def test_independent_noise_is_not_taken_for_shared():
    noise = tree_noise(*fitted(tree(TRUE, TreeNoise(0.0, 0.0, 0.003), 1)), seed=0)
    assert noise.row == pytest.approx(0.003, rel=0.2)
    assert noise.trunk < 0.0012 and noise.branch < 0.0015


def test_simulated_noise_has_the_tree_s_covariance():
    runs = read_runs(tree(TRUE, TreeNoise(0, 0, 0), 0, sizes=4, seeds=2))
    noise = TreeNoise(trunk=0.003, branch=0.002, row=0.001).simulate(
        runs, constants=5, count=20000, random=np.random.default_rng(0)
    )
    same_trunk = runs.trunk[:, None] == runs.trunk[None]
    same_branch = runs.branch[:, None] == runs.branch[None]
    seen = noise.T @ noise / len(noise)
    own = np.eye(len(runs), dtype=bool)
    # Deviations are drawn with the freedom that 8 trunks leave, which widens second moments by free / (free - 2).
    trunk = seen[same_trunk & ~same_branch].mean()
    assert trunk == pytest.approx(0.003**2 * 7 / 5, rel=0.1)
    assert seen[same_branch & ~own].mean() - trunk == pytest.approx(0.002**2, rel=0.15)
    assert abs(seen[~same_trunk].mean()) < 0.05 * trunk


@pytest.mark.parametrize("noise", [None, TreeNoise(0.0, 0.0, 0.003)])
def test_spread_of_draws_is_that_of_linear_theory(noise):
    """Independent Gaussian noise on 80 rows: covariance sigma^2 (J'J)^-1 of ordinary least squares."""
    true = Law.known("chinchilla", BY_HAND["chinchilla"][0])
    fit_, runs = fitted(ladder(true, noise=0.003, seed=2), form="chinchilla", delta=1.0)
    draws = bootstrap(fit_, runs, 1500, 0, noise)[:, 0]
    form, vector = find("chinchilla"), fit_.constants
    loss, slopes = form.jacobian(vector, runs.params, runs.pretrain_tokens, runs.specialize_tokens)
    slopes = slopes[0] / loss
    sigma = np.sqrt(np.sum(fit_.residuals() ** 2) / (len(runs) - 5))
    expected = sigma * np.sqrt(np.diag(np.linalg.inv(slopes @ slopes.T)))
    for column in (0, 2, 4):
        low, high = np.quantile(draws[:, column], [0.16, 0.84])
        assert (high - low) / 2 == pytest.approx(expected[column], rel=0.2)


def test_shared_noise_widens_intervals():
    """Trunk noise taken for independent rows would make the floor of the size term look far too sure."""
    table = tree(TRUE, TreeNoise(0.004, 0.0, 0.0005), 3, seeds=2)
    fit_, runs = fitted(table)
    alone = read_runs(table.drop_columns(["trunk", "branch"]))
    target = (np.array([2.7e9]), np.array([5e11]), np.array([1e11]))

    def width(noise, runs):
        draws = bootstrap(fit_, runs, 300, 0, noise)[:, 0]
        return np.subtract(*np.quantile(find("mixture_gap").value(draws, *target), [0.9, 0.1]))

    shared = width(tree_noise(fit_, runs, 0), runs)
    assert shared > 1.3 * width(None, alone)
    assert width(None, runs) > 1.15 * width(None, alone)


def test_intervals_hold_the_value_and_grow_outwards():
    law = fit(ladder(TRUE, noise=0.003), form="mixture_gap", bootstrap=200)
    assert law.draws == 200
    D = np.array([1e10, 1e11, 1e12, 1e13])
    value, low, high = law.predict(1e9, D, 1e9, interval=0.8)
    assert (low < value).all() and (value < high).all()
    assert (np.diff((high - low)[1:]) > 0).all()
    wide = law.predict(1e9, D, 1e9, interval=0.95)
    assert (wide[1] < low).all() and (wide[2] > high).all()


def codes(law):
    return {warning.code for warning in law.warnings}


def grid(law, sizes, tokens, special=(0.0,), noise=0.002):
    N, D, S = (axis.ravel() for axis in np.meshgrid(sizes, tokens, special, indexing="ij"))
    loss = law.predict(N, D, S) * np.exp(noise * np.random.default_rng(0).standard_normal(N.size))
    columns = {"params": N, "pretrain_tokens": D, "specialize_tokens": S, "domain": ["d"] * N.size}
    return pa.table(columns | {"loss": loss})


CHINCHILLA = Law.known("chinchilla", BY_HAND["chinchilla"][0])
SIZES, TOKENS = np.geomspace(2e7, 1e9, 6), np.geomspace(1e9, 1e11, 6)


def test_a_sound_table_earns_no_warning_but_replicates():
    assert codes(fit(grid(CHINCHILLA, SIZES, TOKENS), form="chinchilla")) == {"no_replicates"}
    replicated = tree(TRUE, TreeNoise(0.001, 0.001, 0.001), 0)
    assert codes(fit(replicated, form="mixture_gap")) == set()


def test_one_ray():
    N = np.geomspace(1e7, 1e9, 12)
    table = pa.table(
        {"params": N, "pretrain_tokens": 20 * N, "specialize_tokens": 0 * N, "domain": ["d"] * 12}
        | {"loss": CHINCHILLA.predict(N, 20 * N)}
    )
    assert "one_ray" in codes(fit(table, form="chinchilla"))
    assert "one_ray" not in codes(fit(grid(CHINCHILLA, SIZES, TOKENS), form="chinchilla"))


def test_few_sizes_and_few_tokens():
    found = codes(fit(grid(CHINCHILLA, SIZES[:4], TOKENS[:3]), form="chinchilla"))
    assert {"few_sizes", "few_token_counts"} <= found


def test_floor_at_zero():
    steep = Law.known("chinchilla", {"E": 0.0, "A": 60.0, "alpha": 0.15, "B": 60.0, "beta": 0.15})
    assert "floor_at_zero" in codes(fit(grid(steep, SIZES, TOKENS, noise=0.0), form="chinchilla"))


def test_a_floor_at_zero_is_one_warning_of_all_domains_that_have_it():
    """A page once had "E collapsed" and "at a bound: E" for every domain."""
    steep = Law.known("chinchilla", {"E": 0.0, "A": 60.0, "alpha": 0.15, "B": 60.0, "beta": 0.15})
    flat, falls = grid(steep, SIZES, TOKENS, noise=0.0), grid(CHINCHILLA, SIZES, TOKENS)
    parts = {"a": flat, "b": falls, "c": flat, "d": flat, "e": flat}
    table = pa.concat_tables(
        rows.set_column(rows.column_names.index("domain"), "domain", pa.array([name] * rows.num_rows))
        for name, rows in parts.items()
    )
    warnings = [w for w in fit(table, form="chinchilla").warnings if w.code in ("floor_at_zero", "at_bound")]
    assert [w.code for w in warnings] == ["floor_at_zero"]
    assert "in domains 'a', 'c', 'd' and 1 more" in warnings[0].message


def test_exponent_at_bound():
    flat = Law.known("chinchilla", {"E": 2.0, "A": 1e20, "alpha": 3.0, "B": 400.0, "beta": 0.3})
    law = fit(grid(flat, SIZES, TOKENS, noise=0.0), form="chinchilla")
    message = next(warning.reason for warning in law.warnings if warning.code == "at_bound")
    assert "how fast size helps (alpha = 2)" in message


def test_no_small_specialization_and_what_it_leaves_open():
    wide = (0.0, 5e8, 1e9, 1e10)
    law = fit(grid(TRUE, SIZES, np.geomspace(1e9, 5e9, 4), wide), form="mixture_gap")
    assert "no_small_specialization" in codes(law)
    small = (0.0, 2e7, 2e8, 1e10)
    assert "no_small_specialization" not in codes(fit(grid(TRUE, SIZES, TOKENS, small), form="mixture_gap"))


def test_constants_without_data_are_named():
    """Without any D' > 0 the gap's constants are their priors'; with a full ladder they are the data's."""
    fit_, runs = fitted(grid(TRUE, SIZES, TOKENS))
    names = find("mixture_gap").names
    share = dict(zip(names, identified(fit_)[0]))
    assert share["gamma"] < 0.1 and share["r"] < 0.1 and share["rho"] < 0.1
    warning = next(w for w in fit_warnings(fit_, runs) if w.code == "not_identified")
    assert "(rho)" in warning.message and "gamma" in warning.reason and "specialize_tokens" in warning.cure
    full, runs = fitted(ladder(TRUE, noise=0.001))
    assert min(identified(full)[0]) > 0.5
    assert "not_identified" not in {w.code for w in fit_warnings(full, runs)}


def test_no_cure_is_what_the_runs_have_already():
    """Under noise the data may hide beta though its runs are there: a page asked for what stood in its own table."""
    noisy = grid(TRUE, SIZES, TOKENS, (0.0, *np.geomspace(1e7, 1e9, 4)), noise=0.3)
    fit_, runs = fitted(noisy)
    warning = next(w for w in fit_warnings(fit_, runs) if w.code == "not_identified")
    assert "beta" in warning.reason or "gamma" in warning.reason
    assert "larger sizes" in warning.cure
    assert "four or more token counts" not in warning.cure and "spanning 30x" not in warning.cure


def test_misfit_is_seen_against_replicates():
    table = tree(TRUE, TreeNoise(0.0003, 0.0003, 0.0003), 0)
    assert "misfit" in codes(fit(table, form="chinchilla"))
    assert "misfit" not in codes(fit(table, form="mixture_gap"))


SYMBOLS = re.compile(r"(?<![\w(])(E|A|B|G|alpha|beta|gamma|rho|tau|c|r|lam|delta)(?![\w])")


def test_every_warning_is_one_line_with_reason_and_cure():
    """And says what it means: what a user has never seen, the law's symbols, stands in brackets."""
    law = fit(grid(CHINCHILLA, SIZES[:3], TOKENS[:2]), form="chinchilla")
    open_, runs = fitted(grid(TRUE, SIZES, TOKENS))
    for warning in (*law.warnings, *fit_warnings(open_, runs)):
        assert warning.message and warning.reason and warning.cure
        assert "\n" not in str(warning)
        assert not SYMBOLS.search(re.sub(r"\([^()]*\)", "", warning.message)), warning.message


def test_too_few_sizes_are_one_warning_not_one_for_each_constant_of_size():
    law = fit(grid(TRUE, SIZES[:3], TOKENS, (0.0, 2e7, 2e8, 1e10)), form="mixture_gap")
    found = [w.code for w in law.warnings]
    assert found[0] == "few_sizes" and "floor_at_zero" not in found
    for warning in law.warnings:
        assert not any(f"({name})" in warning.message for name in ("E", "A", "alpha", "c", "r"))


@pytest.mark.parametrize("deviation", [0.002, 0.01])
def test_replicates_bound_what_trunks_share_however_flexible_the_form(deviation):
    """Two trunks of every size, so a law can follow no trunk of its own; the bound is above, and not far above."""
    random = np.random.default_rng(5)
    bounds = []
    for _ in range(30):
        shared = deviation * random.standard_normal((4, 3))
        rows = [
            {
                "params": 1e7 * 2.0**size,
                "pretrain_tokens": 1e9 * (1 + point),
                "specialize_tokens": 0.0,
                "domain": "d",
                "trunk": f"{size}/{seed}",
                "loss": 3.0 * float(np.exp(shared[size, seed] + 0.0005 * random.standard_normal())),
            }
            for size in range(4)
            for seed in range(3)
            for point in range(5)
        ]
        bounds.append(_most_of_trunks(read_runs(pa.Table.from_pylist(rows))))
    assert np.mean(np.array(bounds) > deviation) >= 0.8
    assert np.median(bounds) < 2.5 * deviation
    assert np.isinf(_most_of_trunks(read_runs(pa.Table.from_pylist([r for r in rows if r["trunk"].endswith("/0")]))))
