"""How models fare while they are trained: log records that trackers take, beside those of `runtime.progress`."""

import logging
from dataclasses import dataclass

from splitray.runtime.progress import PROGRESS
from splitray.units import human


@dataclass(frozen=True)
class Point:
    """One look at a segment in training.

    Attributes:
        segment: its key. line: the first letters of its lineage's hash.
        source: the domain that it draws from, or the mixture.
        params: N of the model.
        tokens: that the model has seen, from its very beginning.
        loss: of the last batch, nats per token.
        tokens_per_second: of the segment's workers together.
    """

    segment: str
    line: str
    source: str
    params: int
    tokens: int
    loss: float
    learning_rate: float
    tokens_per_second: float

    @property
    def series(self) -> str:
        """Names the curve that this point is on."""
        return f"{human(self.params).replace(' ', '')}-{self.source}-{self.line}"


def publish(logger: logging.Logger, point: Point) -> None:
    """Log a point."""
    logger.log(PROGRESS, "%s: loss %.4f at %d tokens", point.series, point.loss, point.tokens, extra={"point": point})


def point_of(record: logging.LogRecord) -> Point | None:
    """What `publish` logged with a record, if it did."""
    point = getattr(record, "point", None)
    return point if isinstance(point, Point) else None
