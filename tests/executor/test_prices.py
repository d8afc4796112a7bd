"""Prices by one number and by tables, and what is refused of them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from splitray.config import load
from splitray.errors import UserError
from splitray.executor.prices import COLUMNS, TABLE, price_of, read_prices, worker_price
from splitray.executor.settings import ResourceSettings

ROW = {
    "instance_type": "big", "region": "north", "market": "spot", "price_per_hour": "16", "currency": "EUR",
    "accelerators": "8", "vcpus": "64", "date": "2026-01-02", "source": "our contract",
}  # fmt: skip


def table(folder: Path, **changes: str) -> str:
    path = folder / "prices.csv"
    path.write_text("# ours\n" + ",".join(COLUMNS) + "\n\n" + ",".join((ROW | changes).values()) + "\n")
    return str(path)


def settings(path: str | None = None, **values: object) -> ResourceSettings:
    named = {"instance_type": "big", "region": "north", "market": "spot", "price_table": path}
    return ResourceSettings(**(named | values))


def test_an_instance_is_divided_among_its_devices(tmp_path: Path) -> None:
    found = price_of(settings(table(tmp_path)), "GPU", 4)
    assert found is not None
    assert (found.per_hour, found.currency) == (2.0, "EUR")
    assert found.source == "big north spot: our contract, 2026-01-02"
    of_cpu = price_of(settings(table(tmp_path)), "CPU", 4)
    of_worker = worker_price(settings(table(tmp_path)), "CPU", 4)
    assert of_cpu is not None and of_worker is not None
    assert (of_cpu.per_hour, of_worker.per_hour) == (0.25, 1.0)


def test_one_number_is_the_price_of_a_worker() -> None:
    resources = ResourceSettings(price_per_hour=2.0)
    for device, per_device in (("GPU", 2.0), ("CPU", 0.5)):
        found, worker = price_of(resources, device, 4), worker_price(resources, device, 4)
        assert found is not None and worker is not None
        assert (found.per_hour, worker.per_hour) == (per_device, 2.0)
    assert price_of(ResourceSettings(), "GPU", 1) is None


def test_the_shipped_table_says_where_each_price_is_from() -> None:
    rows = read_prices(TABLE)
    assert rows and all(row.price_per_hour > 0 and row.source and row.date[:2] == "20" for row in rows)
    assert len({row.place for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price_per_hour": "dear"}, "line 4: could not convert string to float: 'dear'"),
        ({"price_per_hour": "-1"}, "line 4: prices and counts are numbers from 0 up"),
        ({"price_per_hour": "nan"}, "line 4: prices and counts are numbers from 0 up"),
        ({"vcpus": ""}, "line 4: vcpus is empty"),
        ({"market": "cheap"}, "line 4: market = cheap: choose on-demand or spot"),
        ({"instance_type": "bigger"}, "has no big; did you mean bigger?"),
        ({"region": "south"}, "has no big in north spot; it has south spot"),
        ({"accelerators": "0"}, "big north spot has no GPU"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        price_of(settings(table(tmp_path, **changes)), "GPU", 1)
    assert said in str(caught.value)


def test_a_second_price_of_one_instance_is_refused_by_both_lines(tmp_path: Path) -> None:
    """A table that somebody adds rows to: the last one is not the newest."""
    path = Path(table(tmp_path))
    path.write_text(path.read_text() + ",".join((ROW | {"price_per_hour": "99", "date": "2024-01-02"}).values()) + "\n")
    with pytest.raises(UserError, match=r"prices\.csv, lines 4 and 5: big north spot has two prices; keep one"):
        price_of(settings(str(path)), "GPU", 1)
    same = ",".join((ROW | {"date": "2026-02-02"}).values())
    path = Path(table(tmp_path))
    path.write_text(path.read_text() + same + "\n")
    found = price_of(settings(str(path)), "GPU", 1)
    assert found is not None and found.per_hour == 2.0


def test_a_table_without_a_column_or_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("instance_type,region\nbig,north\n")
    with pytest.raises(UserError, match=r"prices\.csv lacks the columns market, price_per_hour"):
        read_prices(tmp_path / "prices.csv")
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read_prices(tmp_path / "none.csv")


def test_two_prices_and_a_missing_region_are_refused() -> None:
    with pytest.raises(ValidationError, match="two sources of one price"):
        settings(price_per_hour=1.0)
    with pytest.raises(ValidationError, match="region is missing: the price of big"):
        settings(region=None)


def test_an_unknown_instance_is_refused_when_the_configuration_is_read() -> None:
    overrides = ["resources.instance_type=p9.huge", "resources.region=us-east-1"]
    with pytest.raises(UserError, match=r"resources\.instance_type: the price table .* has no p9\.huge"):
        load("configs/demo.yaml", overrides)
