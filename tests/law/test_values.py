"""A law whose checksum is right may still hold numbers that no law has: it is refused, and the number named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitray.errors import UserError
from splitray.law import Law
from splitray.law.law import SCHEMA
from tests.support.laws import CONSTANTS

Change = Callable[[dict[str, Any]], None]


def saved(path: Path, form: str = "release") -> dict[str, Any]:
    Law.known(form, CONSTANTS[form]).save(path)
    return SCHEMA.open(json.loads(path.read_text()), str(path))


def vector(index: int, value: object) -> Change:
    def change(record: dict[str, Any]) -> None:
        record["components"][0]["vectors"][0][index] = value

    return change


def put(**fields: object) -> Change:
    return lambda record: record.update(fields)


def share(*shares: object) -> Change:
    def change(record: dict[str, Any]) -> None:
        (component,) = record["components"]
        record["components"] = [component | {"share": value} for value in shares]

    return change


def draw(value: object) -> Change:
    def change(record: dict[str, Any]) -> None:
        (component,) = record["components"]
        component["draws"] = [component["vectors"], [[value] * len(component["vectors"][0])]]

    return change


E, ALPHA = 0, 2
WRONG: dict[str, tuple[str, Change]] = {
    "E = 1e308, by its logarithm": ("says a loss of", vector(E, float(np.log(1e308)))),
    "a logarithm of 1e308": ("E of domain '' is 1e\\+308", vector(E, 1e308)),
    "a logarithm that is none": ("E of domain '' is nan", vector(E, "nan")),
    "infinity": ("E of domain '' is inf", vector(E, "inf")),
    "a negative exponent": ("alpha of domain '' is -0.3", vector(ALPHA, -0.3)),
    "a steep exponent": ("alpha of domain '' is 1e\\+308", vector(ALPHA, 1e308)),
    "an infinite exponent": ("alpha of domain '' is -inf", vector(ALPHA, "-inf")),
    "a draw of 1e308": ("in a bootstrap draw is 1e\\+308", draw(1e308)),
    "a draw of -1": ("alpha in a bootstrap draw is -1.0", draw(-1.0)),
    "a negative share": ("shares", share(1.5, -0.5)),
    "shares of 2": ("shares", share(1.0, 1.0)),
    "a share of 1e308": ("shares", share(1e308)),
    "negative noise": ("noise = -0.01 must be", put(noise=-0.01)),
    "a negative objective": ("objective = -1 must be", put(objective=-1)),
    "a negative reach": ("largest.params = -5.0 must be", put(largest={"params": -5.0})),
    "no domain": ("", put(domains=[])),
    "a domain twice": ("", put(domains=["a", "a"])),
    "no component": ("it has no form", put(components=[])),
    "text for a number": ("", put(noise="low")),
    "warnings of another shape": ("", put(warnings=[{"code": "x"}])),
}


@pytest.mark.parametrize(("reason", "change"), WRONG.values(), ids=WRONG.keys())
def test_numbers_that_no_law_has_are_refused(tmp_path: Path, reason: str, change: Change) -> None:
    record = saved(tmp_path / "law.json")
    change(record)
    (tmp_path / "law.json").write_text(json.dumps(SCHEMA.close(record)))
    with pytest.raises(UserError, match=rf"law\.json: a damaged law .*{reason}"):
        Law.load(tmp_path / "law.json")


@pytest.mark.parametrize("form", CONSTANTS)
def test_laws_of_every_form_load(tmp_path: Path, form: str) -> None:
    saved(tmp_path / "law.json", form)
    assert Law.load(tmp_path / "law.json") == Law.known(form, CONSTANTS[form])


def test_a_coefficient_of_zero_is_a_number(tmp_path: Path) -> None:
    law = Law.known("chinchilla", {"E": 0.0, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28})
    law.save(tmp_path / "law.json")
    assert Law.load(tmp_path / "law.json") == law


def test_a_law_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path / "law.json")
    text = (tmp_path / "law.json").read_text()
    record = SCHEMA.open(json.loads(text), "law")
    newer = type(SCHEMA)("law", SCHEMA.version + 1)
    (tmp_path / "law.json").write_text(json.dumps(newer.close(record)))
    with pytest.raises(UserError, match=r"law\.json was written by a newer splitray .*splitray-law-3"):
        Law.load(tmp_path / "law.json")
