"""Rubbish in the sources: each kind is counted with its reason beside documents that survive, or is one clear error."""

import gzip
import io
import json
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from splitray.corpus import Corpus, CorpusSettings, build_corpus
from splitray.corpus import read as reading
from splitray.corpus.embedders import SentenceEmbedder
from splitray.corpus.settings import SentenceSettings
from splitray.errors import UserError
from splitray.storage import retry as retries
from splitray.storage.store import Store
from tests.support.planted import documents, read_all, write_jsonl

Write = Callable[[Path], object]


def prose(tag: str, words: int = 40) -> str:
    """A document of its own: no two tags give the same."""
    draw = random.Random(tag)
    return " ".join("".join(draw.choices("abcdefghij", k=draw.randint(3, 8))) for _ in range(words))


def line(tag: str, **more: Any) -> bytes:
    return json.dumps({"text": prose(tag), **more}).encode() + b"\n"


def raw(name: str, data: bytes) -> Write:
    return lambda folder: (folder / name).write_bytes(data)


def jsonl(name: str, bad: bytes) -> Write:
    """A bad line between two good ones."""
    return raw(f"{name}.jsonl", line(f"{name} 1") + bad + b"\n" + line(f"{name} 2"))


def parquet(name: str, table: pa.Table | dict[str, Any], **options: Any) -> Write:
    made = table if isinstance(table, pa.Table) else pa.table(table)
    return lambda folder: pq.write_table(made, folder / f"{name}.parquet", **options)


def packed(write: Write, name: str) -> bytes:
    """The bytes of what a writer writes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return (Path(folder) / name).read_bytes()


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def flipped(data: bytes, share: float, count: int = 200) -> bytes:
    """Some bytes in the middle replaced by their complement."""
    at = int(len(data) * share)
    return data[:at] + bytes(255 - b for b in data[at : at + count]) + data[at + count :]


ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + bytes(range(256)) * 40
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 10
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + b"1 0 obj <</Length 44>> stream\n" * 50
ROWS = [prose(f"row {n}") for n in range(600)]
BIG = packed(parquet("t", {"text": ROWS}, compression="zstd"), "t.parquet")
FOOT = flipped(BIG, 1 - (8 + int.from_bytes(BIG[-8:-4], "little")) / len(BIG))
STREAM = b"".join(line(f"stream {n}") for n in range(400))
INVALID = pa.StringArray.from_buffers(
    3, pa.array([0, 200, 400, 600], pa.int32()).buffers()[1], pa.py_buffer(b"a b " * 50 + b"\xff" * 200 + b"c d " * 50)
)


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed_files:
        packed_files.writestr("a.txt", ROWS[0])
    return sink.getvalue()


@dataclass(frozen=True)
class Case:
    """What is written into a folder beside one good file, what must be `counted`, and how many documents are `kept`,
    -1 where the decoder decides how many it gives before a break."""

    name: str
    write: Write
    counted: dict[str, int]
    kept: int = 0
    fields: dict[str, Any] = field(default_factory=dict)


def link(name: str, target: str) -> Write:
    return lambda folder: (folder / name).symlink_to(target)


def corrupt(name: str) -> str:
    return f"corrupt file: d/{name}"


COUNTED = [
    # text files
    Case("empty text", raw("empty.txt", b""), {"empty": 1}),
    Case("only blanks", raw("blanks.txt", b" \t\r\n\f" * 500), {"empty": 1}),
    Case("only a byte order mark", raw("mark.txt", b"\xef\xbb\xbf"), {"empty": 1}),
    Case("one word", raw("word.txt", b"word"), {"too short": 1}),
    Case("a PNG", raw("image.png", PNG), {"binary file": 1}),
    Case("a PNG named .txt", raw("image.txt", PNG), {"binary file": 1}),
    Case("an ELF named .txt", raw("program.txt", ELF), {"binary file": 1}),
    Case(
        "a zip named .txt",
        raw("archive.txt", archive()),
        {"zip archive or office document (unpack it, or save it as text)": 1},
    ),
    Case("a PDF named .md", raw("paper.md", PDF), {"PDF (extract its text)": 1}),
    Case("NUL bytes at the start", raw("nul.txt", b"\0" * 100 + prose("nul").encode()), {"binary file": 1}),
    Case("NUL bytes behind 9 kB", raw("late.txt", b"a " * 4500 + b"\0\x01\x02" * 500), {"binary text": 1}),
    Case("a few control characters", raw("bell.txt", prose("bell").encode() + b"\x07"), {}, kept=1),
    Case("Latin-1", raw("latin.txt", "é à ü ".encode("latin-1") * 100), {"not UTF-8": 1}),
    Case("UTF-16 with a mark", raw("utf16.txt", prose("16").encode("utf-16")), {"not UTF-8 (UTF-16)": 1}),
    Case("UTF-16 without", raw("utf16le.txt", prose("le").encode("utf-16-le")), {"not UTF-8 (UTF-16)": 1}),
    Case("UTF-8 cut in a letter", raw("cut.txt", ("ä" * 200).encode()[:-1]), {"not UTF-8": 1}),
    Case("surrogates as bytes", raw("cesu.txt", prose("c").encode() + b"\xed\xa0\x80"), {"not UTF-8": 1}),
    Case("a mark before the text", raw("bom.txt", b"\xef\xbb\xbf" + prose("bom").encode()), {}, kept=1),
    Case("right to left", raw("rtl.txt", ("שלום עולם \u202emirror\u202c " * 20).encode()), {}, kept=1),
    Case("zero width", raw("zero.txt", ("\u200bin\u200dvisible\u2060 " * 20).encode()), {}, kept=1),
    Case("400,000 combining marks", raw("zalgo.txt", ("a" + "\u0315\u0300" * 200_000).encode()), {"binary text": 1}),
    Case("absurd blanks", raw("space.txt", b"a" + b" " * 45_000 + b"b"), {"too short": 5}),
    Case("a word of 200 kB", raw("long.txt", random.Random(1).randbytes(100_000).hex().encode()), {}, kept=20),
    Case("a Latin-1 name", lambda d: Path(os.fsdecode(bytes(d) + b"/\xe9.txt")).write_text(prose("name")), {}, kept=1),
    Case("a line end in a name", raw("a\nb.txt", prose("name 2").encode()), {}, kept=1),
    Case("a METADATA that claims to be mail", lambda d: metadata(d), {}, kept=1),
    # folders and links
    Case("a folder named x.jsonl", lambda d: (d / "x.jsonl").mkdir(), {}),
    Case("a folder named x.parquet, filled", lambda d: filled(d / "y.parquet"), {}, kept=1),
    Case("a link to itself", link("self", "self"), {"not a regular file": 1}),
    Case("two links in a circle", lambda d: (link("p", "q")(d), link("q", "p")(d)), {"not a regular file": 2}),
    Case("a dangling link", link("gone.txt", "/nowhere/at/all"), {"not a regular file": 1}),
    Case("a link to the folder above", link("up", ".."), {"link to a folder": 1}),
    Case("a link to a good file", lambda d: linked(d), {}, kept=2),
    Case("a pipe", lambda d: os.mkfifo(d / "pipe.txt"), {"not a regular file": 1}),
    Case("hidden files", raw(".hidden.txt", prose("hidden").encode()), {}),
    # JSON lines
    Case("no lines", raw("none.jsonl", b""), {"file without documents": 1}),
    Case("blank lines only", raw("blank.jsonl", b"\n \n\r\n"), {"file without documents": 1}),
    Case("a line cut short", jsonl("cut", line("x")[:-9]), {"not JSON": 1}, kept=2),
    Case("no JSON at all", jsonl("text", b"just some text"), {"not JSON": 1}, kept=2),
    Case("100,000 brackets", jsonl("deep", b"[" * 100_000), {"not JSON": 1}, kept=2),
    Case("an array", jsonl("array", b'["text"]'), {"not a JSON object": 1}, kept=2),
    Case("a string", jsonl("string", b'"text"'), {"not a JSON object": 1}, kept=2),
    Case("no text field", jsonl("field", b'{"txt": "x"}'), {"no field 'text'": 1}, kept=2),
    Case("a text of null", jsonl("null", b'{"text": null}'), {"empty": 1}, kept=2),
    Case("a text that is a number", jsonl("number", b'{"text": 5}'), {"text is not a string": 1}, kept=2),
    Case("a text that is nested", jsonl("nested", b'{"text": {"text": "x"}}'), {"text is not a string": 1}, kept=2),
    Case("a text that is a list", jsonl("list", b'{"text": ["x", "y"]}'), {"text is not a string": 1}, kept=2),
    Case("an empty text", jsonl("void", b'{"text": " \\n "}'), {"empty": 1}, kept=2),
    Case("the field twice", jsonl("twice", b'{"text": "x", "text": "y"}'), {"field 'text' given twice": 1}, kept=2),
    Case("the field twice, once below", jsonl("below", line("b", more={"text": 1})), {}, kept=3),
    Case("a line that is no UTF-8", jsonl("bytes", b'{"text": "\xff\xfe"}'), {"not UTF-8": 1}, kept=2),
    Case("lone surrogates", jsonl("lone", b'{"text": "\\ud800 %s"}' % (b"x " * 99)), {"lone surrogates": 1}, kept=2),
    Case("control characters", jsonl("bin", b'{"text": "%s"}' % (b"\\u0001a" * 100)), {"binary text": 1}, kept=2),
    Case("UTF-16 lines", raw("wide.jsonl", line("w").decode().encode("utf-16")), {"not UTF-8 (UTF-16)": 1}),
    Case("a mark before the lines", raw("bom.jsonl", b"\xef\xbb\xbf" + line("bom l")), {}, kept=1),
    Case("Windows line ends", raw("dos.jsonl", line("dos").replace(b"\n", b"\r\n") * 1), {}, kept=1),
    Case(
        "a number of 5,000 digits", jsonl("digits", b'{"text": "x", "n": %s}' % (b"9" * 5000)), {"not JSON": 1}, kept=2
    ),
    Case("a PNG named .jsonl", raw("image.jsonl", PNG), {"binary file": 1}),
    Case("gzip cut short", raw("cut.jsonl.gz", cut(gzip.compress(STREAM), 0.6)), {corrupt("cut.jsonl.gz"): 1}, kept=-1),
    Case(
        "gzip with a flipped bit", raw("rot.jsonl.gz", flipped(gzip.compress(STREAM), 0.5, 1)), {corrupt("rot"): 1}, -1
    ),
    Case("no gzip", raw("no.jsonl.gz", b"this is not gzip"), {corrupt("no.jsonl.gz"): 1}),
    Case("gzip of nothing", raw("void.jsonl.gz", gzip.compress(b"")), {"file without documents": 1}),
    Case("a gzip of no bytes", raw("zero.txt.gz", b""), {"empty": 1}),
    Case(
        "zstd cut short", raw("cut.jsonl.zst", cut(zstandard.compress(STREAM), 0.6)), {corrupt("cut.jsonl.zst"): 1}, -1
    ),
    Case("no zstd", raw("no.jsonl.zst", b"this is not zstandard"), {corrupt("no.jsonl.zst"): 1}),
    # Parquet
    Case("a Parquet of no bytes", raw("zero.parquet", b""), {corrupt("zero.parquet"): 1}),
    Case("no Parquet", raw("no.parquet", b"PAR1 this is not parquet PAR1"), {corrupt("no.parquet"): 1}),
    Case("a Parquet cut short", raw("cut.parquet", cut(BIG, 0.7)), {corrupt("cut.parquet"): 1}),
    Case("a Parquet torn inside", raw("torn.parquet", flipped(BIG, 0.2)), {corrupt("torn.parquet"): 1}, kept=-1),
    Case("a Parquet with a torn footer", raw("foot.parquet", FOOT), {corrupt("foot.parquet"): 1}),
    Case("zero rows", parquet("rows", {"text": pa.array([], pa.string())}), {"file without documents": 1}),
    Case("nulls", parquet("nulls", {"text": [prose("n"), None, None]}), {"empty": 2}, kept=1),
    Case("text that is no UTF-8", parquet("bad", pa.table({"text": INVALID})), {"not UTF-8": 1}, kept=2),
    Case("large strings", parquet("large", {"text": pa.array([prose("large")], pa.large_string())}), {}, kept=1),
    Case("dictionaries", parquet("coded", {"text": pa.array([prose("coded")]).dictionary_encode()}), {}, kept=1),
]


def metadata(folder: Path) -> None:
    (folder / "p.dist-info").mkdir()
    head = "Content-Type: multipart/mixed; boundary=x\n\n--x\n\n"
    (folder / "p.dist-info/METADATA").write_text(head + prose("metadata") + "\n--x--\n")


def filled(folder: Path) -> None:
    folder.mkdir()
    (folder / "part.txt").write_text(prose("part"))


def linked(folder: Path) -> None:
    (folder / "there.txt").write_text(prose("there"))
    (folder / "here.txt").symlink_to(folder / "there.txt")


def check(tally: Counter[str], expected: dict[str, int], name: str) -> None:
    """Every reason as often as expected, and none beside; corrupt files are told by name and decoder's reason."""
    told = Counter({_short(reason, expected): count for reason, count in tally.items() if count})
    assert told == expected, (name, tally)


def _short(reason: str, expected: dict[str, int]) -> str:
    return next((e for e in expected if e.startswith("corrupt") and reason.startswith(e)), reason)


@dataclass(frozen=True)
class Refusal:
    """What is written, the sources below the folder, further settings, and words that the one message must have."""

    name: str
    write: Write
    sources: tuple[str, ...]
    words: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)


def none(folder: Path) -> None:
    """Nothing is written."""


def tables(**columns: Any) -> Write:
    return parquet("t", {"text": [prose("t")], **columns})


REFUSED = [
    Refusal("a path that is not there", none, ("missing/x.jsonl",), ("missing/x.jsonl", "does not exist")),
    Refusal("a glob that matches nothing", none, ("*.nothing",), ("*.nothing", "no file matches")),
    Refusal(
        "a glob that matches folders only", lambda d: (d / "x.txt").mkdir(), ("*.txt",), ("*.txt", "holds no file")
    ),
    Refusal("an empty folder", none, (".",), ("sources[0]", "holds no file")),
    Refusal("a folder of dangling links", link("a", "b"), (".",), ("sources[0]", "holds no file")),
    Refusal("the second of two sources", raw("a.txt", b"x"), ("a.txt", "b.txt"), ("b.txt", "does not exist")),
    Refusal("a dangling link as a source", link("a", "b"), ("a",), ("a", "does not exist")),
    Refusal("a link to itself as a source", link("a", "a"), ("a",), ("a", "does not exist")),
    Refusal("a name of 5,000 letters", none, ("x" * 5000,), ("xxxx", "File name too long")),
    Refusal("a name with a NUL", none, ("a\0b",), ("a\\x00b", "without control characters")),
    Refusal(
        "a scheme that nobody knows", none, ("gopher://host/x",), ("gopher://host/x", "no storage that splitray opens")
    ),
    Refusal("a bucket of nobody", none, ("s3://nobody/x?endpoint_override=127.0.0.1:1",), ("s3://nobody/x",)),
    Refusal(
        "no text column", parquet("t", {"body": ["x"], "n": [1]}), (".",), ("text_column", "d/t.parquet", "body, n")
    ),
    Refusal("a text column of numbers", parquet("t", {"text": [3]}), (".",), ("text_column", "d/t.parquet", "int64")),
    Refusal("a text column of nulls", parquet("t", {"text": pa.nulls(3)}), (".",), ("text_column", "null, not text")),
    Refusal("a nested text column", parquet("t", {"text": [{"a": "x"}]}), (".",), ("text_column", "struct<a: string>")),
    Refusal("a text column of lists", parquet("t", {"text": [["x"]]}), (".",), ("text_column", "list<")),
    Refusal("a text column of bytes", parquet("t", {"text": [b"x"]}), (".",), ("text_column", "binary, not text")),
    Refusal(
        "two text columns",
        parquet("t", pa.table([["a"], ["b"]], ["text", "text"])),
        (".",),
        ("text_column", "two columns 'text'"),
    ),
    Refusal("no id column", tables(), (".",), ("corpus.id_column", "'key'", "d/t.parquet"), {"id_column": "key"}),
    Refusal("no group column", tables(), (".",), ("corpus.group_column", "'g'"), {"group_column": "g"}),
    Refusal("a table that differs from the rest", lambda d: mixed(d), (".",), ("text_column", "d/u.parquet", "words")),
]


def mixed(folder: Path) -> None:
    parquet("t", {"text": [prose("t")]})(folder)
    parquet("u", {"words": ["x"]})(folder)


def settings(*sources: Path | str, **fields: Any) -> CorpusSettings:
    return CorpusSettings(**{"sources": [str(s) for s in sources], "domains": 2} | fields)


def test_the_table_is_long_enough() -> None:
    assert len(COUNTED) + len(REFUSED) >= 60
    assert len({c.name for c in COUNTED}) == len(COUNTED)


@pytest.mark.parametrize("case", COUNTED, ids=lambda c: c.name)
def test_rubbish_is_counted_and_the_rest_survives(tmp_path: Path, case: Case) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    case.write(folder)
    (folder / "zz good.txt").write_text(prose("good"))
    found, tally = read_all(settings(folder, **case.fields))
    check(tally, case.counted, case.name)
    assert prose("good") in [d.text for d in found]
    own = [d for d in found if not d.id.startswith("d/zz good")]
    assert len(own) == case.kept or (case.kept < 0 and len(own) < 600), [d.id for d in own]
    assert len({d.id for d in found}) == len(found) and all(d.id.isprintable() for d in found)


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.name)
def test_what_cannot_be_a_source_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Refusal
) -> None:
    monkeypatch.setattr(retries, "_ATTEMPTS", 1)
    folder = tmp_path / "d"
    folder.mkdir()
    case.write(folder)
    sources = [s if "://" in s else f"{folder}/{s}".removesuffix("/.") for s in case.sources]
    with pytest.raises(UserError) as caught:
        read_all(settings(*sources, **case.fields))
    told = str(caught.value)
    assert told.startswith("corpus.") and len(told.splitlines()) == 1 and len(told) < 600
    assert all(word in told for word in case.words), told


@pytest.mark.parametrize(("name", "counted"), [("l.jsonl", "line above 0 MB"), ("l.txt", "text file above 0 MB")])
def test_what_is_too_large_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counted: str
) -> None:
    """The limit is 256 MB; here it is made 50 kB."""
    monkeypatch.setattr(reading, "_LARGEST", 50_000)
    field = "text" if name.endswith(".jsonl") else "body"  # with the field it is JSON lines, whatever it is called
    (tmp_path / name).write_bytes(json.dumps({field: "x" * 180_000}).encode() + b"\n" + line("after"))
    found, tally = read_all(settings(tmp_path))
    assert tally == {counted: 1} and [d.text for d in found] == [prose("after")] * name.endswith(".jsonl")


@pytest.mark.parametrize("name", ["big.txt", "big.jsonl"])
def test_a_document_of_50_megabytes_is_cut_and_keeps_its_group(tmp_path: Path, name: str) -> None:
    text = (prose("big") + "\n") * (50_000_000 // len(prose("big")))
    (tmp_path / name).write_text(json.dumps({"text": text}) if name.endswith("jsonl") else text)
    found, tally = read_all(settings(tmp_path / name, near_duplicate=None))
    assert len(found) >= 5000 and {d.group for d in found} == {name} and len({d.id for d in found}) == len(found)
    assert max(len(d.text) for d in found) <= 10_000 and not tally
    assert sum(len(d.text) + 1 for d in found) > 49_900_000


# the whole stage, on Ray


def quiet(message: str) -> None:
    """Nobody listens."""


def small(source: Path, **fields: Any) -> CorpusSettings:
    plain = {"validation_share": 0.2, "tfidf": {"dimensions": 16}, "tokenizer": {"vocabulary": 300}}
    return settings(source, **plain | {"near_duplicate": None, "workers": 2} | fields)


def total(corpus: Corpus) -> int:
    return sum(corpus.counts(d, s)["documents"] for d in corpus.domains for s in ("train", "validation"))


NO_VECTOR = "no vector (no word known to the embedder, or not finite)"


@pytest.mark.ray
def test_all_rubbish_at_once(tmp_path: Path, ray_cluster: None) -> None:
    """One corpus of what is above, beside 300 planted documents: every count adds up and every survivor is there."""
    folder = tmp_path / "d"
    folder.mkdir()
    # left out: where a decoder decides how much it gives, and words so long that only their own document knows them
    taken = [case for case in COUNTED if case.kept >= 0 and case.name != "a word of 200 kB"]
    expected = Counter({"exact duplicate": 1})  # the good file that also has a link
    for number, case in enumerate(taken):
        (folder / f"{number}").mkdir()
        case.write(folder / f"{number}")
        numbered = {r.replace("d/", f"d/{number}/"): n for r, n in case.counted.items() if r.startswith("corrupt")}
        expected.update(numbered or case.counted)
    write_jsonl(folder / "planted.jsonl", documents(domains=2, each=150))
    corpus = build_corpus(small(folder), 1, Store(tmp_path / "store"))
    dropped = Counter(corpus.statistics["dropped"])
    unknown = dropped.pop(NO_VECTOR, 0)  # a script of its own, and held out
    check(dropped, dict(expected), "all")
    assert unknown < 5 and total(corpus) == 300 + sum(case.kept for case in taken) - 1 - unknown
    ids = [i for d in corpus.domains for s in ("train", "validation") for i in corpus.documents(d, s)["id"].to_pylist()]
    assert len(set(ids)) == len(ids) and sum(i.startswith("d/planted.jsonl:") for i in ids) == 300
    assert all(not i or i.isprintable() for i in ids)


@pytest.mark.ray
def test_documents_that_tell_nothing(tmp_path: Path, ray_cluster: None) -> None:
    """One domain of 20,000 words, a document each, with ids and groups as people leave them."""
    rows = [{"id": f"w{n}", "group": f"g{n}", "text": f"word{n}"} for n in range(20_000)]
    rows += [{"id": f"same{n}", "group": f"g{n}", "text": "one and the same text"} for n in range(500)]
    rows += [{"id": f"signs{n}", "group": f"g{n}", "text": "+-*/ " * (n + 1)} for n in range(50)]
    rows += [{"id": "twin", "group": "", "text": prose(f"twin {n}")} for n in range(100)]
    rows += [{"id": None, "group": None, "text": prose(f"nameless {n}")} for n in range(100)]
    rows += [{"id": {"a": 1}, "group": [n], "text": prose(f"nested {n}")} for n in range(100)]
    source = write_jsonl(tmp_path / "d.jsonl", rows)
    named = {"id_column": "id", "group_column": "group", "cluster": {"sample": 30_000, "restarts": 1}}
    config = small(source, domains=1, min_characters=1, **named)
    corpus = build_corpus(config, 1, Store(tmp_path / "store"))
    lost = corpus.statistics["dropped"]
    assert lost.keys() == {"exact duplicate", NO_VECTOR} and lost["exact duplicate"] == 499
    # signs are no words; of the others only validation words that stand in no training document are unknown
    unknown = lost[NO_VECTOR] - 50
    assert 0 <= unknown < 20_000 * 0.25 and total(corpus) == 20_000 + 1 + 300 - unknown
    (domain,) = corpus.domains
    told = {s: corpus.documents(domain, s).to_pylist() for s in ("train", "validation")}
    ids = Counter(row["id"] for rows in told.values() for row in rows)
    assert ids["twin"] == 100 and ids["{'a': 1}"] == 100
    assert sum(n for i, n in ids.items() if i.startswith("d.jsonl:")) == 100
    groups = {s: {row["group"] for row in rows} for s, rows in told.items()}
    assert not groups["train"] & groups["validation"]


TOO_FEW = [
    ("fewer documents than domains", [prose(f"few {n}") for n in range(3)], 5, "domains is 5, but the sources leave"),
    ("equal documents", [prose("equal")] * 300, 2, "299 exact duplicate"),
    (
        "documents without a word",
        ["+-*/ " * (n + 30) for n in range(200)],
        2,
        "only 0 training documents of the sample",
    ),
    ("nothing but short ones", ["short"] * 100, 2, "100 too short"),
]


@pytest.mark.ray
@pytest.mark.parametrize(("name", "texts", "domains", "told"), TOO_FEW, ids=[c[0] for c in TOO_FEW])
def test_too_little_to_find_domains_in(
    tmp_path: Path, ray_cluster: None, name: str, texts: list[str], domains: int, told: str
) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match=told) as caught:
        build_corpus(small(tmp_path / "d.jsonl", domains=domains), 1, store)
    assert len(str(caught.value).splitlines()) == 1 and "corpus.domains" in str(caught.value)
    assert store.keys() == [] and not store.root.names(recursive=True)


def poisoned_model(folder: Path) -> None:
    """A sentence-transformers model of one small layer, to which the word `nan` is NaN and `inf` is infinite."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "nan",
        "inf",
        *"abcdefghij",
        *(f"##{c}" for c in "abcdefghij"),
    ]
    (folder / "bert").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[words.index("nan")] = torch.nan
        model.embeddings.word_embeddings.weight[words.index("inf")] = torch.inf
    model.save_pretrained(folder / "bert")
    made = Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[made, Pooling(16)]).save(str(folder / "model"))


def test_not_a_number_from_the_embedder(tmp_path: Path) -> None:
    """It becomes a vector of zeros, which the build counts (as above), and no other text's vector is touched."""
    pytest.importorskip("sentence_transformers", reason="needs the extra 'sentence'")
    poisoned_model(tmp_path)
    embedder = SentenceEmbedder(SentenceSettings(model=str(tmp_path / "model"), max_tokens=32, precision="float32"))
    well = [prose(f"well {n}") for n in range(6)]
    vectors = embedder.embed([well[0], "nan " + well[1], *well[2:5], "inf " + well[5]])
    assert np.isfinite(vectors).all() and [bool(v.any()) for v in vectors] == [True, False, True, True, True, False]
    np.testing.assert_allclose(vectors[[0, 2, 3, 4]], embedder.embed([well[0], *well[2:5]]), atol=1e-6)
