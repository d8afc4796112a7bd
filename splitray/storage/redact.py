"""Secrets in addresses: what may be shown of a URI, and what may not stand on a command line."""

import re
from collections.abc import Mapping
from pathlib import Path

from splitray.errors import UserError

# A login has no slash, or a colon before its first one: keys hold slashes that some forget to escape. In an address of
# Azure's, what stands there without a colon is the container.
LOGIN = re.compile(r"(?<=://)(?:(?<!abfs://)(?<!abfss://)[^/@?\s]*|[^/@?\s:]+:[^@?\s'\"]*)@")
_OPTIONS = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*=[^\s'\"]*")
_PASSWORD = re.compile(r"(?<=://)[^/@?\s:]*:[^@?\s'\"]+@")
_SECRET_OPTION = re.compile(r"[?&]([^=&\s]*(?:key|secret|token|password|credential|sas|sig)[^=&\s]*)=[^&\s]", re.I)
_SECRET_NAME = re.compile("key|secret|token|password|credential|webhook", re.I)
_SHORTEST = 8  # characters of a secret: shorter values would cut ordinary words out of a text
# Tokens that say what they are: Hugging Face's, GitHub's. They need no address to be secrets.
_TOKEN = re.compile(r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{30,}|gh[opsur]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})")
# An argument that sets the section of alerts to more than a word: the address of a webhook is a secret as a whole.
_ALERTS = re.compile(r"\s*alerts(?:\.\w+)*\s*[=:](?=.*/)", re.S)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]*")


def without_query(text: str | Path) -> str:
    """A URI, or a text with URIs in it, fit for logs: their options and logins, which may hold keys, are cut off.

    What follows a `?` without a `=` is no option but part of a pattern.
    """
    return _TOKEN.sub("***", _OPTIONS.sub(r"\1", LOGIN.sub("", str(text))))


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """A text fit to leave the machine: without options and logins of URIs, and without values of secret variables.

    Args:
        environment: names and values. A value counts as secret where its name has a word such as KEY or TOKEN, and it
            is long enough not to be an ordinary word.
    """
    text = without_query(text)
    hidden = [v for name, v in environment.items() if _SECRET_NAME.search(name) and len(v) >= _SHORTEST]
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def secrets(uri: str) -> list[str]:
    """The parts of a URI that no message may show."""
    login = match.group() if (match := LOGIN.search(uri)) else ""
    return [part for part in (*login.rstrip("@").split(":"), *uri.partition("?")[2].split("&")) if part]


def holds_secret(text: str) -> bool:
    """Whether a text has a token that says what it is, or a URI with a password or an option that is named like one.

    So does one that sets the webhook of alerts to an address. A key's name alone is none.
    """
    return (
        _TOKEN.search(text) is not None
        or _ALERTS.match(text) is not None
        or any(_PASSWORD.search(uri) or _SECRET_OPTION.search(uri) for uri in _URI.findall(text))
    )


def refuse_secrets(option: str, value: str, cure: str) -> None:
    """Refuse a secret in an argument of a command line: every user of the machine sees it there, for instance in `ps`.

    Args:
        option: the argument's name, for the message.
        cure: where the secret belongs instead.

    Raises:
        UserError: naming the option and the URI, without the secret.
    """
    if holds_secret(value):
        shown = match.group() + "***" if (match := _ALERTS.match(value)) else without_query(value)
        raise UserError(
            f"{option} {shown}: this holds a secret, and whoever uses this machine can read the "
            f"arguments of a command. {cure}"
        )
