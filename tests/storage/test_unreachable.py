"""Object stores that never answer: a word at once, and an end in one message before anybody has lost patience."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from splitray.corpus.settings import CorpusSettings
from splitray.corpus.sources import list_sources
from splitray.errors import StorageError, UserError
from splitray.storage import address, retry
from splitray.storage.folder import Folder
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word after 0.2 s instead of 10, the end after 2 s instead of 40."""
    monkeypatch.setattr(retry, "_LATE", 0.2)
    monkeypatch.setattr(retry, "_UNREACHED", 2.0)
    monkeypatch.setattr(retry, "_reached", set())
    monkeypatch.setattr(address, "_GCS_LIMIT", 1)


@pytest.fixture
def silent() -> Iterator[str]:
    """host:port of a server that takes connections and says nothing."""
    taken = []
    door = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(door.accept())

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{door.getsockname()[1]}"
    door.close()
    for connection, _ in taken:
        connection.close()


@pytest.fixture
def closed() -> str:
    """host:port of no server at all."""
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("store", ["s3://key:secret@bucket/runs", "gs://anonymous@bucket/runs"])
def test_a_store_that_is_not_there(closed: str, logged: list[str], store: str) -> None:
    folder = Folder(f"{store}?endpoint_override={closed}&scheme=http")
    with pytest.raises(StorageError, match=r"(s3|gs)://bucket/runs: .*[Cc]onnect"):
        folder.names()
    assert [line for line in logged if "cannot reach" in line and "://bucket: no answer" in line], logged
    assert "secret" not in "".join(logged)


def test_a_store_that_takes_the_connection_and_says_nothing(silent: str, logged: list[str]) -> None:
    """The S3 client itself waits 100 s here before it gives the first attempt up: the word comes meanwhile."""
    folder = Folder(f"s3://key:secret@bucket/runs?endpoint_override={silent}&scheme=http")

    def ask() -> None:
        with contextlib.suppress(StorageError):  # once the server is closed
            folder.exists("a")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while asking.is_alive() and not logged:
        time.sleep(0.05)
    assert logged == ["cannot reach s3://bucket: no answer for 0 s, trying for 2 s"]


def test_a_source_that_is_not_there(closed: str, logged: list[str]) -> None:
    source = f"gs://anonymous@bucket/text?endpoint_override={closed}&scheme=http"
    with pytest.raises(UserError, match=r"corpus.sources: gs://bucket/text cannot be opened: .*[Cc]onnect"):
        list_sources(CorpusSettings(sources=[source], domains=2))
    assert any("cannot reach gs://bucket" in line for line in logged), logged


def test_a_store_that_has_answered_is_given_more_time(logged: list[str]) -> None:
    """A pause of a store that a run already works with is waited out by all attempts, without a word of misspelling."""
    calls = []

    def action() -> str:
        calls.append(time.monotonic())
        if len(calls) in (1, 7):  # five waits of 0.1 to 1.6 s and more: 3.1 s at least
            return "answer"
        raise OSError("503 Slow Down")

    assert retry.retry(action, "s3://bucket/a", remote=True) == "answer"
    assert retry.retry(action, "s3://bucket/b", remote=True) == "answer"
    assert len(calls) == 7 and calls[-1] - calls[0] > retry._UNREACHED and not logged


def test_a_fault_of_ours_is_not_taken_for_one_of_the_store() -> None:
    with pytest.raises(TypeError):
        retry.retry(lambda: len(5), "s3://bucket/a", remote=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("store", ["abfs://container@account.dfs.core.windows.net/runs", "hf://datasets/no/such/thing"])
def test_clients_with_errors_of_their_own(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's unknown error of an Azure client without a login, and httpx's: a message with the whole address."""
    monkeypatch.setattr(retry, "_ATTEMPTS", 1)
    with pytest.raises((StorageError, UserError), match=store.partition("?")[0]):
        Folder(store).names()
