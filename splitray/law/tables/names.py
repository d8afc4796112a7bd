"""Names in a table of runs: one spelling for what is one thing, and a warning where two may be."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from splitray.law.law import LawWarning


def normalised(name: str) -> str:
    """A name without blanks around it and in Unicode's composed form: é is one character, however it was typed."""
    return unicodedata.normalize("NFC", name.removeprefix("\ufeff")).strip()


# What programs write where a cell has no value.
_NO_NAMES = {"", "none", "null", "nan", "na", "n/a", "#n/a", "<na>", "nil", "-", "--", "?"}


def is_no_name(name: str) -> bool:
    """Whether a cell of a trunk, a branch or a run says that there is none."""
    return name.casefold() in _NO_NAMES


def spelled_alike(domains: Sequence[str]) -> Iterator[LawWarning]:
    """A warning for domains whose names differ only by case, width, accents, blanks, hyphens or underscores."""
    groups: dict[str, list[str]] = {}
    for name in domains:
        groups.setdefault(_skeleton(name), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            listed = ", ".join(map(repr, names))
            yield LawWarning(
                "names_alike",
                "domains have nearly the same name",
                f"{listed} are fitted as {len(names)} domains, each with its own part of the rows",
                "give them one name if they are one domain",
            )


# Cyrillic and Greek letters that look like Latin ones.
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһναορτυκ", "aeopcyxijsdhvaoptuk")


def _skeleton(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold().translate(_LOOKALIKES)  # accents stand apart, and go below
    return "".join(c for c in plain if c.isalnum()) or plain
