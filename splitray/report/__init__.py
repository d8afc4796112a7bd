"""The report: one self-contained page with its figures, and the table at the end of a job's log.

Both read the run's `splitray.results.summary.Summary`; parts that a stopped run lacks are None. Losses are in nats per
token.
"""

from splitray.report.console import terminal
from splitray.report.page import write

__all__ = ["terminal", "write"]
