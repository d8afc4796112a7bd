"""The report: one self-contained page with its figures, and the table at the end of a job's log.

Both read the summary, the run's `summary.json`: a mapping with the parts `name`, `machine`, `config`, `budget`,
`domains`, `corpus`, `ladder`, `law`, `plan`, `final_plan`, `search`, `evaluation`, `stages`, ... of
`splitray.pipeline.summary.summarise`. Parts that a stopped run lacks are None or absent. Losses are in nats per token.
"""

from splitray.report.console import terminal
from splitray.report.page import write

__all__ = ["terminal", "write"]
