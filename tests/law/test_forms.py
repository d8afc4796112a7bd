"""Forms: values against formulas written out by hand, slopes against differences, limits and monotonicity."""

import math

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.law import Law
from splitray.law.forms import REGISTRY, Constant, Form, coefficient, exponent, find
from splitray.law.forms.schedule import RateSchedule

# Plausible constants in units of 1 parameter and 1 token, and the law at one point written out in plain Python.
E, A, a = 1.7, 400.0, 0.34
N, D, S = 1.3e9, 5e10, 2e9


def learned(floor, tokens, params):
    return floor + (10.4 - floor) / (1 + tokens / (2e3 * params**0.3)) ** 0.4


BY_HAND = {
    "chinchilla": (
        {"E": E, "A": A, "alpha": a, "B": 400.0, "beta": 0.3},
        lambda N, D, S: E + A / N**a + 400 / (D + S) ** 0.3,
    ),
    "sized_data": (
        {"E": E, "A": A, "alpha": a, "B": 200.0, "beta": 0.3, "c": 0.04},
        lambda N, D, S: E + A / N**a + 200 * N**0.04 / (D + S) ** 0.3,
    ),
    "farseer": (
        {"E": E, "A": A, "alpha": a, "B": 0.4, "c": 0.02, "beta": 0.2, "h": 0.02},
        lambda N, D, S: E + A / N**a + 0.4 * N**0.02 / ((D + S) / 1e9) ** (0.2 * N**0.02),
    ),
    "kaplan": (
        {"E": E, "A": 1e5, "alpha": 0.9, "B": 1e7, "beta": 0.35},
        lambda N, D, S: E + (1e5 / N**0.9 + 1e7 / (D + S)) ** 0.35,
    ),
    "bottleneck": (
        {"E": E, "A": 3e3, "alpha": 0.5, "B": 3e3, "beta": 0.4, "h": 0.7},
        lambda N, D, S: E + (3e3 / N**0.5 + 3e3 / (D + S) ** 0.4) ** 0.7,
    ),
    "compute_alone": (
        {"E": E, "A": 1e3, "alpha": 0.17},
        lambda N, D, S: E + 1e3 / (N * (D + S)) ** 0.17,
    ),
    "learning_curve": (
        {"E": E, "A": A, "alpha": a, "L0": 10.4, "w": 2e3, "u": 0.3, "beta": 0.4},
        lambda N, D, S: learned(E + A / N**a, D + S, N),
    ),
    "learning_gap": (
        {"E": E, "A": A, "alpha": a, "L0": 10.4, "w": 2e3, "u": 0.3, "beta": 0.4}
        | {"rho": 2.0, "G": 0.25, "tau": 2e6, "r": 0.2, "gamma": 0.25},
        lambda N, D, S: learned(E + A / N**a, D + 2 * S, N) + 0.25 / (1 + S / (2e6 * N**0.2)) ** 0.25,
    ),
    "release": (
        {"E": E, "A": A, "alpha": a, "B": 200.0, "beta": 0.3, "c": 0.04}
        | {"lam": 0.3, "delta": 3.0, "p": 0.6, "q": 0.15, "gamma": 0.45},
        lambda N, D, S: (
            E + A / N**a + (0.3 * A / N**a + 200 * N**0.04 / D**0.3) / (1 + S / (3 * D**0.6 * N**0.15)) ** 0.45
        ),
    ),
    "mixture_gap": (
        {"E": E, "A": A, "alpha": a, "B": 200.0, "beta": 0.3, "c": 0.04}
        | {"rho": 2.0, "G": 0.25, "tau": 2e6, "r": 0.2, "gamma": 0.25},
        lambda N, D, S: E + A / N**a + 0.25 / (1 + S / (2e6 * N**0.2)) ** 0.25 + 200 * N**0.04 / (D + 2 * S) ** 0.3,
    ),
    "ossifying_gap": (
        {"E": E, "A": A, "alpha": a, "B": 200.0, "beta": 0.3, "c": 0.04}
        | {"rho": 2.0, "G": 0.25, "tau": 2e6, "r": 0.2, "gamma": 0.25, "sigma": 0.05},
        lambda N, D, S: (
            E + A / N**a + 0.25 / (1 + S / (2e6 * N**0.2 + 0.05 * D)) ** 0.25 + 200 * N**0.04 / (D + 2 * S) ** 0.3
        ),
    ),
    "effective_tokens": (
        {"E": E, "A": A, "alpha": a, "B": 400.0, "beta": 0.3, "kappa": 5.0, "p": 0.68, "q": 0.2, "c": 0.01},
        lambda N, D, S: E + A / N**a + 400 * N**0.01 / (S + 5 * D**0.68 * N**0.2) ** 0.3,
    ),
    "shared_specific": (
        {"E": E, "A": A, "alpha": a, "B": 96.0, "beta": 0.26, "rho": 2.0}
        | {"C": 8.0, "gamma": 0.18, "kappa": 1460.0, "p": 0.54, "q": 0.01, "c": 0.01},
        lambda N, D, S: E + A / N**a + 96 * N**0.01 / (D + 2 * S) ** 0.26 + 8 / (S + 1460 * D**0.54 * N**0.01) ** 0.18,
    ),
    "capacity_release": (
        {"E": E, "A": A, "alpha": a, "B": 462.0, "beta": 0.33, "omega": 0.66}
        | {"lam": 0.64, "delta": 19.0, "p": 0.73, "gamma": 0.36, "c": 0.01},
        lambda N, D, S: (
            E + A / N**a * (1 + 0.64 / (1 + S / (19 * D**0.73)) ** 0.36) + 462 * N**0.01 / (S + 0.66 * D) ** 0.33
        ),
    ),
    "multiplicative": (
        {"E": E, "A": A, "alpha": a, "B": 112.0, "beta": 0.286, "rho": 0.66}
        | {"tau": 3.2e8, "gamma": 0.16, "h": 0.03, "c": 0.01},
        lambda N, D, S: (
            E + A / N**a + 112 * N**0.01 / (D + 0.66 * S) ** 0.286 / (1 + S / 3.2e8) ** (0.16 * (D + 0.66 * S) ** -0.03)
        ),
    ),
}
ONE_STAGE = ("chinchilla", "sized_data", "farseer", "kaplan", "bottleneck", "compute_alone", "learning_curve")
ALWAYS_FALLING = (*ONE_STAGE, "mixture_gap", "learning_gap", "effective_tokens", "shared_specific")
FLOORS = {"kaplan": E + (1e5 / N**0.9) ** 0.35, "bottleneck": E + (3e3 / N**0.5) ** 0.7, "compute_alone": E}
NEEDS_A_BASE = ("release",)  # p gamma < beta above: infinite at D = 0
names = pytest.mark.parametrize("name", list(REGISTRY))


def law(name):
    return Law.known(name, BY_HAND[name][0])


def slopes(name, *points):
    """(dL/dD, dL/dD') at N, D, D', each of the points' shape."""
    form = find(name)
    both = form.gradient(form.pack(BY_HAND[name][0])[None], *(np.atleast_1d(point) for point in points))
    return tuple(slope[0].reshape(np.shape(points[1])) for slope in both)


def test_every_form_is_tested_here():
    assert set(BY_HAND) == set(REGISTRY)


@names
def test_value_is_the_written_formula(name):
    rule = BY_HAND[name][1]
    for point in ((N, D, S), (N, D, 0.0), (2e7, 1e9, 1e10), (7e10, 2e12, 3e7)):
        assert float(law(name).predict(*point)) == pytest.approx(rule(*point), rel=1e-12)


@names
def test_gradient_matches_differences_also_at_no_specialization(name):
    rule = BY_HAND[name][1]
    for d, s in ((D, S), (D, 0.0), (1e9, 1e10), (3e12, 0.0)):
        by_d, by_s = slopes(name, N, d, s)
        h = 1e-4
        assert float(by_d) == pytest.approx((rule(N, d * (1 + h), s) - rule(N, d * (1 - h), s)) / (2 * h * d), rel=1e-5)
        step = 1e-5 * max(s, 1e6)
        if s:
            slope = (rule(N, d, s + step) - rule(N, d, s - step)) / (2 * step)
        else:  # one-sided, second order
            slope = (-3 * rule(N, d, 0.0) + 4 * rule(N, d, step) - rule(N, d, 2 * step)) / (2 * step)
        assert float(by_s) == pytest.approx(slope, rel=2e-3)


@names
def test_jacobian_matches_differences(name):
    form = find(name)
    vector = form.pack(BY_HAND[name][0])
    points = (np.array([N, 2e7]), np.array([D, 1e9]), np.array([S, 0.0]))
    value, slopes = form.jacobian(vector[None], *points)
    assert value == pytest.approx(form.value(vector[None], *points), rel=1e-14)
    for column in range(len(vector)):
        step = 1e-6 * np.eye(len(vector))[column]
        ahead, behind = (form.value((vector + sign * step)[None], *points) for sign in (1, -1))
        assert slopes[0, column] == pytest.approx(((ahead - behind) / 2e-6)[0], rel=1e-6, abs=1e-9)


@names
def test_limits(name):
    known, constants = law(name), BY_HAND[name][0]
    endless = float(known.predict(N, D, 1e120))
    floor = FLOORS.get(name, E + A / N**a)
    assert endless == pytest.approx(floor, rel=1e-4), "all that the mixture costs is lost again"
    scratch = float(known.predict(N, 0.0, S))
    if name not in NEEDS_A_BASE:
        assert math.isfinite(scratch) and scratch > constants["E"]


@names
def test_falls_in_both_kinds_of_token(name):
    sizes, tokens, special = np.meshgrid(np.geomspace(2e7, 7e10, 6), np.geomspace(1e9, 1e13, 9), [0, 1e8, 1e10])
    near = special <= 0.2 * tokens
    keep = np.ones_like(near) if name in ALWAYS_FALLING else near
    by_d, by_s = slopes(name, sizes[keep], tokens[keep], special[keep])
    assert (by_s < 0).all()
    if name in ALWAYS_FALLING:
        assert (by_d < 0).all()


def test_release_without_a_base_is_finite_iff_the_stock_grows_fast_enough():
    constants = BY_HAND["release"][0]
    slow = Law.known("release", constants | {"p": 0.5, "gamma": 0.4, "beta": 0.3})
    fast = Law.known("release", constants | {"p": 1.0, "gamma": 0.4, "beta": 0.3})
    assert float(slow.predict(N, 0.0, S)) > 1e3
    assert float(fast.predict(N, 0.0, S)) < 10


def test_a_learning_curve_starts_at_its_first_loss_whatever_the_size():
    for params in (1e6, N):
        assert float(law("learning_curve").predict(params, 0.0, 1e-3)) == pytest.approx(10.4, rel=1e-4)


def test_bottleneck_and_sized_data_nest_chinchilla():
    constants = BY_HAND["chinchilla"][0]
    plain = float(law("chinchilla").predict(N, D, S))
    assert float(Law.known("sized_data", constants | {"c": 0.0}).predict(N, D, S)) == pytest.approx(plain, rel=1e-12)
    assert float(Law.known("bottleneck", constants | {"h": 1.0}).predict(N, D, S)) == pytest.approx(plain, rel=1e-12)


def test_compute_alone_knows_no_division_of_it():
    known = law("compute_alone")
    assert float(known.predict(N, D)) == pytest.approx(float(known.predict(N / 8, 8 * D)), rel=1e-12)


@names
def test_under_a_schedule_the_value_is_that_of_the_area_and_slopes_match_differences(name):
    """Every form but those of one stage reads D' by its learning-rate area somewhere, and slopes go through it."""
    form, schedule = find(name), RateSchedule(0.2, 0.1, 0.5)
    vector = form.pack(BY_HAND[name][0])[None]

    def value(d, s):
        return float(form.value(vector, N, np.array([d]), np.array([s]), schedule)[0, 0])

    flat = form.value(vector, N, np.array([D]), np.array([S]))[0, 0]
    assert (value(D, S) == pytest.approx(flat, rel=1e-12)) == (not form.splits)
    for d, s in ((D, S), (D, 0.4 * D), (1e9, 1e10)):
        by_d, by_s = (x[0, 0] for x in form.gradient(vector, N, np.array([d]), np.array([s]), schedule))
        h = 1e-4
        assert by_d == pytest.approx((value(d * (1 + h), s) - value(d * (1 - h), s)) / (2 * h * d), rel=1e-4)
        assert by_s == pytest.approx((value(d, s * (1 + h)) - value(d, s * (1 - h))) / (2 * h * s), rel=1e-4)


def test_shared_specific_nests_effective_tokens():
    constants = BY_HAND["effective_tokens"][0] | {"c": 0.0}
    nested = (
        {"c": 0.0}
        | {"E": E, "A": A, "alpha": a, "B": 0.0, "beta": 0.3, "rho": 1.0}
        | {
            "C": constants["B"],
            "gamma": constants["beta"],
            **{k: constants[k] for k in ("kappa", "p", "q")},
        }
    )
    wide = Law.known("shared_specific", nested)
    assert float(wide.predict(N, D, S)) == pytest.approx(
        float(Law.known("effective_tokens", constants).predict(N, D, S)), rel=1e-12
    )


@names
def test_every_constant_says_what_it_is(name):
    form = find(name)
    assert form.source and form.formula
    for constant in form.constants:
        assert len(constant.reading) > 10 and constant.low < constant.high
        assert constant.name in form.formula
        for axis, power, _ in constant.powers():
            assert axis in ("params", "tokens")
            assert not isinstance(power, str) or power in form.names


@names
def test_pack_and_unpack_are_inverse(name):
    form, constants = find(name), BY_HAND[name][0]
    assert form.unpack(form.pack(constants)) == pytest.approx(constants, rel=1e-14)


def test_constants_that_do_not_fit_the_form_are_named():
    with pytest.raises(UserError, match=r"missing: \['beta'\], unknown: \['b'\]"):
        Law.known("chinchilla", {"E": 1, "A": 1, "alpha": 1, "B": 1, "b": 1})
    with pytest.raises(UserError, match="constant A = -1"):
        Law.known("chinchilla", {"E": 1, "A": -1, "alpha": 1, "B": 1, "beta": 1})
    with pytest.raises(UserError, match="constant E = nan"):
        Law.known("chinchilla", {"E": math.nan, "A": 1, "alpha": 1, "B": 1, "beta": 1})
    with pytest.raises(UserError, match="choose chinchilla"):
        Law.known("chinchila", {})
    with pytest.raises(UserError, match="mix numbers and domains"):
        Law.known("chinchilla", {"law": {"E": 1.0}, "E": 1.0})


def test_a_new_form_is_one_class():
    class Kaplan(Form):
        name, source, formula = "kaplan", "Kaplan et al. 2020", "((A N^-1)^(alpha) + B (D + D')^-1)^beta"
        constants = (
            coefficient("A", "size at which capacity binds", "params"),
            exponent("alpha", "how size and tokens trade"),
            coefficient("B", "tokens at which data bind", "tokens"),
            exponent("beta", "how fast tokens help"),
        )

        def loss(self, k, N, D, S):
            return ((k.A / N) ** k.alpha + k.B / (D + S)) ** k.beta

    form = Kaplan()
    vector = form.pack({"A": 8e13, "alpha": 0.8, "B": 5e13, "beta": 0.095})
    points = (np.array([1e8]), np.array([1e10]), np.array([0.0]))
    value, slopes = form.jacobian(vector[None], *points)
    assert value[0, 0] == pytest.approx(((8e13 / 1e8) ** 0.8 + 5e13 / 1e10) ** 0.095)
    for column in range(4):
        step = 1e-6 * np.eye(4)[column]
        ahead, behind = (form.value((vector + sign * step)[None], *points) for sign in (1, -1))
        assert slopes[0, column, 0] == pytest.approx((ahead - behind)[0, 0] / 2e-6, rel=1e-6)
    by_d, by_s = form.gradient(vector[None], *points)
    assert by_d[0, 0] == pytest.approx(by_s[0, 0]) and by_d[0, 0] < 0


def test_units_are_parsed():
    constant = Constant("x", "", 0, 1, units="tokens tokens^-p params^-q nats")
    assert constant.powers() == [("tokens", 1.0, 1.0), ("tokens", "p", -1.0), ("params", "q", -1.0)]
