"""Splits in whole batches: the budget exactly, the nearest fraction, equal shares to the token."""

from hypothesis import given
from hypothesis import strategies as st

from splitray.training.split import Split, whole_budget

BATCH = 64


@given(
    st.floats(0, 1),
    st.integers(1, 500),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
)
def test_a_split_spends_its_budget(fraction: float, batches: int, shares: list[float]) -> None:
    weights = {f"d{i}": s / sum(shares) for i, s in enumerate(shares)}
    split = Split.at(fraction, batches * BATCH, weights, BATCH)
    assert split.budget == batches * BATCH
    counts = [split.pretrain_tokens, *split.specialize_tokens.values()]
    assert all(n >= 0 and n % BATCH == 0 for n in counts)
    # each D'_k is the nearest whole batch, so together they are off by half a batch a domain, and D by as much
    assert abs(split.pretrain_tokens - fraction * split.budget) <= (len(weights) / 2 + 0.5) * BATCH + 1e-6 or (
        split.pretrain_tokens < (len(weights) + 1) * BATCH
    )
    for name, weight in weights.items():
        assert abs(split.specialize_tokens[name] - weight * (1 - fraction) * split.budget) <= 1.5 * BATCH


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 8))
def test_equal_weights_get_equal_shares(fraction: float, batches: int, domains: int) -> None:
    weights = {f"d{i}": 1 / domains for i in range(domains)}
    split = Split.at(fraction, batches * BATCH, weights, BATCH)
    assert len(set(split.specialize_tokens.values())) == 1


def test_the_ends_are_exact() -> None:
    weights = {"a": 0.5, "b": 0.5}
    unsplit, zero = (Split.at(f, 20 * BATCH, weights, BATCH) for f in (1.0, 0.0))
    assert unsplit.fraction == 1 and unsplit.leaf("a") == unsplit.leaf("b") and unsplit.leaf("a").domain is None
    assert zero.fraction == 0 and zero.specialize_tokens == {"a": 10 * BATCH, "b": 10 * BATCH}
    assert (zero.leaf("b").pretrain_tokens, zero.leaf("b").specialize_tokens, zero.leaf("b").domain) == (0, 640, "b")


@given(st.integers(1, 10**6), st.integers(1, 20))
def test_whole_budgets_divide(budget: int, domains: int) -> None:
    whole, step = whole_budget(budget, domains, BATCH), domains * BATCH
    assert whole % step == 0 and whole > 0
    assert abs(whole - budget) <= step / 2 or whole == step
