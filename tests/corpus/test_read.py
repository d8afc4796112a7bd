"""Formats, trees and patterns: every document arrives once, as it stands (for rubbish see test_rubbish.py)."""

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

from splitray.corpus.clean import clean_text, pieces
from splitray.corpus.environment import environment_files, kind_of
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile, list_sources
from tests.support.planted import read_all

LONG = "The quick brown fox jumps over the lazy dog and goes home to sleep until the next day begins anew. " * 2
OTHER = "A different text about statutes and courts, long enough to be kept by the shortest length there is. " * 2


def settings(*sources: Path | str, **fields: object) -> CorpusSettings:
    return CorpusSettings(sources=[str(s) for s in sources], domains=2, **fields)


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


def test_a_pattern_that_meets_a_loop_takes_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text(LONG)
    (tmp_path / "deep/b.txt").write_text(OTHER)
    (tmp_path / "deep/up").symlink_to(tmp_path)
    found, tally = read_all(settings(f"{tmp_path}/**/*.txt"))
    assert [d.id for d in found] == ["a.txt", "deep/b.txt"]
    assert set(tally) == {"another name of a file that is read"}


def test_row_groups_are_read_once_each(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + LONG} for n in range(100)]
    parquet(tmp_path / "d.parquet", rows, row_group_size=7)
    config = settings(tmp_path / "d.parquet")
    files, tally = list_sources(config)
    file = files[0]
    parts = [SourceFile(**{**file.plain(), "rows": (g,)}) for g in range(15)]
    found = [d.id for part in parts for d in read_file(part, config, tally)]
    assert found == [f"d.parquet:{n}" for n in range(100)]


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
    assert tally == {"not a regular file": 3, "link to a folder": 1}


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
