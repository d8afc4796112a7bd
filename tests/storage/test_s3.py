"""The store on an object store: moto's S3 server through pyarrow's own client, also over a line that fails."""

import gzip
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from splitray.corpus.clean import clean_documents
from splitray.corpus.read import read_file
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import SourceFile, list_sources, plan_units
from splitray.errors import CorruptError, SplitrayError, StorageError, UserError
from splitray.storage import retry as retries
from splitray.storage.cache import unchecked
from splitray.storage.folder import Folder
from splitray.storage.redact import without_query
from splitray.storage.store import Store
from tests.support.flaky import Line

pytest.importorskip("moto.server", reason="needs the dev extra (moto) for an S3 server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of an S3 server that holds the bucket `runs`."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    place = "{}:{}".format(*running.get_host_and_port())
    bucket = fs.S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=place, scheme="http", allow_bucket_creation=True
    )
    bucket.create_dir("runs")
    yield place
    running.stop()


def uri(server: str, path: str) -> str:
    return f"s3://key:secret@runs/{path}?scheme=http&endpoint_override={server}&region=us-east-1"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unchecked.cache_clear()
    return tmp_path


def test_folder_round_trip(server: str) -> None:
    folder = Folder(uri(server, "trip"))
    assert folder.names() == [] and not folder.exists("a/b.json")
    folder.write_json("a/b.json", {"x": 1})
    folder.write("c", b"12345")
    again = pickle.loads(pickle.dumps(folder / "a"))  # noqa: S301 - our own object, as Ray sends it
    assert again.read_json("b.json") == {"x": 1} and again.uri == "s3://runs/trip/a"
    assert folder.names() == ["c"] and folder.names(recursive=True) == ["a/b.json", "c"]
    assert folder.folders() == ["a"] and folder.size("c") == 5 and folder.size("a") is None
    assert not folder.create_json("a/b.json", {}) and folder.create_json("a/new.json", {})
    folder.delete("a")
    folder.delete("never")
    assert folder.names(recursive=True) == ["c"]
    with pytest.raises(FileNotFoundError):
        folder.read("gone")
    with pytest.raises(UserError, match=r"'\.\./x' is not a name inside s3://runs/trip:"):
        folder.read("../x")


def test_store_round_trip(server: str, tmp_path: Path, cache: Path) -> None:
    store = Store(uri(server, "store"))
    source = tmp_path / "w"
    source.write_bytes(b"weights")
    late, attempt = store.attempt("k"), store.attempt("k")
    for each in (late, attempt):
        each.add(source, "w")
    made = attempt.publish({"n": 1})
    assert late.publish({"n": 2}).nonce == made.nonce
    found = store.find("k")
    assert found is not None and found.meta == {"n": 1} and store.keys() == ["k"]
    assert found.fetch("w").read_bytes() == b"weights" and found.fetch("w") == found.fetch("w")
    assert list(store.orphaned_attempts()) == [(f"attempts/k/{late.nonce}", 7)]
    store.invalidate("k")
    assert store.find("k") is None and late.publish({"n": 2}).nonce == late.nonce


def test_damage_is_found_through_the_cache(server: str, tmp_path: Path, cache: Path) -> None:
    store = Store(uri(server, "rotten"))
    source = tmp_path / "w"
    source.write_bytes(b"weights")
    attempt = store.attempt("k")
    attempt.add(source, "w")
    made = attempt.publish({})
    cached = made.fetch("w")
    cached.write_bytes(b"weighty")
    assert made.fetch("w").read_bytes() == b"weights", "a cached copy that has rotted is downloaded anew"
    made.folder.write("w", b"weighty")
    made.fetch("w").unlink()
    for _ in range(2):
        with pytest.raises(CorruptError, match=r"s3://runs/rotten/attempts/k/\w+/w has SHA-256"):
            made.fetch("w")
    made.folder.delete("w")
    with pytest.raises(CorruptError, match=r"s3://runs/rotten/attempts/k/\w+/w cannot be read"):
        made.fetch("w")


def test_the_cache_is_nobody_elses(server: str, cache: Path) -> None:
    Folder(uri(server, "own")).write("w", b"weights")
    (cache / "elsewhere").mkdir()
    (cache / f"splitray-cache-{os.getuid()}").symlink_to(cache / "elsewhere")
    with pytest.raises(StorageError, match="belongs to somebody else"):
        Folder(uri(server, "own")).fetch("w", sha256(b"weights").hexdigest())


WRONG: list[tuple[str, list[str], Callable[[Folder], Any]]] = [
    ("write", ["500", "503"] * 6, lambda f: f.write("new", b"data")),
    ("create", ["503"] * 12, lambda f: f.create_json(f"{time.monotonic()}.json", {})),
    ("read", ["drop"] * 8, lambda f: f.read("old")),
    ("exists", ["503", "drop"] * 5, lambda f: f.exists("old")),
    ("names", ["cut"], lambda f: f.names()),
    ("fetch", ["stall"], lambda f: f.fetch("old", sha256(b"data").hexdigest()).read_bytes()),
]


@pytest.mark.parametrize(("faults", "act"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_goes_wrong_on_the_way_is_tried_again(
    server: str, cache: Path, faults: list[str], act: Callable[[Folder], Any]
) -> None:
    """Errors, broken connections and silence, more of them than the S3 client itself forgives (four tries)."""
    straight = Folder(uri(server, "line"))
    straight.write("old", b"data")
    line = Line(server, faults)
    expected = act(straight)
    for path in cache.glob("splitray-cache-*/*"):
        path.unlink()
    assert act(Folder(uri(line.place, "line"))) == expected
    assert line.met == len(faults) and line.tried > len(faults)


def test_sources_behind_a_bad_line_are_read_whole(server: str, cache: Path) -> None:
    """No document is lost to it, and nothing is called corrupt: a Parquet of five row groups, gzip and plain lines."""
    texts = [f"document {n} " + "word " * 40 for n in range(100)]
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()
    folder = Folder(uri(server, "sources"))
    pq.write_table(pa.table({"text": texts}), cache / "t.parquet", row_group_size=20)
    folder.put(cache / "t.parquet", "a.parquet")
    folder.write("b.jsonl.gz", gzip.compress(lines))
    folder.write("c.jsonl", lines)
    line = Line(server, ["", "503", "drop"] * 12)
    settings = CorpusSettings(sources=[uri(line.place, "sources")], domains=2)
    files, tally = list_sources(settings)
    units = [SourceFile(**plain) for unit in plan_units(files, settings, tally) for plain in unit]
    raw = (document for file in units for document in read_file(file, settings, tally))
    documents = list(clean_documents(raw, 10, 1000, tally))
    assert [d.text for d in documents] == [t.strip() for t in texts] * 3 and not tally
    assert line.met >= 16, "hardly anything went wrong"


def test_sources_that_the_storage_does_not_give_end_the_build(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage between listing and reading: an error that names the file, and no corpus without its text."""
    folder = Folder(uri(server, "out"))
    folder.write("c.jsonl", b'{"text": "x"}\n')
    line = Line(server, [])
    settings = CorpusSettings(sources=[uri(line.place, "out")], domains=2)
    files, tally = list_sources(settings)
    line.faults += ["drop"] * 10**4
    monkeypatch.setattr(retries, "_ATTEMPTS", 1)
    with pytest.raises(StorageError, match=r"^out/c\.jsonl: ") as caught:
        list(read_file(files[0], settings, tally))
    assert not tally and "secret" not in str(caught.value)
    folder.delete("c.jsonl")
    line.faults.clear()
    with pytest.raises(StorageError, match=r"out/c\.jsonl was listed as a source and is gone now: start again"):
        list(read_file(files[0], settings, tally))


def test_an_outage_ends_in_one_message_without_secrets(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_ATTEMPTS", 1)  # of eight, each of which the S3 client itself tries for seconds
    line = Line(server, ["drop"] * 10**4)
    folder = Folder(uri(line.place, "out"))
    with pytest.raises(StorageError, match=r"^s3://runs/out/f: ") as caught:
        folder.read("f")
    assert "secret" not in str(caught.value) and "endpoint_override" not in str(caught.value)


def test_secrets_stay_out_of_sight(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_ATTEMPTS", 1)
    folder = Folder(uri(server, "hidden")) / "below"
    shown = [folder.uri, repr(folder), str(folder), repr(Store(folder).root), without_query(uri(server, "x"))]
    with pytest.raises(SplitrayError) as missing:
        Folder(uri(server, "x").replace("runs/", "no-such-bucket/")).write("f", b"")
    shown.append(str(missing.value))
    for broken in (
        "s3://key:secret@runs/x?no_such_option=secret2",
        "s3://key:secret@/x",
        "nonsense://key:secret@runs/x?token=secret2",
        "s3://key:secret@runs/x?scheme=secret2",
    ):
        with pytest.raises((UserError, StorageError)) as caught:
            Folder(broken).write("f", b"")
        shown.append(str(caught.value) + repr(caught.value.__cause__))
    for text in shown:
        assert not any(word in text for word in ("secret", "key:", "endpoint_override", "scheme=", "?")), text
    assert folder.address == uri(server, "hidden/below")


def held(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("splitray-cache-*/*")}


def test_the_cache_drops_what_was_used_longest_ago(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two of three files. What a process has mapped stays readable, and comes back when asked for again."""
    folder, contents = Folder(uri(server, "room")), [bytes([n]) * 400_000 for n in range(3)]
    sums = [sha256(content).hexdigest() for content in contents]
    for number, content in enumerate(contents):
        folder.write(f"{number}", content)
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", "0.001")

    def used(number: int, ago: float) -> Path:
        path = folder.fetch(f"{number}", sums[number])
        os.utime(path, (time.time() - ago, time.time() - ago))
        return path

    mapped = pa.memory_map(str(used(0, ago=9000)))
    used(1, ago=7200)
    used(0, ago=3600)  # asked for again: now 1 is the one that was used longest ago
    used(2, ago=0)
    assert held(cache) == {sums[0], sums[2]}
    used(1, ago=0)
    assert held(cache) == {sums[1], sums[2]} and mapped.read() == contents[0]
    assert folder.fetch("0", sums[0]).read_bytes() == contents[0]
    assert held(cache) == set(sums), "what was used within minutes may still be about to be opened"


def test_half_of_the_free_disk_is_the_caches(server: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One megabyte of disk: two files of 200 kB fit its half, the third takes the place of the first."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    folder = Folder(uri(server, "half"))
    for number in range(3):
        content = bytes([number]) * 200_000
        folder.write(f"{number}", content)
        path = folder.fetch(f"{number}", sha256(content).hexdigest())
        os.utime(path, (7200 + number, 7200 + number))
    assert held(small_disk) == {sha256(bytes([n]) * 200_000).hexdigest() for n in (1, 2)}


@pytest.mark.parametrize("wrong", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_told(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    Folder(uri(server, "limit")).write("f", b"data")
    monkeypatch.setenv("SPLITRAY_CACHE_GIGABYTES", wrong)
    with pytest.raises(UserError, match=f"SPLITRAY_CACHE_GIGABYTES = '{wrong}' is no number of gigabytes"):
        Folder(uri(server, "limit")).fetch("f", sha256(b"data").hexdigest())


def test_what_has_no_checksum_is_fetched_anew_and_not_kept(server: str, cache: Path) -> None:
    folder = Folder(uri(server, "unchecked"))
    folder.write("f", b"one")
    first = folder.fetch("f")
    assert first.read_bytes() == b"one" and held(cache) == set()
    folder.write("f", b"two")
    again = folder.fetch("f")
    assert again.read_bytes() == b"two" and len(list(again.parent.iterdir())) == 1
    with pytest.raises(FileNotFoundError):
        folder.fetch("gone")


def test_a_file_that_another_process_drops_meanwhile_is_no_damage(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the reading: taken for damage, it would withdraw what is whole."""
    folder, whole = Folder(uri(server, "dropped")), sha256(b"data").hexdigest()
    folder.write("f", b"data")
    path, touch = folder.fetch("f", whole), os.utime

    def drop(file: Any, *more: Any) -> None:
        touch(file, *more)
        path.unlink(missing_ok=True)

    monkeypatch.setattr(os, "utime", drop)
    assert folder.fetch("f", whole).read_bytes() == b"data"
