"""Alerts, as a local HTTP server takes them; and servers that do not."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitray.config import Config, load
from splitray.errors import StageError, UserError
from splitray.pipeline import alerts
from splitray.pipeline.alerts import alerted
from splitray.pipeline.run_folder import RunFolder
from splitray.results.stages import LadderResult, Work
from splitray.runtime.progress import Progress, report
from splitray.storage.folder import Folder
from splitray.tracking import webhook as webhooks
from splitray.tracking.settings import AlertSettings
from splitray.tracking.webhook import Alert
from tests.support.configs import PLAIN

log = logging.getLogger("splitray.a_test")
LADDER = LadderResult(4, 3, 1000, 2000, 2.0, 1)
PATH = "/services/T000/B000/very-secret-path"


@dataclass
class Server:
    """An HTTP server that notes what is posted to it, and answers as it is told."""

    codes: list[int] = field(default_factory=list)  # of the next answers; 200 after them
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.paths.append(self.path)
                code = server.codes.pop(0) if server.codes else 200
                if code == 200:
                    assert self.headers["Content-Type"] == "application/json"
                    server.bodies.append(json.loads(body))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{PATH}"

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.bodies]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_AGAIN", 0.01)


def run(folder: Path, url: str, **settings: object) -> RunFolder:
    return RunFolder(Folder(folder), Config(**PLAIN | {"alerts": {"webhook": url, **settings}}))


def ladder(of: RunFolder) -> None:
    of.carry_out("ladder", lambda: LADDER, lambda: Work(trained=12_345, failures=1))


def test_a_stage_and_the_end_are_posted_as_slack_takes_them(tmp_path: Path, server: Server) -> None:
    of = run(tmp_path, server.url)
    with alerted(of):
        ladder(of)
    assert server.texts == ["splitray run t: stage ladder is done.", "splitray run t is done."]
    assert set(server.paths) == {PATH}
    (attachment,) = server.bodies[0]["attachments"]
    facts = {fact["title"]: fact["value"] for fact in attachment["fields"]}
    assert facts["tokens"] == "12,345" and facts["workers lost"] == "1" and facts["run folder"] == str(tmp_path)
    assert set(server.bodies[0]) == {"text", "attachments"} and attachment["color"].startswith("#")


def test_a_failure_is_posted_with_its_reason_and_the_stage(tmp_path: Path, server: Server) -> None:
    of = run(tmp_path, server.url)

    def fail() -> LadderResult:
        raise StageError("no worker <lived> & s3://key:pass@bucket/x?token=abc was empty")

    with pytest.raises(StageError), alerted(of):
        of.carry_out("ladder", fail, lambda: None)
    reason = "no worker &lt;lived&gt; &amp; s3://bucket/x was empty"
    assert server.texts == [f"splitray run t failed in stage ladder: {reason}"]


def test_a_stop_is_posted_as_such(tmp_path: Path, server: Server) -> None:
    with pytest.raises(KeyboardInterrupt), alerted(run(tmp_path, server.url)):
        raise KeyboardInterrupt("stopped; the same command continues")
    assert server.texts == ["splitray run t was stopped: stopped; the same command continues."]


def waited(happened: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.01)
    return happened()


@dataclass
class Clock:
    """Stands in for `time` where a stall is looked for."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(alerts, "time", made)
    monkeypatch.setattr(alerts, "_LOOK", 0.01)
    return made


def test_a_stall_is_posted_once_and_its_end_too(tmp_path: Path, server: Server, clock: Clock) -> None:
    """Work that falls back and comes to where it was is no progress: workers that die again and again look so."""
    of = run(tmp_path, server.url, stall_minutes=10, occasions=["stall"])
    with alerted(of):
        log.info("stage 2 of 9: ladder", extra={"stage": "ladder"})
        report(log, Progress("training", "half", share=0.5))
        for share in (0.2, 0.5, 0.2, 0.5):
            clock.now += 151
            report(log, Progress("training", str(share), share=share))
        assert waited(lambda: bool(server.texts))
        clock.now += 3600
        time.sleep(0.2)
        assert server.texts == ["splitray run t has made no progress for 10.1 min in stage ladder."]
        report(log, Progress("training", "further", share=0.6))
        assert waited(lambda: len(server.texts) == 2)
    assert server.texts[1] == "splitray run t makes progress again."


def test_work_that_goes_on_is_no_stall(tmp_path: Path, server: Server, clock: Clock) -> None:
    of = run(tmp_path, server.url, stall_minutes=10, occasions=["stall"])
    with alerted(of):
        for step in range(20):
            report(log, Progress("training", "", share=step / 20))
            clock.now += 599
            time.sleep(0.02)  # it is looked at meanwhile
            report(log, Progress("passes", f"row {step}"))  # of which nobody knows the share
            clock.now += 599
            time.sleep(0.02)
    assert server.texts == []


def test_only_what_was_asked_for_is_posted(tmp_path: Path, server: Server) -> None:
    of = run(tmp_path, server.url, occasions=["failure"])
    with alerted(of):
        ladder(of)
    assert server.bodies == []


@pytest.mark.parametrize("codes", [[500], [404, 404], [302, 302]])
def test_a_server_that_refuses_costs_a_warning_at_most(
    tmp_path: Path, server: Server, codes: list[int], logged: list[str]
) -> None:
    server.codes = list(codes)
    of = run(tmp_path, server.url)
    with alerted(of):
        ladder(of)
    warnings = [line for line in logged if "alerts.webhook" in line]
    if len(codes) == 1:
        assert warnings == [] and len(server.texts) == 2, "the second try was taken"
    else:
        assert warnings == [f"alerts.webhook: 127.0.0.1 took no message (it answers {codes[0]}); the run goes on"]
        assert server.texts == ["splitray run t is done."]
    assert set(server.paths) == {PATH}, "it follows no redirection"


def test_a_server_that_is_not_there_costs_one_warning(tmp_path: Path, logged: list[str]) -> None:
    of = run(tmp_path, "http://127.0.0.1:9/x")
    with alerted(of):
        ladder(of)
    (warning,) = [line for line in logged if "alerts.webhook" in line]
    assert "127.0.0.1 took no message" in warning


def test_secrets_of_the_environment_are_not_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh12345678")
    monkeypatch.setenv("SOME_KEY", "short")
    alert = Alert("failed: wJalrXUtnFEMI-K7MDENG short", fields={"why": "hf_abcdefgh12345678"})
    assert b"wJalr" not in alert.body() and b"hf_abc" not in alert.body()
    assert json.loads(alert.body())["text"] == "failed: *** short"


def test_the_path_of_a_webhook_is_written_nowhere(tmp_path: Path, server: Server) -> None:
    of = run(tmp_path, server.url)
    with alerted(of):
        ladder(of)
    of.flush()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"very-secret-path" not in file.read_bytes(), file
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["alerts"]["webhook"] == "http://127.0.0.1"


def test_the_environment_may_hold_it(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    of = run(tmp_path, "$ALERTS")
    with pytest.raises(UserError, match=r"alerts\.webhook: the environment variable ALERTS is not set"), alerted(of):
        pass
    monkeypatch.setenv("ALERTS", server.url)
    with alerted(of):
        pass
    assert server.texts == ["splitray run t is done."]


def test_what_is_no_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"alerts": {"webhook": f"hooks.example.com{PATH}"}}))
    with pytest.raises(UserError, match=r"alerts\.webhook: it is no URL of http or https") as caught:
        load(path)
    assert "secret" not in str(caught.value)


MISPLACED = [
    f"https://hooks.example.com{PATH}",
    [{"webhook": f"https://hooks.example.com{PATH}"}],
    [f"https://hooks.example.com{PATH}"],
    {"occasions": f"https://hooks.example.com{PATH}"},
    {"occasions": [f"https://hooks.example.com{PATH}"]},
    {"occasions": [{"stage": f"https://hooks.example.com{PATH}"}]},
    {"stall_minutes": f"https://hooks.example.com{PATH}"},
    {"webhook": [f"https://hooks.example.com{PATH}"]},
    {f"webhook:https://hooks.example.com{PATH}": None},
    {f"https://hooks.example.com{PATH}": 1},
]


@pytest.mark.parametrize("alerts", MISPLACED)
def test_a_url_in_a_wrong_place_of_alerts_is_not_repeated(tmp_path: Path, alerts: object) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"alerts": alerts}))
    with pytest.raises(UserError, match="alerts") as caught:
        load(path)
    assert "example" not in str(caught.value) and "secret" not in str(caught.value), caught.value


@pytest.mark.parametrize(
    "override", ["alerts.webhook.x=[{}", "alerts.web-hook={}", "alerts.webhook {}?a=b", "alerts=[{}"]
)
def test_an_override_of_alerts_is_not_repeated(tmp_path: Path, override: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"alerts": {"webhook": "$ALERTS"}}))
    with pytest.raises(UserError, match="--set alerts") as caught:
        load(path, [override.format(f"https://hooks.example.com{PATH}")])
    assert "example" not in str(caught.value) and "secret" not in str(caught.value), caught.value


BAD = [f"https://hooks.example.com{PATH} XYZ", f"https://hooks.example.com{PATH}\n", f"https://h.example.com{PATH}\x01"]
BAD += [f"https://hooks.example.com:very-secret{PATH}", f"https://hooks.example.com:99999{PATH}", f"https://h:0{PATH}"]
BAD += [f"https://[hooks{PATH}"]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_cannot_be_posted_to_is_refused_before(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stands. Where the port is wrong a part of the URL is, and Python's own message would quote it."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"alerts": {"webhook": url}}))
    with pytest.raises(UserError, match=r"alerts\.webhook: it (is no URL|has a blank)") as caught:
        load(path)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("ALERTS", url)
    with pytest.raises(UserError, match=r"alerts\.webhook: ALERTS (is no URL|has a blank)") as caught:
        AlertSettings(webhook="$ALERTS").address()
    assert "secret" not in str(caught.value)


def deaf() -> str:
    """A URL of a server that speaks no HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(4):
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-secret\r\n")
        listener.close()

    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (deaf, "BadStatusLine"),
        (lambda: f"http://127.0.0.1:9{PATH} XYZ", "InvalidURL"),
        (lambda: f"http-127.0.0.1{PATH}", "ValueError"),
    ],
)
def test_whatever_goes_wrong_is_one_warning_without_the_url(
    url: Callable[[], str], why: str, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    posting = webhooks.Webhook(url())
    for _ in range(2):
        posting.put(Alert("hello"))
        assert waited(posting._messages.empty) and posting._thread.is_alive()
    posting.close()
    (warning,) = [line for line in logged if "alerts.webhook" in line]
    assert f"took no message ({why})" in warning
    assert "secret" not in warning and "secret" not in capfd.readouterr().err


def test_a_message_that_cannot_be_made_ends_nothing(server: Server, logged: list[str]) -> None:
    posting = webhooks.Webhook(server.url)
    posting.put(Alert("hello", mood="no such mood"))
    posting.put(Alert("good day"))
    posting.close()
    assert server.texts == ["good day"]
    assert [line for line in logged if "KeyError" in line] != []


def test_without_a_webhook_nothing_is_begun(tmp_path: Path) -> None:
    before = threading.active_count()
    with alerted(RunFolder(Folder(tmp_path), Config(**PLAIN))):
        assert threading.active_count() == before
