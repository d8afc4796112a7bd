"""Layouts that corpora come in: dumps of C4, Dolma and Reddit, `datasets` folders, CSV, and compressed files as found.

The right documents come from other tools: `gzip -dc` and its like, Python's csv and json.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from splitray.corpus import read as reading
from splitray.corpus.decompress import unpacked
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from tests.support.planted import read_all

ROWS = [{"text": f"{n} " + "A sentence about statutes, courts and the sea; with “quotes”. " * 4} for n in range(60)]
TEXTS = [row["text"].strip() for row in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def settings(*sources: Path | str, **fields: Any) -> CorpusSettings:
    return CorpusSettings(sources=[str(s) for s in sources], domains=2, **fields)


def texts_of(*sources: Path | str, **fields: Any) -> tuple[list[str], dict[str, int]]:
    found, tally = read_all(settings(*sources, **fields))
    return [d.text for d in found], {reason: count for reason, count in tally.items() if count}


def long_window(data: bytes) -> bytes:
    """As `zstd --long=31` writes it: the frame asks for a window of 2 GiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = stream.compress(data) + stream.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 31
    return frame


SKIPPED_FRAME = b"\x50\x2a\x4d\x18\x04\x00\x00\x00seek"
PACKED: dict[str, bytes] = {
    "c4-train.00000-of-01024.json.gz": gzip.compress(LINES),
    "plain.json": LINES,
    "dos.json": LINES.replace(b"\n", b"\r\n"),
    "mark.json": b"\xef\xbb\xbf" + LINES,
    "UPPER.JSONL.GZ": gzip.compress(LINES),
    "gzip inside.jsonl": gzip.compress(LINES),
    "gzip twice.jsonl.gz": gzip.compress(gzip.compress(LINES)),
    "zstd called gz.jsonl.gz": zstandard.compress(LINES),
    "not packed at all.jsonl.gz": LINES,
    "RC_2009-05.jsonl.zst": long_window(LINES),
    "RS_2009-05.zst.json": long_window(LINES[:3000]) + long_window(LINES[3000:]),
    "skipped frames.jsonl.zst": SKIPPED_FRAME + zstandard.compress(LINES) + SKIPPED_FRAME,
    "a.jsonl.zstd": zstandard.compress(LINES),
    "a.jsonl.bz2": bz2.compress(LINES[:500]) + bz2.compress(LINES[500:]),
    "a.json.xz": lzma.compress(LINES),
    "zeros between members.jsonl.gz": gzip.compress(LINES[:5000]) + b"\0" * 512 + gzip.compress(LINES[5000:]),
    "padded streams.jsonl.xz": lzma.compress(LINES[:5000]) + b"\0" * 8 + lzma.compress(LINES[5000:]),
    "a member a line.json.gz": b"".join(gzip.compress(line) for line in LINES.splitlines(keepends=True)),
    "a member a line.gz": b"".join(gzip.compress(line) for line in LINES.splitlines(keepends=True)),
    "joined files with marks.jsonl": b"".join(b"\xef\xbb\xbf" + line for line in LINES.splitlines(keepends=True)),
    "record separators.jsonl": b"".join(b"\x1e" + line for line in LINES.splitlines(keepends=True)),
    "an array.jsonl": json.dumps(ROWS).encode(),
    "an array, an element a line.jsonl": b"[\n" + b",\n".join(json.dumps(row).encode() for row in ROWS) + b"\n]\n",
    "objects over lines.jsonl": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "part-00000": json.dumps(ROWS[0] | {"more": "x" * 20_000}).encode() + LINES[LINES.index(b"\n") :],
    "array.json": json.dumps(ROWS).encode(),
    "array over lines.json": json.dumps(ROWS, indent=2).encode(),
    "array, an element a line.json": b"[\n" + b",\n".join(json.dumps(row).encode() for row in ROWS) + b"\n]\n",
    "array.json.gz": gzip.compress(b"\xef\xbb\xbf" + json.dumps(ROWS, ensure_ascii=False).encode()),
    "objects over lines.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
}


@pytest.mark.parametrize("name", PACKED)
def test_json_by_content_whatever_packs_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    assert texts_of(tmp_path) == (TEXTS, {})


def damaged(packed: bytes) -> dict[str, bytes]:
    half = len(packed) // 2
    return {
        "whole": packed,
        "zeros behind": packed + b"\0" * 700,
        "garbage behind": packed + b"--- end of tape ---\n" * 9,
        "cut in the middle": packed[:half],
        "cut in the checksum": packed[:-3],
    }


@pytest.mark.parametrize("damage", damaged(b""))
@pytest.mark.parametrize(
    ("tool", "pack"),
    [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress), ("zstd", zstandard.compress)],
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "txt"])
def test_damage_costs_no_more_than_it_costs_the_tool(
    tmp_path: Path, tool: str, pack: Callable[[bytes], bytes], damage: str, kind: str
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs the command {tool}")
    data = damaged(pack(LINES))[damage]
    (tmp_path / f"d.{kind}.{tool}").write_bytes(data)  # the ending is not what tells
    given = subprocess.run([tool, "-dc"], input=data, capture_output=True).stdout
    found, tally = texts_of(tmp_path, max_characters=10**6, format="text" if kind == "txt" else kind)
    # bzip2 itself writes its last block in steps of 5,000 bytes: we may give more, and never other text
    if kind == "txt":
        text = "".join(found)
        assert text.startswith(given.decode("utf-8", "ignore").strip()) and LINES.decode().startswith(text)
    else:
        whole = [line for line in given.splitlines(keepends=True) if line.endswith(b"\n")]
        assert found[: len(whole)] == [json.loads(line)["text"].strip() for line in whole]
        assert found == TEXTS[: len(found)] and (tool == "bzip2" or len(found) == len(whole))
    told = {
        "zeros behind": f"{tool} file with zeros behind its end",
        "garbage behind": f"{tool} file with other bytes behind its end",
    }
    broken = damage.startswith("cut") and not (tool == "zstd" and damage == "cut in the checksum" and not tally)
    expected = [told[damage]] if damage in told else [f"corrupt file: {tmp_path.name}/d.{kind}.{tool}"] * broken
    assert [reason.partition(" (")[0] for reason in tally] == expected and set(tally.values()) <= {1}


def test_a_checksum_that_differs_costs_no_text(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(LINES))
    packed[-6] ^= 1
    (tmp_path / "d.jsonl.gz").write_bytes(packed)
    found, tally = texts_of(tmp_path)
    assert found == TEXTS and "incorrect data check" in next(iter(tally))


def test_a_bomb_is_unpacked_piece_by_piece() -> None:
    """300 MB of zeros in a few kilobytes, in every format: memory stays far below what is unpacked."""
    zeros = bytes(300 << 20)
    for pack in (gzip.compress, bz2.compress, zstandard.compress, lambda data: lzma.compress(data, preset=0)):
        packed = pack(zeros)
        tracemalloc.start()
        stream, layers = unpacked(io.BytesIO(packed))  # type: ignore[arg-type]
        length = 0
        while piece := stream.read(1 << 16):
            length += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert length == len(zeros) and peak < 40 << 20 and layers[0].fault is None


@pytest.mark.parametrize(
    ("data", "count", "reasons"),
    [
        (json.dumps({"name": "a package", "scripts": {"x": "y"}}, indent=2), 0, {"no field 'text'": 1}),
        (json.dumps({"data": ROWS}), 0, {"no field 'text'": 1}),
        (json.dumps([1, "two", [3], None]), 0, {"not a JSON object": 4}),
        (json.dumps(ROWS)[:-40], 59, {"corrupt file": 1}),
        (json.dumps(ROWS[:2])[:-1], 2, {"corrupt file": 1}),
        (json.dumps(ROWS[:2]) + " and more", 2, {"corrupt file": 1}),
        ("[]", 0, {"file without documents": 1}),
        ("", 0, {"file without documents": 1}),
        ("no JSON", 0, {"not JSON": 1}),
        ("[" * 200_000, 0, {"corrupt file": 1}),
        (json.dumps([{"text": None}, {"text": 5}, ROWS[0]]), 1, {"empty": 1, "text is not a string": 1}),
        (json.dumps([{"text": "x" * 300_000}, ROWS[0]]), 31, {}),
        (
            json.dumps([12345, 1.5, {"text": "word " * 40}]).replace(", ", "," + "\n" * 70_000),
            1,
            {"not a JSON object": 2},
        ),
    ],
)
def test_json_that_is_no_lines(tmp_path: Path, data: str, count: int, reasons: dict[str, int]) -> None:
    (tmp_path / "d.json").write_text(data)
    found, tally = texts_of(tmp_path)
    assert len(found) == count and {reason.partition(":")[0]: n for reason, n in tally.items()} == reasons


def test_a_large_array_is_read_an_element_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "d.json").open("w") as sink:
        sink.write("[")
        for number in range(20_000):
            sink.write(("," if number else "") + json.dumps({"text": f"{number} " + "word " * 200}))
        sink.write("]")
    files, tally = list_sources(settings(tmp_path))
    tracemalloc.start()
    assert sum(1 for _ in read_file(files[0], settings(tmp_path), tally)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20 < (tmp_path / "d.json").stat().st_size
    monkeypatch.setattr(reading, "_LARGEST", 50_000)
    (tmp_path / "d.json").write_text(json.dumps([*ROWS, {"text": "x" * 10**6}, *ROWS]))
    assert [len(found) if isinstance(found, list) else found for found in texts_of(tmp_path)] == [
        60,
        {"corrupt file: " + tmp_path.name + "/d.json (JSON value above 0 MB)": 1},
    ]


# CSV

HARD = ['plain, with a comma and "quotes"' + " and more" * 20, "over\ntwo lines " * 20, "tab\tand ; and | " * 20]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_as_python_reads_it(tmp_path: Path, delimiter: str, ends: str, mark: bytes) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=ends)
    writer.writerows([["id", "text", "book"], *([f"r{n}", text, "b"] for n, text in enumerate(HARD))])
    (tmp_path / ("d.tsv" if delimiter == "\t" else "D.CSV")).write_bytes(mark + sink.getvalue().encode())
    found, tally = read_all(settings(tmp_path, id_column="id", group_column="book"))
    assert [(d.id, d.group, d.text) for d in found] == [(f"r{n}", "b", t.strip()) for n, t in enumerate(HARD)]
    assert not tally


def test_a_cell_of_csv_may_be_long_and_the_limit_is_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    (tmp_path / "d.csv").write_text("text\n" + "word " * 100_000 + "\n")
    found, tally = texts_of(tmp_path, max_characters=10**6)
    assert [len(text) for text in found] == [499_999] and not tally and csv.field_size_limit() == before


def test_rows_of_csv_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    good = "a good row, quoted " * 8
    rows = [f'1,"{good}"', "2", f'3,"{good} 3",cut,off', f'4,"{good} 4"', "5,", "", f'7,"{good} caf\xe9"']
    (tmp_path / "d.csv").write_bytes("\n".join(["id,text", *rows]).encode("latin-1"))
    found, tally = texts_of(tmp_path)
    assert found == [good.strip(), f"{good} 4"]
    assert tally == {"row with another number of cells than the header": 2, "empty": 1, "not UTF-8": 1}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"id,body\n1,some words\n", ["corpus.text_column", "d.csv", "id, body"]),
        (b"id;body\n1;some words\n", ["d.csv", "id, body"]),
        (b"1,some words without a header\n", ["d.csv", "1, some words without a header"]),
        (b"text,text\na,b\n", ["d.csv", "two columns 'text'"]),
    ],
)
def test_csv_without_the_text_column_is_refused_by_name(tmp_path: Path, data: bytes, words: list[str]) -> None:
    (tmp_path / "d.csv").write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_all(settings(tmp_path))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("above", ["", "\n\n", "sep=;\n", '\ufeff"sep=;"\r\n', "SEP=;\n\n"])
def test_what_spreadsheets_write_above_the_header_is_none_of_it(tmp_path: Path, above: str) -> None:
    rows = "".join(f'{n};"{text}"\n' for n, text in enumerate(TEXTS))
    (tmp_path / "d.csv").write_text(f"{above}id ; text \n{rows}")
    assert texts_of(tmp_path) == (TEXTS, {})
    (tmp_path / "d.csv").write_text(f'{above}id;text\n1;"{TEXTS[0]}"\n2;"{TEXTS[1]}\n')
    line = above.count("\n") + 3
    assert texts_of(tmp_path) == (
        TEXTS[:1],
        {f"corrupt file: {tmp_path.name}/d.csv (the quote of line {line} is not closed)": 1},
    )


def test_csv_without_rows_is_counted(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,text\n")
    assert texts_of(tmp_path) == ([], {"file without documents": 1})


def test_csv_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes("id,text\n1,words\n".encode("utf-16"))
    assert texts_of(tmp_path) == ([], {"not UTF-8 (UTF-16)": 1})


# tables under other names, and Arrow


def arrow_stream(path: Path, rows: list[dict[str, Any]]) -> None:
    """As `datasets` writes its shards."""
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def arrow_file(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=7)


@pytest.mark.parametrize("name", ["d.pq", "d.parq", "D.PARQUET", "d.arrow", "file.arrow", "d.feather"])
def test_tables_under_their_other_names(tmp_path: Path, name: str) -> None:
    if name.lower().startswith("d.p"):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
    else:
        (arrow_stream if name == "d.arrow" else arrow_file)(tmp_path / name, ROWS)
    assert texts_of(tmp_path) == (TEXTS, {})


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_arrow_columns_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(TEXTS).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(TEXTS, kind)
    table = pa.table({"text": column, "n": range(60)})
    with pa.OSFile(str(tmp_path / "d.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert texts_of(tmp_path) == (TEXTS, {})


def test_an_arrow_stream_cut_short_gives_what_stood_before(tmp_path: Path) -> None:
    arrow_stream(tmp_path / "d.arrow", ROWS)
    data = (tmp_path / "d.arrow").read_bytes()
    (tmp_path / "d.arrow").write_bytes(data[: len(data) // 2])
    found, tally = texts_of(tmp_path)
    assert found == TEXTS[: len(found)] and 20 < len(found) < 40 and len(found) % 7 == 0
    assert next(iter(tally)).startswith(f"corrupt file: {tmp_path.name}/d.arrow")


def test_arrow_without_the_text_column_is_refused_by_name(tmp_path: Path) -> None:
    arrow_stream(tmp_path / "d.arrow", [{"body": "x", "n": 1}])
    with pytest.raises(UserError, match=r"corpus\.text_column: .*d\.arrow has no column 'text'; .*body, n"):
        read_all(settings(tmp_path))


def test_a_table_under_the_ending_of_another_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.arrow")
    arrow_file(tmp_path / "b.parquet", ROWS)
    (tmp_path / "c.parquet").write_bytes(LINES)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    (tmp_path / "d.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:-9])
    assert texts_of(tmp_path)[1] == {
        f"corrupt file: {tmp_path.name}/a.arrow (Parquet under another ending (rename it, or set corpus.format))": 1,
        f"corrupt file: {tmp_path.name}/b.parquet (Arrow under another ending (rename it, or set corpus.format))": 1,
        f"corrupt file: {tmp_path.name}/c.parquet (JSON under another ending (rename it))": 1,
        f"corrupt file: {tmp_path.name}/d.parquet": 1,
    }


# layouts

INFO = json.dumps({"description": "text " * 50, "features": {"text": {"dtype": "string"}}}, indent=2)
CARD = "---\nlicense: mit\n---\n# A dataset\n" + "It holds text about many things. " * 20


def saved_by_datasets(folder: Path) -> None:
    """The folders that `DatasetDict.save_to_disk` leaves, and the caches of later `map`s."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for split, rows in (("train", ROWS[:40]), ("test", ROWS[40:])):
        (folder / split).mkdir()
        arrow_stream(folder / split / "data-00000-of-00001.arrow", rows)
        arrow_stream(folder / split / "cache-3f2a.arrow", [{"text": "mapped " + row["text"]} for row in rows])
        (folder / split / "dataset_info.json").write_text(INFO)
        (folder / split / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "data-0"}], "_split": split})
        )


def hub_folder(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "data/train-00000-of-00001.parquet")
    for name, text in (
        ("README.md", CARD),
        ("dataset_infos.json", INFO),
        (".gitattributes", "*.parquet lfs"),
        ("LICENSE", CARD),
        ("checksums.txt", CARD),
        ("data_card.md", CARD),
    ):
        (folder / name).write_text(text)
    (folder / f"{folder.name}.py").write_text("import datasets\n" * 50)


def hub_cache(folder: Path) -> None:
    """What `huggingface_hub` keeps: the files of a snapshot are links to blobs without an ending."""
    top = folder / "datasets--org--name"
    for name in ("blobs", "refs", "snapshots/1f2e/data"):
        (top / name).mkdir(parents=True)
    (top / "refs/main").write_text("1f2e" * 10)
    pq.write_table(pa.Table.from_pylist(ROWS), top / "blobs/aa")
    (top / "blobs/bb").write_text(CARD)
    (top / "snapshots/1f2e/README.md").symlink_to("../../blobs/bb")
    (top / "snapshots/1f2e/data/train.parquet").symlink_to("../../../blobs/aa")


def spark_folder(folder: Path) -> None:
    for part, day in enumerate(("day=1", "day=2")):
        (folder / day).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(ROWS[part * 30 :][:30]), folder / day / f"part-0000{part}.snappy.parquet")
        (folder / day / f".part-0000{part}.snappy.parquet.crc").write_bytes(b"crc")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / "part.crc").write_bytes(b"crc\0")
    pq.write_metadata(pa.schema([("text", pa.string())]), folder / "_common_metadata")
    (folder / "_delta_log").mkdir()
    (folder / "_delta_log/00000.json").write_text('{"commitInfo": {}}\n')
    pq.write_table(pa.table({"txn": ["x"]}), folder / "_delta_log/00010.checkpoint.parquet")


@pytest.mark.parametrize(
    ("write", "left_out"),
    [(saved_by_datasets, 7), (hub_folder, 6), (hub_cache, 4), (spark_folder, 5)],
    ids=["datasets", "hub", "cache", "spark"],
)
def test_the_documents_of_known_layouts_and_nothing_beside(
    tmp_path: Path, write: Callable[[Path], None], left_out: int
) -> None:
    write(tmp_path / "d")
    found, tally = texts_of(tmp_path / "d", format="auto")
    assert sorted(found) == sorted(TEXTS) and tally == {"metadata file": left_out}


def test_two_layouts_in_one_folder(tmp_path: Path) -> None:
    hub_folder(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/README.md").write_text(CARD)
    (tmp_path / "two/story.txt").write_text(TEXTS[0] + " as text")
    found, tally = texts_of(tmp_path)
    assert sorted(found) == sorted([*TEXTS, TEXTS[0] + " as text", CARD.strip()]), "a README among texts is a text"
    assert tally == {"metadata file": 6}


def test_a_file_that_is_named_is_read_whatever_it_is(tmp_path: Path) -> None:
    hub_folder(tmp_path / "d")
    assert texts_of(tmp_path / "d/README.md", tmp_path / "d/data") == ([CARD.strip(), *TEXTS], {})


def test_who_says_that_all_is_text_gets_all(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(INFO)
    (tmp_path / "README.md").write_text(CARD)
    assert sorted(texts_of(tmp_path, format="text")[0]) == sorted([INFO, CARD.strip()])


def test_a_git_lfs_pointer_is_no_document(tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 12345\n"
    for name in ("a.txt", "b.jsonl", "c.parquet", "d.json", "e.csv"):
        (tmp_path / name).write_text(pointer)
    (tmp_path / "good.txt").write_text(TEXTS[0])
    found, tally = texts_of(tmp_path)
    assert found == [TEXTS[0]] and tally.pop("Git LFS pointer (git lfs pull fetches the file)") == 4
    assert [*tally] == [f"corrupt file: {tmp_path.name}/c.parquet (Git LFS pointer (git lfs pull fetches the file))"]


# addresses

PLACES = ["a b", "a#b", "a%20b", "100%", "a+b", "ü", "a?b", "a b#c%23d"]


@pytest.mark.parametrize("name", PLACES)
def test_a_file_uri_is_decoded_as_every_tool_writes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "d.jsonl").write_bytes(LINES)
    files, _ = list_sources(settings((tmp_path / name).as_uri()))
    assert [f.name for f in files] == [f"{name}/d.jsonl"]
    assert [Path(f.root, f.path).read_bytes() for f in files] == [LINES]
    assert texts_of((tmp_path / name / "d.jsonl").as_uri()) == (TEXTS, {})
    assert texts_of(tmp_path / name) == (TEXTS, {}), "a plain path is no URI: nothing in it is decoded"


def test_a_file_uri_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a #1").mkdir()
    (tmp_path / "a #1/d.jsonl").write_bytes(LINES)
    for source in (f"file://{tmp_path}/a #1", f"file://localhost{tmp_path}/a%20#1/*.jsonl"):
        assert texts_of(source) == (TEXTS, {})


@pytest.mark.parametrize("name", ["part-00000", "part-00000.gz", "dump.txt", "data.jsonlz"])
def test_json_lines_under_any_name(tmp_path: Path, name: str) -> None:
    """Spark's output has no ending. Who says that all is text gets the lines as they are."""
    (tmp_path / name).write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    assert texts_of(tmp_path / name) == (TEXTS, {})
    plain, _ = texts_of(tmp_path / name, format="text")
    assert "\n".join(plain) == LINES.decode().strip()  # cut at line ends, since it is long


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"PK\x03\x04\x14\x00", "zip archive or office document (unpack it, or save it as text)"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z archive (unpack it)"),
        (b"\x04\x22\x4d\x18\x64\x40", "lz4 file (unpack it, or compress it with gzip or zstd)"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF (extract its text)"),
        (b"WARC/1.0\r\nWARC-Type: warcinfo\r\n", "WARC archive (extract its texts)"),
        (b'<mediawiki xmlns="http://www.mediawiki.org/">\n', "MediaWiki dump (extract its texts)"),
        (b"Obj\x01\x04\x14avro.codec", "Avro (write it as Parquet or JSON lines)"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 (write it as Parquet or JSON lines)"),
        (b"\x1f\x9d\x90", "file of compress (unpack it)"),
        (b"LZIP\x01", "lzip file (unpack it, or compress it with xz)"),
        (lzma.compress(LINES, format=lzma.FORMAT_ALONE), "lzma file (unpack it, or compress it with xz)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office document (save it as text)"),
        (b"\x93NUMPY\x01\x00", "numpy array (text is needed, not tokens)"),
        ("Law and order".encode("utf-32"), "not UTF-8 (UTF-32)"),
        ("Law and order".encode("utf-16-le"), "not UTF-8 (UTF-16)"),
        ("Law and order".encode("utf-16-be"), "not UTF-8 (UTF-16)"),
    ],
)
def test_what_is_no_text_is_named_with_a_hint(tmp_path: Path, head: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(head + b"\x01\x00 and so on " * 30)
    (tmp_path / "b.jsonl").write_bytes(LINES)
    assert texts_of(tmp_path) == (TEXTS, {reason: 1})


def test_broken_quotes_of_csv_are_counted_and_join_no_rows(tmp_path: Path) -> None:
    """Python's lenient reader makes one document of everything between two stray quotes, delimiters included."""
    lines = [f'{n},"{text}"' for n, text in enumerate(TEXTS[:6])]
    lines[1] = lines[1].removesuffix('"')  # swallows the next row up to its first quote
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *lines]) + "\n")
    assert texts_of(tmp_path) == ([TEXTS[n] for n in (0, 3, 4, 5)], {"row with a broken quote": 2})
    lines[4] = lines[4].removesuffix('"') + " at the end"
    lines[5] = "5,no quote"
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *lines]) + "\n")
    found, reasons = texts_of(tmp_path)
    assert found == [TEXTS[n] for n in (0, 3)] and reasons == {
        "row with a broken quote": 2,
        f"corrupt file: {tmp_path.name}/a.csv (the quote of line 6 is not closed)": 1,
    }
