"""The store on an object store: moto's S3 server through pyarrow's own client, also over a line that fails."""

import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from splitray import folder as folders
from splitray.errors import CorruptError, SplitrayError, StorageError, UserError
from splitray.folder import Folder, without_query
from splitray.store import Store

pytest.importorskip("moto.server", reason="needs the dev extra (moto) for an S3 server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of an S3 server that holds the bucket `runs`."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(port=0, verbose=False)
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
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
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
    assert list(store.leftovers()) == [(f"attempts/k/{late.nonce}", 7)]
    store.withdraw("k")
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
    with pytest.raises(CorruptError, match="SHA-256"):  # the cached copy is rotten, and dropped
        made.fetch("w")
    assert made.fetch("w").read_bytes() == b"weights"
    made.folder.write("w", b"weighty")
    made.fetch("w").unlink()
    with pytest.raises(CorruptError, match=r"s3://runs/rotten/attempts/k/\w+/w has SHA-256"):
        made.fetch("w")


class Line(threading.Thread):
    """A TCP line to a server that breaks its first connections off."""

    def __init__(self, server: str, broken: int) -> None:
        super().__init__(daemon=True)
        self._server, self.left, self.tried = server.split(":"), broken, 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._door.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            client, _ = self._door.accept()
            self.tried += 1
            if self.left > 0:
                self.left -= 1
                client.close()
                continue
            far = socket.create_connection((self._server[0], int(self._server[1])))
            for source, sink in ((client, far), (far, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.parametrize(
    "act",
    [lambda f: f.write("new", b"data"), lambda f: f.read("old"), lambda f: f.exists("old"), lambda f: f.names()],
    ids=["write", "read", "exists", "names"],
)
def test_a_line_that_fails_is_tried_again(server: str, act: Callable[[Folder], Any]) -> None:
    """Eight broken connections are more than the S3 client itself forgives (four tries)."""
    Folder(uri(server, "line")).write("old", b"data")
    line = Line(server, broken=8)
    folder = Folder(uri(line.place, "line"))
    expected = act(Folder(uri(server, "line")))
    assert act(folder) == expected
    assert line.left == 0 and line.tried > 8


def test_an_outage_ends_in_one_message_without_secrets(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_ATTEMPTS", 2)  # of five, each of which the S3 client itself tries for seconds
    line = Line(server, broken=10**6)
    folder = Folder(uri(line.place, "out"))
    with pytest.raises(StorageError, match=r"^s3://runs/out/f: ") as caught:
        folder.read("f")
    assert "secret" not in str(caught.value) and "endpoint_override" not in str(caught.value)


def test_secrets_stay_out_of_sight(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_ATTEMPTS", 1)
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
