"""The page's section of exams."""

import dataclasses
import json
from pathlib import Path

from splitray.report.page import render
from splitray.results.summary import Summary
from tests.support.results import RESULTS

FIRST_RELEASE = Path(__file__).parents[1] / "data/first-release/run/summary.json"


def test_exams_are_on_the_page_where_a_run_has_them() -> None:
    record = json.loads(FIRST_RELEASE.read_text())
    plain = Summary.parse(record.get("record", record))
    taken = dataclasses.replace(plain, exams=RESULTS["exams"])  # type: ignore[arg-type]
    page = render(taken, {}).replace("\N{NO-BREAK SPACE}", " ")
    assert 'id="exams"' in page and "guessing has 25 %" in page and "50 % (20 % to 80 %)" in page
    assert 'id="exams"' not in render(plain, {})
    assert Summary.parse(taken.plain()) == taken
