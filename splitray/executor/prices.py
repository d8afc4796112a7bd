"""What a device costs an hour: by one number that the operator sets, or by a row of a price table. No Ray."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from splitray.errors import UserError, did_you_mean
from splitray.executor.settings import ResourceSettings
from splitray.results.ledger import Price

TABLE = Path(__file__).with_name("prices.csv")  # examples; a file that users replace
COLUMNS = (
    "instance_type",
    "region",
    "market",
    "price_per_hour",
    "currency",
    "accelerators",
    "vcpus",
    "date",
    "source",
)


@dataclass(frozen=True)
class PriceRow:
    """One row of a price table: the price of an instance for one hour, and what it has."""

    instance_type: str
    region: str
    market: str
    price_per_hour: float
    currency: str
    accelerators: int
    vcpus: int
    date: str
    source: str

    @property
    def place(self) -> str:
        return f"{self.instance_type} {self.region} {self.market}"


def read_prices(path: Path) -> list[PriceRow]:
    """The rows of a price table, a CSV file with a head line; lines that begin with `#` are passed over.

    Raises:
        UserError: names the file, the line and the column that is wrong.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UserError(f"resources.price_table: {path} cannot be read ({reason})") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    reader = csv.DictReader(io.StringIO("\n".join(line for _, line in lines)))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise UserError(f"resources.price_table: {path} lacks the columns {', '.join(missing)}")
    return list(_rows(path, reader, [number for number, _ in lines[1:]]))


def _rows(path: Path, reader: "csv.DictReader[str]", numbers: list[int]) -> Iterator[PriceRow]:
    before: dict[str, tuple[int, tuple[object, ...]]] = {}  # the line of each place, and what it says
    for number, row in zip(numbers, reader, strict=False):
        place = f"resources.price_table: {path}, line {number}"
        if empty := [name for name in COLUMNS if not row[name]]:
            raise UserError(f"{place}: {empty[0]} is empty")
        if row["market"] not in ("on-demand", "spot"):
            raise UserError(f"{place}: market = {row['market']}: choose on-demand or spot")
        try:
            price, counts = float(row["price_per_hour"]), (int(row["accelerators"]), int(row["vcpus"]))
        except ValueError as error:
            raise UserError(f"{place}: {error}") from None
        if not (math.isfinite(price) and price >= 0) or min(counts) < 0:
            raise UserError(f"{place}: prices and counts are numbers from 0 up")
        words = {name: str(row[name]) for name in ("instance_type", "region", "market", "currency", "date", "source")}
        made = PriceRow(**words, price_per_hour=price, accelerators=counts[0], vcpus=counts[1])
        says = (made.price_per_hour, made.currency, made.accelerators, made.vcpus)
        first, said = before.setdefault(made.place, (number, says))
        if said != says:
            raise UserError(
                f"resources.price_table: {path}, lines {first} and {number}: {made.place} has two prices; keep one"
            )
        yield made


def price_of(resources: ResourceSettings, device: str, threads: int) -> Price | None:
    """What a device costs an hour; None where neither a price nor an instance type is set.

    Args:
        device: "GPU" or "CPU".
        threads: CPUs of a worker that trains on CPUs, for a price that is set for one worker.

    Raises:
        UserError: the table has no such instance, or that instance no such device.
    """
    if resources.price_per_hour is not None:
        per_device = resources.price_per_hour / (threads if device == "CPU" else 1)
        return Price(device, per_device, resources.currency, "resources.price_per_hour")
    if resources.instance_type is None:
        return None
    row = _row(resources)
    count = row.accelerators if device == "GPU" else row.vcpus
    if count == 0:
        raise UserError(
            f"resources.instance_type: {row.place} has no {device} by the price table, and the run needs one"
        )
    return Price(device, row.price_per_hour / count, row.currency, f"{row.place}: {row.source}, {row.date}")


def check_price(resources: ResourceSettings) -> None:
    """Refuse an instance type that the price table does not have; errors as of `price_of`."""
    if resources.instance_type is not None:
        _row(resources)


def worker_price(resources: ResourceSettings, device: str, threads: int) -> Price | None:
    """What one worker costs an hour, in the fields of a price; see `price_of`."""
    price = price_of(resources, device, threads)
    if price is None or device == "GPU":
        return price
    return Price(device, price.per_hour * threads, price.currency, price.source)


def _row(resources: ResourceSettings) -> PriceRow:
    path = TABLE if resources.price_table is None else Path(resources.price_table).expanduser()
    rows = read_prices(path)
    wanted = (resources.instance_type, resources.region, resources.market)
    found = [row for row in rows if (row.instance_type, row.region, row.market) == wanted]
    if found:
        return found[-1]
    known = sorted({row.instance_type for row in rows})
    if resources.instance_type not in known:
        assert resources.instance_type is not None
        near = did_you_mean(resources.instance_type, known)
        raise UserError(
            f"resources.instance_type: the price table {path} has no {resources.instance_type}"
            f"{near or '; it has ' + ', '.join(known)}. Add a row, or set resources.price_per_hour"
        )
    places = ", ".join(f"{row.region} {row.market}" for row in rows if row.instance_type == resources.instance_type)
    raise UserError(
        f"resources.region, resources.market: the price table {path} has no {resources.instance_type} in "
        f"{resources.region} {resources.market}; it has {places}. Add a row, or set resources.price_per_hour"
    )
