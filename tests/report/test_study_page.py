"""The page of a study: what stands on it, that it opens offline, and that a study with little has a page too."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from splitray.law.planning.estimate import Estimate
from splitray.report import study_captions, study_figures, study_words
from splitray.report.study_page import render, write
from splitray.results.exams import ExamTaken
from splitray.results.study import LOSS_DOMAIN, Answer, exam_measure
from splitray.results.study_stages import ArmText, FilterFacts, FilterResult
from splitray.results.study_summary import ScoredForecast, StudySummary
from splitray.storage.folder import Folder
from splitray.study.analysis.advice import Means, ShelfModel
from splitray.study.analysis.analyse import analyse
from splitray.study.analysis.foresight import forecast, score
from splitray.study.analysis.regret import regret
from splitray.study.analysis.tables import StudyTable
from tests.study.analysis.planted_study import SIZES, TOKENS, World

WORLD = World()
FILTER = FilterResult(
    filter=FilterFacts("embedding", 0.8, 800, 200, 0.05, 0.93, 0.85, 0.02, 3),
    documents=10_000,
    bytes=50_000_000,
    share=0.05,
    mean=0.06,
    arms={"filtered": ArmText(500, 2_500_000, 0.8), "quality": ArmText(480, 2_500_000, 0.4)},
    contaminated={"grams": 12, "near": 4},
    skipped={"too short": 30},
    cells={},
    joined={},
    exams=(ExamTaken("bar", "bar.jsonl", "0" * 64, 30, 2, 0.25, 0.22),),
)


class Page(HTMLParser):
    """What the tests ask of a page: ids, links, open elements."""

    _VOID = frozenset({"meta", "br", "use", "path", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if tag == "a" and name == "href":
                self.links.append(value or "")
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.outside.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def summary() -> StudySummary:
    table = WORLD.study(noise=0.003)
    runs, answers = list(table.runs), []
    for row in table.runs:
        if row.measure != LOSS_DOMAIN:
            continue
        for name, value in (("nats_per_byte", row.value / 4), ("accuracy", 0.3), ("margin", -0.1)):
            runs.append(dataclasses.replace(row, measure=exam_measure("bar", name), value=value))
        answers += [
            Answer(row.model, row.arm, row.seed, row.tokens, "bar", q, (row.value + q % 5) / 4, -0.1, float(q % 3 == 0))
            for q in range(30)
        ]
    whole = StudyTable(runs, answers)
    shelf = [ShelfModel(name, params) for name, params in SIZES.items()]
    held = table.without("h128"), table.only(["h128"])
    made = forecast(held[0], SIZES["h128"], TOKENS)
    return StudySummary(
        name="legal",
        topic="law",
        created="2026-01-01T00:00:00+00:00",
        splitray="0",
        analysis=analyse(whole, Means(3.6e13, shelf, topic_tokens=3e6), draws=40),
        filter=FILTER,
        forecasts=(ScoredForecast(made, score(made, held[1])),),
        regrets=regret(*held, "h128"),
        config={"name": "legal <script>"},
    )


def test_the_page_has_everything_and_opens_offline(summary: StudySummary, tmp_path: Path) -> None:
    assert write(summary, Folder(tmp_path)) == "report/index.html"
    text = (tmp_path / "report/index.html").read_text()
    page = Page(text)
    assert not page.open and len(page.ids) == len(set(page.ids)) and not page.outside
    assert all(link[1:] in page.ids for link in page.links)
    sections = {"advice", "curves", "gap", "law", "unseen", "exams", "forgetting", "text", "details"}
    assert sections <= set(page.ids)
    figures = {"curves", "gap", "forgetting", "exams", "forecasts"}
    assert {f"fig-{name}" for name in figures} <= set(page.ids)
    assert {path.stem for path in (tmp_path / "report/figures").glob("*.png")} == figures
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "<script" not in text and "legal &lt;script&gt;" in text
    plain = re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|inf)\b", plain)
    first = summary.analysis.advice.first if summary.analysis.advice else None
    assert first is not None and "Filter for law: 2M tokens at 3M parameters" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "guessing has" in text and "13-grams" not in text and ">12<" in text
    assert StudySummary.parse(summary.plain()) == summary


def test_the_first_sentence_follows_the_advice(summary: StudySummary) -> None:
    advice = summary.analysis.advice
    assert advice is not None and advice.other_arm is not None

    def headline(**change: object) -> str:
        changed = dataclasses.replace(summary.analysis, advice=dataclasses.replace(advice, **change))
        return study_words.headline(dataclasses.replace(summary, analysis=changed))[0]

    assert headline().startswith("Filter for law")
    plain = dataclasses.replace(advice.first, arm="general")
    assert headline(options=(plain, *advice.options[1:])).startswith("Do not filter for law")
    unsure = dataclasses.replace(advice.other_arm, low=-0.01)
    assert headline(other_arm=unsure).startswith("Open: for law")
    without = dataclasses.replace(summary, analysis=dataclasses.replace(summary.analysis, advice=None))
    title, _ = study_words.headline(without)
    assert title.startswith("Law: general text needs at least 8") or "× the compute at 3M" in title


def test_what_is_said_of_forgetting_where_nothing_was(summary: StudySummary) -> None:
    assert "Filtered text cost" in study_captions.forgetting(summary)
    gained = [
        dataclasses.replace(f, difference=Estimate(-0.1 - 0.01 * place, None, None))
        for place, f in enumerate(summary.analysis.forgetting)
    ]
    better = dataclasses.replace(summary, analysis=dataclasses.replace(summary.analysis, forgetting=tuple(gained)))
    said = study_captions.forgetting(better)
    assert "None has with filtered text" in said and "cost" not in said


def test_a_study_of_one_given_model_has_a_page(tmp_path: Path) -> None:
    rows = [dataclasses.replace(r, root="given") for r in WORLD.study({"given": 135_000_000}, seeds=1).runs]
    means = Means(6.0 * 135_000_000 * 1_000_000, [ShelfModel("given", 135_000_000)])
    plain = StudySummary("small", "law", "2026-01-01T00:00:00+00:00", "0", analyse(StudyTable(rows), means))
    write(plain, Folder(tmp_path))
    page = Page((tmp_path / "report/index.html").read_text())
    assert not page.open and {"advice", "curves"} <= set(page.ids) and not {"law", "text", "unseen"} & set(page.ids)
    assert "finished model of one seed" in study_captions.curves(plain)
    figure = study_figures.gap(plain.analysis)
    assert figure is not None
    strokes = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert len(strokes) == sum(not r.ratio.exact for r in study_words.main_ratios(plain.analysis)), "of bounds alone"
    left, right = figure.axes[0].get_xlim()
    assert left < 135_000_000 < right < 1e9
    empty = dataclasses.replace(plain, analysis=analyse(StudyTable([r for r in rows if r.arm == "general"])))
    assert "no answer yet" in render(empty, {})
