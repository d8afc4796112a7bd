"""Silence ends with the block, and takes nothing but what it names."""

import logging
import os
import subprocess
import sys

import pytest

from splitray.runtime.quiet import environment, levels, no_bars, without_lines


def test_named_lines_of_a_c_library_are_dropped_and_others_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before\n")
    with without_lines(r"worker\.cc:.*arguments"):
        os.write(2, b"[E 1] worker.cc:12: it has arguments\nan error\n")
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('of a child\\n')"], check=True)
        os.write(2, b"worker.cc:13: arguments, in two par")
        os.write(2, b"ts\nno end of line")
    os.write(2, b", after\n")
    assert capfd.readouterr().err == "before\nan error\nof a child\nno end of line, after\n"


def test_many_lines_all_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    with without_lines("dropped"):
        for number in range(5000):
            os.write(2, f"line {number}\ndropped {number}\n".encode())
    assert capfd.readouterr().err.splitlines() == [f"line {number}" for number in range(5000)]


def test_levels_and_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITRAY_SET", "by the user")
    monkeypatch.delenv("SPLITRAY_UNSET", raising=False)
    logger = logging.getLogger("a_library")
    with levels({"a_library": logging.ERROR}), environment(SPLITRAY_SET="ours", SPLITRAY_UNSET="ours"):
        assert logger.level == logging.ERROR
        assert (os.environ["SPLITRAY_SET"], os.environ["SPLITRAY_UNSET"]) == ("by the user", "ours")
    assert logger.level == logging.NOTSET
    assert os.environ["SPLITRAY_SET"] == "by the user" and "SPLITRAY_UNSET" not in os.environ


def test_bars_come_back() -> None:
    from transformers.utils import logging as words

    before = words.is_progress_bar_enabled()
    with no_bars():
        assert not words.is_progress_bar_enabled()
    assert words.is_progress_bar_enabled() == before
