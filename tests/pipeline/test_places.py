"""Where run folder and store lie: side by side, never in a place that is somebody else's, seen by every node."""

import os
from pathlib import Path

import pytest

from splitray.config import Config
from splitray.corpus import CorpusSettings, build_corpus
from splitray.errors import UserError
from splitray.pipeline.places import places
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import PLAIN


@pytest.mark.parametrize(
    ("run", "store"),
    [
        (None, "/here/runs/store"),
        ("demo", "/here/store"),
        ("a/demo/", "/here/a/store"),
        ("/demo", "/store"),
        ("/a/what?", "/a/store"),
        ("file:///demo", "file:///store"),
        ("s3://bucket/demo", "s3://bucket/store"),
        ("gs://bucket/runs/demo/", "gs://bucket/runs/store"),
        ("s3://key:se/cret@bucket/demo?region=x&scheme=http", "s3://key:se/cret@bucket/store?region=x&scheme=http"),
    ],
)
def test_the_store_lies_beside_the_run_folder(monkeypatch: pytest.MonkeyPatch, run: str | None, store: str) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    assert places(Config(**PLAIN), run).store == store


@pytest.mark.parametrize("run", ["s3://bucket", "s3://bucket/", "gs://k:se/cret@bucket?region=x", "/", "file:///"])
def test_a_root_has_nothing_beside_it(run: str) -> None:
    """Beside a bucket lies another bucket, somebody else's."""
    with pytest.raises(UserError, match=r"--run-dir .* is the root of a bucket or disk.*`store` in the config") as told:
        places(Config(**PLAIN), run)
    assert "cret" not in str(told.value) and "region" not in str(told.value)
    assert places(Config(**PLAIN, store="/mine"), run).store == "/mine"


class HeadsOwn(Folder):
    """A folder on the driver's own disk: what is written here, no task finds (it opens a plain `Folder`)."""

    def write(self, name: str, data: bytes) -> None:
        pass


@pytest.mark.ray
def test_a_store_that_a_node_does_not_see_is_refused_before_the_corpus(
    tmp_path: Path, ray_cluster: None, logged: list[str]
) -> None:
    (tmp_path / "text.txt").write_text("word " * 100)
    settings = CorpusSettings(sources=[str(tmp_path / "text.txt")], domains=1)
    with pytest.raises(UserError, match=r"store .*/store is not seen by nodes \w{8}: .*--run-dir"):
        build_corpus(settings, 1, Store(HeadsOwn(tmp_path / "store")))
    assert logged == [], "nothing has begun"
