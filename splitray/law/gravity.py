"""Which warnings matter most: those that can change the decision come first, and few are shown at once."""

from collections.abc import Iterable, Sequence

from splitray.law.law import LawWarning

SHOWN = 3  # a person acts on few things at once; the rest is one step away, in JSON and on the report

# By what a warning can do to the decision: whether to split, and where. Within a group, the graver first.
_GROUPS: tuple[tuple[str, ...], ...] = (
    # Nothing can be decided: the table is not what it seems, or says nothing about splitting.
    ("constant_loss", "loss_unit", "count_unit", "no_specialization", "one_domain"),
    # Runs speak against the law that plans, so that the plan is wrong rather than unsure.
    ("trials_contradict", "law_turns_up", "rises_with_tokens", "misfit"),
    # The split would lie elsewhere, and it is known where: a limit binds, weights are left out, or another law that
    # fits as well loses so many nats with this plan. Or a formula's shape decides it, far beyond the runs.
    ("limit_reached", "weights_left_out", "forms_disagree", "split_at_an_end"),
    # The target is trained otherwise than the runs. On the proof's nine lines a law without the schedule lost 0.0111
    # nats by its plans instead of 0.0008; a rate twice off costs 0.005 and more; another shape moved the loss by 3.8 %.
    (
        "other_schedule",
        "far_target",
        "other_learning_rate",
        "other_width_to_depth",
        "size_at_the_end",
        "repeated_text",
    ),
    # The runs leave something open, which the wide intervals and the two groups above show where it matters.
    (
        "one_ray",
        "few_sizes",
        "few_token_counts",
        "no_small_specialization",
        "names_alike",
        "rows_repeated",
        "floor_at_zero",
        "at_bound",
        "not_identified",
    ),
    # The plan stays; only how sure it is changes.
    ("no_interval", "no_replicates"),
    # About what is measured beside the plan.
    ("far_strategies",),
)
_PLACE = {code: place for place, code in enumerate(code for group in _GROUPS for code in group)}


def ordered(warnings: Iterable[LawWarning]) -> tuple[LawWarning, ...]:
    """The warnings, the one that can change the decision most first; unknown ones last, in their own order."""
    return tuple(sorted(warnings, key=lambda warning: _PLACE.get(warning.code, len(_PLACE))))


def folded(warnings: Sequence[str], where: str) -> list[str]:
    """The first `SHOWN` texts, and how many more there are and where."""
    more = len(warnings) - SHOWN
    return [*warnings[:SHOWN], *([f"and {more} more: {where}"] if more > 0 else [])]
