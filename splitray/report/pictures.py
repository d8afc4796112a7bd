"""What both pages share: how figures are drawn, written and put on a page, and the words of its templates."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from splitray.report import style, text
from splitray.storage.folder import Folder


@dataclass(frozen=True)
class Drawing:
    """A figure to draw; `draw` gives None where the run has nothing for it, else `caption` says what to see."""

    name: str
    title: str
    draw: Callable[[], Figure | None]
    caption: Callable[[], str]


@dataclass(frozen=True)
class Picture:
    """A drawn figure on the page; `caption` says in a sentence what to see."""

    name: str
    title: str
    caption: str
    svg: Markup


def draw(drawings: Iterable[Drawing], report: Folder) -> dict[str, Picture]:
    """Write `figures/*.png|svg` into a report's folder; the figures that there are, by name."""
    pictures = {}
    for drawing in drawings:
        with style.styled():
            figure = drawing.draw()
            if figure is None:
                continue
            vector = style.svg(figure, drawing.name)
            report.write(f"figures/{drawing.name}.svg", vector)
            report.write(f"figures/{drawing.name}.png", style.png(figure))
        caption = drawing.caption()
        svg = style.inline(vector, drawing.name, f"{drawing.title}. {caption}")
        pictures[drawing.name] = Picture(drawing.name, drawing.title, caption, Markup(svg))
    return pictures


def environment() -> jinja2.Environment:
    """The templates of this room, with the filters that every page has."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("splitray.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shows = {f.__name__: f for f in (text.tokens, text.percent, text.loss, text.signed, text.times, text.number)}
    made.filters |= shows | {"name": text.name}
    for of_estimate in (text.interval, text.middle, text.bounds):
        made.filters[of_estimate.__name__] = lambda e, show, of=of_estimate: of(e, shows[show])
    return made
