"""Documents of planted subjects: each subject has words of its own, so that a clustering has a right answer."""

import random
from collections.abc import Iterator

_SUBJECTS = {
    "law": "court statute plaintiff clause contract liable appeal judge verdict tenant lease tort breach remedy",
    "food": "butter oven flour recipe garlic simmer whisk dough onion pepper sauce roast basil cream",
    "sea": "harbour sail anchor tide vessel mast captain wave storm rudder keel current shore gull",
}
_COMMON = ("the", "of", "and", "to", "in", "a", "is", "that", "it", "for", "on", "as", "with", "was", "by", "this")


def documents(subject: str, count: int, seed: int = 0, words: int = 120) -> Iterator[str]:
    """Texts of a subject, all different, about 700 characters each."""
    draw, own = random.Random(f"{subject}/{seed}"), _SUBJECTS[subject].split()
    for number in range(count):
        taken = (draw.choice(own if draw.random() < 0.5 else _COMMON) for _ in range(words))
        yield f"{subject} {seed} {number}: " + " ".join(taken)
