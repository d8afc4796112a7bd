"""What a person sees of a run: a job log that stays readable, and a live display in a terminal."""

import io
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import pytest
from rich.console import Console

from splitray.config import Config
from splitray.pipeline.display import roughly, shown
from splitray.pipeline.logs import foreign_errors, logged_to
from splitray.pipeline.outlook import effort_after
from splitray.pipeline.runner import budget_in_whole_batches
from splitray.runtime.progress import PROGRESS, Progress, effort, report
from tests.support.configs import PLAIN

log = logging.getLogger("splitray.a_test")


def to_file(width: int = 40) -> tuple[Console, Callable[[], list[str]]]:
    file = io.StringIO()
    return Console(file=file, width=width, highlight=False), lambda: file.getvalue().splitlines()


def test_a_file_gets_whole_lines_with_the_time_and_a_mark() -> None:
    console, lines = to_file()
    long = "a sentence that is longer than the console is wide, [brackets] and all, " * 4
    with shown(console):
        log.info(long)
        log.warning("%s is low", "the budget")
        log.debug("nothing")
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines()] == [long, "warning: the budget is low"]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines())


def test_the_log_of_a_day_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at once a second: a line soon, then seldom, each with what is done and what is left."""
    now, at = 1000.0, list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, lines = to_file()
    with shown(console) as display:
        display.foresee(lambda stage: 5.0 * 7200 if stage == "ladder" else None)
        log.info("stage 2 of 9: ladder", extra={"stage": "ladder"})
        for second in range(1, 86401):
            now += 1
            before = len(lines()) if second < 900 else 0
            report(
                log, Progress("training", f"{second} of 86400 tokens", "loss: 2", second / 86400, 86400 - second, 5.0)
            )
            if second < 900 and len(lines()) > before:
                at.append(second)
    assert 5 <= at[0] <= 6 and at[1] - at[0] <= 6, at
    assert all(later - sooner <= 61 for sooner, later in pairwise(at))
    assert 1440 <= len(lines()) <= 1500
    assert lines()[1].endswith("   training: 6 of 86400 tokens, about 24 h left, the run at most 26 h; loss: 2"), (
        lines()[1]
    )


def test_other_work_begins_its_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, lines = to_file()
    with shown(console):
        for what in ("read and clean", "embed"):
            for _ in range(7):
                now += 1
                report(log, Progress(what, "some", left=None))
    assert [line.partition("    ")[2] for line in lines()] == ["read and clean: some", "embed: some"]


def test_work_side_by_side_is_seen_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds that report by turns, once a second each: neither keeps the other from being written."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, lines = to_file()
    with shown(console):
        for _ in range(12):
            for what in ("training", "comparing forms"):
                now += 0.5
                report(log, Progress(what, "some"))
    assert (
        sorted(line.partition("    ")[2] for line in lines()) == ["comparing forms: some"] * 2 + ["training: some"] * 2
    )


def test_a_terminal_shows_the_work_live_and_keeps_only_the_messages() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    with shown(console):
        log.info("stage 5 of 9: search", extra={"stage": "search"})
        report(log, Progress("training", "3/10 segments", "loss: mixture 2.100", 0.42, 90.0))
        log.warning("a worker is replaced")
        report(log, Progress("training", "9/10 segments", "", 0.9, 11.0))
        live = file.getvalue()
    assert "stage 5 of 9: search" in live and "42%" in live and "about 90 s left" in live and "loss: mixture" in live
    kept = screen(file.getvalue())
    assert kept == ["stage 5 of 9: search", "warning: a worker is replaced"]


def screen(text: str) -> list[str]:
    """The lines that a terminal shows in the end, by the few control sequences that a live display uses."""
    rows, row = [""], 0
    for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\r":
            rows[row] = rows[row] if not rows[row] else "\r" + rows[row]
        elif piece.startswith("\x1b["):
            if piece.endswith("A"):
                row -= int(piece[2:-1] or 1)
            elif piece.endswith("K"):
                rows[row] = ""
        else:
            rows[row] = piece if rows[row].startswith("\r") else rows[row] + piece
    return [line.strip("\r ") for line in rows if line.strip("\r ")]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (19, "19 s"),
        (42, "40 s"),
        (131, "2 min"),
        (7000, "117 min"),
        (9100, "2.5 h"),
        (86400 * 12.3, "12 days"),
    ],
)
def test_an_estimate_claims_no_more_than_it_knows(seconds: float, said: str) -> None:
    assert roughly(seconds) == said


def test_events_get_every_message_and_its_level() -> None:
    console, _ = to_file()
    events = list[tuple[str, dict[str, object]]]()
    with shown(console) as display:
        display.follow(lambda kind, **values: events.append((kind, values)))
        log.warning("a disk is slow")
    assert events == [("log", {"text": "a disk is slow", "level": "warning"})]


def test_afterwards_the_log_is_as_before() -> None:
    package = logging.getLogger("splitray")
    before = (package.level, package.propagate, package.handlers[:])
    console, lines = to_file()
    with logged_to(lambda text: None), shown(console):
        log.log(PROGRESS, "inside")
    log.warning("outside")
    assert (package.level, package.propagate, package.handlers) == before and not lines()


def test_errors_of_other_libraries_come_as_one_line_of_ours() -> None:
    console, lines = to_file()
    other = logging.getLogger("some_library")
    with shown(console), foreign_errors("some_library", "root"):
        logging.getLogger("some_library.part").warning("a remark")
        logging.getLogger("some_library.part").error("it broke\nTraceback: many lines")
        logging.getLogger("another").warning("a remark")
        logging.getLogger("another").error("it broke too")
    assert [line[9:] for line in lines()] == ["warning: some_library: it broke", "warning: another: it broke too"]
    assert not other.handlers and other.propagate


@pytest.mark.parametrize(
    ("budget", "level", "said"),
    [
        (65536, None, ""),
        (65500, logging.INFO, "65,536 tokens are trained. The 65,500 given are 36 fewer"),
        (65600, logging.INFO, "65,536 tokens are trained. The 65,600 given are 64 more"),
        (1300, logging.WARNING, "1,536 tokens are trained. The 1,300 given are 236 fewer"),
    ],
)
def test_a_rounded_budget_is_said(budget: int, level: int | None, said: str) -> None:
    """Two domains, batches of 4 sequences of 64 tokens: multiples of 512."""
    rounded = budget_in_whole_batches(Config.model_validate({**PLAIN, "budget": budget}))
    assert (rounded is None) == (level is None)
    if rounded is not None:
        assert rounded[0] == level and said in rounded[1]


def test_what_is_ahead_of_a_run_counts_the_stages_that_are_asked_for() -> None:
    config = Config.model_validate({**PLAIN, "search": {"at": "off"}, "evaluate": {"baselines": [0.5, 1.0]}})
    whole = effort_after(config, "search", "specialists")
    assert whole is not None and whole > effort(0, 65536)
    assert effort_after(config, "search", "report") == pytest.approx(3 * whole)
    assert effort_after(config, "specialists", "report") == pytest.approx(2 * whole)
    assert effort_after(config, "corpus") is None


def test_structured_lines_are_json_in_order_and_nothing_else() -> None:
    console, lines = to_file()
    with shown(console, structured=True):
        log.info("stage 2 of 9: ladder", extra={"stage": "ladder"})
        log.warning('a "quoted" line\nof two, [red]with :fire: marks[/red]')
        report(log, Progress("training", "1/3 segments", share=0.25, left=12.0))
    read = [json.loads(line) for line in lines()]
    assert [(line["level"], line["stage"], line["message"]) for line in read] == [
        ("info", "ladder", "stage 2 of 9: ladder"),
        ("warning", "ladder", 'a "quoted" line\nof two, [red]with :fire: marks[/red]'),
    ]
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in read)


def test_structured_lines_of_progress_carry_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, lines = to_file()
    with shown(console, structured=True):
        for second in range(8):
            now = 1000.0 + second
            report(log, Progress("training", "1/3 segments", "loss: 2", share=0.25, left=12.0))
    (line,) = [json.loads(line) for line in lines()]
    assert (line["level"], line["what"], line["share"], line["seconds_left"]) == ("progress", "training", 0.25, 12.0)
