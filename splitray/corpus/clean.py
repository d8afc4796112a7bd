"""Clean raw documents, cut long ones into pieces, and name each piece by hashes of its id, its text and its group."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from splitray.corpus.records import Raw

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe\uffff]")
_PIECE = re.compile(r"#\d+$")  # what `clean_documents` adds to the id of a piece
_MOST_CONTROL = 0.01  # text has none; terminal recordings and broken encodings lie above 1 %
_MOST_MARKS = 30  # in a row: what Unicode calls stream-safe (UAX #15); NFC sorts longer runs in quadratic time


@dataclass(frozen=True)
class Document:
    """A clean document, or a piece of one. Hashes stand for its id (`order`), the row that it was cut from (`row`, its
    own where it is whole), its group and its text (`content`, 128 bits). `domain` is the one that it is given."""

    id: str
    group: str
    text: str
    container: str
    order: int
    row: int
    group_hash: int
    content: tuple[int, int]
    domain: str | None = None


def hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash128(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


@cache
def _marks() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A run of combining marks that no language writes: a coarse pattern, which may find others too, and the exact one.

    `re` looks characters above U+FFFF up one by one: the exact pattern takes 12 ms for a document of 2,000 letters.
    """
    marks = [chr(c) for c in range(0x300, 0x1E950) if unicodedata.combining(chr(c))]
    low = "".join(mark for mark in marks if mark <= "\uffff")
    run = f"{{{_MOST_MARKS + 1}}}"
    return re.compile(f"[{re.escape(low)}\U00010000-\U0010ffff]{run}"), re.compile(
        f"[{re.escape(''.join(marks))}]{run}"
    )


def clean_text(text: str) -> str | None:
    """Text in NFC with one kind of line end, no control characters and no blanks around it; None for binary."""
    if not text.isascii() and all(pattern.search(text) for pattern in _marks()):
        return None
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = _CONTROL.sub("", text)
    if len(text) - len(kept) > _MOST_CONTROL * len(text):
        return None
    return kept.strip()


def pieces(text: str, limit: int) -> Iterator[str]:
    """Pieces of at most `limit` characters, cut after a blank line, a line or a word of the second half if any."""
    start = 0
    while len(text) - start > limit:
        half, end = start + limit // 2, start + limit
        cut = next((at + len(mark) for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, half, end)) >= 0), end)
        yield text[start:cut]
        start = cut
    yield text[start:]


def row_of(identity: str) -> str:
    """The id of the row that a document with this id was cut from; its own where it is whole."""
    return _PIECE.sub("", identity)


def _storable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def clean_documents(raw: Iterable[Raw], shortest: int, longest: int, tally: Counter[str]) -> Iterator[Document]:
    """Clean documents in their order; what is dropped is counted in `tally` by reason."""
    for document in raw:
        text = clean_text(document.text)
        if text is None:
            tally["binary text"] += 1
            continue
        if not text:
            tally["empty"] += 1
            continue
        whole, group = (_storable(name) for name in (document.id, document.group))
        parts = [part.strip() for part in pieces(text, longest)]
        for number, part in enumerate(parts):
            if len(part) < shortest:
                tally["too short"] += 1
                continue
            try:
                content = hash128(part)
            except UnicodeEncodeError:
                tally["lone surrogates"] += 1
                continue
            identity = whole if len(parts) == 1 else f"{whole}#{number}"
            yield Document(
                id=identity,
                group=group,
                text=part,
                container=document.container,
                order=hash64(identity),
                row=hash64(whole),
                group_hash=hash64(group),
                content=content,
                domain=None if document.domain is None else _storable(document.domain),
            )
