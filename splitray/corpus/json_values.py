"""JSON that is not one object a line: an array of objects, or objects that span lines, read one after another."""

import codecs
import io
import json
import re
from collections.abc import Iterator

_CHUNK = 1 << 16
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def is_lines(head: bytes) -> bool:
    """Whether a file that begins so holds one object a line: not an array, and some whole line is an object.

    Without a line end in its first bytes it is taken for lines too: a single line is a single object.
    """
    lines = head.removeprefix(codecs.BOM_UTF8).lstrip().split(b"\n")
    if lines[0].startswith(b"["):
        return False
    return len(lines) == 1 or any(_is_object(line) for line in lines[:-1])


def is_array_or_spread(head: bytes) -> bool:
    """Whether a file that begins so, and is called JSON lines, is an array, or has objects over several lines."""
    first = head.removeprefix(codecs.BOM_UTF8).lstrip().split(b"\n", 1)[0]
    return first.startswith(b"[") or first.strip() == b"{"


def _is_object(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def are_records(head: bytes, field: str, whole: bool) -> bool:
    """Whether the first lines of a file are objects with a field: JSON lines, whatever the file is called.

    Args:
        whole: `head` is all of the file, so that its last line is whole, too.
    """
    lines = head.removeprefix(codecs.BOM_UTF8).split(b"\n")
    first = [line for line in (lines if whole else lines[:-1]) if line.strip()][:2]
    return bool(first) and all(_is_object(line) and field in json.loads(line) for line in first)


def json_values(stream: io.BufferedReader, largest: int) -> Iterator[object]:
    """The elements of an array, or the values that stand one after another; only one is held in memory.

    Raises:
        OSError: what stands there is no JSON, or a value has more than `largest` characters.
        UnicodeDecodeError: the file is not UTF-8.
    """
    decoder, scanner = codecs.getincrementaldecoder("utf-8-sig")(), json.JSONDecoder()
    text, at, inside, at_end = "", 0, False, False
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if text[at : at + 1] == ("]" if inside else "["):
            at, inside = at + 1, not inside
            continue
        try:
            value, end = scanner.raw_decode(text, at)
            # A number may go on behind what was read so far.
            if end == len(text) and not at_end:
                raise ValueError
        except RecursionError as error:
            raise OSError("JSON nested too deep") from error
        except ValueError as error:
            text, at = text[at:], 0
            if at_end:
                if text or inside:
                    raise OSError(f"not JSON: {error}" if text else "JSON array cut short") from error
                return
            if len(text) > largest:
                raise OSError(f"JSON value above {largest >> 20} MB") from error
            # Twice as much each time: a long value is scanned a few times, not once a chunk.
            wanted = max(_CHUNK, len(text))
            data = stream.read(wanted)
            at_end = len(data) < wanted
            text += decoder.decode(data, final=at_end)
            continue
        yield value
        at = end
