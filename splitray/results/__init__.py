"""What a run leaves behind, typed: every stage's result and record, the summary, and their one serialiser. No Ray.

`stages.py` has the results and records of `stages/*.json`, `summary.py` the run's `summary.json`, `codec.py` turns both
into JSON and back.
"""
