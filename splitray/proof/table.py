"""A proof as a person reads it in the terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitray.proof.forecast import Forecast
from splitray.proof.scoring import Errors, Proof
from splitray.units import human

_MOST = 1000.0  # above it numbers are written as powers of ten


def terminal(proof: Proof) -> RenderableType:
    """The table of splits, and what the forecast and the plan were worth."""
    return Group(Text(verdict(proof), style="bold"), _table(proof), *(Text(line) for line in _remarks(proof)))


def verdict(proof: Proof) -> str:
    """What came out, in a sentence."""
    bowl = proof.bowl
    lost = bowl.regret.value if bowl.regret is not None else bowl.regret_measured
    against = "the bottom of the curve through them" if bowl.regret is not None else "the best of them"
    return (
        f"The planned split, {bowl.planned:.0%}, loses {lost:.4f} nats per token against {against}, of "
        f"{len(bowl.split_fraction)} splits measured at {human(proof.forecast.budget)} tokens."
    )


def _table(proof: Proof) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("split", "predicted", "measured", "predicted less unsplit", "measured less unsplit", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for s in proof.splits:
        marks = ["planned"] if abs(s.split_fraction - proof.bowl.planned) < 1e-9 else []
        marks += ["best measured"] if abs(s.split_fraction - proof.bowl.best_measured) < 1e-9 else []
        marks += ["known before"] if s.known else []
        table.add_row(
            f"{s.split_fraction:.1%}",
            _nats(s.predicted),
            _nats(s.loss),
            _signed(s.predicted_difference),
            _signed(s.difference),
            ", ".join(marks),
        )
    return table


def _signed(number: float | None) -> str:
    return "-" if number is None else _nats(number, "+")


def _nats(number: float, sign: str = "") -> str:
    """Nats per token; a law that is left open somewhere may predict numbers that no column holds."""
    return f"{number:{sign}.4f}" if abs(number) < _MOST else f"{number:{sign}.2g}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < _MOST else f"{100 * share:.2g}%"


def _remarks(proof: Proof) -> list[str]:
    bowl, lines = proof.bowl, list[str]()
    if bowl.regret is not None and bowl.optimum is not None:
        lines.append(
            f"Regret {bowl.regret.value:.4f} nats (95 %: {bowl.regret.low:.4f} to {bowl.regret.high:.4f}); the curve's "
            f"bottom is at {bowl.optimum.value:.0%} ({bowl.optimum.low:.0%} to {bowl.optimum.high:.0%})."
        )
    lines += _errors(proof.errors, proof.forecast) if proof.errors is not None else [_ALL_KNOWN]
    domains = {row.domain for row in proof.forecast.rows}
    if proof.comparison and domains != set(proof.comparison[0].by_domain):
        lines.append(
            f"The table is over the {len(domains)} domains that the law knows; regret and bottom are over all "
            f"{len(proof.comparison[0].by_domain)}."
        )
    return lines


_ALL_KNOWN = "Every split was trained before the forecast was sealed: nothing of it counts as a forecast."


def _errors(errors: Errors, forecast: Forecast) -> list[str]:
    lines = [
        f"{errors.losses} losses were forecast with a mean error of {_percent(errors.relative)} (median "
        f"{_percent(errors.median)}); a law that knows D + D' alone has a mean of {_percent(errors.chinchilla)}."
    ]
    if errors.difference is not None and errors.difference_median is not None and errors.bias is not None:
        lines.append(
            f"{errors.differences} differences to unsplit were forecast with a mean error of "
            f"{_nats(errors.difference)} nats (median {_nats(errors.difference_median)}, bias "
            f"{_nats(errors.bias, '+')})."
        )
    if errors.held is not None:
        held = errors.held
        lines.append(
            f"Intervals of {forecast.level:.0%} held {held.value:.0%} of {held.of} losses (95 %: {held.low:.0%} to "
            f"{held.high:.0%})."
        )
    return lines
