"""How the report's figures look, and how they become files and part of a page."""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): told apart with any common colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY, YELLOW, BLACK = "#cc79a7", "#56b4e9", "#f0e442", "#1b1d22"
GREY = "#8c9099"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, GREY, YELLOW)
MARKERS = ("o", "^", "s", "D")
INK, RULE, PAPER = BLACK, "#d9dbe0", "#ffffff"

WIDTH = 4.4  # inches: on a phone of 360 pixels a label of 9 points is still 8.5 pixels high

_RC = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "legend.fontsize": 8.0,
    "axes.unicode_minus": True,
}


@contextmanager
def styled() -> Iterator[None]:
    with matplotlib.rc_context(_RC):
        yield


def beyond(figure: Figure) -> float | None:
    """Up to where the lines of a figure's first axes go above them; None where they do not."""
    axes = figure.axes[0]
    highest = max((float(np.max(line.get_ydata())) for line in axes.lines), default=-np.inf)
    return highest if highest > axes.get_ylim()[1] else None


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> bytes:
    """The figure as SVG, the same bytes for the same figure; text stays text, so it can be selected and searched."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "splitray"})
    return buffer.getvalue()


def inline(drawn: bytes, name: str, alt: str) -> str:
    """An `<svg>` element for a page: ids that are unique on it, a text for those who cannot see it."""
    text = drawn.decode()
    opening = re.search(r"<svg[^>]*>", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert opening is not None and box is not None, name
    body = re.sub(r"<metadata>.*?</metadata>", "", text[opening.end() :], flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    width = box[1].split()[2]  # in points; the page keeps figures from shrinking below legibility
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" style="--width: {float(width):.0f}" role="img" aria-label="{html.escape(alt)}">{body}'
    )
