"""Lists as messages have them."""

from splitray.units import some_of


def test_some_are_named_and_the_rest_are_counted() -> None:
    assert some_of(["a", "b"], 2) == "a, b"
    assert some_of(["a", "b", "c"], 2) == "a, b and 1 more"
    assert some_of([1, 2, 3, 4], 2, lambda n: f"row {n}", "rows") == "row 1, row 2 and 2 more rows"
    assert some_of([], 2) == ""
