"""The proof of a plan on one's own corpus: a forecast, the bowl measured after it, and what it was worth. No Ray.

`forecast.py` says beforehand what the law predicts, `scoring.py` sets it beside what was measured, `bowl.py` draws the
smooth curve of loss against split fraction. `splitray.pipeline.prove` trains what is measured.
"""
