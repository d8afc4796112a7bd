"""`splitray plan --design`: the ladder that a target asks for, before anything is trained."""

import argparse
from collections.abc import Callable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitray.errors import UserError
from splitray.ladder.shapes import second_shape, shapes_like
from splitray.law.planning.design import Design, design
from splitray.law.planning.question import Question
from splitray.training.settings import ModelShape
from splitray.units import human


def add_arguments(add: Callable[..., object], count: Callable[[str], float], whole: Callable[[str], int]) -> None:
    """The arguments of a design, beside those of a plan."""
    add("--design", action="store_true", help="print the ladder to train for this target, instead of a plan")
    add("--ladder-share", type=count, default=0.1, metavar="X", help="its FLOPs over the target's (default 0.1)")
    add("--sizes", type=whole, default=5, metavar="N", help="its model sizes (default 5)")
    add("--width", type=whole, help="of the target, for shapes of its ratio of width to depth")
    add("--layers", type=whole, help="of the target")
    add("--vocabulary", type=whole, default=32000, help="of the tokenizer (default 32000)")


def run(given: argparse.Namespace, question: Question | None, console: Console) -> None:
    """Print the design for a question."""
    if question is None:
        raise UserError("--design needs --params and --budget: a ladder is designed for one target")
    if (given.width is None) != (given.layers is None):
        raise UserError("--width and --layers go together: give both or none")
    made = design(question, given.ladder_share, given.sizes, level=given.level)
    console.print(Group(*_parts(made, given)))


def _parts(made: Design, given: argparse.Namespace) -> list[RenderableType]:
    ladder = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("size", "seeds", *(("hidden", "layers") if given.width else ())):
        ladder.add_column(heading, justify="right")
    parts: list[RenderableType] = [Text(_headline(made), style="bold"), ladder]
    if given.width:
        target = _shape(given)
        shapes = shapes_like(target, made.params, given.vocabulary)
        other = second_shape(shapes[0], given.vocabulary)
        for place, shape in enumerate(shapes):
            seeds = made.seeds if place == 0 else 1
            ladder.add_row(human(shape.params), f"{seeds}", f"{shape.shape.hidden}", f"{shape.shape.layers}")
        ladder.add_row(human(other.params), "1", f"{other.shape.hidden}", f"{other.shape.layers}", style="dim")
        parts.append(Text("The last one is a second shape at the smallest size: it shows what the ratio changes."))
    else:
        for place, params in enumerate(made.params):
            ladder.add_row(human(params), f"{made.seeds if place == 0 else 1}")
        parts.append(Text("Give --width and --layers of the target: the ladder's shapes should have its ratio."))
    tokens = ", ".join(human(t, 2) for t in made.pretrain_tokens)
    after = ", ".join(human(t, 2) for t in made.specialize_tokens)
    parts.append(Text(f"D: {tokens}. D': 0, and {after} in {made.domains} domains. {made.leaves} leaves of one tree."))
    return [*parts, _expected(made), Text(_promise(made))]


def _shape(given: argparse.Namespace) -> ModelShape:
    return ModelShape(hidden=given.width, layers=given.layers)


def _headline(made: Design) -> str:
    return (
        f"Train {len(made.params)} sizes from {human(made.params[0])} to {human(made.params[-1])} for {made.flops:.3g} "
        f"FLOPs, {made.share:.0%} of the target's."
    )


def _expected(made: Design) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("if this form is true", "best split", "expected interval"):
        table.add_column(heading, justify="left" if heading.startswith("if") else "right")
    for each in made.expected:
        table.add_row(each.form, f"{each.split_fraction:.0%}", f"{each.low:.0%} to {each.high:.0%}")
    return table


def _promise(made: Design) -> str:
    if not made.expected:
        return "Under no registered form does a split inside the line pay for this target."
    return (
        f"The plan's interval should span about {made.width:.0%} of the budget (the median of these). It is "
        "simulated from the registered forms with plausible constants. The noise is 0.3 %, and errors are 1.5 times "
        "as wide as it explains, as folds of other tables show."
    )
