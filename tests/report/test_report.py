"""The report against the summary it is made from: every check reads the page, the figures or the log again."""

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from splitray.law import Law, Question, fit, plan
from splitray.law.planning.estimate import Estimate
from splitray.law.planning.hours import Speed, plan_for_hours
from splitray.law.planning.sweep import loss_curve
from splitray.report import figures, style, terminal, text, write
from splitray.report.drawings import drawings
from splitray.results.codec import to_json
from splitray.results.equal_hours import AtHours, EqualHours
from splitray.results.summary import Summary
from splitray.storage.folder import Folder
from tests.support import example

FIGURES = {
    "comparison", "measured", "predictions", "loss_against_fraction", "predicted_against_observed",
    "optimum_against_budget", "threshold_against_params", "multiplier_against_budget", "domain_map", "domain_sizes",
    "loss_matrix", "difference_matrix", "ladder_saving", "stages",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would see: text, tables as rows of cells, ids, and everything that would be fetched."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words, self.ids, self.tags = list[str](), Counter[str](), Counter[str]()
        self.fetched, self.rows = list[str](), list[list[str]]()
        self._cell, self._hidden = False, False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        self.ids.update([given["id"]] if given.get("id") else [])
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = given.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(f"{tag} {name}={value}")
        self._hidden = tag == "style"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)
            if self._cell:
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, name: str) -> list[str]:
        """The cells of the first row whose head is `name`, whatever small print follows it."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.rows if row]
        return next(row for row in rows if f"{row[0]} ".startswith(f"{name} "))


class Domains:
    """The part of a corpus that the report reads."""

    def projection(self) -> pa.Table:
        return example.projection()


def written(folder: Path, summary: dict[str, Any], law: Any = None, made: Any = None, corpus: Any = None) -> Page:
    return Page(folder / write(Summary.parse(summary), law, made, corpus, Folder(folder)))


@pytest.fixture(scope="module")
def fitted() -> Law:
    return fit(pa.Table.from_pylist(example.runs()), form=example.LAW.form, bootstrap=20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fitted: Law) -> tuple[Path, Page, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    summary = example.summary()
    summary["ladder"]["table"] = example.runs()
    saved = folder / "law.json"
    fitted.save(saved)  # as the pipeline does: a loaded law has no runs of its own
    made = plan(fitted, params=example.PARAMS, budget=example.BUDGET, domains=6)
    return folder, written(folder, summary, Law.load(saved), made, Domains()), summary


def test_every_figure_is_a_file_and_on_the_page(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    folder, page, _ = whole
    files = {path.name for path in (folder / "report/figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for name in FIGURES:
        image = matplotlib.image.imread(folder / f"report/figures/{name}.png")
        assert image.shape[1] > 600 and image[..., :3].std() > 0.01  # not blank
        assert ET.parse(folder / f"report/figures/{name}.svg").getroot().tag.endswith("svg")
        assert page.ids[f"fig-{name}"] == 1
    assert page.tags["svg"] == len(FIGURES)


def test_page_is_self_contained(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    _, page, _ = whole
    assert page.fetched == [] and page.tags["script"] == 0
    assert [name for name, count in page.ids.items() if count > 1] == []


def test_page_shows_the_numbers_of_the_summary(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    _, page, summary = whole
    for row in summary["evaluation"]["comparison"]:
        cells = page.row(row["strategy"])
        assert cells[1] == f"{row['loss']:.3f}"
        assert cells[3] == f"{100 * row['split_fraction']:.0f} %"
        assert cells[6] == f"{row['bits_per_byte']:.3f}"
        if row["strategy"] != "unsplit":
            ends = [f"{row['difference'][end]:+.3f}".replace("-", "−") for end in ("value", "low", "high")]
            assert cells[2] == "{} ({} to {})".format(*ends)
    for stage in summary["stages"]:
        assert page.row(stage["stage"])[7] == str(stage["failures"] or "–")
    for domain in summary["domains"]:
        name = domain["name"].split("_", 1)[1].replace("_", " ")
        assert page.row(name)[2] == f"{domain['train']['documents']:,}"
        assert all(term in page.text for term in domain["top_terms"])
    warned = summary["final_plan"]["warnings"][0]
    assert all(warned[part] in page.text for part in ("message", "reason", "cure"))
    assert "task_dialogues (43 % of its file's rows)" in page.text and "76 % of it" in page.text


@pytest.mark.parametrize("after", ["corpus", "plan", "specialists"])
def test_stopped_run_leaves_out_what_is_missing(tmp_path: Path, after: str) -> None:
    page = written(tmp_path, example.stopped(after), corpus=Domains())
    assert not {"None", "nan", "Undefined"} & set(page.text.replace("(", " ").split())
    assert page.ids["equal"] == page.ids["models"] == 0
    assert page.ids["plan"] == (after not in ("corpus", "ladder"))
    assert page.ids["search"] == (after in ("search", "specialists"))
    assert page.ids["fig-domain_map"] == 1 and page.ids["fig-ladder_saving"] == (after != "corpus")
    assert ("Not planned yet" if after in ("corpus", "ladder") else "Not measured yet") in page.text


def test_text_from_the_corpus_is_escaped(tmp_path: Path) -> None:
    summary = example.stopped("corpus")
    summary["domains"][0]["top_terms"] = ["<script>alert(1)</script>", "<img src=http://x.example/y>"]
    summary["domains"][0]["name"] = "0_<b>bold"
    summary["config"]["name"] = "</pre><script>"
    page = written(tmp_path, summary)
    assert page.tags["script"] == page.tags["b"] == page.tags["img"] == 0 and page.fetched == []
    assert "<script>alert(1)</script>" in page.text and "</pre><script>" in page.text


def _measured(planned: float, spread: float = 0.01, half: float = 9.0) -> dict[str, Any]:
    summary = example.summary()
    rows = {row["strategy"]: row for row in summary["evaluation"]["comparison"]}
    gap = planned - rows["unsplit"]["loss"]
    rows["planned split"] |= {"loss": planned, "difference": {"value": gap, "low": gap - spread, "high": gap + spread}}
    rows["split at zero"]["loss"], rows["split at one half"]["loss"] = 9.0, half
    return summary


@pytest.mark.parametrize(
    ("summary", "said", "not_said"),
    [
        (_measured(3.0), ["Split after 24 %", "is 3.000", "None of the 3 other"], ["not pay", "Measured lower"]),
        (_measured(3.0, half=2.9), ["Measured lower still: split at one half, 2.900"], ["None of"]),
        (_measured(3.346, spread=0.05), ["not told apart from zero"], ["not pay"]),
        (_measured(3.6), ["splitting did not pay", "Measured lower still: unsplit, 3.34"], ["None of"]),
    ],
)
def test_verdict_follows_the_measurement(summary: dict[str, Any], said: list[str], not_said: list[str]) -> None:
    verdict = " ".join(text.verdict(Summary.parse(summary))).replace("\N{NO-BREAK SPACE}", " ")
    assert all(part in verdict for part in said), verdict
    assert not any(part in verdict for part in not_said), verdict


@pytest.mark.parametrize(
    ("fraction", "headline"), [(1.0, "Do not split at this budget"), (0.0, "Split at once: 6 models from scratch")]
)
def test_verdict_at_the_ends_of_the_line(fraction: float, headline: str) -> None:
    summary = example.stopped("search")
    summary["final_plan"]["split_fraction"] = {"value": fraction, "low": None, "high": None}
    assert text.verdict(Summary.parse(summary))[0] == headline


def test_log_fits_eighty_columns_and_needs_no_colour() -> None:
    stream = StringIO()
    summary = example.summary()
    Console(file=stream, width=80, no_color=True).print(terminal(Summary.parse(summary)))
    printed = stream.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    assert "\x1b" not in printed and "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    table = printed[printed.index("At equal tokens") :].splitlines()
    for row in summary["evaluation"]["comparison"]:
        line = next(line for line in table if line.strip().startswith(row["strategy"]))
        assert f"{row['loss']:.3f}" in line and f"{row['bits_per_byte']:.3f}" in line
    assert "24 % (17 % to 33 %)" in printed and "4.4× (2.9× to ∞)" in printed


@pytest.mark.parametrize("after", ["corpus", "ladder", "plan"])
def test_log_of_a_stopped_run(after: str) -> None:
    stream = StringIO()
    Console(file=stream, width=80).print(terminal(Summary.parse(example.stopped(after))))
    assert "None" not in stream.getvalue() and "At equal tokens" not in stream.getvalue()


def _points(figure: Any) -> dict[str, list[tuple[float, float]]]:
    lines = figure.axes[0].get_lines()
    return {str(line.get_label()): list(zip(*map(list, line.get_data()))) for line in lines}


def test_comparison_is_drawn_where_the_losses_are() -> None:
    summary = example.summary()
    figure = figures.comparison(Summary.parse(summary))
    assert figure is not None
    whole = next(r for r in summary["evaluation"]["comparison"] if r["strategy"] == "unsplit")
    drawn = _points(figure)
    for row in summary["evaluation"]["comparison"]:
        expected = [
            row["loss"] - whole["loss"],
            *(row["by_domain"][d] - whole["by_domain"][d] for d in example.DOMAINS),
        ]
        assert np.allclose([x for x, _ in drawn[row["strategy"]]], expected)


def test_measured_models_are_drawn_over_the_law(fitted: Law) -> None:
    summary = example.summary()
    figure = figures.measured(Summary.parse(summary), fitted)
    assert figure is not None
    drawn = _points(figure)
    for made in summary["search"]["rounds"]:
        expected = [(t["split_fraction"], t["loss"]) for t in made["trials"]]
        assert np.allclose(drawn[f"trials of round {made['round']}"], expected)
    assert np.allclose(drawn["unsplit"], [(1.0, example.loss(1.0))])
    x, y = np.array(drawn["the law, refitted"]).T
    budget = example.BUDGET
    assert np.allclose(y, fitted.predict(example.PARAMS, x * budget, (1 - x) * budget / 6), rtol=1e-9)


def models(domains: Iterable[str]) -> list[dict[str, Any]]:
    """A trial's models, each domain's loss a tenth above the one's before it."""
    return [
        {"domain": d, "specialize_tokens": 256, "loss": 3.0 + k / 10, "key": f"seg-{k}"} for k, d in enumerate(domains)
    ]


def test_measured_losses_are_means_over_the_domains_of_the_law(fitted: Law) -> None:
    summary = example.summary()
    summary["ladder"]["table"] = example.runs()  # two of the six domains
    known = example.DOMAINS[:2]
    trial = summary["search"]["rounds"][0]["trials"][0]
    trial["models"] = models(example.DOMAINS)
    figure = figures.measured(Summary.parse(summary), fitted)
    assert figure is not None
    drawn = _points(figure)
    whole = text.strategy(Summary.parse(summary), "unsplit")
    assert whole is not None
    assert np.allclose(drawn["unsplit"], [(1.0, np.mean([whole.by_domain[d] for d in known]))])
    assert np.allclose(drawn["trials of round 1"][0], (trial["split_fraction"], 3.05))


def test_a_weighted_plan_is_drawn_with_its_weights() -> None:
    """The law's curve, the trials and the compared models alike: sum w_k L_k, with D'_k = w_k (1 - s) D_T."""
    weights = dict(zip(example.DOMAINS, [0.4, 0.2, 0.1, 0.1, 0.1, 0.1], strict=True))
    law = Law.known("shared_specific", {d: example.LAW.constants | {"E": 1 + w} for d, w in weights.items()})
    made = plan(
        law, params=example.PARAMS, budget=example.BUDGET, domains=list(weights), weights=list(weights.values())
    )
    summary = example.summary() | {"final_plan": made.plain()}
    trial = summary["search"]["rounds"][0]["trials"][0]
    trial["models"] = models(weights)
    figure = figures.measured(Summary.parse(summary), law)
    assert figure is not None
    drawn = _points(figure)
    s, y = np.array(drawn["the law, refitted"]).T
    budget = example.BUDGET
    expected = sum(w * law.predict(example.PARAMS, s * budget, w * (1 - s) * budget, d) for d, w in weights.items())
    assert np.allclose(y, expected, rtol=1e-9)
    by_hand = sum(w * (3.0 + k / 10) for k, w in enumerate(weights.values()))
    assert np.allclose(drawn["trials of round 1"][0], (trial["split_fraction"], by_hand))
    assert (made.question.domains, made.question.weights) == (list(weights), list(weights.values()))


def test_trials_at_another_size_stand_alone(fitted: Law) -> None:
    summary = example.summary()
    summary["search"]["params"] //= 2
    figure = figures.measured(Summary.parse(summary), fitted)
    assert figure is not None and "trials of round 1" in _points(figure) and "unsplit" not in _points(figure)


def test_matrix_without_a_base_has_no_differences() -> None:
    summary = example.summary()
    matrix = summary["evaluation"]["matrix"]
    for part in ("models", "loss", "bits_per_byte"):
        matrix[part] = matrix[part][1:]  # the plan splits at zero tokens
    assert (
        figures.loss_matrix(Summary.parse(summary)) is not None
        and figures.difference_matrix(Summary.parse(summary)) is None
    )


def test_labels_of_close_domains_do_not_overlap() -> None:
    generator = np.random.default_rng(0)
    centres, box = generator.normal(scale=0.3, size=(16, 2)), np.array([0.5, 0.12])
    apart = figures._spread(centres, box)
    gaps = np.abs(apart[:, None] - apart[None])[np.triu_indices(16, 1)]
    assert ((gaps >= box - 1e-12).any(axis=1)).all()
    assert (apart[:, 0] == centres[:, 0]).all()


def test_same_figure_same_bytes() -> None:
    def drawn() -> bytes:
        with style.styled():
            figure = figures.domain_sizes(Summary.parse(example.summary()))
            assert figure is not None
            return style.svg(figure, "domain_sizes")

    assert drawn() == drawn()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.percent(0.617), "62 %"),
        (text.percent(0.004), "0.4 %"),
        (text.percent(0.9996), "100.0 %"),
        (text.percent(1.0), "100 %"),
        (text.signed(-0.3449), "−0.345"),
        (text.duration(8.04), "8.0 s"),
        (text.duration(59.7), "1 min 00 s"),
        (text.duration(7384), "2 h 03 min"),
        (text.times(132.2), "132×"),
        (text.name("3_said_looked"), "said looked"),
        (text.name("base (unsplit leaf at D)"), "base (unsplit leaf at D)"),
        (
            text.interval(Estimate(math.inf, 3.0, math.inf, 0.9), text.times),
            "∞ (3× to ∞)",
        ),
        (text.interval(Estimate(2.0), text.loss), "2.000"),
    ],
)
def test_numbers_in_words(shown: str, expected: str) -> None:
    assert shown.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_costs_say_what_was_needed_and_what_was_spent() -> None:
    """The example trained 100,000 tokens too many in each of five stages, over two starts."""
    said = text.spending(Summary.parse(example.summary()))
    needed = sum(s["tokens_needed"] or 0 for s in example.summary()["stages"])
    assert needed == 58_900_000 and said.startswith("The results needed 58.9M training tokens. 2 starts spent 59.4M (")
    assert said.endswith("Of these 500K were lost when work was cut short, or trained twice.")
    held = example.summary()
    held["starts"], held["stages"][1]["tokens_spent"] = 1, 0
    said = text.spending(Summary.parse(held))
    assert "1 start spent 50.1M" in said and said.endswith("The store held 9.2M from other runs.")
    for stage in held["stages"]:
        stage["tokens_needed"] = stage["tokens_spent"] = None
    assert text.spending(Summary.parse(held)) == "", "a summary of the first release"


USAGE = {
    "stages": [
        {"name": "base", "device": "GPU", "hours_held": 12.0, "hours_used": 9.0, "energy_kwh": 4.2, "money": 60.0},
        {"name": "evaluate", "device": "GPU", "hours_held": 3.5, "hours_used": 2.0, "energy_kwh": 1.0, "money": 17.5},
    ],
    "purposes": [
        {"name": "base", "device": "GPU", "hours_held": 12.0, "hours_used": 9.0, "energy_kwh": 4.2, "money": 60.0},
        {"name": "baselines", "device": "GPU", "hours_held": 3.0, "hours_used": 1.5, "energy_kwh": 1.0, "money": 15.0},
        {"name": "evaluation", "device": "GPU", "hours_held": 0.5, "hours_used": 0.5, "money": 2.5},
    ],
    "total": [
        {"name": "all", "device": "GPU", "hours_held": 15.5, "hours_used": 11.0, "energy_kwh": 5.2, "money": 77.5}
    ],
    "hours_provisioned": 40.0,
    "money_provisioned": 200.0,
    "currency": "USD",
    "prices": [{"device": "GPU", "per_hour": 5.0, "currency": "USD", "source": "p5 us-east-1 spot: bill, 2026-01-01"}],
}


def test_hours_energy_and_money_are_on_the_first_screen_and_in_a_table(tmp_path: Path) -> None:
    page = written(tmp_path, example.summary() | {"usage": USAGE})
    said = "It cost 15.5 GPU hours held by workers, 11 of them used, 77.50 USD, 5.2 kWh over 2 starts."
    assert said in page.text and page.text.index(said) < page.text.index("At equal tokens")
    assert page.row("baselines") == ["baselines", "GPU", "3 h", "1.5 h", "1 kWh", "15.00 USD"]
    assert page.row("evaluation") == ["evaluation", "GPU", "30 min 00 s", "30 min 00 s", "–", "2.50 USD"]
    assert page.row("all") == ["all", "GPU", "15.5 h", "11 h", "5.2 kWh", "77.50 USD"]
    assert "the cluster had 40 device hours, whoever used them: 200.00 USD." in page.text
    assert "5 USD a GPU hour (p5 us-east-1 spot: bill, 2026-01-01)" in page.text
    console = Console(file=StringIO(), width=200)
    console.print(terminal(Summary.parse(example.summary() | {"usage": USAGE})))
    assert isinstance(console.file, StringIO)
    assert (
        said.replace(" USD", "\N{NO-BREAK SPACE}USD").replace(" kWh", "\N{NO-BREAK SPACE}kWh")
        in console.file.getvalue()
    )


def test_a_summary_without_hours_says_nothing_of_them(tmp_path: Path) -> None:
    page = written(tmp_path, example.summary())
    assert "It cost" not in page.text and "Hours, energy and money" not in page.text


def test_folders_say_what_they_are_for() -> None:
    listed = dict(text.models(Summary.parse(example.summary())))
    assert list(listed) == ["specialists/", "router/", "base/", "trunk/"]
    assert "for use" in listed["base/"] and "continue training" in listed["trunk/"]
    old = example.summary()
    old["base"]["path"], old["router"], old["evaluation"]["base"] = "base", None, None
    listed = dict(text.models(Summary.parse(old)))
    assert list(listed) == ["specialists/", "base/"] and "continue training" in listed["base/"]


def _printed(summary: dict[str, Any]) -> str:
    stream = StringIO()
    Console(file=stream, width=80, no_color=True).print(terminal(Summary.parse(summary)))
    return stream.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_the_law_is_held_against_what_was_measured(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    """Example: one of two losses and no difference lies inside; two of five trials lie outside."""
    _, page, summary = whole
    printed = _printed(summary)
    expected = {
        "planned split": ("3.000", "2.970 to 3.030", f"{example.loss(0.24):.3f}", "yes"),
        "unsplit": ("3.400", "3.370 to 3.430", f"{example.loss(1.0):.3f}", "no"),
        "planned split less unsplit": (
            "−0.400",
            "−0.440 to −0.360",
            f"−{example.loss(1.0) - example.loss(0.24):.3f}",
            "no",
        ),
        "trial at 0.31": (
            f"{example.loss(0.31):.3f}",
            f"{example.loss(0.31) - 0.008:.3f} to {example.loss(0.31) + 0.008:.3f}",
            f"{example.loss(0.31) + 0.012:.3f}",
            "no",
        ),
    }
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    table = printed[printed.index("Predicted, measured, inside?") :].splitlines()
    for label, (predicted, interval, measured, inside) in expected.items():
        assert [label, f"{predicted} {interval}", measured, inside] in rows, label
        line = next(line.split() for line in table if line.strip().startswith(f"{label}  "))
        assert line == [*label.split(), predicted, *interval.split(), measured, inside]
    said = "Inside their 80 % intervals: 1 of 2 losses, 0 of 1 differences to unsplit and 3 of 5 trials of the search."
    for shown in (page.text, " ".join(printed.split())):
        assert said in shown.replace("\N{NO-BREAK SPACE}", " ")
        assert "no fewer than chance allows" in shown and "had seen 5 trials at this size and budget" in shown


def test_a_law_that_trials_contradict_says_so() -> None:
    summary = example.summary()
    for made in summary["search"]["rounds"]:
        for trial in made["trials"]:
            trial["prediction"]["measured"] += 0.5
    assert "For trials of the search that is fewer than a binomial test" in " ".join(_printed(summary).split())
    assert "What was measured contradicts the law" not in _printed(summary), "of trials the plan warns"


def test_three_warnings_are_shown_the_gravest_first_and_the_rest_is_folded(tmp_path: Path) -> None:
    summary = example.summary()
    codes = ["no_replicates", "few_sizes", "not_identified", "forms_disagree", "other_width_to_depth"]
    summary["final_plan"]["warnings"] = [
        {"code": code, "message": f"about {code}", "reason": "why", "cure": "add runs"} for code in codes
    ]
    page, printed = written(tmp_path, summary), " ".join(_printed(summary).split())
    expected = ["forms_disagree", "other_width_to_depth", "few_sizes", "not_identified", "no_replicates"]
    places = [page.text.index(f"About {code}: why; add runs") for code in expected]
    assert places == sorted(places) and places[2] < page.text.index("3 more") < places[3]
    assert "Warnings (6), the gravest first: - About forms_disagree" in printed, "few groups are the sixth"
    assert "- and 3 more: the report and summary.json have them all" in printed
    assert all((f"About {code}" in printed) == (code in expected[:3]) for code in expected)


def test_measured_strategies_that_contradict_the_law_are_a_warning(tmp_path: Path) -> None:
    summary = example.summary()
    for row in summary["predictions"]:
        row["measured"] += 0.5
    page, printed = written(tmp_path, summary), " ".join(_printed(summary).split())
    for shown in (page.text, printed):
        assert "What was measured contradicts the law: 2 of 2 losses lie outside their intervals" in shown


def test_the_plan_is_set_against_every_other_split(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    _, page, summary = whole
    rows = [[" ".join(cell.split()) for cell in row] for row in page.rows]
    assert ["unsplit", "−0.344 (−0.380 to −0.310)", "yes"] in rows
    assert ["split at one half", "−0.039 (−0.081 to +0.004)", "no"] in rows
    printed = " ".join(_printed(summary).split())
    assert "split at one half −0.039 −0.081 to +0.004 no" in printed
    assert "not told apart from split at one half" in page.text and "not told apart from split at one half" in printed
    assert page.text.count("2,310 validation documents from 1,204 groups") == 2  # the table, and the figure's caption
    assert "14 groups of validation documents" in page.text, "few groups make intervals too narrow"
    assert "less the unsplit model that is −0.331 (−0.360 to −0.301)" in page.text, "the routed loss"


def test_records_without_groups_say_what_their_intervals_are_over(tmp_path: Path) -> None:
    summary = example.summary()
    del summary["evaluation"]["contrasts"], summary["evaluation"]["resampled"], summary["predictions"]
    del summary["evaluation"]["routed"]["difference"]
    for made in summary["search"]["rounds"]:
        for trial in made["trials"]:
            del trial["prediction"]
    page = written(tmp_path, summary)
    assert "validation documents, as if none depended on another" in page.text
    assert "did not record groups" in page.text and page.ids["predictions"] == 0
    assert "told apart" not in page.text


def test_equal_weights_are_said_once(tmp_path: Path) -> None:
    summary = example.summary()
    page = written(tmp_path / "even", summary)
    assert page.text.count("16.7 %") == 1 and "Each domain weighs 16.7 %." in page.text
    summary["domains"][0]["weight"], summary["domains"][1]["weight"] = 0.125, 0.2083
    page = written(tmp_path / "uneven", summary)
    assert page.row("section subsection")[1] == "12.5 %" and "Each domain weighs" not in page.text


def test_the_multiplier_of_a_hair_is_not_shown(tmp_path: Path) -> None:
    summary = example.summary()
    plan = summary["final_plan"]
    plan["gain"] = {"value": 1e-4, "low": 0.0, "high": 2e-4}
    plan["compute_multiplier"] = {"value": None, "low": None, "high": None, "probability_infinite": 1.0}
    page, printed = written(tmp_path, summary), _printed(summary)
    for shown in (page.text, printed):
        assert "no gain to speak of" in shown and "below 0.003 nats" in shown and "∞" not in shown


def test_every_column_and_row_head_has_a_scope(whole: tuple[Path, Page, dict[str, Any]]) -> None:
    folder, _, _ = whole
    heads = re.findall(r"<th[ >][^>]*", (folder / "report/index.html").read_text())
    assert heads and all('scope="col"' in head or 'scope="row"' in head for head in heads)


def test_triangles_are_explained_where_there_are_some(tmp_path: Path, whole: tuple[Path, Page, dict[str, Any]]) -> None:
    _, page, _ = whole
    assert "Triangles are the runs of the largest size" in page.text
    rows = [row for row in example.runs() if row["params"] < 100_000]  # two sizes: none can be hidden
    law = fit(pa.Table.from_pylist(rows), form=example.LAW.form)
    summary = example.summary()
    summary["ladder"]["table"] = rows
    few = written(tmp_path, summary, law, plan(law, params=example.PARAMS, budget=example.BUDGET, domains=6))
    assert "Triangles" not in few.text and "too few sizes" in few.text


def _all_figures(summary: dict[str, Any], law: Law) -> Iterable[tuple[str, Any]]:
    made = plan(law, params=example.PARAMS, budget=example.BUDGET, domains=6)
    for drawing in drawings(Summary.parse(summary), law, made, None):
        with style.styled():
            if (figure := drawing.draw()) is not None:
                yield drawing.name, figure


def test_no_label_is_cut_off(fitted: Law) -> None:
    """Also with long names of domains, which leave little width to the axes."""
    summary = example.summary()
    summary["ladder"]["table"] = example.runs()
    names = {d: f"{d}_{'m' * 9}" for d in example.DOMAINS[2:]}  # the law's own two stay
    text_of = json.dumps(summary)
    for old, new in names.items():
        text_of = text_of.replace(old, new)
    for name, figure in _all_figures(json.loads(text_of), fitted):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.02, (name, drawn)


def test_figures_fit_a_phone(fitted: Law) -> None:
    """At 390 pixels a figure has 330: below 0.95 pixels a point the page scrolls sideways. Heatmaps may."""
    summary = example.summary()
    summary["ladder"]["table"] = example.runs()
    for name, figure in _all_figures(summary, fitted):
        assert name.endswith("matrix") or 72 * figure.get_figwidth() * 0.95 <= 330, name


def test_a_fitted_value_lies_in_its_own_band(fitted: Law) -> None:
    """The rule of the tiles: a band is widened to hold the value where the draws are skewed off it."""
    skewed = replace(fitted, components=(replace(fitted.best, draws=fitted.best.draws + 0.02),))
    question = plan(fitted, params=example.PARAMS, budget=example.BUDGET, domains=6).question
    loss, band = loss_curve(skewed, question, np.linspace(0.1, 1, 10))
    assert band is not None and (band[0] <= loss).all() and (loss <= band[1]).all()
    plain = np.quantile(skewed.predict_draws(example.PARAMS, example.BUDGET), [0.1, 0.9])
    assert not plain[0] <= loss[-1] <= plain[1], "draws that hold the value would show nothing"


def test_the_verdict_at_equal_hours_stands_beside_the_other(tmp_path: Path, fitted: Law) -> None:
    record = example.summary()
    speeds = [Speed(n, 2e9 / (n + 1e4), 1.5e9 / (n + 1e4), 1e-3, n < example.PARAMS) for n in (5e4, example.PARAMS)]
    question = Question(example.PARAMS, example.BUDGET, len(example.DOMAINS))
    made = plan_for_hours(fitted, question, hours=2.0, speeds=speeds)
    gap = Estimate(-0.2, -0.3, -0.1)
    rows = (AtHours("planned split", 1.5, 1.2e7, 3.0, 3.0), AtHours("unsplit", 1.4, 1.3e7, 3.21, 3.2, gap))
    at = EqualHours("GPU", True, "outside", 0.25, made, rows)
    page = written(tmp_path, record | {"equal_hours": to_json(at)})
    assert "hours" in page.ids and "At equal hours (2 GPU hours, ladder and search outside)" in page.text
    assert page.row("unsplit")[0] == "unsplit"
    cells = next(row for row in page.rows if row[:2] == ["unsplit", "1.4"])
    assert [" ".join(cell.split()) for cell in cells[2:]] == ["3.210", "13M", "3.200", "−0.200 (−0.300 to −0.100)"]
    assert "reckoned" in page.text and "2 GPU hours, as plan.hours asks" in page.text
    stream = StringIO()
    Console(file=stream, width=80, no_color=True).print(terminal(Summary.parse(record | {"equal_hours": to_json(at)})))
    assert "At equal hours (2 GPU hours" in " ".join(stream.getvalue().split())
    without = written(tmp_path / "without", record)
    assert "hours" not in without.ids and "equal hours" not in without.text
