"""Measure the prose of the documentation: words a sentence, and the share of sentences above 25 words.

    python scripts/prose.py                    # every page
    python scripts/prose.py --longest 10       # and its longest sentences, with their lines
    python scripts/prose.py --check            # exit code 1 where all pages together are above the limits

Left out are code, tables, headings, pictures and lists of links. A sentence ends at . ! ? or a colon, and with its
paragraph or list item. A code span is one word; other words have a letter or a digit in them.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 25  # words; longer sentences are counted
MEAN_LIMIT, SHARE_LIMIT = 16.0, 0.08  # over all pages

_FENCE = re.compile(r"^\s*(```|~~~)")
_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
# a list item that opens with a link leads to a page, as a table of contents does
_LINK_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+\[[^\]]+\]\(")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE_SPAN = re.compile(r"``.+?``|`[^`]+`")
_ABBREVIATION = re.compile(r"\b(et al|e\.g|i\.e|cf|vs|Fig|Eq)\.")
_NUMBER = re.compile(r"^(\W*)\d+\.\s")  # "**1. A claim": the number is no sentence
_END = re.compile(r"(?<=[.!?:])[)\"'*_]*\s+")


@dataclass(frozen=True)
class Sentence:
    """A sentence with the line of the file at which its paragraph begins."""

    text: str
    line: int

    @property
    def words(self) -> int:
        return sum(any(c.isalnum() for c in word) for word in self.text.split())


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that are measured: README, CONTRIBUTING and every Markdown file of docs/."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def blocks(markdown: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of every paragraph and list item that is prose."""
    text: list[str] = []
    first, in_code, in_links = 1, False, False
    for number, line in enumerate([*markdown.splitlines(), ""], start=1):
        fence = bool(_FENCE.match(line))
        in_code ^= fence
        bare = line.strip()
        is_code = in_code or fence or bare.startswith(":::")
        breaks = is_code or not bare or bare.startswith(("#", "|", "<!--", "![")) or bool(_LIST_ITEM.match(line))
        if breaks and text:
            yield first, " ".join(text)
            text = []
        if breaks and not is_code:
            in_links = bool(_LINK_ITEM.match(line))
        if is_code or not bare or in_links or bare.startswith(("#", "|", "<!--", "![")):
            continue
        if not text:
            first = number
        text.append(_LIST_ITEM.sub("", line).strip().removeprefix("> "))


def sentences(markdown: str) -> list[Sentence]:
    """Every sentence of a page's prose, in order."""
    found = []
    for line, text in blocks(markdown):
        plain = _LINK.sub(r"\1", _PICTURE.sub("", _CODE_SPAN.sub("CODE", text)))
        plain = _NUMBER.sub(r"\1", _ABBREVIATION.sub(lambda match: match.group().replace(".", ""), plain))
        for part in _END.split(plain):
            sentence = Sentence(part.strip(), line)
            if sentence.words:
                found.append(sentence)
    return found


def mean_words(found: Sequence[Sentence]) -> float:
    return sum(s.words for s in found) / len(found) if found else 0.0


def share_long(found: Sequence[Sentence]) -> float:
    """The part of the sentences that have more than `LONG` words, from 0 to 1."""
    return sum(s.words > LONG for s in found) / len(found) if found else 0.0


def _row(name: str, found: Sequence[Sentence]) -> str:
    return f"{name:<24} {len(found):>9} {mean_words(found):>15.1f} {share_long(found):>14.0%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns 1 with `--check` where a limit is exceeded, else 0."""
    parser = argparse.ArgumentParser(description="Words a sentence of the documentation.")
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown files; default: README, CONTRIBUTING, docs")
    parser.add_argument("--check", action="store_true", help="exit with 1 above 16 words or 8 % over all pages")
    parser.add_argument("--longest", type=int, default=0, metavar="N", help="show the N longest sentences of each page")
    options = parser.parse_args(arguments)
    every: list[Sentence] = []
    print(f"{'page':<24} {'sentences':>9} {'words a sentence':>15} {f'above {LONG}':>13}")
    for path in options.pages or pages():
        found = sentences(path.read_text(encoding="utf-8"))
        every += found
        print(_row(path.name, found))
        for line in _longest(found, options.longest):
            print(f"    {path.name}:{line}")
    print(_row("all pages", every))
    if options.check and (mean_words(every) > MEAN_LIMIT or share_long(every) > SHARE_LIMIT):
        print(
            f"prose: more than {MEAN_LIMIT:g} words a sentence, or more than {SHARE_LIMIT:.0%} above {LONG}: shorten "
            "what --longest 10 shows",
            file=sys.stderr,
        )
        return 1
    return 0


def _longest(found: Iterable[Sentence], count: int) -> Iterator[str]:
    for sentence in sorted(found, key=lambda s: -s.words)[:count]:
        yield f"{sentence.line}: ({sentence.words}) {sentence.text}"


if __name__ == "__main__":
    sys.exit(main())
