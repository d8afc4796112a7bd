"""Settings of alerts: messages to a webhook."""

import os
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import PlainSerializer, field_validator

from splitray.errors import UserError
from splitray.settings import Settings, operational

Occasion = Literal["stage", "failure", "stall", "end"]


def _host_alone(webhook: str | None) -> str | None:
    """What may be written of a webhook: the path of one is a password."""
    if webhook is None or webhook.startswith("$"):
        return webhook
    parts = urlsplit(webhook)
    return f"{parts.scheme}://{parts.hostname}"


Webhook = Annotated[str, PlainSerializer(_host_alone, return_type=str)]


class AlertSettings(Settings):
    """Messages to a webhook, as Slack takes them. Off where no webhook is named."""

    webhook: Webhook | None = operational(
        None,
        "URL that messages are posted to, or `$NAME` of an environment variable that holds it. Its path is a secret.",
    )
    occasions: tuple[Occasion, ...] = operational(
        ("stage", "failure", "stall", "end"),
        "Worth a message: the end of a stage, a failure, a stall, the end.",
    )
    stall_minutes: float = operational(30.0, "Minutes without progress after which the run counts as stalled.", gt=0)

    @field_validator("webhook")
    @classmethod
    def _address(cls, webhook: str | None) -> str | None:
        if webhook is None or (webhook.startswith("$") and webhook[1:].isidentifier()):
            return webhook
        _check(webhook, "it")
        return webhook

    def address(self) -> str | None:
        """The URL to post to.

        Raises:
            UserError: the environment variable is not set, or holds no URL.
        """
        if self.webhook is None or not self.webhook.startswith("$"):
            return self.webhook
        name = self.webhook[1:]
        if not (url := os.environ.get(name)):
            raise UserError(f"alerts.webhook: the environment variable {name} is not set here")
        try:
            _check(url, name)
        except ValueError as error:
            raise UserError(f"alerts.webhook: {error}") from None
        return url


def _check(url: str, what: str) -> None:
    """Refuse what cannot be posted to, in words that do not repeat it."""
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise ValueError(f"{what} has a blank or a control character in it, which no URL has")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message quotes a part of the URL
        good = False
    if not good:
        raise ValueError(f"{what} is no URL of http or https, and no $NAME of an environment variable")
