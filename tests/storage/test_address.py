"""Addresses as people write them: one table for run folder, store, sources, SPLITRAY_HOME and the command line."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitray.config import Config
from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import list_sources
from splitray.errors import UserError
from splitray.pipeline.places import places
from splitray.storage.address import Address
from splitray.storage.folder import Folder
from splitray.storage.store import Store
from tests.support.configs import PLAIN

CWD, HOME = "/work dir/here", "/home/me"


@pytest.fixture(autouse=True)
def somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: CWD)
    monkeypatch.setenv("HOME", HOME)


# text: (scheme, path, login, options, what is shown of it)
READ: dict[str, tuple[str, str, str, str, str]] = {
    "/data/runs": ("", "/data/runs", "", "", "/data/runs"),
    "/data/runs/": ("", "/data/runs/", "", "", "/data/runs"),
    "/data//runs/./x/../y": ("", "/data//runs/./x/../y", "", "", "/data/runs/y"),
    "runs/demo": ("", f"{CWD}/runs/demo", "", "", f"{CWD}/runs/demo"),
    ".": ("", f"{CWD}/.", "", "", CWD),
    "~": ("", HOME, "", "", HOME),
    "~/runs/demo": ("", f"{HOME}/runs/demo", "", "", f"{HOME}/runs/demo"),
    "a~b": ("", f"{CWD}/a~b", "", "", f"{CWD}/a~b"),
    "/data/a#b?c%20d&e=f": ("", "/data/a#b?c%20d&e=f", "", "", "/data/a#b?c%20d&e=f"),
    "./s3:/x": ("", f"{CWD}/./s3:/x", "", "", f"{CWD}/s3:/x"),
    "12:30": ("", f"{CWD}/12:30", "", "", f"{CWD}/12:30"),
    "file:///data/runs": ("file", "/data/runs", "", "", "file:///data/runs"),
    "file:///data/a%20b%23c": ("file", "/data/a b#c", "", "", "file:///data/a%20b%23c"),
    "file:///data/a#b": ("file", "/data/a#b", "", "", "file:///data/a%23b"),
    "file:///data/a b": ("file", "/data/a b", "", "", "file:///data/a%20b"),
    "file:///data/what?": ("file", "/data/what?", "", "", "file:///data/what%3F"),
    "file://localhost/data": ("file", "/data", "", "", "file:///data"),
    "FILE:///data": ("file", "/data", "", "", "file:///data"),
    "s3://bucket": ("s3", "bucket", "", "", "s3://bucket"),
    "s3://bucket/": ("s3", "bucket", "", "", "s3://bucket"),
    "S3://bucket/runs/": ("s3", "bucket/runs", "", "", "s3://bucket/runs"),
    "gs://bucket/a#b": ("gs", "bucket/a#b", "", "", "gs://bucket/a%23b"),
    "gs://anonymous@bucket/a": ("gs", "bucket/a", "anonymous", "", "gs://bucket/a"),
    "s3://bucket/a%20b/ü?region=x&scheme=http": (
        *("s3", "bucket/a b/ü", "", "region=x&scheme=http", "s3://bucket/a%20b/ü"),
    ),
    "s3://bucket/part-?.parquet?region=x": (
        *("s3", "bucket/part-?.parquet", "", "region=x", "s3://bucket/part-%3F.parquet"),
    ),
    "s3://key:se/cr#et@bucket/a?region=x": ("s3", "bucket/a", "key:se/cr#et", "region=x", "s3://bucket/a"),
}


@pytest.mark.parametrize("text", READ)
def test_what_an_address_means(text: str) -> None:
    scheme, path, login, options, shown = READ[text]
    address = Address.parse(text)
    assert (address.scheme, address.path, address.login, address.options) == (scheme, path, login, options)
    assert address.uri == shown and "cr#et" not in repr(address)
    again = Address.parse(address.full)
    assert (again.full, again.login, again.options) == (address.full, login, options)
    assert os.path.normpath(again.path) == os.path.normpath(path)
    if address.is_local:
        assert Folder(text).path == os.path.normpath(path) and Folder(text).uri == shown


# text: what the message says
REFUSED = {
    "a\nb": "control characters",
    "file:///a%0Ab": "hides control characters",
    "s3:/bucket/x": "write s3://bucket/x, or ./s3:/bucket/x",
    "s3:bucket/x": "write s3://bucket/x",
    "s3:///bucket": "names no bucket: write s3://BUCKET/PATH",
    "gs:/bucket": "write gs://bucket",
    "file:/data/x": "write file:///data/x",
    "file://data/x": "write file:///data/x",
    "file://": "write file:///",
    "file:///x?region=y": "a '?' in a name is written %3F",
    "s3a://bucket/x": "s3a:// is no storage that splitray opens; write s3://",
    "s4://bucket/x": "s4:// is no storage",
    "https://host/x": "https:// is no storage",
    "htp:/host": "htp no storage that splitray opens",
    "dbfs:/mnt/x": "dbfs no storage that splitray opens",
    "s3//bucket/x": "write s3://bucket/x",
    "S3.//bucket/x": "write s3://bucket/x",
    "gs;//bucket": "write gs://bucket",
    "s3：//bucket/x": "write s3://bucket/x",
    "file//data/x": "write file:///data/x",
    "arn:aws:s3:::bucket/x": "write s3://bucket/x",
    "me@host:/data/x": "a path of another machine",
    "node1.cluster:/data/x": "a path of another machine",
    "runs\\demo": "path of Windows",
    ".\\runs\\demo": "path of Windows",
    "C:": "path of Windows",
    "file:///C:/data": "path of Windows",
    "file:///c|/data": "path of Windows",
    "file://~/runs": "write ~/runs",
    "file:///~/runs": "write ~/runs",
    "file://../runs": "write ../runs",
    "'/data/x'": "has quotes around it",
    '"/data/x"': "has quotes around it",
    "/data/$(date)/x": "variables such as $HOME are not filled in",
    "/data/`date`": "variables such as $HOME are not filled in",
    "/data/{{ run }}": "variables such as $HOME are not filled in",
    "s3://<your bucket>/x": "variables such as $HOME are not filled in",
    "%HOME%/x": "variables such as $HOME are not filled in",
    "s3://{bucket}/x": "no bucket is called '{bucket}'",
    "s3:// bucket/x": "no bucket is called ' bucket'",
    "s3://localhost:9000/bucket/x": "write s3://bucket/x?endpoint_override=localhost:9000",
    "s3://b.s3.eu-west-1.amazonaws.com/x": "write s3://b/x",
    "s3://bucket/x&region=y": "region stands in the path",
    "s3://bucket/x?region": "region stands in the path",
    "s3://bucket/x ": "ends with a blank",
    "://x": "has no scheme",
    "a b://x": "has no scheme",
    "C:\\runs": "path of Windows",
    "c:/runs": "path of Windows",
    "\\\\server\\share": "path of Windows",
    "~nobody-of-that-name/x": "there is no user ~nobody-of-that-name",
    "$HOME/runs": "variables such as $HOME are not filled in",
    "/data/$USER/x": "variables such as $HOME are not filled in",
    "s3://${BUCKET}/x": "variables such as $HOME are not filled in",
    " /data/x": "begins with a blank",
    "s3://bucket/../x": "no '.', '..' or empty part",
    "s3://bucket//x": "no '.', '..' or empty part",
    "s3://bucket/%FF": "not UTF-8",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_names_no_place_is_refused_with_the_right_spelling(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cure = REFUSED[text]
    for use in (Address.parse, Folder, Store, lambda t: places(Config(**PLAIN, store=t))):
        with pytest.raises(UserError, match=re.escape(cure)):
            use(text)
    with pytest.raises(UserError, match=rf"corpus\.sources.*{re.escape(cure)}"):
        list_sources(CorpusSettings(sources=[text], domains=1))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("SPLITRAY_HOME", text)
    with pytest.raises(UserError, match=rf"SPLITRAY_HOME: .*{re.escape(cure)}"):
        places(Config(**PLAIN))


# under `ray job submit`: (SPLITRAY_HOME, --run-dir): run folder, store
SUBMITTED = {
    (None, None): (f"{HOME}/splitray/runs/t", f"{HOME}/splitray/runs/store"),
    (None, "mine/x"): (f"{HOME}/splitray/mine/x", f"{HOME}/splitray/mine/store"),
    (None, "~/runs/x"): (f"{HOME}/runs/x", f"{HOME}/runs/store"),
    (None, "/data/x"): ("/data/x", "/data/store"),
    (None, "s3://b/x?region=y"): ("s3://b/x?region=y", "s3://b/store?region=y"),
    ("~/elsewhere", "x"): (f"{HOME}/elsewhere/x", f"{HOME}/elsewhere/store"),
    ("/data", "./x/"): ("/data/x", "/data/store"),
    ("file:///da%20ta", "x"): ("file:///da%20ta/x", "file:///da%20ta/store"),
    ("gs://b/home?scheme=http", "./runs/x"): ("gs://b/home/runs/x?scheme=http", "gs://b/home/runs/store?scheme=http"),
}


@pytest.mark.parametrize(("home", "run"), SUBMITTED)
def test_relative_places_of_a_submitted_job(home: str | None, run: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder there is a copy that vanishes with the job."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("SPLITRAY_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("SPLITRAY_HOME", home)
    assert places(Config(**PLAIN), run) == SUBMITTED[home, run]


def test_a_relative_place_stays_below_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("SPLITRAY_HOME", "s3://bucket/home")
    with pytest.raises(UserError, match=r"\.\./x lies outside of s3://bucket/home"):
        places(Config(**PLAIN), "../x")


@given(st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable() and "/" not in name and name.strip(".")))
def test_every_name_survives_an_address(name: str) -> None:
    """A child's address, opened in another process, is that child: `#`, `?`, `%` and blanks are parts of names."""
    for base in ("/data", "file:///data", "gs://anonymous@bucket/x?scheme=http"):
        child = Address.parse(base) / name
        again = Address.parse(child.full)
        assert (again.path, again.login, again.options) == (child.path, child.login, child.options)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """Cut at the `#`, as a URI's fragment, they would."""
    for name in ("a#1", "a#2", "a%201", "what?"):
        Folder(f"file://{tmp_path}/{name}").write("x", name.encode())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a 1", "a#1", "a#2", "what?"]
    (tmp_path / "a 1/text.txt").write_text("word " * 50)
    files, _ = list_sources(CorpusSettings(sources=[f"file://{tmp_path}/a%201/*.txt"], domains=1))
    assert [Path(f.root, f.path) for f in files] == [tmp_path / "a 1/text.txt"]
