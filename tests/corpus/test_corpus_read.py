"""Formats and rubbish: every document arrives, every fault is a counted reason or a clear error."""

import gzip
import json
import os
import socket
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from splitray.corpus.clean import clean_documents, clean_text, pieces
from splitray.corpus.environment import environment_files, kind_of
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile, list_sources, plan_units
from splitray.errors import UserError

LONG = "The quick brown fox jumps over the lazy dog and goes home to sleep until the next day begins anew. " * 2
OTHER = "A different text about statutes and courts, long enough to be kept by the shortest length there is. " * 2


def settings(*sources: Path | str, **fields: object) -> CorpusSettings:
    return CorpusSettings(sources=[str(s) for s in sources], domains=2, **fields)


def read_all(config: CorpusSettings) -> tuple[list, Counter]:
    """Documents and counts of what a source gives, by the functions that the tasks run."""
    files, tally = list_sources(config)
    units = plan_units(files, config, tally)
    plain = [SourceFile(**{**p, "rows": p["rows"] and tuple(p["rows"])}) for unit in units for p in unit]
    raw = (document for file in plain for document in read_file(file, config, tally))
    return list(clean_documents(raw, config.min_characters, config.max_characters, tally)), tally


def parquet(path: Path, rows: list[dict], **options: object) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


ROWS = [{"text": LONG, "key": "a", "book": "x"}, {"text": OTHER, "key": "b", "book": "y"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("d.parquet", lambda p: parquet(p, ROWS)),
        ("d.jsonl", lambda p: p.write_bytes(LINES)),
        ("d.ndjson", lambda p: p.write_bytes(LINES.replace(b"\n", b"\r\n"))),
        ("d.jsonl.gz", lambda p: p.write_bytes(gzip.compress(LINES[:100]) + gzip.compress(LINES[100:]))),
        ("d.jsonl.zst", lambda p: p.write_bytes(zstandard.compress(LINES[:50]) + zstandard.compress(LINES[50:]))),
    ],
)
def test_tables(tmp_path: Path, name: str, write) -> None:
    write(tmp_path / name)
    found, tally = read_all(settings(tmp_path / name, id_column="key", group_column="book"))
    assert [(d.id, d.group, d.text) for d in found] == [("a", "x", LONG.strip()), ("b", "y", OTHER.strip())]
    assert not tally


def test_text_and_source_trees(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"\xef\xbb\xbf" + LONG.encode())
    (tree / "deep/er/b.py").write_text(OTHER)
    (tree / "LICENSE").write_text("licence " + LONG)
    (tree / "c.md.gz").write_bytes(gzip.compress(b"markdown " + LONG.encode()))
    (tree / "z.jsonl").write_bytes(LINES)
    (tree / ".git").mkdir()
    (tree / ".git/config").write_text(LONG)
    found, tally = read_all(settings(tree))
    names = ["tree/LICENSE", "tree/a.txt", "tree/c.md.gz", "tree/deep/er/b.py", "tree/z.jsonl:0", "tree/z.jsonl:1"]
    assert [d.id for d in found] == names
    assert found[1].text == LONG.strip(), "the byte order mark is gone"
    assert {d.container for d in found} == {"tree", "tree/z.jsonl"}
    assert not tally


def test_globs_and_equal_names(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / "data/x.jsonl").write_bytes(LINES)
    files, _ = list_sources(settings(tmp_path / "one/data", tmp_path / "two/data"))
    assert [f.name for f in files] == ["1/data/x.jsonl", "data/x.jsonl"], "equal names are told apart"
    files, _ = list_sources(settings(f"{tmp_path}/*/data/*.jsonl"))
    assert [f.name for f in files] == ["one/data/x.jsonl", "two/data/x.jsonl"]


def test_row_groups_are_read_once_each(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + LONG} for n in range(100)]
    parquet(tmp_path / "d.parquet", rows, row_group_size=7)
    config = settings(tmp_path / "d.parquet")
    files, tally = list_sources(config)
    file = files[0]
    parts = [SourceFile(**{**file.plain(), "rows": (g,)}) for g in range(15)]
    found = [d.id for part in parts for d in read_file(part, config, tally)]
    assert found == [f"d.parquet:{n}" for n in range(100)]


BAD_TABLE_ROWS = [
    (b'{"text": "%s"\n' % LONG.encode(), "not JSON"),
    (b'{"txt": "x"}\n', "no field 'text'"),
    (b"[1, 2]\n", "not a JSON object"),
    (b'{"text": 5}\n', "text is not a string"),
    (b'{"text": null}\n', "empty"),
    (b'{"text": "  \\n "}\n', "empty"),
    (b'{"text": "short"}\n', "too short"),
    (b'{"text": "\xff\xfe%s"}\n' % LONG.encode(), "not UTF-8"),
    (b'{"text": "\\ud800%s"}\n' % LONG.encode(), "lone surrogates"),
    (b'{"text": "%s"}\n' % (b"\\u0001a" * 100), "binary text"),
    (b"[" * 100_000 + b"\n", "not JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_TABLE_ROWS)
def test_bad_lines_are_counted_and_the_rest_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(LINES + line + b"\n" + LINES)
    found, tally = read_all(settings(tmp_path / "d.jsonl"))
    assert tally == {reason: 1}
    assert [d.text for d in found] == [LONG.strip(), OTHER.strip()] * 2


BAD_FILES = [
    ("empty.txt", b"", "empty"),
    ("image.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 10, "binary file"),
    ("utf16.txt", LONG.encode("utf-16"), "binary file"),
    ("latin.txt", "é à ü".encode("latin-1") * 100, "not UTF-8"),
    ("late.txt", b"a" * 9000 + b"\0\x01\x02" * 500, "binary text"),
    ("cut.jsonl.gz", gzip.compress(LINES * 500)[:-20], "corrupt file: d/cut.jsonl.gz (EOFError)"),
    ("no.jsonl.gz", b"this is not gzip", "corrupt file: d/no.jsonl.gz (BadGzipFile)"),
    ("no.jsonl.zst", b"this is not zstandard", "corrupt file: d/no.jsonl.zst (ZstdError)"),
    ("no.parquet", b"PAR1 this is not parquet PAR1", "corrupt file: d/no.parquet"),
    ("zero.parquet", b"", "corrupt file: d/zero.parquet"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BAD_FILES)
def test_bad_files_are_counted_and_the_rest_is_read(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "good.txt").write_text(OTHER)
    found, tally = read_all(settings(folder))
    assert tally[reason] == 1 and tally.total() == 1
    assert found[-1].text == OTHER.strip()


def test_a_parquet_broken_inside_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    parquet(path, [{"text": f"{n} {os.urandom(200).hex()}"} for n in range(2000)], compression="zstd")
    data = bytearray(path.read_bytes())
    data[1000:3000] = os.urandom(2000)
    path.write_bytes(data)
    _, tally = read_all(settings(path))
    assert [reason for reason in tally if reason.startswith("corrupt file: d.parquet (")]


def test_links_pipes_and_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text(LONG)
    (tree / "loop").symlink_to(tree)
    (tree / "broken").symlink_to(tree / "nowhere")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tree)  # socket paths are short
        server.bind("sock")
        found, tally = read_all(settings(tree))
    assert [d.id for d in found] == ["tree/a.txt"]
    assert tally == {"not a regular file": 3}


def test_a_document_of_50_megabytes_is_cut_and_keeps_its_group(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text((LONG + "\n") * (50_000_000 // len(LONG)))
    found, _ = read_all(settings(tmp_path / "big.txt"))
    assert len(found) > 5000 and {d.group for d in found} == {"big.txt"} and len({d.id for d in found}) == len(found)
    assert max(len(d.text) for d in found) <= 10_000


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    parquet(tmp_path / "d.parquet", [{"body": LONG, "number": 3}])
    for config, words in [
        (settings(tmp_path / "missing"), ["missing", "does not exist"]),
        (settings(f"{tmp_path}/*.nothing"), ["nothing", "no file matches"]),
        (settings(tmp_path / "d.parquet"), ["corpus.text_column", "d.parquet", "'text'", "body, number"]),
        (settings(tmp_path / "d.parquet", text_column="number"), ["number", "int64", "not text"]),
        (settings(tmp_path / "d.parquet", text_column="body", group_column="g"), ["corpus.group_column", "'g'"]),
        (settings("s3://bucket-of-nobody/x?region=nowhere&endpoint_override=127.0.0.1:1"), ["s3://bucket-of-nobody"]),
    ]:
        with pytest.raises(UserError) as caught:
            read_all(config)
        assert all(word in str(caught.value) for word in words), caught.value
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        read_all(settings(tmp_path / "hollow"))


def test_clean_text() -> None:
    assert clean_text(" e\u0301\r\nb\rc \n") == "é\nb\nc"
    assert clean_text("x" * 200 + "\x07") == "x" * 200
    assert clean_text("x" * 50 + "\x07") is None
    assert clean_text(" \n\t") == ""


@pytest.mark.parametrize("text", ["word " * 1000, "x" * 5000, "line\n" * 900, "a\n\nb" * 800])
def test_pieces_lose_nothing(text: str) -> None:
    parts = list(pieces(text, 300))
    assert "".join(parts) == text and max(map(len, parts)) <= 300
    assert all(len(part) >= 150 for part in parts[:-1])


def test_environment_is_capped_fixed_and_of_four_kinds() -> None:
    files = environment_files(2_000_000)
    assert files == environment_files(2_000_000)
    sizes = Counter()
    for root, path in files:
        sizes[kind_of(path)] += Path(root, path).stat().st_size
    assert sum(sizes.values()) <= 2_000_000
    assert set(sizes) == {"code", "headers", "licences", "prose"} and min(sizes.values()) > 100_000
