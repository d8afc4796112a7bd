"""Messages to a webhook, as Slack takes them, from a thread of their own."""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from splitray.storage.redact import without_secrets

_log = logging.getLogger(__name__)

_TIMEOUT, _AGAIN = 10.0, 2.0  # seconds for an answer, and before the second and last try
_WAITING = 100  # messages that may wait; a run has a dozen
_COLOURS = {"good": "#2eb67d", "warning": "#ecb22e", "bad": "#e01e5a"}


@dataclass(frozen=True)
class Alert:
    """One message.

    Attributes:
        text: one or two sentences.
        mood: good, warning or bad; a colour there.
        fields: short facts below the text, by their names.
    """

    text: str
    mood: str = "good"
    fields: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON that is posted, without the secrets of this process's environment and of addresses."""
        facts = [{"title": _plain(name), "value": _plain(value), "short": True} for name, value in self.fields.items()]
        attachment = {"color": _COLOURS[self.mood], "fallback": _plain(self.text), "fields": facts}
        return json.dumps({"text": _plain(self.text), "attachments": [attachment]}).encode()


def _plain(text: str) -> str:
    """Without secrets; `&`, `<` and `>` are Slack's own signs."""
    text = without_secrets(text, os.environ)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _NoRedirect(HTTPRedirectHandler):
    """A message goes where the user has said and nowhere else."""

    def redirect_request(self, *args: object) -> None:
        return None


class Webhook:
    """Posts messages one after another. A webhook that does not take one costs a warning once, and no more.

    Args:
        url: of http or https. Its path is a secret, and is not logged.
    """

    def __init__(self, url: str) -> None:
        self._url, self._host = url, urlsplit(url).hostname
        self._failed = False
        self._messages: queue.Queue[Alert | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True, name="webhook")
        self._thread.start()

    def put(self, alert: Alert) -> None:
        """Have a message posted. Returns at once."""
        try:
            self._messages.put_nowait(alert)
        except queue.Full:
            self._fail("too many messages wait for it")

    def close(self, patience: float = 2 * _TIMEOUT + _AGAIN) -> None:
        """Have what waits posted, for some seconds."""
        try:
            self._messages.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _work(self) -> None:
        while (alert := self._messages.get()) is not None:
            why = self._post(alert)
            if why is not None:
                time.sleep(_AGAIN)
                why = self._post(alert)
            if why is not None:
                self._fail(why)

    def _post(self, alert: Alert) -> str | None:
        """Post once; why it was not taken. Only what the system says is repeated: other messages quote the URL."""
        try:
            request = Request(self._url, alert.body(), {"Content-Type": "application/json"}, method="POST")
            with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT):
                return None
        except HTTPError as error:
            error.close()
            return f"it answers {error.code}"
        except HTTPException as error:  # no HTTP: some are an OSError too, and repeat what the server said
            return type(error).__name__
        except OSError as error:
            reason = error.reason if isinstance(error, URLError) else error
            return str(reason) if isinstance(reason, OSError) and str(reason) else type(error).__name__
        except Exception as error:  # whatever it is: it must not end the thread, whose traceback would be printed
            return type(error).__name__

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("alerts.webhook: %s took no message (%s); the run goes on", self._host, why)
