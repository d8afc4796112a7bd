"""docs/proof.md is what the generator writes from the committed results: nobody edits the page by hand."""

import json
from typing import Any

from benchmarks.proof.page import page
from tests.support import ROOT

RESULTS = ROOT / "benchmarks/results"


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_the_page_is_what_the_committed_results_give() -> None:
    known = _read("equal_compute/results.json") | {"command": "python -m benchmarks.equal_compute"}
    folders = {"proof": "../benchmarks/results/equal_compute/", "phonebook": "../benchmarks/results/phonebook/"}
    search = _read("equal_compute/search.json")
    names = [f"equal_compute/{name}.json" for name in ("routing", "routing_first_release", "blind")]
    mixture, first, blind = (_read(name) if (RESULTS / name).exists() else None for name in names)
    text = page(known, search, (mixture, first), blind, _read("phonebook/phonebook.json"), folders)
    assert text == (ROOT / "docs/proof.md").read_text(encoding="utf-8")
