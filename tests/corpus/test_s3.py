"""Sources and store on an object store: moto's S3 server, reached by pyarrow as a real one would be."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from splitray.corpus import Corpus, CorpusSettings, build_corpus
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.storage.store import Store
from tests.support.planted import documents

pytest.importorskip("moto.server", reason="needs the dev extra (moto) for an S3 server")
ROWS = documents(domains=2, each=60)


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, str]]:
    """(prefix, options) of URIs in a bucket that holds the planted corpus in three formats."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"scheme=http&endpoint_override={host}:{port}&allow_bucket_creation=true&region=us-east-1"
    system, _ = fs.FileSystem.from_uri(f"s3://key:secret@corpora/?{options}")
    system.create_dir("corpora")
    with system.open_output_stream("corpora/in/a.parquet") as sink:
        pq.write_table(pa.Table.from_pylist(ROWS[:50]), sink)
    with system.open_output_stream("corpora/in/b.jsonl.gz", compression=None) as sink:
        sink.write(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS[50:100]).encode()))
    for row in ROWS[100:]:
        with system.open_output_stream(f"corpora/in/tree/{row['id']}.txt") as sink:
            sink.write(row["text"].encode())
    yield "s3://key:secret@corpora", options
    server.stop()


def test_listing_and_patterns(bucket: tuple[str, str]) -> None:
    prefix, options = bucket

    def names(source: str) -> list[str]:
        return [f.name for f in list_sources(CorpusSettings(sources=[f"{prefix}/{source}?{options}"], domains=2))[0]]

    assert names("in")[:2] == ["in/a.parquet", "in/b.jsonl.gz"] and len(names("in")) == 22
    assert names("in/a.parquet") == ["a.parquet"]
    assert len(names("in/tree/*.txt")) == 20
    with pytest.raises(UserError, match="does not exist") as caught:
        names("nothing/here")
    assert "secret" not in str(caught.value) and "endpoint" not in str(caught.value)


@pytest.mark.ray
def test_a_corpus_from_and_to_s3_equals_the_local_one(
    bucket: tuple[str, str],
    tmp_path: Path,
    ray_cluster: None,
    logged: list[str],
) -> None:
    prefix, options = bucket
    settings = CorpusSettings(
        sources=[f"{prefix}/in?{options}"],
        domains=2,
        validation_share=0.3,
        tfidf={"dimensions": 8},
        tokenizer={"vocabulary": 400},
    )
    remote = build_corpus(settings, 1, Store(f"{prefix}/store?{options}"))
    local = build_corpus(settings, 1, Store(tmp_path))
    assert remote.content_hash == local.content_hash
    again = Corpus.open(Store(f"{prefix}/store?{options}"), remote.key)
    for domain in local.domains:
        assert (np.concatenate(again.tokens(domain, "train")) == np.concatenate(local.tokens(domain, "train"))).all()
    texts = [row["text"] for row in ROWS]
    assert (again.router().route(texts) == local.router().route(texts)).all()
    assert not [line for line in logged if "secret" in line]
